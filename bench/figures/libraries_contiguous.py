# SPDX-License-Identifier: Apache-2.0
"""Other libraries in one run with ours on contiguous caches, by bench/compare.py --page-size 0."""

from __future__ import annotations

from .libraries import draw, findings

__all__ = ["PAPER", "TITLE", "draw", "findings"]

TITLE = "The same on contiguous caches"
PAPER = "One fused call beats separate kernels in their best case, where they read no page table."
