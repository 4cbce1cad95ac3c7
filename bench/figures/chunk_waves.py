# SPDX-License-Identifier: Apache-2.0
"""A prompt chunk by chunk, beside 54 and 55 decodes: what one request more than whole waves costs."""

from __future__ import annotations

from matplotlib.figure import Figure

from .cases import NOISE, Case, cases_of, co_run_us, mean, spread, verdicts
from .look import COLOURS, colour_of, figure, label_ends, name_of, than
from .results import ResultError, Results

TITLE = "Chunk by chunk, and waves of CTAs (the paper's figure 6)"
PAPER = "One decode more than fills whole waves of CTAs costs separate kernels much; fused attention hides it."
LINE = {"-": "solid", "--": "dashed", ":": "dotted"}
VARIANTS = ("serial", "streams", "fused")


def _by_decodes(results: Results) -> dict[int, list[Case]]:
    """Cases by number of decodes, in the order of the chunks."""
    groups: dict[int, list[Case]] = {}
    for case in cases_of(results, "fused", "serial"):
        groups.setdefault(case.integer("decode_n"), []).append(case)
    for cases in groups.values():
        cases.sort(key=lambda case: case.integer("prefill_kv"))
    return dict(sorted(groups.items()))


def _extra(groups: dict[int, list[Case]], variant: str) -> float:
    """Mean ratio of times, the greater number of decodes over the smaller, of chunks that both have."""
    few, many = (groups[n] for n in (min(groups), max(groups)))
    of_few = {case.integer("prefill_kv"): case.us[variant] for case in few}
    pairs = [
        (case.us[variant], of_few[case.integer("prefill_kv")]) for case in many if case.integer("prefill_kv") in of_few
    ]
    if not pairs:
        raise ResultError("chunk_waves: the two numbers of decodes have no chunk in common")
    return mean(a / b for a, b in pairs)


def _message(groups: dict[int, list[Case]]) -> str:
    all_cases = [case for cases in groups.values() for case in cases]
    gain = mean(case.us["serial"] / case.us["fused"] for case in all_cases)
    faster, slower, unclear = verdicts(all_cases, "serial")
    message = f"Fused is {than(gain, 'serial')} over a prompt's chunks"
    if unclear >= faster + slower:
        message = "Fused and serial take the same time over a prompt's chunks, within the spread of the turns"
    if len(groups) < 2:
        return message
    fused, serial = _extra(groups, "fused") - 1, _extra(groups, "serial") - 1
    costs = f"fused {fused:+.1%}, serial {serial:+.1%}"
    if abs(fused - serial) < NOISE:
        costs = f"both about the same, {min(fused, serial):+.1%} and {max(fused, serial):+.1%}"
    if max(abs(fused), abs(serial)) < max(spread(all_cases, "fused"), spread(all_cases, "serial")):
        costs = "nothing beyond the spread of the turns"
    return f"{message}; decode number {max(groups)} costs {costs}"


def draw(results: Results) -> Figure:
    groups = _by_decodes(results)
    styles = dict(zip(groups, ("-", "--", ":")))
    fig, (ax,) = figure(
        results,
        _message(groups),
        "One layer's time, chunk after chunk of one prompt. Beside "
        + ", ".join(f"{decodes} decodes: {LINE[style]}" for decodes, style in styles.items()),
    )
    ends = {}
    for variant in VARIANTS:
        for decodes, style in styles.items():
            cases = [case for case in groups[decodes] if variant in case.us]
            if not cases:
                continue
            x, y = [case.integer("prefill_kv") / 1024 for case in cases], [case.us[variant] for case in cases]
            ax.plot(x, y, style, color=colour_of(variant), linewidth=2.2 if variant == "fused" else 1.6)
            ends.setdefault(variant, (x[-1], y[-1], name_of(variant), colour_of(variant)))
    limit = [
        (case.integer("prefill_kv") / 1024, co_run_us(case.us["prefill"], case.us["decode"]))
        for case in groups[min(groups)]
        if results.is_gpu and "prefill" in case.us and "decode" in case.us
    ]
    if limit:
        ax.plot(*zip(*limit), color=COLOURS["limit"], linewidth=1.2)
        ends["limit"] = (*limit[-1], "co-run limit", COLOURS["limit"])
    ax.set(
        xlabel="prompt tokens so far, in units of 1,024",
        ylabel="time of one layer, us",
        ylim=(0, None),
        xlim=(0, max(end[0] for end in ends.values())),
    )
    fig.subplots_adjust(right=0.83)
    label_ends(ax, list(ends.values()))
    return fig


def findings(results: Results) -> str:
    groups = _by_decodes(results)
    if len(groups) < 2:
        return f"{_message(groups)}. One number of decodes was measured, so that waves are not compared."
    few, many = min(groups), max(groups)
    lines = [f"| | {few} decodes, mean us | {many} decodes, mean us | one more costs |", "|---|---|---|---|"]
    for variant in VARIANTS:
        if all(variant in case.us for cases in groups.values() for case in cases):
            means = [mean(case.us[variant] for case in groups[n]) for n in (few, many)]
            lines.append(
                f"| {name_of(variant)} | {means[0]:,.0f} | {means[1]:,.0f} | {_extra(groups, variant) - 1:+.1%} |"
            )
    serial, fused = _extra(groups, "serial") - 1, _extra(groups, "fused") - 1
    share = 1 / few
    if serial < 2 * share:
        verdict = (
            f"**The problem does not arise here.** One decode more is {share:.1%} more decode work and costs even "
            f"serial only {serial:+.1%}: decode is cut into equal slices, not into whole requests."
        )
    else:
        verdict = f"**{'Holds' if fused < serial else 'Does not hold'}.** Serial {serial:+.1%}, fused {fused:+.1%}."
    return "\n".join([*lines, "", verdict])
