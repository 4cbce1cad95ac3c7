#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What long commands show on a terminal: each stage, how far it is, and a wiped line before the output.

usage: check_progress.py PODATTN
"""
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import time

TIMEOUT_S = 120
STOP_S = 2
WIPE = "\r\033[K"


def show(podattn, command, columns=80, stop_at=None):
    """What standard error shows on a terminal, line by line, and what standard output says. Where the line `stop_at` is
    shown, the program is stopped for STOP_S seconds."""
    terminal, inside = pty.openpty()
    os.set_blocking(terminal, False)
    shown, begin = b"", time.monotonic()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as output:
        subprocess.run(["stty", "cols", str(columns)], stdin=inside, check=True)
        running = subprocess.Popen([podattn, *command.split()], cwd=folder, stdout=output, stderr=inside)
        while True:
            has_ended = running.poll() is not None
            try:
                shown += os.read(terminal, 65536)
            except BlockingIOError:
                if has_ended:
                    break
                time.sleep(0.01)
            if stop_at is not None and stop_at.encode() in shown:
                running.send_signal(signal.SIGSTOP)
                time.sleep(STOP_S)
                running.send_signal(signal.SIGCONT)
                stop_at = None
            assert time.monotonic() - begin < TIMEOUT_S, (command, shown)
        assert running.returncode == 0, (command, running.returncode, shown)
        output.seek(0)
        printed = output.read()
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
    # A line that does not change for longer than STOP_S counts its seconds; the oracle has a second to go then.
    oracle = "checking: the oracle computes"
    lines, _ = show(podattn, f"run --prefill 1024@4096 {heads} --check --warmup 0 --repeat 1", stop_at=oracle)
    expect(lines, oracle, oracle + r", for \d+ s")
    quiet = subprocess.run([podattn, "run", *heads.split(), *work.split()], capture_output=True, timeout=TIMEOUT_S)
    assert quiet.returncode == 0 and quiet.stderr == b"", quiet
    print("ok")


if __name__ == "__main__":
    main(sys.argv[1:])
