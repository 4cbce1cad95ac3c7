# SPDX-License-Identifier: Apache-2.0
"""Two or four CTAs per SM."""

from __future__ import annotations

from matplotlib.figure import Figure

from . import choices
from .results import Results

TITLE = "CTAs per SM (the paper's figure 13)"
PAPER = "Neither two nor four CTAs per SM are best for every batch."
CHOICE = choices.Choice()


def draw(results: Results) -> Figure:
    return choices.draw(results, CHOICE)


def findings(results: Results) -> str:
    return f"{choices.findings(results, CHOICE)}\n\n{_verdict(choices.clear_wins(results, CHOICE))}"


def _verdict(wins: dict[str, int]) -> str:
    """`wins`: on how many batches a setting is clearly best."""
    winners = [choices.setting_name(setting) for setting, count in wins.items() if count]
    if len(winners) > 1:
        return f"**Holds.** Each is clearly better on some batches: {', '.join(winners)}."
    if not winners:
        return "**Does not hold.** Both take about the same time."
    return f"**Does not hold.** Only {winners[0]} are ever clearly better."
