# SPDX-License-Identifier: Apache-2.0
"""Ways to put a compute-bound and a memory-bound kernel on a GPU together, over the longer of the two alone."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from .look import COLOURS, GREY, figure, label_ends, times
from .results import ResultError, Results

TITLE = "Strategies of fusion (the paper's figure 7)"
PAPER = "Of all strategies SM-aware CTA scheduling comes closest to the ideal."
STRATEGIES = {
    "serial": "serial",
    "streams": "streams",
    "cta_parallel": "CTA-parallel",
    "thread": "inside a thread",
    "sm_aware": "SM-aware CTAs",
    "warp_specialised": "warp-specialised",
}
COLOUR = {
    "serial": COLOURS["serial"],
    "streams": COLOURS["streams"],
    "sm_aware": COLOURS["fused"],
    "cta_parallel": "#CC79A7",
    "thread": "#7A6A53",
    "warp_specialised": "#009E73",
}


def _lines(results: Results) -> dict[str, list[tuple[float, float]]]:
    """(iterations, time over the ideal) of every strategy."""
    results.need("case", "iterations", "variant", "to_ideal")
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in results.rows:
        if row["variant"] in STRATEGIES:
            point = results.number(row, "iterations"), results.number(row, "to_ideal")
            lines.setdefault(row["variant"], []).append(point)
    if "sm_aware" not in lines:
        raise ResultError(f"{results.name}: no rows of the variant sm_aware")
    return {variant: sorted(lines[variant]) for variant in STRATEGIES if variant in lines}


def _worst(lines: dict[str, list[tuple[float, float]]]) -> dict[str, float]:
    return {variant: max(y for _, y in points) for variant, points in lines.items()}


def draw(results: Results) -> Figure:
    lines = _lines(results)
    worst = _worst(lines)
    best = min((v for v in worst if v != "serial"), key=worst.get)
    message = f"SM-aware CTAs stay within {worst['sm_aware'] - 1:.0%} of the ideal"
    if best != "sm_aware":
        message += f", {STRATEGIES[best]} within {worst[best] - 1:.0%}"
    others = [v for v in ("serial", "streams") if v in worst]
    message += "; " + ", ".join(f"{STRATEGIES[v]} {times(worst[v])}" for v in others) + " at worst"
    fig, (ax,) = figure(
        results,
        message,
        "Time over that of the longer side alone, and its worst. Left: memory is the longer side; right: arithmetic.",
    )
    for variant, points in lines.items():
        ax.plot(
            *zip(*points),
            "-o",
            color=COLOUR.get(variant, GREY),
            markersize=4.5,
            linewidth=2.6 if variant == "sm_aware" else 1.6,
        )
    ax.axhline(1, color=COLOURS["limit"], linestyle="--", linewidth=1)
    iterations = sorted({x for points in lines.values() for x, _ in points})
    ax.set_xscale("log", base=2)
    first, last = math.ceil(math.log2(iterations[0])), math.floor(math.log2(iterations[-1]))
    ticks = [2**power for power in range(first, last + 1)]
    ax.set_xticks(ticks, [f"{x:g}" for x in ticks])
    ax.minorticks_off()
    ax.set(
        xlabel="multiplications per element of the compute side",
        ylabel="time / longer side alone",
        xlim=(iterations[0] / 1.06, iterations[-1] * 1.06),
        ylim=(0.92, max(worst.values()) * 1.04),
    )
    fig.subplots_adjust(right=0.73)
    ends = [
        (*points[-1], f"{STRATEGIES[variant]}, {times(worst[variant])}", COLOUR.get(variant, GREY))
        for variant, points in lines.items()
    ]
    label_ends(ax, [*ends, (iterations[-1], 1, "ideal", COLOURS["limit"])])
    return fig


def findings(results: Results) -> str:
    lines = _lines(results)
    worst = _worst(lines)
    mean = {variant: sum(y for _, y in points) / len(points) for variant, points in lines.items()}
    table = [f"| {STRATEGIES[v]} | {mean[v]:.2f} | {worst[v]:.2f} |" for v in lines]
    others = [v for v in ("serial", "streams", "cta_parallel", "thread") if v in mean]
    holds = all(mean["sm_aware"] <= mean[v] for v in others)
    verdict = f"**{'Holds' if holds else 'Does not hold'}.** SM-aware: {mean['sm_aware']:.2f} x the ideal on average."
    if mean.get("warp_specialised", 9) < mean["sm_aware"]:
        verdict += (
            f" Warp specialisation inside the CTA, which the Hopper kernel uses, does better: "
            f"{mean['warp_specialised']:.2f} x."
        )
    return "\n".join(["| strategy | time / ideal, mean | at worst |", "|---|---|---|", *table, "", verdict])
