#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Which device the commands take that are told none: a GPU if one works, otherwise the CPU, as --device auto.

usage: check_default_device.py PODATTN cpu|cuda    what there is for them
"""

import json
import os
import subprocess
import sys

SHAPE = ("--heads", "2,1", "--head-dim", "64", "--json")
COMMANDS = {
    "run": ("--decode", "2@20", "--repeat", "1"),
    "replay": ("--synthetic", "chat", "--requests", "1", "--steps", "1"),
}


def backend_of(podattn, command, *device):
    """The report's."""
    words = [podattn, command, *SHAPE, *COMMANDS[command], *device]
    # A real GPU, if there is one, is not for this test: the played one is known to work.
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(words, env=hidden, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, (words, done.stderr)
    return json.loads(done.stdout)["device"]["backend"]


def main(podattn, there_is):
    for command in COMMANDS:
        assert backend_of(podattn, command) == there_is, command
        assert backend_of(podattn, command, "--device", "auto") == there_is, command
        assert backend_of(podattn, command, "--device", "cpu:1") == "cpu", command
    print(f"without --device: {there_is}")


if __name__ == "__main__":
    main(*sys.argv[1:])
