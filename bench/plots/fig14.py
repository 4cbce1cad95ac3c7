# SPDX-License-Identifier: Apache-2.0
"""Ticket policies: an SM's CTAs alternate in proportion to the work, or one to one."""

from __future__ import annotations

from matplotlib.figure import Figure

from . import choices
from .results import Results

TITLE = "Ticket policies (the paper's figure 14)"
PAPER = "Proportional tickets are as good as alternating ones or better, most of all where one kind of work prevails."


def draw(results: Results) -> Figure:
    return choices.draw(results)


def findings(results: Results) -> str:
    return choices.findings(results)
