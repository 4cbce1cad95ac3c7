# SPDX-License-Identifier: Apache-2.0
"""The frontier: throughput against the 99th percentile of the time between tokens, over the budgets of a step."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from typing import Any

from figures.look import COLOURS, OTHERS, figure
from figures.results import Results
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MOST_PANELS = 3
# vLLM's names, which say nothing to a reader.
_NAMES = {"CUSTOM": "podattn", "PODATTN": "podattn", "FLASH_ATTN": "FlashAttention"}
_COLOURS = {"podattn": COLOURS["fused"], "FlashAttention": COLOURS["fa3_best"]}

_UNIFORM = re.compile(r"(\d+):(\d+)-(\d+):(\d+)-(\d+)")

Point = tuple[int, float, float]
"""Budget, p99 in ms, tokens per second."""


def points(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[Point]]]:
    """By load and backend, budgets ascending: medians over the rounds of what came all at once."""
    found: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for row in rows:
        if row["event"] == "load" and row["arrivals"] == "all" and row["between_p99_ms"] is not None:
            backend = _NAMES.get(row["backend"], row["backend"])
            found.setdefault((row["load"], backend, row["budget"]), []).append(row)
    lines: dict[str, dict[str, list[Point]]] = {}
    for (load, backend, budget), same in sorted(found.items()):
        p99 = statistics.median(row["between_p99_ms"] for row in same)
        speed = statistics.median(row["tokens_per_s"] for row in same)
        lines.setdefault(load, {}).setdefault(backend, []).append((budget, p99, speed))
    return lines


def panel_title(load: str) -> str:
    """A load's name in two short lines: how many prompts of how many tokens, or the trace."""
    uniform = _UNIFORM.fullmatch(load)
    if not uniform:
        return load.replace("_", " ").removesuffix(" head") + (
            ",\nits first requests" if load.endswith("_head") else ""
        )
    count, *ends = (int(text) for text in uniform.groups())
    return f"{count} prompts of {ends[0]:,} to {ends[1]:,},\nanswers of {ends[2]} to {ends[3]}"


def title(lines: dict[str, dict[str, list[Point]]]) -> str:
    """What the numbers say of podattn at equal budgets."""
    gains = []
    for backends in lines.values():
        others = {budget: speed for budget, _, speed in backends.get("FlashAttention", [])}
        gains += [speed / others[budget] for budget, _, speed in backends.get("podattn", []) if budget in others]
    if not gains:
        return "Throughput against the time between tokens"
    return f"With podattn {min(gains):.2f} to {max(gains):.2f} times FlashAttention's throughput at equal budgets"


def draw(rows: Sequence[dict[str, Any]]) -> Figure:
    """A panel for each load, a line for each backend, a point for each budget. ValueError if nothing came at once."""
    lines = points(rows)
    if not lines:
        raise ValueError("no load whose requests came all at once, and none with a time between tokens")
    shown = dict(list(lines.items())[:MOST_PANELS])
    engine = next((row for row in rows if row["event"] == "engine"), {})
    machine = f"{engine['gpu']}, vLLM {engine['vllm']}" if "vllm" in engine else "pretended times, of no engine"
    command = next((row["command"] for row in rows if row.get("command")), "")
    results = Results("engine", [], [], {"device": machine, "command": command})
    fig, axes = figure(results, title(shown), "Upper left is better. Numbers: tokens a step may have.", len(shown), 5.2)
    for ax, (load, backends) in zip(axes, shown.items()):
        _panel(ax, load, backends)
    axes[0].set_ylabel("1,000 tokens per second")
    fig.subplots_adjust(top=0.74, wspace=0.25)
    return fig


def _panel(ax: Axes, load: str, backends: dict[str, list[Point]]) -> None:
    for index, (backend, line) in enumerate(sorted(backends.items())):
        colour = _COLOURS.get(backend, OTHERS[index % len(OTHERS)])
        ax.plot([p99 for _, p99, _ in line], [speed / 1e3 for _, _, speed in line], "o-", color=colour, label=backend)
        for budget, p99, speed in line:
            side = "right" if (budget, p99, speed) == line[0] else "center"  # the line goes on to the right
            place = {"xytext": (2, 6), "textcoords": "offset points", "ha": side}
            ax.annotate(str(budget), (p99, speed / 1e3), size=8.5, color=colour, **place)
    ax.set_title(panel_title(load), fontsize=9.5)
    ax.set(xlabel="p99 between tokens, ms")
    ax.set_xlim(0, 1.15 * ax.get_xlim()[1])
    ax.set_ylim(0, 1.1 * ax.get_ylim()[1])
    ax.legend(frameon=False, loc="lower right", fontsize=9)
