# SPDX-License-Identifier: Apache-2.0
"""What the suites share that force a setting of the kernel and compare."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure

from .cases import Case, cases_of, mean
from .look import COLOURS, GREY, OTHERS, figure
from .results import ResultError, Results

WAYS = ("fused", "serial", "streams", "prefill", "decode", "hfuse")
SETTINGS = {
    "decode ctas=2": "tiles of 16 rows",
    "decode ctas=4": "tiles of 8 rows",
    "ctas=2": "two CTAs per SM",
    "ctas=4": "four CTAs per SM",
    "policy=half": "one-to-one tickets",
    "policy=proportional": "proportional tickets",
    "fused": "the default",
}
MOST_CASES = 16


# Of a setting that wins by less than this, nothing is said.
MARGIN = 0.02


@dataclass(frozen=True)
class Choice:
    """Which settings a suite compares, and with what: the whole call (`fused`), or decode alone (`decode`)."""

    of: str = "fused"

    def is_setting(self, variant: str) -> bool:
        return variant not in WAYS and variant.startswith("decode ") == (self.of == "decode")


def setting_name(variant: str) -> str:
    return SETTINGS.get(variant, variant)


def settings_of(results: Results, choice: Choice) -> tuple[list[Case], list[str]]:
    """Cases that have all settings, and the settings. Where only one was forced, the library's own is the other."""
    cases = cases_of(results, choice.of)
    forced = sorted({name for case in cases for name in case.us if choice.is_setting(name)})
    if not forced:
        raise ResultError(f"{results.name}: only the library's choice is there, no setting to compare it with")
    settings = forced if len(forced) > 1 else [choice.of, *forced]
    return cases_of(results, choice.of, *settings), settings


def best_setting(case: Case, settings: list[str]) -> str:
    return min(settings, key=case.us.__getitem__)


def _loss(case: Case, setting: str, settings: list[str]) -> float:
    return case.us[setting] / case.us[best_setting(case, settings)] - 1


def _clear_wins(cases: list[Case], settings: list[str]) -> dict[str, int]:
    """Batches on which a setting is better than every other by more than the margin."""
    wins = dict.fromkeys(settings, 0)
    for case in cases:
        best, second = sorted(settings, key=case.us.__getitem__)[:2]
        wins[best] += case.us[second] > (1 + MARGIN) * case.us[best]
    return wins


def message(cases: list[Case], settings: list[str]) -> str:
    """Who is clearly better how often, and what a setting costs at worst."""
    wins = _clear_wins(cases, settings)
    worst = {setting: max(_loss(case, setting, settings) for case in cases) for setting in settings}
    if not any(wins.values()):
        names = " and ".join(setting_name(setting) for setting in settings)
        text = f"{names} take the same time on all {len(cases)} batches, within {max(worst.values()):.1%}"
    else:
        said = [
            f"{setting_name(setting)} better on {wins[setting]} of {len(cases)}"
            + (f" (at worst {worst[setting]:.0%} slower)" if worst[setting] >= 0.005 else "")
            for setting in sorted(settings, key=lambda s: -wins[s])
        ]
        text = ", ".join(said)
    return text[0].upper() + text[1:]


def _computed_by(case: Case, settings: list[str]) -> str:
    """The kernel family that has these settings: sm80 of pod_sm80_fused_bf16_d128_c2. It need not be the device's."""
    families = {case.variants[setting].get("kernel", "").removeprefix("pod_").split("_")[0] for setting in settings}
    family = families.pop()
    return f", computed by kernel {family}" if family and not families else ""


def _sampled(cases: list[Case]) -> list[Case]:
    return cases[:: -(-len(cases) // MOST_CASES)]


def draw(results: Results, choice: Choice) -> Figure:
    cases, settings = settings_of(results, choice)
    base, other = settings[0], settings[-1]
    models = {case.row.get("model") for case in cases}
    shown = _sampled(sorted(cases, key=lambda case: case.us[other] / case.us[base]))
    ratios = [case.us[other] / case.us[base] for case in shown]
    fig, (ax,) = figure(
        results,
        message(cases, settings),
        f"A row is a batch{_computed_by(shown[0], settings)}. Grey: less than {MARGIN:.0%} apart."
        + (f" {len(shown)} of {len(cases)} batches are shown." if len(shown) < len(cases) else ""),
        height=2.1 + 0.29 * len(shown),
    )
    colours = {base: OTHERS[-1], other: COLOURS["fused"]}
    ax.axvspan(1 - MARGIN, 1 + MARGIN, color="#eeeeee", zorder=0)
    ax.axvline(1, color=GREY, linewidth=1)
    for row, ratio in enumerate(ratios):
        near = abs(ratio - 1) <= MARGIN
        colour = GREY if near else colours[other if ratio < 1 else base]
        ax.plot([1, ratio], [row, row], color=colour, linewidth=2.2, solid_capstyle="butt")
        ax.plot(ratio, row, "o", color=colour, markersize=7)
    low, high = min([*ratios, 0.9]), max([*ratios, 1.1])
    room = 0.06 * (high - low)
    ax.set_xlim(low - room, high + room)
    for x, text, colour, side in (
        (0.0, f"\N{LEFTWARDS ARROW} {setting_name(other)} faster", colours[other], "left"),
        (1.0, f"{setting_name(base)} faster \N{RIGHTWARDS ARROW}", colours[base], "right"),
    ):
        ax.text(x, 1.0, text, transform=ax.transAxes, ha=side, va="bottom", weight="bold", color=colour)
    labels = [f"{case.row['model']}: {case.label}" if len(models) > 1 else case.label for case in shown]
    ax.set_yticks(range(len(shown)), labels, size=8.5)
    ax.set_ylim(-0.7, len(shown) - 0.3)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel(f"time of {setting_name(other)} / time of {setting_name(base)}")
    fig.subplots_adjust(left=0.36 if len(models) > 1 else 0.27)
    return fig


def findings(results: Results, choice: Choice) -> str:
    cases, settings = settings_of(results, choice)
    kernel = cases[0].variants[choice.of].get("kernel") or "as it chooses"
    lines = [
        f"| setting | kernel | mean time over the default's (`{kernel}`) | better by {MARGIN:.0%} or more on |",
        "|---|---|---|---|",
    ]
    wins = _clear_wins(cases, settings)
    for setting in settings:
        average = mean(case.us[setting] / case.us[choice.of] for case in cases)
        forced = cases[0].variants[setting].get("kernel", "")
        lines.append(
            f"| {setting_name(setting)} | `{forced}` | {average:.2f} | {wins[setting]} of {len(cases)} batches |"
        )
    return "\n".join([*lines, "", f"{message(cases, settings)}."])


def clear_wins(results: Results, choice: Choice) -> dict[str, int]:
    """Batches on which a setting is better than every other by more than the margin."""
    return _clear_wins(*settings_of(results, choice))
