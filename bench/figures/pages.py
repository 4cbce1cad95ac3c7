# SPDX-License-Identifier: Apache-2.0
"""Writes figures and findings into pages: whatever is between `<!-- NAME -->` and `<!-- /NAME -->` is replaced."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from .results import ResultError, Results


def block(module: Any, results: Results, figure: str) -> str:
    """What a page says of a suite: figure, claim, findings, and how it was measured."""
    # A command has the names of its commit, which later ones may have changed.
    measured = results.machine + (f", commit {results.commit}" if results.commit else "")
    measured += f": `{results.command}`" if results.command else ""
    return "\n".join(
        [
            f"![{module.TITLE}]({figure})",
            "",
            f"*Claim.* {module.PAPER}",
            "",
            module.findings(results),
            "",
            f"*{measured}*" if measured else "",
        ]
    ).rstrip()


def verdict(findings: str) -> str:
    """The sentence of some findings that answers the claim: the one that begins in bold, or the first about fused."""
    lines = findings.splitlines()
    for begin in ("**", "Fused "):
        for line in lines:
            if line.startswith(begin):
                return line
    return ""


def claims(answers: list[tuple[str, str, str]]) -> str:
    """A table of every claim and what was found: (title, claim, answer or "")."""
    rows = [f"| {title} | {claim} | {answer or 'not measured'} |" for title, claim, answer in answers]
    return "\n".join(["| | claim | on the device below |", "|---|---|---|", *rows])


def missing(module: Any, reason: str) -> str:
    return f"*Claim.* {module.PAPER}\n\nNot measured: {reason}."


def relative(figure: Path, page: Path) -> str:
    return Path(os.path.relpath(figure, page.parent)).as_posix()


def replace(text: str, blocks: dict[str, str]) -> str:
    """The page with every known block filled. ResultError if a block does not end."""
    for name, content in blocks.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if begin not in text:
            continue
        if end not in text:
            raise ResultError(f"a page has {begin} but no {end}")
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        text = re.sub(pattern, lambda _, b=begin, e=end, c=content: f"{b}\n{c}\n{e}", text, flags=re.DOTALL)
    return text
