# SPDX-License-Identifier: Apache-2.0
"""Every kernel of the device on one batch: the time of a fused call, and what two calls in a row take."""

from __future__ import annotations

from matplotlib.figure import Figure

from .cases import Case, cases_of, verdicts
from .look import colour_of, figure, name_of, times
from .results import Results

TITLE = "Kernels"
PAPER = "Whatever kernel computes it, one fused call is faster than two in a row."
VARIANTS = ("fused", "serial")


def _message(cases: list[Case]) -> str:
    ratios = sorted(case.us["serial"] / case.us["fused"] for case in cases)
    unclear = verdicts(cases, "serial")[2]
    if unclear == len(cases):
        return "Fused and serial take the same time with every kernel, within the spread of the turns"
    message = f"Serial / fused over the device's kernels: {times(ratios[0])} to {times(ratios[-1])}"
    return message + (f", {unclear} of {len(cases)} within the spread of the turns" if unclear else "")


def draw(results: Results) -> Figure:
    cases = cases_of(results, *VARIANTS)
    fig, (ax,) = figure(
        results,
        _message(cases),
        f"One layer's time of {cases[0].label}, kernel by kernel. Shorter is faster.",
        height=1.9 + 0.3 * len(cases),
    )
    for i, variant in enumerate(VARIANTS):
        places = [y + 0.36 * i - 0.18 for y in range(len(cases))]
        ax.barh(places, [case.us[variant] for case in cases], 0.34, color=colour_of(variant), label=name_of(variant))
    ax.set_yticks(range(len(cases)), [case.row["kernel"].removeprefix("pod_") for case in cases])
    ax.invert_yaxis()
    ax.set(xlabel="time of one layer, us", xlim=(0, None))
    ax.grid(axis="y", visible=False)
    ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0)
    fig.subplots_adjust(left=0.28)
    return fig


def findings(results: Results) -> str:
    cases = cases_of(results, *VARIANTS)
    lines = ["| kernel | fused, us | serial, us | serial / fused |", "|---|---|---|---|"]
    for case in cases:
        fused, serial = case.us["fused"], case.us["serial"]
        lines.append(f"| `{case.row['kernel']}` | {fused:,.0f} | {serial:,.0f} | {serial / fused:.2f} |")
    num_faster = sum(case.us["serial"] > case.us["fused"] for case in cases)
    holds = "Holds" if num_faster == len(cases) else "Holds in part" if num_faster > 0 else "Does not hold"
    return "\n".join([*lines, "", f"**{holds}.** {_message(cases)}."])
