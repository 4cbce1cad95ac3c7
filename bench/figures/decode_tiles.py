# SPDX-License-Identifier: Apache-2.0
"""Decode tiles: how many query rows one holds."""

from __future__ import annotations

from matplotlib.figure import Figure

from . import choices
from .results import Results

TITLE = "Decode tiles (the paper's figure 10)"
PAPER = "Smaller decode tiles waste less arithmetic on padding and leave it to prefill."
CHOICE = choices.Choice(of="decode")


def draw(results: Results) -> Figure:
    return choices.draw(results, CHOICE)


def findings(results: Results) -> str:
    return f"{choices.findings(results, CHOICE)}\n\n{_verdict(choices.clear_wins(results, CHOICE))}"


def _verdict(wins: dict[str, int]) -> str:
    """`wins`: on how many batches a setting is clearly best."""
    if not any(wins.values()):
        return (
            "**Makes no difference here.** Decode alone takes the same time with either: the cached keys are the long "
            "side of its products, rows are padded to eight at most, and reading is what it waits for."
        )
    small = wins.get("decode ctas=4", 0)
    holds = small == max(wins.values())
    return f"**{'Holds' if holds else 'Does not hold'}.** The smaller tile is clearly better on {small} batches."
