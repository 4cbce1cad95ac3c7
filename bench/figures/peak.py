# SPDX-License-Identifier: Apache-2.0
"""The device's ceilings: reading and arithmetic, each alone and both at the same time."""

from __future__ import annotations

from matplotlib.figure import Figure

from .look import COLOURS, figure, ink
from .results import ResultError, Results

TITLE = "Ceilings"
PAPER = "A GPU can compute and read at the same time; prefill needs the one, decode the other."


def _points(results: Results) -> dict[str, tuple[float, float]]:
    """(GB/s, TFLOP/s) of each measurement."""
    results.need("measured", "tflops", "gb_per_s")
    points = {row["measured"]: (float(row["gb_per_s"] or 0), float(row["tflops"] or 0)) for row in results.rows}
    missing = [name for name in ("read", "math") if name not in points]
    if missing:
        raise ResultError(f"{results.name}: no row {missing[0]}")
    return points


def _figures(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _at_once(points: dict[str, tuple[float, float]]) -> tuple[float, float] | None:
    """Parts of the ceilings of memory and arithmetic that are kept when both run."""
    both = points.get("both", (0.0, 0.0))
    return (both[0] / points["read"][0], both[1] / points["math"][1]) if both[0] > 0 else None


def _message(points: dict[str, tuple[float, float]]) -> str:
    kept = _at_once(points)
    if kept is None:
        read, math = _figures(points["read"][0]), _figures(points["math"][1])
        return f"This device reads {read} GB/s and computes {math} TFLOP/s"
    reading = "at full speed" if kept[0] > 0.985 else f"at {kept[0]:.0%} of its speed alone"
    return f"While it reads {reading}, the chip computes at {kept[1]:.0%} of its own"


def draw(results: Results) -> Figure:
    points = _points(results)
    fig, (ax,) = figure(
        results, _message(points), "A point is a kernel that does nothing else. Dashed: the ceiling of each alone."
    )
    read, math = points["read"][0], points["math"][1]
    ax.axvline(read, color=COLOURS["limit"], linestyle="--", linewidth=1)
    ax.axhline(math, color=COLOURS["limit"], linestyle="--", linewidth=1)
    for name, colour, text, place in (
        ("read", COLOURS["streams"], "reading alone", (-8, 10)),
        ("math", COLOURS["serial"], "arithmetic alone", (10, -14)),
        ("both", COLOURS["fused"], "both at the same time", (-8, -16)),
    ):
        if name not in points or points[name] == (0.0, 0.0):
            continue
        gb, tflops = points[name]
        ax.plot(gb, tflops, "o", color=colour, markersize=11, clip_on=False, zorder=3)
        shown = " and ".join(
            f"{_figures(value)} {unit}" for value, unit in ((tflops, "TFLOP/s"), (gb, "GB/s")) if value
        )
        ax.annotate(
            f"{text}\n{shown}",
            (gb, tflops),
            place,
            textcoords="offset points",
            color=ink(colour),
            weight="bold",
            ha="left" if place[0] > 0 else "right",
            va="bottom" if place[1] > 0 else "top",
        )
    ax.set(
        xlim=(0, read * 1.08),
        ylim=(0, math * 1.08),
        xlabel="read from memory, GB/s",
        ylabel="products, TFLOP/s",
    )
    return fig


def findings(results: Results) -> str:
    points = _points(results)
    rows = [
        f"| {row['measured']} | {float(row['gb_per_s'] or 0):,.0f} | {float(row['tflops'] or 0):,.0f} | "
        f"{float(row.get('clock_mhz') or 0):,.0f} | {float(row.get('power_watts') or 0):,.0f} |"
        for row in results.rows
    ]
    kept = _at_once(points)
    verdict = (
        "Not measured on this device."
        if kept is None
        else (f"**Holds{'' if kept[1] > 0.5 else ' in part'}.** {_message(points)}.")
    )
    return "\n".join(["| | GB/s | TFLOP/s | SM clock, MHz | power, W |", "|---|---|---|---|---|", *rows, "", verdict])
