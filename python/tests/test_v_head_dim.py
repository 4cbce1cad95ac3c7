# SPDX-License-Identifier: Apache-2.0
"""Values of another width than keys, and caches whose values are the first elements of their keys."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hybrid_case import Case, check_lse, check_out

import podattn

OPS = torch.ops.podattn
REQUESTS = [(3, 40), (1, 70), (0, 5), (20, 33)]


def wide_case(kv_layout: str = "NHD", v_head_dim: int = 40) -> Case:
    return Case(REQUESTS, q_heads=4, kv_heads=2, head_dim=64, v_head_dim=v_head_dim, kv_layout=kv_layout)


def latent_case() -> Case:
    """Absorbed MLA: 16 query heads, rows of 576 elements of which the first 512 are the value."""
    case = Case(REQUESTS, q_heads=16, kv_heads=1, head_dim=576, v_head_dim=512)
    case.v = case.k[..., :512]
    return case


@pytest.mark.parametrize("kv_layout", ["NHD", "HND"])
@pytest.mark.parametrize("v_head_dim", [8, 40, 128])
def test_values_of_another_width(kv_layout: str, v_head_dim: int) -> None:
    case = wide_case(kv_layout, v_head_dim)
    expected, expected_lse = case.reference()
    plan = case.built(v_head_dim=v_head_dim)
    out, lse = plan.attention(case.q, case.k, case.v, return_lse=True)
    assert out.shape == (24, 4, v_head_dim)
    check_out(case, out, expected)
    check_lse(lse, expected_lse)
    once = podattn.hybrid_attention(case.q, case.k, case.v, case.q_start, case.kv_len, case.page_table,
                                    kv_layout=kv_layout)  # fmt: skip
    assert torch.equal(once, out)


def test_values_in_keys() -> None:
    case = latent_case()
    plan = case.built(v_head_dim=512)
    out, lse = plan.attention(case.q, case.k, None, return_lse=True, scale=0.07)
    copied, copied_lse = plan.attention(case.q, case.k, case.v.contiguous(), return_lse=True, scale=0.07)
    again = plan.attention(case.q, case.k, None, scale=0.07)
    assert torch.equal(out, copied) and torch.equal(lse, copied_lse) and torch.equal(out, again)
    batch = (case.q_start, case.kv_len, case.page_table)
    once = podattn.hybrid_attention(case.q, case.k, None, *batch, v_head_dim=512, scale=0.07)
    assert torch.equal(once, out)
    plan.attention(case.q, case.k, None, out.zero_(), scale=case.head_dim**-0.5)
    check_out(case, out, case.reference()[0])


def test_appending_keys_alone() -> None:
    case = latent_case()
    plan = case.built(v_head_dim=512)
    new = torch.randn(24, 1, 576)
    before = case.k.clone()
    plan.append(new, None, case.k, None)
    changed = (case.k != before).flatten(2).any(2).nonzero()
    slots = [(int(case.page_table[r, p // 16]), p % 16) for r, p in positions(case)]
    assert sorted(map(tuple, changed.tolist())) == sorted(slots)
    assert all(torch.equal(case.k[page, place], new[t]) for t, (page, place) in enumerate(slots))


def positions(case: Case) -> list[tuple[int, int]]:
    """The request and the position of each query token."""
    return [(r, kv_len - q_len + i) for r, (q_len, kv_len) in enumerate(case.requests) for i in range(q_len)]


def test_operators() -> None:
    case, latent = wide_case(), latent_case()
    plan, latent_plan = case.built(v_head_dim=40), latent.built(v_head_dim=512)
    torch.library.opcheck(OPS.attention.default, (case.q, case.k, case.v, plan.plan_id))
    torch.library.opcheck(OPS.attention_lse.default, (latent.q, latent.k, None, latent_plan.plan_id))
    batch = (case.q_start, case.kv_len, case.page_table)
    torch.library.opcheck(OPS.hybrid_attention.default, (case.q, case.k, case.v, *batch))
    torch.library.opcheck(OPS.hybrid_attention_lse.default, (latent.q, latent.k, None, *batch), {"v_head_dim": 512})

    def layer(q: Any, k: Any) -> Any:
        return latent_plan.attention(q, k, None, scale=0.07).sum(-1)

    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(latent.q, latent.k), layer(latent.q, latent.k))


def test_the_form_of_the_original() -> None:
    k, v = torch.randn(5, 64, 2, 64), torch.randn(5, 64, 2, 40)
    q_p, q_d = torch.randn(2, 30, 4, 64), torch.randn(3, 1, 4, 64)
    out_p, out_d = podattn.fused_attention_with_kvcache(
        q_p, k[:2], v[:2], q_d, k[2:], v[2:], cache_seqlens_p=50, cache_seqlens_d=60, causal=True
    )
    assert out_p.shape == (2, 30, 4, 40) and out_d.shape == (3, 1, 4, 40)
    for out, q, keys, values, kv_len in ((out_p, q_p, k[:2], v[:2], 50), (out_d, q_d, k[2:], v[2:], 60)):
        n, tokens = q.shape[:2]
        starts = [tokens * i for i in range(n + 1)]
        rows = podattn.hybrid_attention(q.flatten(0, 1), keys.contiguous(), values.contiguous(), starts, [kv_len] * n)
        torch.testing.assert_close(out.flatten(0, 1), rows)


def test_new_tokens_in_the_form_of_the_original() -> None:
    k, v = torch.randn(2, 64, 2, 64), torch.randn(2, 64, 2, 40)
    new_k, new_v = torch.randn(2, 1, 2, 64), torch.randn(2, 1, 2, 40)
    q = torch.randn(2, 1, 4, 64)
    _, out = podattn.fused_attention_with_kvcache(None, None, None, q, k, v, k=new_k, v=new_v, cache_seqlens_d=20)
    assert torch.equal(k[:, 20:21], new_k) and torch.equal(v[:, 20:21], new_v) and out.shape == (2, 1, 4, 40)


def test_mistakes() -> None:
    case, wide = latent_case(), wide_case("NHD", 128)
    plan, wide_plan = case.built(v_head_dim=512), wide.built(v_head_dim=128)
    one = torch.ones(1)
    with pytest.raises(podattn.ArgumentError, match="v_cache is None, but v_head_dim = 128 is more than head_dim = 64"):
        wide_plan.attention(wide.q, wide.k, None)
    with pytest.raises(podattn.ArgumentError, match="v_scale is given, but v_cache is None"):
        plan.attention(case.q, case.k, None, v_scale=one)
    with pytest.raises(podattn.ArgumentError, match=r"out has shape \(24, 16, 576\); \(24, 16, 512\) is needed"):
        plan.attention(case.q, case.k, None, torch.empty_like(case.q))
    with pytest.raises(podattn.ArgumentError, match="v is None, of k, v, k_cache and v_cache"):
        plan.append(case.q[:, :1], None, case.k, case.v)
    with pytest.raises(podattn.ArgumentError, match="v_cache is None, of k, v, k_cache and v_cache"):
        plan.append(case.q[:, :1], case.q[:, :1, :512], case.k, None)
    with pytest.raises(podattn.ArgumentError, match="v_scale is given, but v_cache is None"):
        plan.append(case.q[:, :1], None, case.k, None, v_scale=one)
    batch = (case.q_start, case.kv_len, case.page_table)
    with pytest.raises(podattn.ArgumentError, match="v_head_dim = 8, but values of v_cache have 512 elements"):
        podattn.hybrid_attention(case.q, case.k, case.v, *batch, v_head_dim=8)
    with pytest.raises(podattn.ArgumentError, match="v_cache is None, but v_head_dim = 520 is more than head_dim"):
        podattn.hybrid_attention(wide.q, wide.k, None, *batch, v_head_dim=520)
