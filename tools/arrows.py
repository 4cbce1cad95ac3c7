#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Who includes whom: fails, with file and line, for an include that points upward or does not say its folder."""
import fnmatch
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BELOW_BACKENDS = "base schedule cache families backend"
# What each room sees of src/ besides itself and podattn.h: folders and files.
SEES = {
    "src/base": "",
    "src/schedule": "base",
    "src/cache": "base schedule",
    "src/families": "base schedule",
    "src/backend": "base schedule cache families",
    "src/oracle": "base",
    "src/cpu": BELOW_BACKENDS,
    "src/sim": BELOW_BACKENDS,
    "src/gpu": "base",
    "src/cuda": BELOW_BACKENDS + " gpu cuda/kernels",
    "src/cuda/kernels": "schedule cache/append*.h cache/rope*.h families/*.def",
    "src/api": BELOW_BACKENDS + " oracle",
    "cli": "base",
    "python": "base",
    "examples": "base",
    "bench": "base",
}


def room_of(file):
    """The smallest room that the file is in."""
    return max((room for room in SEES if file.startswith(room + "/")), key=len, default=None)


def fault_of(file, included):
    """What is wrong with an include, or None."""
    room, target = room_of(file), room_of("src/" + included)
    if included == "podattn.h" or target == room:
        return None
    if target is None:
        return "does not say its folder" if room.startswith("src") else None
    patterns = [pattern for seen in SEES[room].split() for pattern in (seen, seen + "/*")]
    return None if any(fnmatch.fnmatch(included, pattern) for pattern in patterns) else f"is not for {room} to see"


def main():
    faults = []
    for file in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        if room_of(file) is None or not re.search(r"\.(c|h|cu|cuh|def|in)$", file) or not (ROOT / file).exists():
            continue
        for number, line in enumerate((ROOT / file).read_text().splitlines(), 1):
            found = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            fault = found and fault_of(file, found[1])
            if fault:
                faults.append(f'{file}:{number}: "{found[1]}" {fault}')
    print("\n".join(faults) or "arrows: every include points downward")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
