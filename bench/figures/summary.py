# SPDX-License-Identifier: Apache-2.0
"""One table over several files: fused against everything else on the balanced batches.

Its batches, and fused's own times, are of a run of bench/peers.py on contiguous caches, if that measured the sides
too; else of peers.csv. A rival's times are of the run in which it took turns with podattn, contiguous before paged; if
there is none, of peers.csv.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from .batches import Case, balance, is_balanced, mean
from .library_cases import cache_of, library_cases
from .look import name_of
from .peer_times import contiguous_cases, sides
from .results import Results

OWN = ("serial", "streams")
COLUMNS = (*OWN, "flashinfer_pod", "flashinfer_batch_pod", "flashinfer_batch_attention", "pod_best", "fa3_best")
MOST_ROWS = 12

File = tuple[Results, list[Case]]


def _files(peers: Optional[Results], runs: Sequence[Results]) -> list[File]:
    """With their cases, contiguous caches first; then peers.csv."""
    files = [(run, library_cases(run)) for run in runs]
    files.sort(key=lambda file: cache_of(file[1][0]) != "contiguous")
    return files + ([(peers, contiguous_cases(peers))] if peers else [])


def _base(files: list[File], peers: Optional[Results]) -> Optional[File]:
    """The file whose batches are shown, and those of its cases that have both sides."""
    for results, cases in files:
        with_sides = [case for case in cases if "prefill" in case.us and "decode" in case.us]
        if with_sides and (results is peers or cache_of(with_sides[0]) == "contiguous"):
            return results, with_sides
    return None


def _source(variant: str, files: list[File], base: list[Case]) -> dict[tuple[str, ...], Case]:
    """The cases of the first file that has this variant, by shape. They are of one file, so that a column is too."""
    candidates = [base] if variant in OWN else [cases for _, cases in files]
    found = (cases for cases in candidates if any(variant in case.us for case in cases))
    return {case.shape: case for case in next(found, []) if variant in case.us}


def _introduction(cases: list[Case], results: Results) -> str:
    row = cases[0].row
    return (
        f"{results.machine}; {row['q_heads']} query and {row['kv_heads']} KV heads, head_dim {row['head_dim']}, "
        f"{row['dtype']}. The other's time over that of podattn's fused call: above 1, fused is faster. The evenest of "
        f"{len(cases)} batches on which each side takes at least 20 % of both."
    )


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def table(peers: Optional[Results], runs: Sequence[Results] = ()) -> str:
    """Markdown: what is compared, then a row a batch, the evenest first; times over fused's, each over that of its own
    file, and their means.
    """
    files = _files(peers, runs)
    base = _base(files, peers)
    if base is None:
        return "Not measured: no peers.csv."
    cases = [case for case in base[1] if is_balanced(*sides(case))]
    if not cases:
        return "No batch is balanced."
    cases.sort(key=lambda case: -balance(*sides(case)))
    columns = []
    for variant in COLUMNS:
        source = _source(variant, files, base[1])
        others = [source.get(case.shape) for case in cases]
        if any(others):
            columns.append((variant, others))
    ratios = [[other and other.us[variant] / other.us["fused"] for other in others] for variant, others in columns]
    caches = [next(cache_of(other) for other in others if other) for _, others in columns]
    means = [[x for x in column if x is not None] for column in ratios]
    lines = [
        _introduction(cases, base[0]),
        "",
        _line("prefill + decodes", "fused, us", *(name_of(variant) for variant, _ in columns)),
        "|---|---|" + "---|" * len(columns),
        _line("*cache*", f"*{cache_of(cases[0])}*", *(f"*{cache}*" for cache in caches)),
    ]
    for case, *values in list(zip(cases, *ratios))[:MOST_ROWS]:
        lines.append(_line(case.label, f"{case.us['fused']:,.0f}", *("" if x is None else f"{x:.2f}" for x in values)))
    lines.append(_line("mean of the balanced batches |", *(f"**{mean(m):.2f}** of {len(m)}" for m in means)))
    return "\n".join(lines)
