# SPDX-License-Identifier: Apache-2.0
"""The highest rate of requests that is served in time, by search, as Sarathi-Serve defines it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Limits(NamedTuple):
    """What "in time" is."""

    between_p99_ms: float
    """Of the times between tokens, 99 % are at most this."""
    ttft_p50_s: float
    """Half of the first tokens come within this; where they do not, the queue grows."""

    def are_met(self, row: dict[str, Any]) -> bool:
        """By a run's summary. A run of single tokens has no time between tokens."""
        between, first = row["between_p99_ms"], row["ttft_p50_s"]
        return (
            row["unfinished"] == 0
            and first is not None
            and first <= self.ttft_p50_s
            and (between is None or between <= self.between_p99_ms)
        )


class Capacity(NamedTuple):
    """Between these two rates, in requests per second."""

    met: float
    """The highest that was served in time; 0 if none was."""
    failed: float
    """The lowest above it that was not; infinite if all that were tried were."""
    trials: int


def search(
    is_met: Callable[[float], bool], start: float, most: float, tolerance: float = 0.05, most_trials: int = 12
) -> Capacity:
    """Doubles or halves from `start` until the border is between two rates, then halves what is between them.

    Args:
        is_met: measures a rate.
        start: a rate near the border; the reference's throughput, say.
        most: above it no rate is tried: more than the engine's own throughput cannot be served for long, and where it
            seems so, the load is too short to tell.
        tolerance: `failed / met - 1` at which to stop.
        most_trials: at which to stop in any case.
    """
    if not 0 < start <= most:
        raise ValueError(f"start = {start} is not in (0, most = {most}]")
    met, failed, rate, trials = 0.0, float("inf"), start, 0
    while trials < most_trials and met < most and failed > met * (1 + tolerance):
        trials += 1
        if is_met(rate):
            met = rate
        else:
            failed = rate
        if met == 0:
            rate = failed / 2
        elif failed == float("inf"):
            rate = min(met * 2, most)
        else:
            rate = (met * failed) ** 0.5
    return Capacity(met, failed, trials)
