# SPDX-License-Identifier: Apache-2.0
"""Every suite that has a figure: its CSV file's name, and what draws it. Figures are in this order."""

from __future__ import annotations

from typing import Protocol

from matplotlib.figure import Figure

from . import (
    batches,
    chunk_waves,
    decode_tiles,
    fusion_ways,
    kernels,
    libraries,
    libraries_contiguous,
    peak,
    sweep,
    trace,
    utilisation,
)
from .kernel_choices import CTAS_PER_SM, TICKET_POLICY
from .results import Results


class Suite(Protocol):
    TITLE: str
    PAPER: str

    def draw(self, results: Results) -> Figure: ...

    def findings(self, results: Results) -> str: ...


SUITES: dict[str, Suite] = {
    "peak": peak,
    "kernels": kernels,
    "utilisation": utilisation,
    "chunk_waves": chunk_waves,
    "fusion_ways": fusion_ways,
    "decode_tiles": decode_tiles,
    "sweep": sweep,
    "ctas_per_sm": CTAS_PER_SM,
    "ticket_policy": TICKET_POLICY,
    "trace": trace,
    "batches": batches,
    "libraries": libraries,
    "libraries_contiguous": libraries_contiguous,
}
