#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Keeps a Markdown page honest: runs its marked commands and compares its marked listings.

The fenced blocks whose info string says `bash run` are executed in the repository's root, in the order of the page and
in one shell, as a reader would; one that says `c file=PATH` must be what stands in that file.

    tools/readme_snippets.py [PAGE]
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```\w+ (?P<mark>[^\n]+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def main(page="README.md"):
    commands, listings, wrong = [], 0, []
    for block in BLOCK.finditer((ROOT / page).read_text()):
        mark, text = block["mark"], block["text"]
        if mark == "run":
            commands.append(text)
        elif mark.startswith("file="):
            listings += 1
            if (ROOT / mark.removeprefix("file=")).read_text() != text:
                wrong.append(f"the listing of {mark.removeprefix('file=')} is not what stands there")
        else:
            wrong.append(f"unknown mark: {mark}")
    if not commands:
        wrong.append("no command is marked")
    # -x shows each command as it is run.
    if subprocess.run(["bash", "-xeuo", "pipefail", "-c", "".join(commands)], cwd=ROOT).returncode != 0:
        wrong.append("the last command shown above failed")
    for line in wrong:
        print(f"{page}: {line}", file=sys.stderr)
    if not wrong:
        print(f"{page}: {len(commands)} blocks run, {listings} listings compared")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
