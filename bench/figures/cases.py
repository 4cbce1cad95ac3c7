# SPDX-License-Identifier: Apache-2.0
"""The suites that have a line for each case and variant, as cases; and what a fused call could reach at best."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from .results import ResultError, Results

# Two kinds of work at the same time on an H100: the longer side, and this part of the shorter one (measured by a
# synthetic kernel that does both; power is what limits it).
CO_RUN_SHARE = 0.22
# Where each side is at least this part of their sum, there is something to gain from doing both at the same time.
BALANCED_SHARE = 0.2

SHAPE = (
    *("q_heads", "kv_heads", "head_dim", "prefill_q", "prefill_kv", "decode_n", "decode_kv"),
    *("window", "requests"),  # where they are
)


@dataclass
class Case:
    """One batch: its row as text, and the median time of every variant in microseconds."""

    name: str
    row: dict[str, str]
    us: dict[str, float] = field(default_factory=dict)
    variants: dict[str, dict[str, str]] = field(default_factory=dict)

    def integer(self, column: str) -> int:
        return int(self.row[column])

    @property
    def shape(self) -> tuple[str, ...]:
        """What two files must agree in to speak of the same batch, the cache's layout apart."""
        return tuple(self.row.get(column, "") for column in SHAPE)

    @property
    def label(self) -> str:
        """`1024@16384 + 64@4096`: prefill, decodes; or all requests, where they are another mix."""
        r = self.row
        if not r["prefill_q"]:
            return r["requests"]
        return f"{r['prefill_q']}@{r['prefill_kv']} + {r['decode_n']}@{r['decode_kv']}"


def cases_of(results: Results, *needed: str) -> list[Case]:
    """The cases that have all needed variants. ResultError if there is none."""
    results.need("case", "variant", "median_us", "prefill_q", "prefill_kv", "decode_n", "decode_kv")
    cases: dict[str, Case] = {}
    for row in results.rows:
        case = cases.setdefault(row["case"], Case(row["case"], row))
        case.us[row["variant"]] = results.number(row, "median_us")
        case.variants[row["variant"]] = row
    complete = [case for case in cases.values() if all(variant in case.us for variant in needed)]
    if not complete:
        there = sorted({row["variant"] for row in results.rows})
        raise ResultError(f"{results.name}: no case has {', '.join(needed)}; its variants are {', '.join(there)}")
    return complete


def co_run_us(prefill_us: float, decode_us: float) -> float:
    """The least time that both sides can take at the same time."""
    return max(prefill_us, decode_us) + CO_RUN_SHARE * min(prefill_us, decode_us)


def balance(prefill_us: float, decode_us: float) -> float:
    """The shorter side over the longer: 0 is one side alone, 1 an even batch."""
    return min(prefill_us, decode_us) / max(prefill_us, decode_us)


def is_balanced(prefill_us: float, decode_us: float) -> bool:
    return min(prefill_us, decode_us) >= BALANCED_SHARE * (prefill_us + decode_us)


def mean(values: Iterable[float]) -> float:
    """Geometric: of ratios."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))


# An effect smaller than this is not spoken of, even where the turns agree.
NOISE = 0.02


def verdict(case: Case, variant: str) -> int:
    """Beyond the spread of the turns, from their 10th to their 90th percentile: 1 fused is faster, -1 the variant is, 0
    neither. A file without percentiles has the noise alone.
    """
    row, ratio = case.variants[variant], case.us[variant] / case.us["fused"]
    low, high = (float(row.get(f"to_fused_{part}") or ratio) for part in ("p10", "p90"))
    if low > 1 and ratio > 1 + NOISE:
        return 1
    return -1 if high < 1 and ratio < 1 - NOISE else 0


def verdicts(cases: Iterable[Case], variant: str) -> tuple[int, int, int]:
    """On how many batches fused is faster, the variant is, and neither beyond the spread."""
    found = [verdict(case, variant) for case in cases if variant in case.us]
    return found.count(1), found.count(-1), found.count(0)


def spread(cases: Iterable[Case], variant: str) -> float:
    """How far the turns of a variant are apart on average: 0.1 where the 90th percentile is 1.1 times the 10th."""
    rows = [case.variants[variant] for case in cases if variant in case.us]
    apart = [float(row["p90_us"]) / float(row["p10_us"]) for row in rows if row.get("p10_us") and row.get("p90_us")]
    return mean(apart) - 1 if apart else 0.0


def ratios(cases: Iterable[Case], variant: str) -> list[float]:
    """Times of a variant over fused, of the cases that have it: above 1, fused is faster."""
    return [case.us[variant] / case.us["fused"] for case in cases if variant in case.us]
