#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What long commands show on a terminal: each stage, how far it is, and a wiped line before the output.

usage: check_progress.py PODATTN
"""
import os
import pty
import re
import subprocess
import sys
import tempfile

TIMEOUT_S = 120
WIPE = "\r\033[K"


def show(podattn, command, columns=80):
    """What standard error shows on a terminal, line by line, and what standard output says."""
    terminal, inside = pty.openpty()
    os.set_blocking(terminal, False)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as output:
        subprocess.run(["stty", "cols", str(columns)], stdin=inside, check=True)
        done = subprocess.run([podattn, *command.split()], cwd=folder, stdout=output, stderr=inside, timeout=TIMEOUT_S)
        assert done.returncode == 0, (command, done)
        output.seek(0)
        printed = output.read()
    shown = b""
    try:
        while part := os.read(terminal, 65536):
            shown += part
    except BlockingIOError:
        pass
    os.close(inside)
    os.close(terminal)
    text = shown.decode()
    assert text.startswith(WIPE) and text.endswith(WIPE) and "\n" not in text, text
    return text.split(WIPE)[1:-1], printed


def expect(lines, *patterns):
    """A line for each pattern, in this order."""
    rest = iter(lines)
    for pattern in patterns:
        assert any(re.fullmatch(pattern, line) for line in rest), (pattern, lines)


def main(arguments):
    if len(arguments) != 1:
        sys.exit(__doc__)
    podattn = os.path.abspath(arguments[0])
    heads = "--heads 8,2 --head-dim 64 --device cpu:1"
    work = "--prefill 256@2048 --decode 4@4096"
    lines, printed = show(podattn, f"run {work} {heads} --check --warmup 40 --repeat 40")
    stages = [r"making tensors of [\d.]+ MiB", "checking: the oracle computes"]
    # Longer than anything else of it is silent: seconds are counted.
    counted, _ = show(podattn, "peak --device cpu:1")
    expect(counted, "reading and multiplying, some seconds", r"reading and multiplying, some seconds, for \d s")
    expect(lines, *stages, r"warm-up \d+ of 40", r"turn \d+ of 40.*")
    assert any(re.fullmatch(r"turn \d+ of 40, \d+ s left", line) for line in lines), lines
    assert "check: PASS" in printed
    # Seconds of work: steps are shown every tenth of a second, and each command here must last some of them anywhere.
    lines, _ = show(podattn, f"replay --synthetic chat --requests 40 --steps 300 --chunk 256 --check 150 {heads}")
    expect(lines, "making tensors", r"step \d+ of 300: requests \d+, \d+ s left")
    narrow, _ = show(podattn, f"run --decode 4@64 {heads}", columns=12)
    assert narrow and all(len(line) < 12 for line in narrow), narrow
    lines, _ = show(podattn, "plan --decode 4@4096")
    expect(lines, "planning", "simulating")
    quiet = subprocess.run([podattn, "run", *heads.split(), *work.split()], capture_output=True, timeout=TIMEOUT_S)
    assert quiet.returncode == 0 and quiet.stderr == b"", quiet
    print("ok")


if __name__ == "__main__":
    main(sys.argv[1:])
