# SPDX-License-Identifier: Apache-2.0
"""The definition of attention, in a wider type, for a sample of a batch's query tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from .inputs import Inputs, LeftOut

MAX_PREFILLS, TOKENS_OF_A_PREFILL, MAX_DECODES = 4, 4, 8
# Relative L2 over all, and of the worst row, as `podattn run --check`.
BOUNDS = {torch.bfloat16: (5e-3, 2e-2), torch.float16: (1e-3, 4e-3), torch.float32: (1e-5, 4e-5)}


def spread(count: int, sample: int) -> list[int]:
    """Up to `sample` numbers below `count`, evenly spread, the last included."""
    sample = min(count, sample)
    return [(i + 1) * count // sample - 1 for i in range(sample)]


class Oracle:
    """Expected outputs of the sampled tokens of layer 0."""

    def __init__(self, inputs: Inputs) -> None:
        b = inputs.batch
        self.num_tokens = b.num_tokens
        self.bounds = BOUNDS[inputs.dtype]
        self.wide = torch.float64 if inputs.dtype == torch.float32 else torch.float32
        self.tokens: list[int] = []  # the sampled ones
        expected = []
        sampled = spread(len(b.prefill), MAX_PREFILLS)
        sampled += [b.num_prefill + i for i in spread(len(b.decodes), MAX_DECODES)]
        for request in sampled:
            scale = 1 if inputs.kv_scale is None else inputs.kv_scale.to(self.wide)
            k, v = (cache.to(self.wide) * scale for cache in inputs.cache_of(request))
            q_len, kv_len, begin = b.q_lens[request], b.kv_lens[request], int(inputs.q_start[request])
            for i in spread(q_len, TOKENS_OF_A_PREFILL):
                seen = kv_len - q_len + i + 1
                keys = slice(max(0, seen - b.window) if b.window else 0, seen)
                self.tokens.append(begin + i)
                expected.append(self._row(inputs.layers[0].q[begin + i].to(self.wide), k[keys], v[keys]))
        self.expected = torch.stack(expected)

    @staticmethod
    def _row(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """[q_heads, head_dim] of one token that sees all of k and v [tokens, kv_heads, head_dim]."""
        grouped = q.reshape(k.shape[1], -1, k.shape[2])
        scores = torch.einsum("hgd,thd->hgt", grouped, k) / math.sqrt(k.shape[2])
        return torch.einsum("hgt,thd->hgd", scores.softmax(-1), v).reshape(q.shape)

    def error(self, outputs: Sequence[torch.Tensor], computed: slice = slice(None)) -> tuple[float, float]:
        """Relative L2 over all, and of the worst row, of a library's outputs for layer 0. It has computed these query
        tokens; what it returns has to be just those.
        """
        tokens = range(self.num_tokens)[computed]
        got = torch.cat(list(outputs))
        if len(got) != len(tokens):
            raise LeftOut(f"it returns {len(got)} tokens; {len(tokens)} were to be computed")
        sampled = [i for i, token in enumerate(self.tokens) if token in tokens]
        got, expected = got[[self.tokens[i] - tokens.start for i in sampled]].to(self.wide), self.expected[sampled]
        difference, size = (got - expected).norm(dim=-1), expected.norm(dim=-1)
        return (difference.norm() / size.norm()).item(), (difference / size).max().item()

    def passes(self, error: tuple[float, float]) -> bool:
        return error[0] <= self.bounds[0] and error[1] <= self.bounds[1]
