# SPDX-License-Identifier: Apache-2.0
"""Other libraries in one run with ours, by bench/peers.py."""

from __future__ import annotations

from matplotlib.figure import Figure

from .batches import Case, mean, ratios
from .library_cases import SIDES, library_cases
from .look import COLOURS, GREY, colour_of, figure, name_of, than, times
from .results import ResultError, Results

TITLE = "Other libraries in one run with ours"
PAPER = "Fused attention is faster than FlashInfer's serial and batched kernels."


def _rivals(results: Results) -> tuple[list[Case], list[str]]:
    """Cases, and the other contenders, the fastest first."""
    cases = library_cases(results)
    names = {variant for case in cases for variant in case.us if variant not in ("fused", *SIDES)}
    if not names:
        raise ResultError(f"{results.name}: nobody but fused is there")
    return cases, sorted(names, key=lambda name: mean(ratios(cases, name)))


def _message(cases: list[Case], rivals: list[str]) -> str:
    """Against the fastest of those that took part in the most batches."""
    others = [name for name in rivals if name not in ("serial", "streams")] or rivals
    most = max(len(ratios(cases, name)) for name in others)
    best = next(name for name in others if len(ratios(cases, name)) == most)
    gain = mean(ratios(cases, best))
    name = name_of(best).replace(", best", " at its best")
    return f"Fused is {than(gain)} than {name}, the fastest other over {most} batches"


def _label(cases: list[Case], name: str) -> str:
    """Its name; of one that did not take part in all batches, also in how many."""
    count = len(ratios(cases, name))
    return name_of(name) if count == len(cases) else f"{name_of(name)} ({count} of {len(cases)})"


def _sides_alone(cases: list[Case]) -> list[str]:
    """A table of each side without the other; no lines if the file has none of both libraries."""
    rows = []
    for side in ("prefill", "decode"):
        both = [
            (case.us[f"fa3_{side}"] / case.us[side], case) for case in cases if {side, f"fa3_{side}"} <= set(case.us)
        ]
        if both:
            worst, where = min(both, key=lambda pair: pair[0])
            rows.append(f"| {side} | {len(both)} | {mean(x for x, _ in both):.2f} | {worst:.2f}, {where.label} |")
    if not rows:
        return []
    return [
        "",
        "Sides alone: podattn against FlashAttention-3, whose time over podattn's is shown.",
        "",
        "| side | batches | mean | worst for podattn |",
        "|---|---|---|---|",
        *rows,
    ]


def draw(results: Results) -> Figure:
    cases, rivals = _rivals(results)
    fig, (ax,) = figure(
        results,
        _message(cases, rivals),
        "The other's time over fused's, same inputs, in turns. Small: a batch; large: their mean.",
        height=2.0 + 0.4 * len(rivals),
    )
    for row, name in enumerate(reversed(rivals)):
        values = ratios(cases, name)
        own = name in ("serial", "streams")
        colour = colour_of(name) if own else "#009E73"
        ax.plot(values, [row] * len(values), "o", color=colour, alpha=0.35, markersize=5, markeredgewidth=0)
        ax.plot(mean(values), row, "D", color=colour, markersize=9, zorder=3)
        ax.text(
            1.01, row, times(mean(values)), transform=ax.get_yaxis_transform(), va="center", color=colour, weight="bold"
        )
    ax.axvline(1, color=COLOURS["fused"], linewidth=2.5)
    ax.text(1, len(rivals) - 0.42, " podattn fused", color=COLOURS["fused"], weight="bold", va="bottom")
    ax.set_yticks(range(len(rivals)), [_label(cases, name) for name in reversed(rivals)])
    ax.set_ylim(-0.6, len(rivals) - 0.4)
    ax.set_xlabel("time / podattn fused")
    ax.tick_params(axis="y", colors=GREY)
    longest = max(len(_label(cases, name)) for name in rivals)
    fig.subplots_adjust(left=max(0.31, 0.02 + 0.0098 * longest), right=0.91)
    return fig


def findings(results: Results) -> str:
    cases, rivals = _rivals(results)
    lines = [
        "| | batches | time / fused, mean | least to most | widest spread of turns, 10 to 90 % |",
        "|---|---|---|---|---|",
    ]
    for name in rivals:
        values = ratios(cases, name)
        spread = max((_turns(results, case, name) for case in cases if name in case.us), key=lambda s: s[1] - s[0])
        lines.append(
            f"| {name_of(name)} | {len(values)} | {mean(values):.2f} | {min(values):.2f} to {max(values):.2f} | "
            f"{spread[0]:.2f} to {spread[1]:.2f} |"
        )
    missing = [f"* {text}" for text in results.left_out if "@" not in text]
    lines += ["", _message(cases, rivals) + ".", *_sides_alone(cases)]
    return "\n".join([*lines, "", "Not measured:", "", *missing] if missing else lines)


def _turns(results: Results, case: Case, name: str) -> tuple[float, float]:
    row = case.variants[name]
    return results.number(row, "to_fused_p10"), results.number(row, "to_fused_p90")
