#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The kernel's targets and what two files of bench/peers.py say of them, as a Markdown table.

Both are of the same batches, the first on contiguous caches, the second on pages.

    python3 bench/targets.py libraries_contiguous.csv libraries_page16.csv
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Callable

from figures.batches import CO_RUN_SHARE, Case, co_run_us, ratios
from figures.library_cases import FA3_WAYS, library_cases
from figures.results import read

Cases = list[Case]
PREFILL, DECODE = ("prefill_q", "prefill_kv"), ("decode_n", "decode_kv")
MIXED = [way for way in FA3_WAYS if way.startswith("fa3_mixed")]


def shorter_share(case: Case) -> float:
    """Of the shorter side in serial's time."""
    return min(case.us["prefill"], case.us["decode"]) / case.us["serial"]


def balanced(cases: Cases, least: float) -> Cases:
    return [case for case in cases if shorter_share(case) >= least]


def by_shape(cases: Cases, columns: tuple[str, str], value: Callable[[Case], float]) -> dict[tuple[int, int], float]:
    """Means over the batches that share a side."""
    groups = defaultdict(list)
    for case in cases:
        groups[case.integer(columns[0]), case.integer(columns[1])].append(value(case))
    return {shape: fmean(values) for shape, values in groups.items()}


def _between(values: list[float], digits: int) -> str:
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}" if values else "none"


def _mean(values: list[float]) -> str:
    return f"{fmean(values):.3f} of {len(values)}" if values else "none"


def _tflops(case: Case) -> float:
    q, kv = case.integer("prefill_q"), case.integer("prefill_kv")
    pairs = q * (kv - q) + q * (q + 1) / 2  # causal, at the end of the context
    return 4 * pairs * case.integer("q_heads") * case.integer("head_dim") / case.us["prefill"] / 1e6


def _tb_per_s(case: Case) -> float:
    keys = case.integer("decode_n") * case.integer("decode_kv")
    return 4 * keys * case.integer("kv_heads") * case.integer("head_dim") / case.us["decode"] / 1e6


def _against_fa3(cases: Cases) -> list[tuple[str, str, str]]:
    behind = sum(ratio < 1 for ratio in ratios(cases, "fa3_best"))
    mixed = min(MIXED, key=lambda way: sum(case.us[way] for case in cases))
    fifth, two_fifths = balanced(cases, 0.2), balanced(cases, 0.4)
    prefill = by_shape(cases, PREFILL, lambda case: case.us["fa3_prefill"] / case.us["prefill"])
    decode = by_shape(cases, DECODE, lambda case: case.us["fa3_decode"] / case.us["decode"])
    return [
        ("slower than FlashAttention-3's best", "on no batch", f"on {behind} of {len(cases)}"),
        ("FlashAttention-3's best / fused", "", _mean(ratios(cases, "fa3_best"))),
        ("the same, each side >= 20 % of serial", "1.30", _mean(ratios(fifth, "fa3_best"))),
        ("the same, each side >= 40 %", "1.45", _mean(ratios(two_fifths, "fa3_best"))),
        ("its mixed call / fused, each side >= 20 %", "1.40 with page 16", _mean(ratios(fifth, mixed))),
        ("its prefill alone / own, by shape", ">= 0.95", _between([*prefill.values()], 3)),
        ("its decode alone / own, by shape", ">= 1", _between([*decode.values()], 3)),
    ]


def _on_its_own(cases: Cases) -> list[tuple[str, str, str]]:
    prefill, decode = by_shape(cases, PREFILL, _tflops), by_shape(cases, DECODE, _tb_per_s)
    long_prefill = [tflops for (q, kv), tflops in prefill.items() if q >= 1024 and kv >= 8192]
    long_decode = [tb for (n, kv), tb in decode.items() if n * kv >= 64 * 4096]
    co_run = [case.us["fused"] / co_run_us(case.us["prefill"], case.us["decode"]) for case in cases]
    serial = ratios(cases, "serial")
    of_limit = f"{fmean(co_run):.3f} ({max(co_run):.3f})"
    return [
        (f"fused / (longer side + {CO_RUN_SHARE} of the shorter), mean (worst)", "<= 1.10", of_limit),
        ("own serial / fused, mean (least)", "never below 1", f"{fmean(serial):.3f} ({min(serial):.3f})"),
        ("prefill alone from 1024@8192 on, TFLOP/s", ">= 600", _between(long_prefill, 0)),
        ("decode alone from 64@4096 on, TB/s", ">= 3.0", _between(long_decode, 2)),
    ]


def lines(cases: Cases) -> list[tuple[str, str, str]]:
    """What, what is asked on an H100, and what was found."""
    return _against_fa3(cases) + _on_its_own(cases)


def page_cost(contiguous: Cases, paged: Cases, what: str) -> str:
    us = {case.shape: case.us[what] for case in contiguous}
    costs = [case.us[what] / us[case.shape] for case in paged if case.shape in us]
    return f"{fmean(costs):.3f} ({max(costs):.3f}), {sum(cost > 1.03 for cost in costs)} of {len(costs)} above 1.03"


def table(contiguous: Cases, paged: Cases) -> str:
    rows = ["| | asked, on an H100 | contiguous | page 16 |", "|---|---|---|---|"]
    for (what, asked, first), (_, _, second) in zip(lines(contiguous), lines(paged)):
        rows.append(f"| {what} | {asked} | {first} | {second} |")
    for what in ("fused", "prefill", "decode"):
        cost = page_cost(contiguous, paged, what)
        rows.append(f"| page 16 / contiguous, {what}, mean (worst) | 1.03 on every batch | | {cost} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contiguous", type=Path, help="of bench/peers.py --page-size 0")
    parser.add_argument("paged", type=Path, help="of the same batches with --page-size 16")
    arguments = parser.parse_args()
    print(table(library_cases(read(arguments.contiguous)), library_cases(read(arguments.paged))))


if __name__ == "__main__":
    main()
