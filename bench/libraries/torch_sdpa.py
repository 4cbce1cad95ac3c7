# SPDX-License-Identifier: Apache-2.0
"""PyTorch's scaled_dot_product_attention on the CPU: a call for each prompt, and one for all decodes of equal lengths.

It reads no pages, so it gets contiguous caches as it likes them, [heads, tokens, head_dim], made before anything is
timed. Of its correct ways to compute a call the fastest is taken.
"""

from __future__ import annotations

import time
from itertools import groupby

import torch
from torch.nn.functional import scaled_dot_product_attention as sdpa

from .inputs import Inputs
from .timing import Call


def _mask(q_len: int, kv_len: int, window: int) -> torch.Tensor | None:
    """None if every token sees all keys."""
    if q_len == 1 and not window:
        return None
    mask = torch.ones(q_len, kv_len, dtype=torch.bool).tril(kv_len - q_len)
    return mask.triu(kv_len - q_len - window + 1) if window else mask


def _ways(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> list:
    """Of one call: q [n, q_heads, tokens, head_dim], k and v [n, kv_heads, tokens, head_dim]."""
    group = q.shape[1] // k.shape[1]
    repeated = [x.repeat_interleave(group, 1) for x in (k, v)]  # not timed: an engine could store them so
    ways = [lambda: sdpa(q, k, v, attn_mask=mask, enable_gqa=True), lambda: sdpa(q, *repeated, attn_mask=mask)]
    if mask is not None:
        bias = torch.zeros(mask.shape, dtype=q.dtype).masked_fill_(~mask, float("-inf"))
        ways += [
            lambda: sdpa(q, k, v, attn_mask=bias, enable_gqa=True),
            lambda: sdpa(q, *repeated, attn_mask=bias),
        ]
    if q.shape[2] == 1:  # a group of query heads as the rows of one head: no cache is read twice
        rows = q.reshape(q.shape[0], k.shape[1], group, q.shape[3])
        ways.append(lambda: sdpa(rows, k, v, attn_mask=mask).reshape(q.shape))
    return ways


def _seconds(way) -> float:
    begin = time.perf_counter()
    way()
    return time.perf_counter() - begin


def best(inputs: Inputs) -> Call:
    b = inputs.batch
    calls = []
    for (q_len, kv_len), group in groupby(b.all, key=lambda r: (b.q_lens[r], b.kv_lens[r])):
        requests = list(group)
        tokens = inputs.tokens_of(range(requests[0], requests[-1] + 1))
        q = inputs.layers[0].q[tokens].unflatten(0, (len(requests), q_len)).transpose(1, 2).contiguous()
        caches = [inputs.cache_of(request) for request in requests]
        k, v = (torch.stack([cache[i] for cache in caches]).transpose(1, 2).contiguous() for i in range(2))
        way = min(_ways(q, k, v, _mask(q_len, kv_len, b.window)), key=lambda way: min(_seconds(way) for _ in range(2)))
        calls.append(way)

    def call(_: int) -> tuple[torch.Tensor, ...]:
        return tuple(way().transpose(1, 2).flatten(0, 1) for way in calls)

    return call
