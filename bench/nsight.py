#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Puts Nsight Compute's counters into the file of `podattn bench utilisation`, in place of what it measured itself.

    python3 bench/nsight.py PODATTN bench/out/utilisation.csv

Needs ncu on the PATH and the right to read the GPU's counters. ncu runs one kernel at a time: serial is its two
kernels, weighted by their times, and streams stays as it was measured. A case that ncu cannot count stays too, and the
reason is printed.
"""

from __future__ import annotations

import argparse
import csv
import re
import subprocess
import sys
from pathlib import Path
from typing import Optional

COUNTERS = {
    "sm_percent": "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    "tensor_percent": "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed",
    "dram_percent": "dram__throughput.avg.pct_of_peak_sustained_elapsed",
}
COUNTED = ("fused", "prefill", "decode")  # variants of one kernel each
ROUNDS_BEFORE = 2  # of the four that --launch computes: they load the code


# Percent by column; None where the chip has no such counter.
Counters = dict[str, Optional[float]]


class CountError(Exception):
    """ncu counted nothing; the message says why."""


def command(podattn: str, device: str, case: str, variants: tuple[str, ...]) -> list[str]:
    """Clocks stay as they are when attention is timed."""
    ncu = ["ncu", "--clock-control", "none", "--csv", "--page", "raw", "--print-units", "base"]
    ncu += ["--metrics", ",".join(COUNTERS.values()), "--kernel-name", "regex:^pod_sm[0-9]+_"]
    ncu += ["--launch-skip", str(ROUNDS_BEFORE * len(variants)), "--launch-count", str(len(variants))]
    return [*ncu, podattn, "bench", "utilisation", "--device", device, "--launch", "/".join((case, *variants))]


def parse(output: str, num_kernels: int) -> list[Counters]:
    """The raw page: a line of names, one of units, one of values per launch; around them, what else ncu has to say."""
    lines = [line for line in output[max(output.find('"ID"'), 0) :].splitlines() if line.startswith('"')]
    kernels = []
    for row in list(csv.DictReader(lines))[1 : 1 + num_kernels]:
        texts = {name: (row.get(counter) or "").replace(",", "") for name, counter in COUNTERS.items()}
        kernels.append({n: float(t) if re.fullmatch(r"\d+(\.\d+)?", t) else None for n, t in texts.items()})
    if len(kernels) < num_kernels or any(k["sm_percent"] is None or k["dram_percent"] is None for k in kernels):
        raise CountError("ncu counted nothing; it may need permission to read the GPU's counters")
    return kernels


def count(podattn: str, device: str, case: str, variants: tuple[str, ...]) -> list[Counters]:
    try:
        done = subprocess.run(command(podattn, device, case, variants), capture_output=True, text=True, check=False)
    except OSError as error:
        raise CountError(f"ncu: {error.strerror}") from None
    said = re.search(r"^==ERROR== (.*)$", done.stdout + done.stderr, re.MULTILINE)
    reason = f": {said[1]}" if said else ""
    if done.returncode != 0:
        raise CountError(f"ncu ended with exit code {done.returncode}{reason}")
    try:
        return parse(done.stdout, len(variants))
    except CountError as error:
        raise CountError(f"{error}{reason}") from None


def weigh(prefill: Counters, decode: Counters, share: float) -> Counters:
    """What two kernels in a row keep busy; `share` is the first one's part of the time."""
    pairs = {name: (prefill[name], decode[name]) for name in COUNTERS}
    return {n: None if a is None or b is None else share * a + (1 - share) * b for n, (a, b) in pairs.items()}


def fill(rows: dict[str, dict[str, str]], podattn: str, device: str) -> None:
    """`rows`: the lines of a case by variant."""
    variants = tuple(v for v in COUNTED if v in rows)
    counted = dict(zip(variants, count(podattn, device, rows["fused"]["case"], variants)))
    if {"serial", "prefill", "decode"} <= set(rows):
        prefill_us, decode_us = (float(rows[v]["median_us"]) for v in ("prefill", "decode"))
        counted["serial"] = weigh(counted["prefill"], counted["decode"], prefill_us / (prefill_us + decode_us))
    for variant, values in counted.items():
        texts = {n: "" if value is None else f"{value:.2f}" for n, value in values.items()}
        rows[variant].update(texts, source="ncu")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("podattn", metavar="PODATTN", help="the program")
    parser.add_argument("path", metavar="FILE", type=Path, help="what podattn bench utilisation wrote")
    arguments = parser.parse_args(argv)
    podattn, path = arguments.podattn, arguments.path
    lines = path.read_text(encoding="utf-8").splitlines()
    device = re.search(r"^# command: podattn bench .*--device (\S+)", "\n".join(lines), re.MULTILINE)
    if device is None:
        print(f"{path}: no comment names the command and its device", file=sys.stderr)
        return 2
    heading, *body = [line for line in lines if not line.startswith("#")]
    rows = [dict(zip(heading.split(";"), line.split(";"))) for line in body]
    exit_code = 0
    for case in dict.fromkeys(row["case"] for row in rows):
        try:
            fill({row["variant"]: row for row in rows if row["case"] == case}, podattn, device[1])
        except CountError as error:
            print(f"{case}: {error}", file=sys.stderr)
            exit_code = 1
    filled = iter(";".join(row.values()) for row in rows)
    written = [line if line.startswith("#") or line == heading else next(filled) for line in lines]
    temporary = path.with_suffix(".partial")
    temporary.write_text("\n".join(written) + "\n", encoding="utf-8")
    temporary.replace(path)
    return exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
