# SPDX-License-Identifier: Apache-2.0
"""Attention of one request in double precision, for the tests of the integrations."""

from __future__ import annotations

from typing import Optional

import torch


def reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    window: int,
    scale: float,
    softcap: Optional[float],
    sinks: Optional[torch.Tensor],
) -> torch.Tensor:
    """Of one request: q `[new, q_heads, dim]` at the end of k and v `[kv_len, kv_heads, dim]`."""
    q, k, v = q.double(), k.double(), v.double()
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = torch.einsum("qhd,khd->hqk", q, k) * scale
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    key = torch.arange(k.shape[0])
    query = torch.arange(k.shape[0] - q.shape[0], k.shape[0])[:, None]
    hidden = key > query
    if window:
        hidden = hidden | (key <= query - window)
    scores = scores.masked_fill(hidden, -torch.inf)
    if sinks is not None:
        column = sinks.double()[:, None, None].expand(-1, q.shape[0], 1)
        weights = torch.cat([scores, column], -1).softmax(-1)[..., :-1]
    else:
        weights = scores.softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, v)
