# SPDX-License-Identifier: Apache-2.0
"""Caches and results as engines keep them: every layout is a matter of strides, none is copied."""

from __future__ import annotations

import pytest
import torch
from hybrid_case import Case, check_out
from test_plan import MIXED, mixed

import podattn


def test_interleaved_k_and_v(device: str) -> None:
    case = mixed(device)
    both = torch.stack([case.k, case.v], dim=1)
    out = case.built().attention(case.q, both[:, 0], both[:, 1])
    check_out(case, out, case.reference()[0])


def test_layer_of_a_tensor_of_all_layers(device: str) -> None:
    case = mixed(device, kv_layout="HND")
    layers = torch.stack([torch.full_like(case.k, 9), case.k, case.v], dim=1)
    out = case.built().attention(case.q, layers[:, 1], layers[:, 2])
    check_out(case, out, case.reference()[0])


def test_slots(device: str) -> None:
    case = mixed(device, page_size=8)
    flat = [x.reshape(-1, case.kv_heads, case.head_dim) for x in (case.k, case.v)]
    check_out(case, case.built().attention(case.q, *flat), case.reference()[0])


def test_contiguous_cache_without_table(device: str) -> None:
    case = mixed(device, page_size=112, spare_pages=0)
    rows = torch.arange(len(MIXED), dtype=torch.int32).unsqueeze(1)
    case.num_pages = len(MIXED)
    case.k, case.v = (torch.cat([x, x, x])[: len(MIXED)].contiguous() for x in (case.k, case.v))
    case.page_table = rows
    plan = case.plan()
    plan.build(case.q_start, case.kv_len)
    check_out(case, plan.attention(case.q, case.k, case.v), case.reference()[0])


def test_slices_of_one_qkv_tensor(device: str) -> None:
    case = mixed(device)
    wide = torch.zeros(case.q.shape[0], case.q_heads + 4, case.head_dim, dtype=case.dtype, device=device)
    wide[:, : case.q_heads] = case.q
    out = torch.full_like(wide, 5)
    case.built().attention(wide[:, : case.q_heads], case.k, case.v, out[:, : case.q_heads])
    check_out(case, out[:, : case.q_heads], case.reference()[0])
    assert (out[:, case.q_heads :] == 5).all()


def test_transposed_lse_and_results(device: str) -> None:
    case = mixed(device)
    tokens = case.q.shape[0]
    out = torch.empty(case.q_heads, tokens, case.head_dim, dtype=case.dtype, device=device).transpose(0, 1)
    lse = torch.empty(case.q_heads, tokens, device=device).T
    expected = case.built().attention(case.q, case.k, case.v, return_lse=True)
    case.built().attention(case.q, case.k, case.v, out, lse)
    assert torch.equal(out, expected[0]) and torch.equal(lse, expected[1])


def test_table_with_padded_rows(device: str) -> None:
    case = mixed(device)
    wide = torch.full((len(MIXED), 50), -7, dtype=torch.int32)
    wide[:, : case.page_table.shape[1]] = case.page_table
    plan = case.plan()
    plan.build(case.q_start, case.kv_len, wide[:, : case.page_table.shape[1]])
    check_out(case, plan.attention(case.q, case.k, case.v), case.reference()[0])


def test_one_head_and_one_page_have_free_strides(device: str) -> None:
    case = Case([(1, 9)], q_heads=1, kv_heads=1, spare_pages=0, device=device, dtype=mixed(device).dtype)
    q = case.q.as_strided((1, 1, 64), (1, 3, 1))
    k, v = (x.as_strided((1, 16, 1, 64), (1, 64, 7, 1)) for x in (case.k, case.v))
    check_out(case, case.built().attention(q, k, v), case.reference()[0])


@pytest.mark.parametrize("name", ["k_cache", "q"])
def test_broadcast_is_refused(name: str) -> None:
    case = mixed("cpu")
    arrays = {"q": case.q, "k_cache": case.k, "v_cache": case.v}
    arrays[name] = arrays[name][:1].expand(arrays[name].shape)
    with pytest.raises(podattn.ArgumentError, match=f"{name} is broadcast along dimension 0"):
        case.built().attention(**arrays)


def test_gaps_in_the_last_dimension_are_refused() -> None:
    case = mixed("cpu")
    gaps = torch.zeros(*case.q.shape[:2], 2 * case.head_dim)[:, :, ::2]
    with pytest.raises(podattn.ArgumentError, match="q has stride 2 in its last dimension"):
        case.built().attention(gaps, case.k, case.v)
