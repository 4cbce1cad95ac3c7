# SPDX-License-Identifier: Apache-2.0
"""How near two engines' answers to the same prompts are."""

from __future__ import annotations

import statistics
from typing import Any

Answers = list[list[tuple[int, float]]]
"""Of each prompt, tokens and their logarithmic probabilities."""


def compare(own: Answers, other: Answers) -> dict[str, Any]:
    """Of the same prompts, equally many tokens; probabilities up to the first token that differs, that one left out."""
    same, apart = [], [0.0]
    for a, b in zip(own, other, strict=True):
        length = next((i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x[0] != y[0]), len(a))
        same.append(length)
        apart += [abs(x[1] - y[1]) for x, y in zip(a[:length], b[:length], strict=True)]
    return {
        "first_tokens_same": sum(length > 0 for length in same),
        "mean_tokens_before_difference": round(statistics.fmean(same), 2),
        "answers_same": sum(length == len(a) for length, a in zip(same, own, strict=True)),
        "most_logprob_distance": round(max(apart), 5),
        "mean_logprob_distance": round(statistics.fmean(apart), 6),
    }
