# SPDX-License-Identifier: Apache-2.0
"""A file of bench/peers.py as cases: FlashAttention-3's best way of each batch is one of their times."""

from __future__ import annotations

from .batches import Case, cases_of
from .results import Results

FA3_WAYS = ("fa3_serial", "fa3_streams", "fa3_mixed", "fa3_mixed_unsplit", "fa3_mixed_split")
# Half of a batch each: no rivals of the fused call.
SIDES = ("prefill", "decode", "fa3_prefill", "fa3_decode")


def library_cases(results: Results) -> list[Case]:
    cases = cases_of(results, "fused")
    for case in cases:
        ways = [way for way in FA3_WAYS if way in case.us]
        if ways:
            best = min(ways, key=case.us.__getitem__)
            case.us["fa3_best"], case.variants["fa3_best"] = case.us[best], case.variants[best]
    return cases


def cache_of(case: Case) -> str:
    page_size = case.row.get("page_size", "")
    return "contiguous" if page_size == "0" else f"page size {page_size}"
