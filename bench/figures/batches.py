# SPDX-License-Identifier: Apache-2.0
"""The batches of files, from lopsided ones to even ones, and the co-run limit."""

from __future__ import annotations

import statistics

from matplotlib.figure import Figure

from .cases import CO_RUN_SHARE, NOISE, Case, balance, cases_of, co_run_us, is_balanced, mean, ratios, verdicts
from .look import COLOURS, MARKERS, colour_of, figure, label_ends, name_of, than, times
from .results import Results

TITLE = "Batches of files"
PAPER = "One fused kernel beats the best of separate kernels."
SHOWN = ("fused", "fa3_best", "fa3_sm_partition", "pod_best", "streams", "serial")
BINS = 6


def sides(case: Case) -> tuple[float, float]:
    """The fastest prefill alone and decode alone that are known for a batch."""
    prefill = [case.us[v] for v in ("prefill", "fa3_prefill", "fa2_prefill") if v in case.us]
    decode = [case.us[v] for v in ("decode", "fa3_decode", "fa2_decode") if v in case.us]
    return min(prefill), min(decode)


def contiguous_cases(results: Results) -> list[Case]:
    """Of a file that has each batch on contiguous and on paged caches, the former; otherwise all."""
    cases = cases_of(results, "fused", "prefill", "decode")
    return [case for case in cases if case.row.get("page_size") == "0"] or cases


def _page_cost(results: Results) -> dict[str, float]:
    """Mean time on pages over that on a contiguous cache, by page size."""
    by_layout: dict[str, dict[tuple[str, ...], float]] = {}
    for case in cases_of(results, "fused"):
        by_layout.setdefault(case.row.get("page_size", ""), {})[case.shape] = case.us["fused"]
    contiguous = by_layout.pop("0", {})
    costs = {}
    for page_size, times_us in by_layout.items():
        both = [us / contiguous[shape] for shape, us in times_us.items() if shape in contiguous]
        if both:
            costs[page_size] = mean(both)
    return costs


def _trend(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Medians of equally large groups from left to right."""
    points = sorted(points)
    bins = max(1, min(BINS, len(points) // 3))
    groups = [points[i * len(points) // bins : (i + 1) * len(points) // bins] for i in range(bins)]
    return [statistics.median(x for x, _ in g) for g in groups], [statistics.median(y for _, y in g) for g in groups]


def _balanced(cases: list[Case]) -> list[Case]:
    return [case for case in cases if is_balanced(*sides(case))]


def _message(cases: list[Case]) -> str:
    other = "fa3_best" if any("fa3_best" in case.us for case in cases) else "serial"
    chosen, which = _balanced(cases), "balanced batches"
    if not chosen:
        chosen, which = cases, "all batches"
    name = name_of(other).replace(", best", " at its best")
    faster, slower, unclear = verdicts(chosen, other)
    if unclear > faster + slower:
        return f"Fused and {name} take the same time on {which}, within the spread of the turns"
    gain = mean(ratios(chosen, other))
    faster = sum(x >= 1 for x in ratios(cases, other))
    return f"Fused is {than(gain, name, NOISE)} on {which}; it is ahead on {faster} of all {len(ratios(cases, other))}"


def draw(results: Results) -> Figure:
    cases = contiguous_cases(results)
    fig, (ax,) = figure(
        results,
        _message(cases),
        "Points are batches, lines their medians; lower is better."
        + (" Black: the least that both sides take together." if results.is_gpu else ""),
        height=5.2,
    )
    ends = []
    for variant in reversed(SHOWN):
        points = [(balance(*sides(case)), case.us[variant] / max(sides(case))) for case in cases if variant in case.us]
        if not points:
            continue
        colour, own = colour_of(variant), variant == "fused"
        ax.scatter(*zip(*points), s=13, marker=MARKERS[variant], color=colour, alpha=0.35, linewidths=0)
        x, y = _trend(points)
        ax.plot(x, y, color=colour, linewidth=3 if own else 1.8, zorder=4 if own else 3)
        ends.append((x[-1], y[-1], name_of(variant).replace(", SMs", ",\n  SMs"), colour))
    if results.is_gpu:
        ax.plot([0, 1], [1, 1 + CO_RUN_SHARE], color=COLOURS["limit"], linewidth=1.4, zorder=2)
        ends.append((1.0, 1 + CO_RUN_SHARE, "co-run limit", COLOURS["limit"]))
    ax.set(
        xlabel="balance of the batch: shorter side / longer side (1: even)",
        ylabel="time / longer side alone",
        xlim=(0, 1),
        ylim=(0.9, max(y for _, y, _, _ in ends) * 1.03),
    )
    fig.subplots_adjust(right=0.71)
    label_ends(ax, ends)
    return fig


def findings(results: Results) -> str:
    cases = contiguous_cases(results)
    balanced = _balanced(cases)
    lines = [
        f"| time / fused, mean | all {len(cases)} batches | {len(balanced)} balanced: each side at least 20 % | "
        "ahead on |",
        "|---|---|---|---|",
    ]
    for variant in (v for v in reversed(SHOWN) if v != "fused"):
        everywhere, here = ratios(cases, variant), ratios(balanced, variant)
        if everywhere:
            ahead = sum(x >= 1 for x in everywhere)
            lines.append(
                f"| {name_of(variant)} | {mean(everywhere):.2f} | {mean(here) if here else float('nan'):.2f} | "
                f"{ahead} of {len(everywhere)} |"
            )
    lines += ["", f"{_message(cases)}."]
    if results.is_gpu:
        limit = mean(case.us["fused"] / co_run_us(*sides(case)) for case in cases)
        lines[-1] += f" It takes {times(limit)} the co-run limit on average."
    lines += [f"Page size {size} costs {cost - 1:+.1%} on average." for size, cost in _page_cost(results).items()]
    return "\n".join(lines)
