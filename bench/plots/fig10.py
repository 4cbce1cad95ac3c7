# SPDX-License-Identifier: Apache-2.0
"""Decode tiles: how many query rows one is padded to."""

from __future__ import annotations

from matplotlib.figure import Figure

from . import choices
from .results import Results

TITLE = "Decode tiles (the paper's figure 10)"
PAPER = "Smaller decode tiles waste less arithmetic on padding and leave it to prefill."


def draw(results: Results) -> Figure:
    return choices.draw(results)


def findings(results: Results) -> str:
    return choices.findings(results)
