# SPDX-License-Identifier: Apache-2.0
"""Every suite that has a figure: its CSV file's name, and the module that draws it. Figures stand in this order."""

from __future__ import annotations

from types import ModuleType

from . import (
    fig1,
    fig6,
    fig7,
    fig10,
    fig11,
    fig13,
    fig14,
    libraries,
    libraries_contiguous,
    limits,
    peer_times,
    trace,
)

SUITES: dict[str, ModuleType] = {
    "limits": limits,
    "fig1": fig1,
    "fig6": fig6,
    "fig7": fig7,
    "fig10": fig10,
    "fig11": fig11,
    "fig13": fig13,
    "fig14": fig14,
    "trace": trace,
    "peers": peer_times,
    "libraries": libraries,
    "libraries_contiguous": libraries_contiguous,
}
