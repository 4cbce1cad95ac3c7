# SPDX-License-Identifier: Apache-2.0
"""The flash-attention functions against double precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attention_reference import reference

import podattn
from podattn_transformers import flash_kernel

HEADS, KV_HEADS, DIM, PAGE = 4, 2, 16, 8


def randn(*sizes: int) -> torch.Tensor:
    return torch.randn(*sizes)


@pytest.mark.parametrize("window", [0, 5])
@pytest.mark.parametrize("paged", [False, True])
@pytest.mark.parametrize("softcap", [0.0, 10.0])
def test_packed_sequences(window: int, paged: bool, softcap: float) -> None:
    torch.manual_seed(1)
    lengths = [(3, 3), (1, 19), (0, 4), (7, 30)]
    q = randn(11, HEADS, DIM)
    keys = [randn(kv, KV_HEADS, DIM) for _, kv in lengths]
    values = [randn(kv, KV_HEADS, DIM) for _, kv in lengths]
    cu_q = torch.tensor([0, 3, 4, 4, 11], dtype=torch.int32)
    cu_k = torch.tensor([0, 3, 22, 26, 56], dtype=torch.int32)
    sinks = randn(HEADS)
    options: dict[str, Any] = {"causal": True, "softcap": softcap, "s_aux": sinks, "softmax_scale": 0.4}
    options["window_size"] = (window - 1, 0) if window else (-1, -1)
    if paged:
        table = torch.arange(16, dtype=torch.int32).flip(0).view(4, 4)
        caches = []
        for rows in (keys, values):
            cache = torch.full((16, PAGE, KV_HEADS, DIM), float("nan"))
            for r, own in enumerate(rows):
                for position, row in enumerate(own):
                    cache[table[r, position // PAGE], position % PAGE] = row
            caches.append(cache)
        out = flash_kernel.flash_attn_varlen_func(
            q, *caches, cu_q, None, 7, 30, block_table=table, **options, seqused_k=cu_k.diff()
        )
    else:
        out = flash_kernel.flash_attn_varlen_func(q, torch.cat(keys), torch.cat(values), cu_q, cu_k, 7, 30, **options)
    for r, (begin, end) in enumerate(zip(cu_q[:-1], cu_q[1:])):
        wanted = reference(q[begin:end], keys[r], values[r], window, 0.4, softcap, sinks)
        assert torch.allclose(out[begin:end].double(), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("new", [1, 3])
@pytest.mark.parametrize("paged", [False, True])
def test_new_keys_are_written_first(new: int, paged: bool) -> None:
    torch.manual_seed(2)
    past = [0, 9, 20]
    q, k, v = randn(3, new, HEADS, DIM), randn(3, new, KV_HEADS, DIM), randn(3, new, KV_HEADS, DIM)
    table = torch.randperm(12).to(torch.int32).view(3, 4) if paged else None
    caches = [randn(12, PAGE, KV_HEADS, DIM) if paged else randn(3, 32, KV_HEADS, DIM) for _ in range(2)]
    rows = [
        [(cache[table[r].long()].flatten(0, 1) if paged else cache[r])[: past[r]].clone() for r in range(3)]
        for cache in caches
    ]
    out, lse = flash_kernel.flash_attn_with_kvcache(
        q, *caches, k, v, torch.tensor(past, dtype=torch.int32), table, causal=True, return_softmax_lse=True
    )
    assert out.shape == q.shape
    assert lse.shape == (3, HEADS, new)
    for r in range(3):
        keys, values = torch.cat([rows[0][r], k[r]]), torch.cat([rows[1][r], v[r]])
        wanted = reference(q[r], keys, values, 0, DIM**-0.5, None, None)
        assert (out[r].double() - wanted).abs().max() < 1e-5
    scores = torch.einsum("hd,khd->hk", q[0, 0].double(), k[0, :1].double().repeat_interleave(2, 1)) * DIM**-0.5
    assert torch.allclose(lse[0, :, 0].double(), scores.logsumexp(-1), atol=1e-5)


def test_one_length_for_all_and_no_new_keys() -> None:
    torch.manual_seed(3)
    q, caches = randn(2, 1, HEADS, DIM), [randn(2, 32, KV_HEADS, DIM) for _ in range(2)]
    out = flash_kernel.flash_attn_with_kvcache(q, *caches, cache_seqlens=17)
    wanted = reference(q[1], caches[0][1, :17], caches[1][1, :17], 0, DIM**-0.5, None, None)
    assert (out[1].double() - wanted).abs().max() < 1e-5


def test_refusals() -> None:
    q, k = randn(1, HEADS, DIM), randn(1, KV_HEADS, DIM)
    cu = torch.tensor([0, 1], dtype=torch.int32)
    with pytest.raises(podattn.UnsupportedError, match=r"dropout_p = 0\.1"):
        flash_kernel.flash_attn_varlen_func(q, k, k, cu, cu, 1, 1, 0.1)
    with pytest.raises(podattn.UnsupportedError, match=r"window_size = \(3, 4\), which looks ahead"):
        flash_kernel.flash_attn_varlen_func(q, k, k, cu, cu, 1, 1, window_size=(3, 4))
    with pytest.raises(podattn.UnsupportedError, match=r"window_size = \(3, -1\) without causal"):
        flash_kernel.flash_attn_varlen_func(q, k, k, cu, cu, 1, 1, window_size=(3, -1))
    with pytest.raises(podattn.ArgumentError, match="cu_seqlens_k and seqused_k are both None"):
        flash_kernel.flash_attn_varlen_func(q, k, k, cu)
    with pytest.raises(podattn.ArgumentError, match="cu_seqlens_k is None"):
        flash_kernel.flash_attn_varlen_func(q, k, k, cu, seqused_k=cu[1:])
    with pytest.raises(podattn.ArgumentError, match="cache_seqlens is None"):
        flash_kernel.flash_attn_with_kvcache(q[None], k[None], k[None])
    with pytest.raises(podattn.ArgumentError, match="one of k and v is None"):
        flash_kernel.flash_attn_with_kvcache(q[None], k[None], k[None], k[None], None, 0)
