# SPDX-License-Identifier: Apache-2.0
"""What bench/serve.py measured, as a Markdown table: a row for each load and budget."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, Callable

from .frontier import panel_title

REFERENCE, OWN = "FLASH_ATTN", "CUSTOM"
_HEAD = (
    "| load | tokens a step | tokens per second | p99 between tokens, ms | median to the first token, s | "
    "joules per token |"
)


def _pair(rows: dict[str, list[dict[str, Any]]], name: str, form: str) -> tuple[str, float]:
    """Medians of both backends as text, and the reference's over podattn's."""
    own, reference = (statistics.median(row[name] for row in rows[backend]) for backend in (OWN, REFERENCE))
    return f"{reference:{form}} / {own:{form}}", reference / own


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Loads whose requests came all at once, where both backends have been measured."""
    found: dict[tuple[str, int], dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        if row["event"] == "load" and row["arrivals"] == "all":
            found.setdefault((row["load"], row["budget"]), {}).setdefault(row["backend"], []).append(row)
    lines = [_HEAD, "|---|---|---|---|---|---|"]
    for (load, budget), same in found.items():
        if not {REFERENCE, OWN} <= same.keys():
            continue
        cells: list[tuple[str, str, Callable[[float], float]]] = [
            ("tokens_per_s", ",.0f", lambda ratio: 1 / ratio),
            ("between_p99_ms", ".1f", float),
            ("ttft_p50_s", ".1f", float),
            ("joules_per_output_token", ".2f", float),
        ]
        texts = []
        for name, form, gain in cells:
            if any(row[name] is None for both in same.values() for row in both):
                texts.append("")
                continue
            text, ratio = _pair(same, name, form)
            texts.append(f"{text} (**{gain(ratio):.2f}**)")
        name = panel_title(load).replace("\n", " ")
        lines.append(f"| {name} | {budget:,} | {' | '.join(texts)} |")
    return "\n".join(lines)
