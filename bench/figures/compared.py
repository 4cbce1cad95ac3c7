# SPDX-License-Identifier: Apache-2.0
"""A file of bench/compare.py as batches: the time of every way, sustained and paused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .results import Results

FA3_WAYS = ("fa3_serial", "fa3_streams", "fa3_mixed", "fa3_mixed_unsplit", "fa3_mixed_split")
# Half of a batch each: not to be compared with the fused call.
SIDES = ("prefill", "decode", "fa3_prefill", "fa3_decode")
TIMINGS = ("sustained", "paused")
# The fastest of FA3_WAYS on each batch.
FA3_BEST = "fa3_best"


@dataclass
class Compared:
    """One batch: its line of the batch file, and what was measured of every way."""

    file: str
    name: str
    q_heads: int
    kv_heads: int
    head_dim: int
    window: int
    requests: str
    page_size: int
    us: dict[str, dict[str, float]] = field(default_factory=lambda: {timing: {} for timing in TIMINGS})
    energy_mj: dict[str, float] = field(default_factory=dict)
    rows: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def heads(self) -> str:
        return f"{self.q_heads}/{self.kv_heads}" + (f" d{self.head_dim}" if self.head_dim != 128 else "")

    @property
    def shape(self) -> tuple[object, ...]:
        """What two files must agree in to speak of the same batch, the cache's layout apart."""
        return self.q_heads, self.kv_heads, self.head_dim, self.window, self.requests

    @property
    def cache(self) -> str:
        return f"page size {self.page_size}" if self.page_size else "contiguous"

    def fastest(self, ways: Iterable[str], timing: str) -> str | None:
        """Of those that were measured."""
        us = self.us[timing]
        return min((way for way in ways if way in us), key=us.__getitem__, default=None)


def shortened(requests: str, most: int = 60) -> str:
    """Ragged batches name dozens of requests."""
    if len(requests) <= most:
        return requests
    words = requests.split()
    kept = [*words[:2], "...", *words[-2:]]
    return f"{' '.join(kept)} ({len(words)} different)"


def batches_of(results: Results) -> list[Compared]:
    """In the file's order. ResultError if it is no such file."""
    results.need("file", "name", "q_heads", "kv_heads", "head_dim", "window", "requests", "page_size", "way")
    batches: dict[tuple[str, ...], Compared] = {}
    for row in results.rows:
        key = (row["file"], row["name"], row["page_size"])
        if key not in batches:
            numbers = (int(row[column]) for column in ("q_heads", "kv_heads", "head_dim", "window"))
            batches[key] = Compared(row["file"], row["name"], *numbers, row["requests"], int(row["page_size"]))
        batch, way = batches[key], row["way"]
        batch.rows[way] = row
        for timing in TIMINGS:
            if row[f"{timing}_us"]:
                batch.us[timing][way] = results.number(row, f"{timing}_us")
        if row["energy_mj"]:
            batch.energy_mj[way] = results.number(row, "energy_mj")
    return list(batches.values())


def batches_with_best(results: Results) -> list[Compared]:
    """As batches_of, with FlashAttention-3's best as one way more."""
    batches = batches_of(results)
    for batch in batches:
        for timing in TIMINGS:
            best = batch.fastest(FA3_WAYS, timing)
            if best is not None:
                batch.us[timing][FA3_BEST] = batch.us[timing][best]
    return batches


def timing_of(batches: Iterable[Compared]) -> str | None:
    """The first timing that any batch has of the fused call."""
    batches = list(batches)
    return next((timing for timing in TIMINGS if any("fused" in batch.us[timing] for batch in batches)), None)
