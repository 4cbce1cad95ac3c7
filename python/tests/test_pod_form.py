# SPDX-License-Identifier: Apache-2.0
"""The call in the form of the original, on caches at one and at two addresses."""

from __future__ import annotations

from typing import Any, Optional

import pytest
import torch
import torch.nn.functional as F
from hybrid_case import MAX_ERROR, relative_error
from test_plan import dtype_of

import podattn

HEADS, KV_HEADS, DIM = 8, 2, 64


def normal(device: str, *shape: int, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=rng).to(dtype_of(device)).to(device)


def reference(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, seqlens: list[int], causal: bool,
              left: Optional[int] = None) -> torch.Tensor:  # fmt: skip
    """`[requests, tokens, heads, dim]` in float64."""
    outs = []
    for i, length in enumerate(seqlens):
        keys, values = (
            x[i, :length].cpu().double().transpose(0, 1).repeat_interleave(HEADS // KV_HEADS, 0) for x in (k, v)
        )
        tokens = q.shape[1]
        mask = torch.ones(tokens, length, dtype=torch.bool)
        if causal:
            mask = mask.tril(length - tokens)
        if left is not None:
            mask = mask.triu(length - tokens - left)
        query = q[i].cpu().double().transpose(0, 1)
        outs.append(F.scaled_dot_product_attention(query, keys, values, attn_mask=mask).transpose(0, 1))
    return torch.stack(outs)


def check(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape
    assert relative_error(found, expected) <= MAX_ERROR[found.dtype]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("on_device", [False, True])
def test_slices_of_one_tensor(device: str, causal: bool, on_device: bool) -> None:
    k, v = normal(device, 6, 128, KV_HEADS, DIM, seed=1), normal(device, 6, 128, KV_HEADS, DIM, seed=2)
    q_p, q_d = normal(device, 2, 40, HEADS, DIM, seed=3), normal(device, 4, 1, HEADS, DIM, seed=4)
    lengths = [[100, 40], [128, 1, 77, 30]]
    where = device if on_device else "cpu"
    given = [torch.tensor(x, dtype=torch.int32, device=where) for x in lengths]
    out_p, out_d = podattn.fused_attention_with_kvcache(
        q_p, k[:2], v[:2], q_d, k[2:], v[2:], cache_seqlens_p=given[0], cache_seqlens_d=given[1], causal=causal
    )
    check(out_p, reference(q_p, k[:2], v[:2], lengths[0], causal))
    check(out_d, reference(q_d, k[2:], v[2:], lengths[1], causal))


def test_two_caches_of_other_lengths(device: str) -> None:
    """One after the other in one allocation, the decodes' first, an odd distance apart."""
    store = normal(device, 2, 40_000, seed=5)
    row = KV_HEADS * DIM

    def cut(which: int, begin: int, count: int, tokens: int) -> torch.Tensor:
        flat = store[which, begin : begin + count * tokens * row]
        return flat.view(count, tokens, KV_HEADS, DIM)

    k_d, v_d = (cut(i, 0, 3, 40) for i in range(2))
    k_p, v_p = (cut(i, 3 * 40 * row + 24, 1, 96) for i in range(2))
    q_p, q_d = normal(device, 1, 50, HEADS, DIM, seed=6), normal(device, 3, 2, HEADS, DIM, seed=7)
    out_p, out_d, lse_p, lse_d = podattn.fused_attention_with_kvcache(
        q_p, k_p, v_p, q_d, k_d, v_d, cache_seqlens_p=90, cache_seqlens_d=None, causal=True, return_softmax_lse=True
    )
    check(out_p, reference(q_p, k_p, v_p, [90], True))
    check(out_d, reference(q_d, k_d, v_d, [40] * 3, True))
    assert lse_p.shape == (1, HEADS, 50) and lse_d.shape == (3, HEADS, 2)


def test_paged_and_batch_index(device: str) -> None:
    pool_k, pool_v = normal(device, 20, 16, KV_HEADS, DIM, seed=8), normal(device, 20, 16, KV_HEADS, DIM, seed=9)
    q_p, q_d = normal(device, 1, 20, HEADS, DIM), normal(device, 2, 1, HEADS, DIM, seed=1)
    table = torch.randperm(20, generator=torch.Generator().manual_seed(3), dtype=torch.int32)
    tables = [table[:4].view(1, 4), table[4:10].view(2, 3)]
    lengths = [torch.tensor([50], dtype=torch.int32), torch.tensor([48, 3], dtype=torch.int32)]
    out_p, out_d = podattn.fused_attention_with_kvcache(
        q_p, pool_k, pool_v, q_d, pool_k, pool_v, block_table_p=tables[0], block_table_d=tables[1],
        cache_seqlens_p=lengths[0], cache_seqlens_d=lengths[1], causal=True,
    )  # fmt: skip
    gathered = [[x[t.long().to(device)].flatten(1, 2) for x in (pool_k, pool_v)] for t in tables]
    check(out_p, reference(q_p, *gathered[0], [50], True))
    check(out_d, reference(q_d, *gathered[1], [48, 3], True))
    rows = torch.tensor([7, 2], dtype=torch.int32)
    none, out_d = podattn.fused_attention_with_kvcache(
        None, None, None, q_d, pool_k, pool_v, cache_seqlens_d=16, cache_batch_idx=rows, causal=True, window_size=(5, 0)
    )
    assert none is None
    chosen = [x[rows.long().to(device)] for x in (pool_k, pool_v)]
    check(out_d, reference(q_d, *chosen, [16, 16], True, left=5))


def test_queries_that_follow_one_another_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    k, v = normal("cpu", 3, 64, KV_HEADS, DIM, seed=1), normal("cpu", 3, 64, KV_HEADS, DIM, seed=2)
    packed = normal("cpu", 32, HEADS, DIM, seed=3)
    q_p, q_d = packed[:30].view(1, 30, HEADS, DIM), packed[30:].view(2, 1, HEADS, DIM)
    arguments: Any = (q_p, k[:1], v[:1], q_d, k[1:], v[1:])
    expected = podattn.fused_attention_with_kvcache(q_p.clone(), *arguments[1:], causal=True)
    plain, copied = torch.cat, []
    monkeypatch.setattr(torch, "cat", lambda xs: copied.append(xs[0].dtype) or plain(xs))
    found = podattn.fused_attention_with_kvcache(*arguments, causal=True)
    assert torch.float32 not in copied and copied
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def test_what_one_call_cannot_do() -> None:
    k, v = normal("cpu", 3, 64, KV_HEADS, DIM), normal("cpu", 3, 64, KV_HEADS, DIM)
    q_p, q_d = normal("cpu", 1, 30, HEADS, DIM), normal("cpu", 2, 1, HEADS, DIM)
    call = podattn.fused_attention_with_kvcache
    with pytest.raises(podattn.UnsupportedError, match=r"elements apart.*slices of one tensor"):
        call(q_p, k[:1], v[:1], q_d, k[1:], v[:2])
    with pytest.raises(podattn.UnsupportedError, match="strides"):
        call(q_p, k[:1], v[:1], q_d, k[1:].transpose(1, 2).contiguous().transpose(1, 2), v[1:])
    with pytest.raises(podattn.UnsupportedError, match="needs both, or none"):
        call(q_p, k, v, q_d, k, v, cache_seqlens_d=3, block_table_d=torch.zeros(2, 1, dtype=torch.int32))
    with pytest.raises(podattn.UnsupportedError, match="window to the right"):
        call(q_p, k[:1], v[:1], q_d, k[1:], v[1:], window_size=(3, 3))
    with pytest.raises(podattn.ArgumentError, match="cache_seqlens_d reaches 65, but the cache holds 64"):
        call(q_p, k[:1], v[:1], q_d, k[1:], v[1:], cache_seqlens_d=65)
    with pytest.raises(podattn.ArgumentError, match=r"kv_len\[0\] = 20 is smaller than q_len\[0\] = 30"):
        call(q_p, k[:1], v[:1], q_d, k[1:], v[1:], cache_seqlens_p=20, causal=True)
    with pytest.raises(podattn.ArgumentError, match="both None"):
        call(None, None, None, None, None, None)
    with pytest.raises(podattn.ArgumentError, match="k_cache_d has 1 rows for 2 requests"):
        call(q_p, k[:1], v[:1], q_d, k[:1], v[:1])
