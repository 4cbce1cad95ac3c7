# SPDX-License-Identifier: Apache-2.0
"""Counts of what was served, by which a program sees that podattn is in use and what its batches are like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ATTRIBUTE = "_podattn"
"""Of the engine's cache: what podattn keeps for it."""


@dataclass
class Stats:
    """What one engine's cache was asked for. A replayed CUDA graph is not counted: the host does not see it."""

    steps: int = 0
    """Forward passes."""
    mixed_steps: int = 0
    """Those that had requests of one token and requests of several. Known for batches without block tables."""
    block_table_steps: int = 0
    """Those for which the engine handed over block tables: decode tokens alone."""
    calls: int = 0
    """Calls of podattn, over all layers."""
    copied_tokens: int = 0
    """Keys that were copied, over all layers, for prefill chunks that go past a sliding window."""


def stats_of(cache: Any) -> Stats:
    """The counts of one engine's `PagedAttentionCache`.

    Raises:
        ValueError: podattn has not served that cache.
    """
    state = getattr(cache, ATTRIBUTE, None)
    if state is None or state.stats.steps == 0:
        raise ValueError("podattn has not served this cache")
    stats: Stats = state.stats
    return stats
