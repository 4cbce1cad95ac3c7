# SPDX-License-Identifier: Apache-2.0
"""Other libraries in one run with ours, by bench/compare.py."""

from __future__ import annotations

from matplotlib.figure import Figure

from .cases import NOISE, mean
from .compared import FA3_BEST, SIDES, Compared, batches_with_best, timing_of
from .look import COLOURS, GREY, colour_of, figure, ink, name_of, than, times
from .results import ResultError, Results

TITLE = "Other libraries in one run with ours"
PAPER = "Fused attention is faster than FlashInfer's serial and batched kernels."
# From this ratio on the axis is logarithmic.
WIDE = 2.5


def _ratios(batches: list[Compared], way: str, timing: str) -> list[float]:
    """Times of a way over fused, of the batches that have both: above 1, fused is faster."""
    us = [batch.us[timing] for batch in batches]
    return [x[way] / x["fused"] for x in us if way in x and "fused" in x]


def _others(results: Results) -> tuple[list[Compared], str, list[str]]:
    """Batches, the timing that is shown, and the other ways, the fastest first."""
    batches = batches_with_best(results)
    timing = timing_of(batches)
    if timing is None:
        raise ResultError(f"{results.name}: no batch has fused")
    names = {way for batch in batches for way in batch.us[timing]} - {"fused", "before", *SIDES}
    names = {way for way in names if _ratios(batches, way, timing)}
    if not names:
        raise ResultError(f"{results.name}: only fused is there")
    return batches, timing, sorted(names, key=lambda way: mean(_ratios(batches, way, timing)))


def _message(batches: list[Compared], timing: str, others: list[str]) -> str:
    """Against the fastest of those that took part in the most batches."""
    others = [way for way in others if way not in ("serial", "streams")] or others
    most = max(len(_ratios(batches, way, timing)) for way in others)
    best = next(way for way in others if len(_ratios(batches, way, timing)) == most)
    gain = mean(_ratios(batches, best, timing))
    name = name_of(best).replace(", best", " at its best")
    return f"Fused is {than(gain, name, NOISE)}, the fastest other over {most} batches"


def _label(batches: list[Compared], way: str, timing: str) -> str:
    """Its name; of one that did not take part in all batches, also in how many."""
    count = len(_ratios(batches, way, timing))
    return name_of(way) if count == len(batches) else f"{name_of(way)} ({count} of {len(batches)})"


def _sides_alone(batches: list[Compared], timing: str) -> list[str]:
    """A table of each side without the other; no lines if the file has none of both libraries."""
    rows = []
    for side in ("prefill", "decode"):
        both = [
            (batch.us[timing][f"fa3_{side}"] / batch.us[timing][side], batch.requests)
            for batch in batches
            if {side, f"fa3_{side}"} <= set(batch.us[timing])
        ]
        if both:
            worst, where = min(both)
            rows.append(f"| {side} | {len(both)} | {mean(x for x, _ in both):.2f} | {worst:.2f}, {where} |")
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
    batches, timing, others = _others(results)
    fig, (ax,) = figure(
        results,
        _message(batches, timing, others),
        "The other's time over fused's, same inputs, in turns. Small: a batch; large: their mean.",
        height=2.0 + 0.4 * len(others),
    )
    for row, way in enumerate(reversed(others)):
        values = _ratios(batches, way, timing)
        own = way in ("serial", "streams")
        colour = colour_of(way) if own else COLOURS[FA3_BEST]
        ax.plot(values, [row] * len(values), "o", color=colour, alpha=0.35, markersize=5, markeredgewidth=0)
        ax.plot(mean(values), row, "D", color=colour, markersize=9, zorder=3)
        ax.text(
            1.01,
            row,
            times(mean(values)),
            transform=ax.get_yaxis_transform(),
            va="center",
            color=ink(colour),
            weight="bold",
        )
    if ax.get_xlim()[1] > WIDE:  # so that neighbours of 1 stay apart
        least, most = ax.get_xlim()
        ax.set_xscale("log")
        ticks = [tick for tick in (0.3, 0.5, 0.7, 1, 1.2, 1.5, 2, 3, 4, 6, 8) if least <= tick <= most]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.set_xlim(max(least, 0.2), most)
        ax.minorticks_off()
    ax.axvline(1, color=COLOURS["fused"], linewidth=2.5)
    ax.text(1, len(others) - 0.42, " podattn fused", color=COLOURS["fused"], weight="bold", va="bottom")
    ax.set_yticks(range(len(others)), [_label(batches, way, timing) for way in reversed(others)])
    ax.set_ylim(-0.6, len(others) - 0.4)
    ax.set_xlabel("time / podattn fused")
    ax.tick_params(axis="y", colors=GREY)
    longest = max(len(_label(batches, way, timing)) for way in others)
    fig.subplots_adjust(left=max(0.31, 0.02 + 0.0098 * longest), right=0.91)
    return fig


def _spread(values: list[float]) -> str:
    return f"{mean(values):.2f} | {min(values):.2f} to {max(values):.2f}" if values else "- | -"


def findings(results: Results) -> str:
    batches, timing, others = _others(results)
    both = timing == "sustained" and any("fused" in batch.us["paused"] for batch in batches)
    lines = [
        "| | batches | time / fused, mean | least to most |" + (" with pauses: mean | least to most |" if both else ""),
        "|---|---|---|---|" + ("---|---|" if both else ""),
    ]
    for way in others:
        values = _ratios(batches, way, timing)
        line = f"| {name_of(way)} | {len(values)} | {_spread(values)} |"
        lines.append(line + (f" {_spread(_ratios(batches, way, 'paused'))} |" if both else ""))
    missing = [f"* {text}" for text in results.left_out if "/" not in text.split(": ")[0]]
    lines += ["", _message(batches, timing, others) + ".", *_sides_alone(batches, timing)]
    return "\n".join([*lines, "", "Not measured:", "", *missing] if missing else lines)
