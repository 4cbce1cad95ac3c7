# SPDX-License-Identifier: Apache-2.0
"""How busy the SMs and the memory are: serial, streams and fused."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from .cases import Case, cases_of
from .look import colour_of, figure, name_of
from .results import Results

TITLE = "Utilisation (the paper's figure 1)"
PAPER = "Fused attention keeps arithmetic and memory busy at the same time, where serial execution uses them in turn."
ORDER = ("serial", "streams", "fused")
# Where a point's name is: offset, horizontal and vertical alignment. Streams' is below where it has no room.
LABEL = {
    "serial": ((-9, 0), "right", "center"),
    "streams": ((9, 0), "left", "center"),
    "fused": ((0, 9), "center", "bottom"),
}
BELOW = ((0, -9), "center", "top")
ROOM = (30, 65)


def _busy(case: Case, variant: str) -> tuple[float, float]:
    """Percent of (memory, SMs)."""
    row = case.variants[variant]
    return float(row["dram_percent"]), float(row["sm_percent"])


def _means(cases: list[Case], variant: str) -> tuple[float, float]:
    busy = [_busy(case, variant) for case in cases]
    return sum(x for x, _ in busy) / len(busy), sum(y for _, y in busy) / len(busy)


def _cases(results: Results) -> list[Case]:
    results.need("sm_percent", "dram_percent")
    return cases_of(results, "serial", "fused")


def _of_what(cases: list[Case]) -> str:
    source = cases[0].variants["fused"].get("source")
    return "of the chip's peak, by ncu" if source == "ncu" else "of the measured ceilings"


def draw(results: Results) -> Figure:
    cases = _cases(results)
    memory, sm = _means(cases, "fused")
    memory_serial, sm_serial = _means(cases, "serial")
    fig, axes = figure(
        results,
        f"Fused uses {sm:.0f}% of the SMs and {memory:.0f}% of the memory on average, "
        f"serial {sm_serial:.0f}% and {memory_serial:.0f}%",
        f"A panel is a batch (prefill + decodes). Upper right: everything in use. Percent {_of_what(cases)}.",
        panels=len(cases),
        sharey=True,
    )
    for ax, case in zip(axes, cases):
        _panel(ax, case)
    axes[0].set_ylabel("SMs, %")
    axes[len(axes) // 2].set_xlabel("memory, %")
    return fig


def _comparable(case: Case) -> list[str]:
    """Variants whose percentages are of the same things as those of fused: counters, or parts of the ceilings."""
    source = case.variants["fused"].get("source")
    return [
        variant
        for variant in ORDER
        if variant in case.variants
        and case.variants[variant]["sm_percent"]
        and case.variants[variant].get("source") == source
    ]


def _panel(ax, case: Case) -> None:
    there = _comparable(case)
    points = [_busy(case, variant) for variant in there]
    ax.plot(*zip(*points), color="#bbbbbb", linewidth=1.5, zorder=1)
    for variant, (x, y) in zip(there, points):
        ax.plot(x, y, "o", markersize=11, color=colour_of(variant), zorder=3)
        place, side, above = LABEL[variant]
        if (variant == "serial" and x < ROOM[0]) or (variant == "streams" and x > ROOM[1]):
            place, side, above = BELOW
        ax.annotate(
            variant,
            (x, y),
            place,
            textcoords="offset points",
            color=colour_of(variant),
            weight="bold",
            ha=side,
            va=above,
        )
    ax.set(xlim=(0, 100), ylim=(0, 100))
    ax.set_title(case.label, size=9.5)


def findings(results: Results) -> str:
    cases = _cases(results)
    lines = ["| prefill + decodes | variant | SMs, % | memory, % | us | counted by |", "|---|---|---|---|---|---|"]
    for case in cases:
        for variant in (v for v in ORDER if v in case.variants):
            row = case.variants[variant]
            lines.append(
                f"| {case.label} | {name_of(variant)} | {row['sm_percent']} | {row['dram_percent']} | "
                f"{case.us[variant]:,.0f} | {row.get('source', '')} |"
            )
    fused, serial = _means(cases, "fused"), _means(cases, "serial")
    holds = all(math.prod(_busy(case, "fused")) > math.prod(_busy(case, "serial")) for case in cases)
    lines += [
        "",
        f"**{'Holds' if holds else 'Does not hold'}.** Fused: SMs {fused[1]:.0f} %, memory {fused[0]:.0f} %; "
        f"serial: {serial[1]:.0f} % and {serial[0]:.0f} %.",
    ]
    return "\n".join(lines)
