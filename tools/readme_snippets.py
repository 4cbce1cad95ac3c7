#!/usr/bin/env python3
"""Keeps a Markdown page honest: runs its marked commands and compares its marked listings.

A fenced block whose info string says `bash run` is executed in the repository's root, in the order of the page; one that
says `c file=PATH` must be what stands in that file.
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def run(text):
    print("+ " + text.strip().replace("\n", "\n+ "), flush=True)
    return subprocess.run(["bash", "-euo", "pipefail", "-c", text], cwd=ROOT).returncode == 0


def same_as_file(text, path):
    print(f"= {path}", flush=True)
    return text == (ROOT / path).read_text()


def main(page):
    checked = failed = 0
    for block in BLOCK.finditer((ROOT / page).read_text()):
        language, _, mark = block["info"].partition(" ")
        if mark == "run":
            ok = run(block["text"])
        elif mark.startswith("file="):
            ok = same_as_file(block["text"], mark.removeprefix("file="))
        else:
            continue
        checked += 1
        if not ok:
            failed += 1
            print(f"{page}: this {language} block failed:\n{block['text']}", file=sys.stderr)
    print(f"{page}: {checked} marked blocks, {failed} failed")
    return 1 if failed or not checked else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:] or ["README.md"]))
