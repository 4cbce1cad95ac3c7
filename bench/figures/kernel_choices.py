# SPDX-License-Identifier: Apache-2.0
"""The suites that force a setting of the sm80 kernels on whole calls: CTAs per SM, and ticket policies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from matplotlib.figure import Figure

from . import choices
from .results import Results

CHOICE = choices.Choice()


@dataclass(frozen=True)
class KernelChoice:
    """A suite, as one of the modules here. `verdict` takes on how many batches each setting is clearly best."""

    TITLE: str
    PAPER: str
    verdict: Callable[[dict[str, int]], str]

    def draw(self, results: Results) -> Figure:
        return choices.draw(results, CHOICE)

    def findings(self, results: Results) -> str:
        return f"{choices.findings(results, CHOICE)}\n\n{self.verdict(choices.clear_wins(results, CHOICE))}"


def _ctas_verdict(wins: dict[str, int]) -> str:
    winners = [choices.setting_name(setting) for setting, count in wins.items() if count]
    if len(winners) > 1:
        return f"**Holds.** Each is clearly better on some batches: {', '.join(winners)}."
    if not winners:
        return "**Does not hold.** Both take about the same time."
    return f"**Does not hold.** Only {winners[0]} are ever clearly better."


def _policy_verdict(wins: dict[str, int]) -> str:
    half = wins.get("policy=half", 0)
    others = max(count for setting, count in wins.items() if setting != "policy=half")
    if half == 0:
        return f"**Holds.** One-to-one tickets are nowhere clearly better; the other policy is, on {others} batches."
    holds = "Holds in part" if others > half else "Does not hold"
    return f"**{holds}.** One-to-one tickets are clearly better on {half} batches, the other policy on {others}."


CTAS_PER_SM = KernelChoice(
    "CTAs per SM (the paper's figure 13)",
    "Neither two nor four CTAs per SM are best for every batch.",
    _ctas_verdict,
)
TICKET_POLICY = KernelChoice(
    "Ticket policies (the paper's figure 14)",
    "Proportional tickets are as good as alternating ones or better.",
    _policy_verdict,
)
