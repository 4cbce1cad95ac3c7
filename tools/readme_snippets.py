#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Keeps a Markdown page honest: runs its marked commands, and compares what they print and its marked listings.

The fenced blocks whose info string says `bash run` are executed in the repository's root, in the order of the page and
in one shell, as a reader would. If an unmarked block follows directly, the command must print its lines, but for
numbers, units and the processor's name; "..." is for lines left out. A block that says `c file=PATH` must be what is in
that file.

    tools/readme_snippets.py [PAGE]
"""

import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BLOCK = re.compile(
    r"^```\w+ (?P<mark>[^\n]+)\n(?P<text>.*?)^```$(?:\n+```\n(?P<shown>.*?)^```$)?", re.MULTILINE | re.DOTALL
)
# What another machine or another run may print otherwise.
VARYING = (
    (re.compile(r"^(device +\w+: ).*", re.MULTILINE), r"\1CPU"),
    (re.compile(r"\b\d[\d,.]*(?:e[+-]\d+)?(?: (?:us|ms|s|[KMG]iB)\b)?"), "N"),
    (re.compile(r" +"), " "),
)


def masked(text):
    for pattern, instead in VARYING:
        text = pattern.sub(instead, text)
    return text


def missing_part(shown, printed):
    """The first part of what is shown, between lines of "...", that was not printed after the parts before it."""
    rest = masked(printed)
    parts = [part.strip("\n") for part in re.split(r"^\.\.\.$", shown, flags=re.MULTILINE)]
    for part in filter(None, parts):
        _, found, rest = rest.partition(masked(part))
        if not found:
            return part
    return None


def main(page="README.md"):
    commands, listings, outputs, wrong = [], 0, 0, []
    for block in BLOCK.finditer((ROOT / page).read_text()):
        mark, text = block["mark"], block["text"]
        if mark == "run":
            commands.append((text, block["shown"]))
        elif mark.startswith("file="):
            listings += 1
            if (ROOT / mark.removeprefix("file=")).read_text() != text:
                wrong.append(f"the listing of {mark.removeprefix('file=')} is not what is in that file")
        else:
            wrong.append(f"unknown mark: {mark}")
    if not commands:
        wrong.append("no command is marked")
    with tempfile.TemporaryDirectory() as folder:
        files = [pathlib.Path(folder, str(number)) for number in range(len(commands))]
        # -x shows each command as it is run, in the same shell as all before it.
        script = "".join(f"{{\n{text}}} >{file}\ncat {file}\n" for (text, _), file in zip(commands, files))
        failed = subprocess.run(["bash", "-xeuo", "pipefail", "-c", script], cwd=ROOT).returncode != 0
        printed = [file.read_text() if file.exists() else "" for file in files]
    if failed:
        print(next((output for output in reversed(printed) if output), ""))
        wrong.append("the last command shown above failed")
    for (text, shown), output in zip(commands, printed):
        outputs += shown is not None
        part = missing_part(shown, output) if shown and not failed else None
        if part:
            wrong.append(f"{text.strip().splitlines()[-1]!r} does not print\n{part}")
    for line in wrong:
        print(f"{page}: {line}", file=sys.stderr)
    if not wrong:
        print(f"{page}: {len(commands)} blocks run, {outputs} outputs and {listings} listings compared")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
