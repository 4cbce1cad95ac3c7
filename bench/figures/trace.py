# SPDX-License-Identifier: Apache-2.0
"""Every step of a replayed trace: fused against its own serial and streams."""

from __future__ import annotations

from matplotlib.figure import Figure

from .cases import NOISE, co_run_us
from .look import COLOURS, colour_of, figure, ink, name_of, times
from .results import Results

TITLE = "Replayed traces (the paper's figure 12 and table 6, attention's part)"
PAPER = (
    "Serving gains up to 22 % of throughput, and its latency falls, because hybrid batches' attention is faster. "
    "Here: attention alone, step by step."
)
VARIANTS = ("serial", "streams", "fused")


def _cases(results: Results) -> dict[str, list[dict[str, float]]]:
    """Steps of every trace as numbers; those without all needed times are dropped."""
    results.need("case", "step", "prefill_tokens", "decode_tokens", "fused_us", "serial_us")
    needed = ("prefill_tokens", "decode_tokens", "fused_us", "serial_us")
    cases: dict[str, list[dict[str, float]]] = {}
    for row in results.rows:
        for column in needed:
            results.number(row, column)
        cases.setdefault(row["case"], []).append(
            {name: float(value) for name, value in row.items() if name != "case" and value}
        )
    return cases


def _is_hybrid(step: dict[str, float]) -> bool:
    return step["prefill_tokens"] > 0 and step["decode_tokens"] > 0


def _total_ms(steps: list[dict[str, float]], variant: str) -> float | None:
    if not all(f"{variant}_us" in step for step in steps):
        return None
    return sum(step[f"{variant}_us"] for step in steps) / 1e3


def _limit_ms(steps: list[dict[str, float]]) -> float | None:
    """What the steps would take at the co-run limit of their own sides."""
    if not all("prefill_us" in step or "decode_us" in step for step in steps):
        return None
    return sum(co_run_us(step.get("prefill_us", 0), step.get("decode_us", 0)) for step in steps) / 1e3


def _gain(cases: dict[str, list[dict[str, float]]], variant: str) -> float | None:
    """Time of all steps over fused's."""
    totals = [(_total_ms(steps, variant), _total_ms(steps, "fused")) for steps in cases.values()]
    if any(total is None for total, _ in totals):
        return None
    return sum(total for total, _ in totals) / sum(fused for _, fused in totals)


def _noise(cases: dict[str, list[dict[str, float]]]) -> float:
    """Where a step has one kind of work, fused and serial are the same call: what they differ by there is noise."""
    of_one_kind = {name: [step for step in steps if not _is_hybrid(step)] for name, steps in cases.items()}
    of_one_kind = {name: steps for name, steps in of_one_kind.items() if steps}
    control = _gain(of_one_kind, "serial") if of_one_kind else None
    return max(NOISE, abs(control - 1) if control else 0)


def _message(cases: dict[str, list[dict[str, float]]]) -> str:
    steps = sum(len(steps) for steps in cases.values())
    gain, streams, noise = _gain(cases, "serial"), _gain(cases, "streams"), _noise(cases)
    if abs(gain - 1) <= noise:
        return f"Over {steps:,} replayed steps fused and serial take the same time, within {noise:.0%}, the noise"
    message = f"Over {steps:,} replayed steps serial takes {times(gain)} the time of fused"
    return message + (f", streams {times(streams)}" if streams else "")


def draw(results: Results) -> Figure:
    cases = _cases(results)
    fig, (ax,) = figure(
        results,
        _message(cases),
        "Attention of one layer, all steps together."
        + (" Dashed: what both sides take at least, done at the same time." if results.is_gpu else ""),
        height=2.2 + 0.8 * len(cases),
    )
    for row, case_steps in enumerate(reversed(cases.values())):
        _bars(ax, row, case_steps, results.is_gpu)
    ax.set_yticks(
        range(len(cases)),
        [
            f"{name}\n{len(steps)} steps, {sum(map(_is_hybrid, steps))} hybrid"
            for name, steps in reversed(cases.items())
        ],
        size=9.5,
    )
    ax.grid(axis="y", visible=False)
    ax.set(xlabel="attention of one layer, all steps, ms", ylim=(-0.6, len(cases) - 0.4))
    ax.set_xlim(0, 1.25 * ax.get_xlim()[1])
    fig.subplots_adjust(left=0.27)
    return fig


def _bars(ax, row: int, steps: list[dict[str, float]], has_limit: bool) -> None:
    for offset, variant in zip((0.27, 0, -0.27), VARIANTS):
        total = _total_ms(steps, variant)
        if total is None:
            continue
        ax.barh(row + offset, total, 0.24, color=colour_of(variant))
        ax.text(
            total,
            row + offset,
            f" {total:,.1f} {name_of(variant)}",
            va="center",
            size=9,
            color=ink(colour_of(variant)),
            weight="bold" if variant == "fused" else "normal",
        )
    limit = _limit_ms(steps) if has_limit else None
    if limit:
        ax.plot([limit, limit], [row - 0.42, row + 0.42], color=COLOURS["limit"], linestyle="--", linewidth=1.2)


def findings(results: Results) -> str:
    cases = _cases(results)
    lines = [
        "| trace | steps, hybrid | fused, ms | own serial / fused | own streams / fused | serial / fused, hybrid "
        "steps |",
        "|---|---|---|---|---|---|",
    ]
    for name, steps in cases.items():
        hybrid = [step for step in steps if _is_hybrid(step)]
        one = {name: steps}
        shown = [f"{gain:.2f}" if gain else "" for gain in (_gain(one, "serial"), _gain(one, "streams"))]
        of_hybrid = f"{_gain({name: hybrid}, 'serial'):.2f}" if hybrid else ""
        lines.append(
            f"| {name} | {len(steps)}, {len(hybrid)} | {_total_ms(steps, 'fused'):,.1f} | {shown[0]} | "
            f"{shown[1]} | {of_hybrid} |"
        )
    gain = _gain(cases, "serial")
    lines += [
        "",
        f"**{'Holds for attention' if gain > 1.02 else 'Does not hold'}.** Serial takes {gain:.2f} x the time "
        "of fused over all steps. The throughput and latency of a whole engine are not measured here.",
    ]
    return "\n".join(lines)
