# SPDX-License-Identifier: Apache-2.0
"""The call in the form of the original, on caches at one and at two addresses."""

from __future__ import annotations

import re
from typing import Any, Optional

import numpy as np
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
              left: Optional[int] = None, right: Optional[int] = None) -> torch.Tensor:  # fmt: skip
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
        if right is not None:
            mask = mask.tril(length - tokens + right)
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


def test_windows_on_both_sides(device: str) -> None:
    k, v = normal(device, 6, 128, KV_HEADS, DIM, seed=1), normal(device, 6, 128, KV_HEADS, DIM, seed=2)
    q_p, q_d = normal(device, 2, 40, HEADS, DIM, seed=3), normal(device, 4, 3, HEADS, DIM, seed=4)
    lengths = [[100, 40], [128, 3, 77, 30]]
    for window in ((5, 3), (-1, 1), (0, 20)):
        out_p, out_d = podattn.fused_attention_with_kvcache(
            q_p, k[:2], v[:2], q_d, k[2:], v[2:], cache_seqlens_p=lengths[0], cache_seqlens_d=lengths[1],
            window_size=window,
        )  # fmt: skip
        left = None if window[0] < 0 else window[0]
        check(out_p, reference(q_p, k[:2], v[:2], lengths[0], False, left, window[1]))
        check(out_d, reference(q_d, k[2:], v[2:], lengths[1], False, left, window[1]))


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


@pytest.mark.parametrize("kind", ["apart", "strides", "one is paged", "pages of two sizes", "keys and values"])
def test_caches_that_are_no_one_cache(device: str, kind: str) -> None:
    """Computed by two calls, each cache where it is."""
    k, v = normal(device, 3, 64, KV_HEADS, DIM, seed=1), normal(device, 3, 64, KV_HEADS, DIM, seed=2)
    q_p, q_d = normal(device, 1, 30, HEADS, DIM, seed=3), normal(device, 2, 1, HEADS, DIM, seed=4)
    k_d, v_d = k[1:].clone(), v[1:].clone()
    tables: dict[str, Any] = {"cache_seqlens_d": [64, 64]}
    if kind == "strides":
        k_d, v_d = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (k_d, v_d))
    elif kind == "keys and values":
        wide = torch.cat([v_d, v_d], 1)
        v_d = wide[:, :64]
    elif kind != "apart":
        k_d, v_d = (x.reshape(8, 16, KV_HEADS, DIM) for x in (k_d, v_d))
        tables["block_table_d"] = [[0, 1, 2, 3], [4, 5, 6, 7]]
        if kind == "pages of two sizes":
            tables.update(block_table_p=[[0]], cache_seqlens_p=64)
    out_p, out_d, lse_p, lse_d = podattn.fused_attention_with_kvcache(
        q_p, k[:1], v[:1], q_d, k_d, v_d, causal=True, return_softmax_lse=True, **tables
    )
    check(out_p, reference(q_p, k[:1], v[:1], [64], True))
    check(out_d, reference(q_d, k[1:], v[1:], [64, 64], True))
    assert lse_p.shape == (1, HEADS, 30) and lse_d.shape == (2, HEADS, 1)


@pytest.mark.parametrize("kind", [lambda x: x, list, np.array, torch.tensor, lambda x: torch.tensor(x).int()])
def test_integers_of_any_kind(kind: Any) -> None:
    k, v = normal("cpu", 6, 64, KV_HEADS, DIM, seed=1), normal("cpu", 6, 64, KV_HEADS, DIM, seed=2)
    q_d = normal("cpu", 3, 1, HEADS, DIM)
    _, out = podattn.fused_attention_with_kvcache(
        None, None, None, q_d, k, v, cache_seqlens_d=kind([5, 6, 7]), cache_batch_idx=kind([4, 0, 5])
    )
    check(out, reference(q_d, k[[4, 0, 5]], v[[4, 0, 5]], [5, 6, 7], False))


WRONG: dict[str, Any] = {
    "cache_batch_idx[0] = -1 is outside [0, 2)": {"cache_batch_idx": [-1, 0]},
    "cache_batch_idx[1] = 2 is outside [0, 2)": {"cache_batch_idx": [0, 2]},
    "cache_batch_idx has shape (1,); (2) is needed": {"cache_batch_idx": [0]},
    "cache_seqlens_d = 65, but the cache holds 64 tokens": {"cache_seqlens_d": 65},
    "cache_seqlens_d[1] = -3 is negative": {"cache_seqlens_d": [64, -3]},
    "cache_seqlens_d = 2.0 is no integer": {"cache_seqlens_d": 2.0},
    "cache_seqlens_d holds float64; integers are needed": {"cache_seqlens_d": [2.5, 3.5]},
    "cache_seqlens_p = 20 is smaller than the 30 tokens of q_p": {"cache_seqlens_p": 20, "causal": True},
    "softmax_scale = 0 makes every score 0": {"softmax_scale": 0.0},
    "window_size[0] = 4294967296 is outside": {"window_size": (2**32, 0)},
    "window_size = -1 is no pair of integers": {"window_size": -1},
    "q_p is a ndarray; a torch.Tensor is needed": {"q_p": np.zeros((1, 30, HEADS, DIM), np.float32)},
    "q_p and q_d differ in dtype": {"q_p": normal("cpu", 1, 30, HEADS, DIM).half()},
    "k_cache_d has 1 rows for 2 requests": {"k_cache_d": normal("cpu", 1, 64, KV_HEADS, DIM),
                                            "v_cache_d": normal("cpu", 1, 64, KV_HEADS, DIM)},
    "block_table_d[1][0] = -1 is outside [0, 2)": {"block_table_d": [[0, 1], [-1, 0]], "cache_seqlens_d": 128},
    "cache_seqlens_d is None; a paged cache": {"block_table_d": [[0], [1]]},
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_are_named(message: str) -> None:
    k, v = normal("cpu", 3, 64, KV_HEADS, DIM), normal("cpu", 3, 64, KV_HEADS, DIM)
    given = {"q_p": normal("cpu", 1, 30, HEADS, DIM), "k_cache_p": k[:1], "v_cache_p": v[:1],
             "q_d": normal("cpu", 2, 1, HEADS, DIM), "k_cache_d": k[1:], "v_cache_d": v[1:]}  # fmt: skip
    with pytest.raises(podattn.ArgumentError, match=re.escape(message)):
        podattn.fused_attention_with_kvcache(**{**given, **WRONG[message]})


def test_padding_of_a_block_table_is_not_looked_at() -> None:
    k, v = normal("cpu", 4, 16, KV_HEADS, DIM, seed=1), normal("cpu", 4, 16, KV_HEADS, DIM, seed=2)
    q_d = normal("cpu", 2, 1, HEADS, DIM)
    _, out = podattn.fused_attention_with_kvcache(
        None, None, None, q_d, k, v, cache_seqlens_d=[16, 32], block_table_d=[[3, -1], [1, 0]]
    )
    check(out[:1], reference(q_d[:1], k[3:], v[3:], [16], False))


@pytest.mark.gpu
def test_pages_of_another_cache_on_a_gpu(gpu: str) -> None:
    """What the host cannot read is no page of its own cache: zeros, not the neighbour's values."""
    k, v = normal(gpu, 6, 64, KV_HEADS, DIM, seed=1), normal(gpu, 6, 64, KV_HEADS, DIM, seed=2)
    q_p, q_d = normal(gpu, 1, 1, HEADS, DIM), normal(gpu, 2, 1, HEADS, DIM)
    for wrong in (-1, 2):
        rows = torch.tensor([wrong, 0], dtype=torch.int32, device=gpu)
        _, out = podattn.fused_attention_with_kvcache(q_p, k[:2], v[:2], q_d, k[4:], v[4:], cache_batch_idx=rows)
        assert (out[0] == 0).all() and (out[1] != 0).any()


def test_what_it_cannot_do() -> None:
    k, v = normal("cpu", 3, 64, KV_HEADS, DIM), normal("cpu", 3, 64, KV_HEADS, DIM)
    q_p, q_d = normal("cpu", 1, 30, HEADS, DIM), normal("cpu", 2, 1, HEADS, DIM)
    call = podattn.fused_attention_with_kvcache
    with pytest.raises(podattn.UnsupportedError, match="q_d requires grad"):
        call(q_p, k[:1], v[:1], q_d.requires_grad_(), k[1:], v[1:])
    with pytest.raises(podattn.ArgumentError, match="both None"):
        call(None, None, None, None, None, None)


# ---- new keys and values ----


def turned(x: torch.Tensor, first: list[int], cos: torch.Tensor, sin: torch.Tensor, interleaved: bool,
           alike: bool = False) -> torch.Tensor:  # fmt: skip
    """`[requests, tokens, heads, dim]` at positions from `first` on, in float64 on the host."""
    found, pairs = x.double().cpu().clone(), cos.shape[1]
    for i, begin in enumerate(first):
        at = [begin if alike else begin + token for token in range(x.shape[1])]
        c, s = (table.double().cpu()[at].unsqueeze(1) for table in (cos, sin))
        a, b = (
            (slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)) if interleaved else (slice(pairs), slice(pairs, 2 * pairs))
        )
        low, high = found[i, ..., a].clone(), found[i, ..., b].clone()
        found[i, ..., a], found[i, ..., b] = low * c - high * s, high * c + low * s
    return found


def tables_of(device: str, rotary_dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    angles = torch.arange(128.0).unsqueeze(1) * 100.0 ** (-torch.arange(rotary_dim // 2) / (rotary_dim // 2))
    return angles.cos().to(dtype_of(device)).to(device), angles.sin().to(dtype_of(device)).to(device)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("on_device", [False, True])
def test_new_keys_are_rotated_and_appended(device: str, causal: bool, interleaved: bool, on_device: bool) -> None:
    k, v = normal(device, 6, 128, KV_HEADS, DIM, seed=1), normal(device, 6, 128, KV_HEADS, DIM, seed=2)
    q_p, q_d = normal(device, 1, 40, HEADS, DIM, seed=3), normal(device, 3, 2, HEADS, DIM, seed=4)
    new_k, new_v = normal(device, 3, 2, KV_HEADS, DIM, seed=5), normal(device, 3, 2, KV_HEADS, DIM, seed=6)
    cos, sin = tables_of(device, 32)
    before, rows = [100, 0, 77], [2, 0, 1]
    where = device if on_device else "cpu"
    given = [torch.tensor(x, dtype=torch.int32, device=where) for x in (before, rows)]
    k_d, v_d, q_before = k[2:].clone().cpu().double(), v[2:].clone().cpu().double(), q_d.clone()
    out_p, out_d = podattn.fused_attention_with_kvcache(
        q_p, k[:2], v[:2], q_d, k[2:], v[2:], k=new_k, v=new_v, rotary_cos=cos, rotary_sin=sin,
        rotary_interleaved=interleaved, cache_seqlens_p=90, cache_seqlens_d=given[0], cache_batch_idx=given[1],
        causal=causal,
    )  # fmt: skip
    keys = turned(new_k, before, cos, sin, interleaved)
    for i, (row, begin) in enumerate(zip(rows, before)):
        k_d[row, begin : begin + 2], v_d[row, begin : begin + 2] = keys[i], new_v[i].double().cpu()
    assert relative_error(k[2:], k_d) <= MAX_ERROR[k.dtype] and torch.equal(v[2:].cpu().double(), v_d)
    assert torch.equal(q_d, q_before)
    queries = turned(q_d, before, cos, sin, interleaved, alike=not causal)
    check(out_p, reference(q_p, k[:1], v[:1], [90], causal))
    check(out_d, reference(queries, k_d[rows], v_d[rows], [x + 2 for x in before], causal))


def test_new_keys_of_a_paged_cache_and_of_prefills(device: str) -> None:
    pool_k, pool_v = normal(device, 20, 16, KV_HEADS, DIM, seed=8), normal(device, 20, 16, KV_HEADS, DIM, seed=9)
    q = normal(device, 2, 3, HEADS, DIM)
    new_k, new_v = normal(device, 2, 3, KV_HEADS, DIM, seed=5), normal(device, 2, 3, KV_HEADS, DIM, seed=6)
    table = torch.tensor([[4, 9, 1], [0, 17, 19]], dtype=torch.int32)
    out, none = podattn.fused_attention_with_kvcache(
        q,
        pool_k,
        pool_v,
        None,
        None,
        None,
        k=new_k,
        v=new_v,
        cache_seqlens_p=[31, 14],
        block_table_p=table,
        causal=True,
    )
    assert none is None
    for request, begin in enumerate([31, 14]):
        for token in range(3):
            page, place = divmod(begin + token, 16)
            assert torch.equal(pool_k[table[request, page], place], new_k[request, token])
    gathered = [x[table.long().to(device)].flatten(1, 2) for x in (pool_k, pool_v)]
    check(out, reference(q, *gathered, [34, 17], True))


@pytest.mark.parametrize("on_device", [False, True])
def test_left_padding(device: str, on_device: bool) -> None:
    k, v = normal(device, 4, 64, KV_HEADS, DIM, seed=1), normal(device, 4, 64, KV_HEADS, DIM, seed=2)
    q_p, q_d = normal(device, 1, 10, HEADS, DIM, seed=3), normal(device, 2, 1, HEADS, DIM, seed=4)
    new_k, new_v = normal(device, 2, 1, KV_HEADS, DIM, seed=5), normal(device, 2, 1, KV_HEADS, DIM, seed=6)
    cos, sin = tables_of(device, DIM)
    before, pads, rows = [50, 30], [20, 0], [3, 1]
    where = device if on_device else "cpu"
    lengths, left, index = (torch.tensor(x, dtype=torch.int32, device=where) for x in (before, pads, rows))
    out_p, out_d = podattn.fused_attention_with_kvcache(
        q_p, k[:1], v[:1], q_d, k, v, k=new_k, v=new_v, rotary_cos=cos, rotary_sin=sin, rotary_interleaved=False,
        cache_seqlens_p=40, cache_seqlens_d=lengths, cache_batch_idx=index, cache_leftpad=left, causal=True,
    )  # fmt: skip
    places = [begin - pad for begin, pad in zip(before, pads)]
    keys, queries = (turned(x, places, cos, sin, False) for x in (new_k, q_d))
    check(out_p, reference(q_p, k[:1], v[:1], [40], True))
    for i, row in enumerate(rows):
        assert relative_error(k[row, before[i]], keys[i, 0]) <= MAX_ERROR[k.dtype]
        kept = [x[row : row + 1, pads[i] :] for x in (k, v)]
        check(out_d[i : i + 1], reference(queries[i : i + 1], *kept, [places[i] + 1], True))


def test_wrong_new_keys_are_named() -> None:
    k, v = torch.zeros(2, 16, KV_HEADS, DIM), torch.zeros(2, 16, KV_HEADS, DIM)
    q, new = torch.zeros(2, 1, HEADS, DIM), torch.zeros(2, 1, KV_HEADS, DIM)
    table = torch.zeros(8, 32)
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("v is None, the other is not", {"k": new}),
        ("cache_seqlens_d is None; with k it says where", {"k": new, "v": new, "cache_seqlens_d": None}),
        ("k has shape (2, 2, 2, 64); (2, 1, 2, 64) is needed, as q_d has", {"k": new.repeat(1, 2, 1, 1), "v": new}),
        ("k differs from q_d in dtype or device", {"k": new.half(), "v": new}),
        ("cache_seqlens_d = 16, those of k counted in (17), but the cache holds 16", {"k": new, "v": new,
                                                                                     "cache_seqlens_d": 16}),
        ("rotary_cos and rotary_sin are given without k", {"rotary_cos": table, "rotary_sin": table}),
        ("rotary_sin is None, the other is not", {"k": new, "v": new, "rotary_cos": table}),
        ("cache_leftpad[1] = 9 is outside the 4 tokens", {"cache_leftpad": [0, 9]}),
        ("cache_leftpad beside block_table_d", {"cache_leftpad": [0, 0], "block_table_d": [[0], [1]]}),
    ]  # fmt: skip
    for message, options in wrong:
        with pytest.raises(podattn.ArgumentError, match=re.escape(message)):
            podattn.fused_attention_with_kvcache(
                None, None, None, q, k, v, **{"cache_seqlens_d": 4, "causal": True, **options}
            )
    with pytest.raises(podattn.ArgumentError, match=re.escape("append.positions[0] = 9 is outside [0, 8)")):
        podattn.fused_attention_with_kvcache(
            None, None, None, q, k, v, k=new, v=new, rotary_cos=table, rotary_sin=table, cache_seqlens_d=9, causal=True
        )
    assert not k.any() and not v.any()
