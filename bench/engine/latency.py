# SPDX-License-Identifier: Apache-2.0
"""What users see of a run: throughput, the time to the first token, and the time between tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .drive import Run


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least so many percent do not exceed; NaN of none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def _rounded(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return None if math.isnan(value) else float(f"{value:.6g}")


def summary(run: Run) -> dict[str, float | int | None]:
    """Numbers of one run. Tokens that come out of one step together have 0 s between them."""
    prompt_tokens = sum(one.request.prompt_tokens for one in run.served if one.token_times)
    output_tokens = sum(len(one.token_times) for one in run.served)
    first = [one.token_times[0] - one.request.at_s for one in run.served if one.token_times]
    gaps = [later - sooner for one in run.served for sooner, later in zip(one.token_times, one.token_times[1:])]
    finished = sum(one.is_finished for one in run.served)
    return {
        "requests": len(run.served),
        "unfinished": len(run.served) - finished,
        "seconds": _rounded(run.seconds),
        "prompt_tokens": prompt_tokens,
        "output_tokens": output_tokens,
        "requests_per_s": _rounded(finished / run.seconds),
        "tokens_per_s": _rounded((prompt_tokens + output_tokens) / run.seconds),
        "output_tokens_per_s": _rounded(output_tokens / run.seconds),
        "ttft_p50_s": _rounded(percentile(first, 50)),
        "ttft_p99_s": _rounded(percentile(first, 99)),
        "between_p50_ms": _rounded(1e3 * percentile(gaps, 50)),
        "between_p99_ms": _rounded(1e3 * percentile(gaps, 99)),
    }
