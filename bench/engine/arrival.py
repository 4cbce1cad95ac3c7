# SPDX-License-Identifier: Apache-2.0
"""When requests come."""

from __future__ import annotations

import random
from collections.abc import Sequence

from .load import Request


def all_at_once(requests: Sequence[Request]) -> list[Request]:
    """At the start."""
    return [request._replace(at_s=0.0) for request in requests]


def poisson(requests: Sequence[Request], rate_per_s: float, seed: int) -> list[Request]:
    """With exponential gaps. Another rate stretches the same gaps, so that rates are compared and not luck."""
    if not rate_per_s > 0:
        raise ValueError(f"rate_per_s = {rate_per_s} is not positive")
    rng = random.Random(f"{seed} gaps")
    arriving, now = [], 0.0
    for request in requests:
        now += rng.expovariate(1.0) / rate_per_s
        arriving.append(request._replace(at_s=now))
    return arriving
