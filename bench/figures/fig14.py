# SPDX-License-Identifier: Apache-2.0
"""Ticket policies: an SM's CTAs alternate in proportion to the work, or one to one."""

from __future__ import annotations

from matplotlib.figure import Figure

from . import choices
from .results import Results

TITLE = "Ticket policies (the paper's figure 14)"
PAPER = "Proportional tickets are as good as alternating ones or better."
CHOICE = choices.Choice()


def draw(results: Results) -> Figure:
    return choices.draw(results, CHOICE)


def findings(results: Results) -> str:
    return f"{choices.findings(results, CHOICE)}\n\n{_verdict(choices.clear_wins(results, CHOICE))}"


def _verdict(wins: dict[str, int]) -> str:
    """`wins`: on how many batches a setting is clearly best."""
    half = wins.get("policy=half", 0)
    others = max(count for setting, count in wins.items() if setting != "policy=half")
    if half == 0:
        return f"**Holds.** One-to-one tickets are nowhere clearly better; the other policy is, on {others} batches."
    holds = "Holds in part" if others > half else "Does not hold"
    return f"**{holds}.** One-to-one tickets are clearly better on {half} batches, the other policy on {others}."
