# SPDX-License-Identifier: Apache-2.0
"""The sweep over models, chunks, contexts and batch sizes: fused against its own serial and streams."""

from __future__ import annotations

import random

from matplotlib.figure import Figure

from .cases import Case, cases_of, co_run_us, mean, ratios, verdicts
from .look import COLOURS, colour_of, figure, ink, name_of, times
from .results import Results

TITLE = "The sweep (the paper's figure 11)"
PAPER = "Fused attention is up to 59 % faster than serial, 28 % on average."
PAPER_MEAN = 1.28
OTHERS = ("streams", "serial")


def _by_model(results: Results) -> dict[str, list[Case]]:
    groups: dict[str, list[Case]] = {}
    for case in cases_of(results, "fused", "serial"):
        groups.setdefault(case.row.get("model") or "all", []).append(case)
    return groups


def _summary(values: list[float]) -> str:
    return f"{mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _limits(group: list[Case]) -> list[float]:
    """What both sides take at least at the same time, over fused, of the batches whose sides were measured."""
    sides = [case for case in group if "prefill" in case.us and "decode" in case.us]
    return [co_run_us(case.us["prefill"], case.us["decode"]) / case.us["fused"] for case in sides]


def _message(cases: list[Case]) -> str:
    """What is beyond the spread of the turns."""
    gains = ratios(cases, "serial")
    faster, slower, unclear = verdicts(cases, "serial")
    if faster == slower == 0:
        return f"Fused and serial take the same time on all {len(gains)} batches, within the spread of the turns"
    message = f"Fused beats serial on {faster} of {len(gains)} batches"
    if slower:
        message += f", serial beats fused on {slower}"
    if faster <= unclear + slower:
        return message + "; the others are within the spread of the turns"
    return f"{message}: {times(mean(gains))} on average, up to {times(max(gains))}"


def draw(results: Results) -> Figure:
    groups = _by_model(results)
    cases = [case for group in groups.values() for case in group]
    fig, (ax,) = figure(
        results,
        _message(cases),
        "A point is a batch, bars are means. Right of the blue line, fused is faster."
        + (" Dashed: the co-run limit." if results.is_gpu else ""),
        height=1.9 + 0.62 * max(3, len(groups)),
    )
    jitter = random.Random(1)
    for row, (_, group) in enumerate(reversed(groups.items())):
        for offset, variant in zip((-0.2, 0.2), OTHERS):
            values = ratios(group, variant)
            if not values:
                continue
            y = [row + offset + jitter.uniform(-0.1, 0.1) for _ in values]
            ax.scatter(values, y, s=15, color=colour_of(variant), alpha=0.5, linewidths=0)
            middle = mean(values)
            ax.plot([middle] * 2, [row + offset - 0.19, row + offset + 0.19], color=colour_of(variant), linewidth=3)
        if results.is_gpu and (limits := _limits(group)):
            ax.plot([mean(limits)] * 2, [row - 0.39, row + 0.39], color=COLOURS["limit"], linewidth=1.2, linestyle="--")
    ax.axvline(1, color=COLOURS["fused"], linewidth=2.5)
    ax.set_yticks(range(len(groups)), list(reversed(groups)))
    ax.grid(axis="y", visible=False)
    ax.set(xlabel="time / fused", ylim=(-0.6, len(groups) - 0.25))
    left, right = ax.get_xlim()
    ax.set_xlim(min(left, 1 - 0.04 * (right - 1)), right)
    ax.text(
        1, 1, "podattn fused", transform=ax.get_xaxis_transform(), va="bottom", weight="bold", color=COLOURS["fused"]
    )
    for variant, x in (("serial", 0.99), ("streams", 0.82)):
        if ratios(cases, variant):
            ax.text(
                x,
                1.0,
                name_of(variant),
                transform=ax.transAxes,
                ha="right",
                va="bottom",
                weight="bold",
                color=ink(colour_of(variant)),
            )
    fig.subplots_adjust(left=0.2)
    return fig


def findings(results: Results) -> str:
    groups = _by_model(results)
    everything = [case for group in groups.values() for case in group]
    others = [other for other in ("serial", "streams", "hfuse") if ratios(everything, other)]
    lines = [
        f"| model | batches | {' | '.join(f'{name_of(other)} / fused' for other in others)} |",
        "|---|---|" + "---|" * len(others),
    ]
    for model, group in groups.items():
        shown = [_summary(values) if (values := ratios(group, other)) else "" for other in others]
        lines.append(f"| {model} | {len(group)} | {' | '.join(shown)} |")
    gains = ratios(everything, "serial")
    holds = "Holds" if mean(gains) >= PAPER_MEAN else "Holds in part" if mean(gains) > 1.05 else "Does not hold"
    return "\n".join([*lines, "", f"**{holds}.** Serial / fused: {_summary(gains)} over {len(gains)} batches."])
