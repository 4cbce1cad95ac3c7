# SPDX-License-Identifier: Apache-2.0
"""One table over several files of bench/compare.py: fused beside all others on the balanced batches.

Its batches, and podattn's own times, are of the first file that measured the sides alone, contiguous caches before
paged. Another library's times are over those of the run in which it took turns with podattn, contiguous before paged.
"""

from __future__ import annotations

from collections.abc import Sequence

from .cases import balance, is_balanced, mean
from .compared import FA3_BEST, Compared, batches_with_best, shortened, timing_of
from .look import name_of
from .results import Results

OWN = ("serial", "streams")
COLUMNS = (*OWN, "flashinfer_pod", "flashinfer_batch_pod", "flashinfer_batch_attention", FA3_BEST)
MOST_ROWS = 12
TIMES = {"sustained": "layers back to back", "paused": "a call after a pause"}


def _has_sides(batch: Compared, timing: str) -> bool:
    return {"fused", "prefill", "decode"} <= set(batch.us[timing])


def _sides(batch: Compared, timing: str) -> tuple[float, float]:
    """The fastest prefill alone and decode alone that are known for a batch."""
    us = batch.us[timing]
    prefill, decode = ([us[way] for way in (side, f"fa3_{side}") if way in us] for side in ("prefill", "decode"))
    return min(prefill), min(decode)


def _source(way: str, files: list[list[Compared]], base: list[Compared], timing: str) -> dict[tuple, Compared]:
    """The batches of the first file that has this way, by shape. They are of one file, so that a column is too."""
    candidates = [base] if way in OWN else files
    found = ([batch for batch in file if {way, "fused"} <= set(batch.us[timing])] for file in candidates)
    return {batch.shape: batch for batch in next((file for file in found if file), [])}


def _label(batch: Compared, with_heads: bool) -> str:
    requests = shortened(batch.requests).replace(" ", " + ").replace("x1@", "@")
    return f"{batch.heads}: {requests}" if with_heads else requests


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _introduction(batches: list[Compared], machine: str, timing: str) -> str:
    heads = {(b.q_heads, b.kv_heads, b.head_dim) for b in batches}
    shape = "{} query and {} KV heads, head_dim {}".format(*heads.pop()) if len(heads) == 1 else "several head counts"
    return (
        f"{machine}; {shape}, {batches[0].rows['fused']['dtype']}, {TIMES[timing]}. The other's time over that of "
        "podattn's fused call: above 1, fused is faster. The most balanced of "
        f"{len(batches)} batches on which each side takes at least 20 % of both."
    )


def table(runs: Sequence[Results]) -> str:
    """Markdown: what is compared, then a row a batch, the most balanced first; times over fused's, each over that of
    its own file, and their means.
    """
    files = sorted(((batches_with_best(run), run.machine) for run in runs), key=lambda file: file[0][0].page_size != 0)
    timing = timing_of(batch for batches, _ in files for batch in batches)
    base, machine = next(
        ((b, machine) for b, machine in files if timing and any(_has_sides(batch, timing) for batch in b)), (None, "")
    )
    if base is None:
        return "Not measured: no run has the sides alone."
    batches = [b for b in base if _has_sides(b, timing) and is_balanced(*_sides(b, timing))]
    if not batches:
        return "No batch is balanced."
    batches.sort(key=lambda batch: -balance(*_sides(batch, timing)))
    with_heads = len({batch.heads for batch in batches}) > 1
    columns = []
    for way in COLUMNS:
        source = _source(way, [file for file, _ in files], base, timing)
        others = [source.get(batch.shape) for batch in batches]
        if any(others):
            columns.append((way, others))
    ratios = [
        [other and other.us[timing][way] / other.us[timing]["fused"] for other in others] for way, others in columns
    ]
    caches = [next(other.cache for other in others if other) for _, others in columns]
    means = [[x for x in column if x is not None] for column in ratios]
    lines = [
        _introduction(batches, machine, timing),
        "",
        _line("prefill + decodes", "fused, us", *(name_of(way) for way, _ in columns)),
        "|---|---|" + "---|" * len(columns),
        _line("*cache*", f"*{batches[0].cache}*", *(f"*{cache}*" for cache in caches)),
    ]
    for batch, *values in list(zip(batches, *ratios))[:MOST_ROWS]:
        shown = ("" if x is None else f"{x:.2f}" for x in values)
        lines.append(_line(_label(batch, with_heads), f"{batch.us[timing]['fused']:,.0f}", *shown))
    lines.append(_line("mean of the balanced batches |", *(f"**{mean(m):.2f}** of {len(m)}" for m in means)))
    return "\n".join(lines)
