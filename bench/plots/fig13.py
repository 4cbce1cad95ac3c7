# SPDX-License-Identifier: Apache-2.0
"""Two or four CTAs per SM."""

from __future__ import annotations

from matplotlib.figure import Figure

from . import choices
from .results import Results

TITLE = "CTAs per SM (the paper's figure 13)"
PAPER = "Neither two nor four CTAs per SM are best for every batch; a choice per batch is close to the better one."


def draw(results: Results) -> Figure:
    return choices.draw(results)


def findings(results: Results) -> str:
    return choices.findings(results)
