# SPDX-License-Identifier: Apache-2.0
"""What the suites share that force a setting and compare: fig10, fig13 and fig14."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure

from .batches import Case, cases_of, mean
from .look import COLOURS, OTHERS, figure
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


def message(cases: list[Case], settings: list[str]) -> str:
    """Who is best how often, and what each setting costs at worst."""
    wins = {setting: sum(best_setting(case, settings) == setting for case in cases) for setting in settings}
    said = []
    for setting in sorted(settings, key=lambda s: -wins[s]):
        worst = max(_loss(case, setting, settings) for case in cases)
        said.append(f"{setting_name(setting)} best on {wins[setting]} of {len(cases)}, at worst {worst:.0%} behind")
    text = "; ".join(said)
    return text[0].upper() + text[1:]


def draw(results: Results, choice: Choice) -> Figure:
    cases, settings = settings_of(results, choice)
    models = {case.row.get("model") for case in cases}
    shown = sorted(cases, key=lambda case: max(_loss(case, setting, settings) for setting in settings))
    shown = shown[:: -(-len(shown) // MOST_CASES)]
    kernel = shown[0].variants[choice.of].get("kernel") or "as it chooses"
    fig, (ax,) = figure(
        results,
        message(cases, settings),
        f"Time over podattn's own choice (kernel {kernel}); left is faster.",
        height=2.1 + 0.29 * len(shown),
    )
    for index, setting in enumerate(settings):
        values = [case.us[setting] / case.us[choice.of] for case in shown]
        ax.plot(
            values,
            range(len(shown)),
            "osD^v"[index % 5],
            color=OTHERS[index % len(OTHERS)],
            markersize=7,
            label=setting_name(setting),
        )
    ax.axvline(1, color=COLOURS["fused"], linewidth=2)
    labels = [f"{case.row['model']}: {case.label}" if len(models) > 1 else case.label for case in shown]
    ax.set_yticks(range(len(shown)), labels, size=8.5)
    ax.set_ylim(-0.7, len(shown) - 0.3)
    ax.set_xlabel("time / own choice")
    ax.legend(
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=len(settings),
        frameon=False,
        borderaxespad=0.1,
        handletextpad=0.1,
    )
    fig.subplots_adjust(left=0.36 if len(models) > 1 else 0.27)
    return fig


def findings(results: Results, choice: Choice) -> str:
    cases, settings = settings_of(results, choice)
    lines = ["| setting | time / own choice, mean | best on |", "|---|---|---|"]
    for setting in settings:
        wins = sum(best_setting(case, settings) == setting for case in cases)
        average = mean(case.us[setting] / case.us[choice.of] for case in cases)
        lines.append(f"| {setting_name(setting)} | {average:.2f} | {wins} of {len(cases)} batches |")
    return "\n".join([*lines, "", f"{message(cases, settings)}."])


def clear_wins(results: Results, choice: Choice) -> dict[str, int]:
    """Batches on which a setting is better than every other by more than the margin."""
    cases, settings = settings_of(results, choice)
    wins = dict.fromkeys(settings, 0)
    for case in cases:
        best, second = sorted(settings, key=case.us.__getitem__)[:2]
        wins[best] += case.us[second] > (1 + MARGIN) * case.us[best]
    return wins
