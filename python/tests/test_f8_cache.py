# SPDX-License-Identifier: Apache-2.0
"""Caches of float8_e4m3fn, by whatever maker, against scaled_dot_product_attention on what they stand for."""

from __future__ import annotations

from typing import Any, Callable

import ml_dtypes
import numpy as np
import pytest
import torch
from hybrid_case import Case, check_lse, check_out
from hypothesis import given, settings
from hypothesis import strategies as st
from test_plan import cases, mixed
from torch._subclasses.fake_tensor import FakeTensorMode

import podattn

F8 = torch.float8_e4m3fn
F8_MAX = torch.finfo(F8).max
OPS = torch.ops.podattn

KINDS: dict[str, Callable[[torch.Tensor], Any]] = {
    "tensors": lambda x: x,
    "tensors of bytes": lambda x: x.view(torch.uint8),
    "arrays of ml_dtypes": lambda x: x.view(torch.uint8).numpy().view(ml_dtypes.float8_e4m3fn),
    "arrays of bytes": lambda x: x.view(torch.uint8).numpy(),
}


def per_head(case: Case, cache: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The scales in the shape in which they multiply a cache."""
    heads = 2 if case.kv_layout == "NHD" else 1
    return scale.double().reshape([-1 if axis == heads else 1 for axis in range(cache.dim())])


def quantise(case: Case, scale: torch.Tensor, cache: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`(the cache in float8_e4m3fn, what it stands for)`, with pages of nobody all NaN."""
    scales = per_head(case, cache, scale)
    # Clamped, since a value beyond the largest of the dtype would become NaN.
    stored = (cache.double() / scales).clamp(-F8_MAX, F8_MAX).float().to(F8)
    used = torch.zeros(case.num_pages, dtype=torch.bool)
    used[case.page_table[case.page_table >= 0].long()] = True
    stored.view(torch.uint8)[~used] = 0xFF
    return stored, (stored.double() * scales).nan_to_num(0.0)


def scaled(case: Case, num_scales: int) -> dict[str, Any]:
    """Quantises the case; returns the arguments for it, `k_cache` and `v_cache` among them."""
    rng = torch.Generator().manual_seed(case.seed)
    scales = [0.01 + 0.02 * torch.rand(num_scales, generator=rng) for _ in range(2)]
    k, case.k = quantise(case, scales[0], case.k)
    v, case.v = quantise(case, scales[1], case.v)
    return {"k_cache": k, "v_cache": v, "k_scale": scales[0], "v_scale": scales[1]}


@given(st.data())
@settings(max_examples=60)
def test_random_batches(data: st.DataObject) -> None:
    case = data.draw(cases("cpu"))
    arguments = scaled(case, data.draw(st.sampled_from([1, case.kv_heads])))
    out, lse = case.built(kv_dtype=F8).attention(case.q, return_lse=True, **arguments)
    expected_out, expected_lse = case.reference()
    check_out(case, out, expected_out)
    check_lse(lse, expected_lse)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kv_layout", ["NHD", "HND"])
def test_any_maker(kind: str, kv_layout: str) -> None:
    case = mixed("cpu", kv_layout=kv_layout)
    arguments = scaled(case, case.kv_heads)
    for field in ("k_cache", "v_cache"):
        arguments[field] = KINDS[kind](arguments[field])
    out = case.built(kv_dtype="f8e4m3").attention(case.q, **arguments)
    check_out(case, out, case.reference()[0])


@pytest.mark.parametrize("kind", ["tensors", "arrays of ml_dtypes"])
def test_in_the_one_call_form(kind: str) -> None:
    case = mixed("cpu")
    arguments = scaled(case, 1)
    caches = [KINDS[kind](arguments.pop(field)) for field in ("k_cache", "v_cache")]
    out = podattn.hybrid_attention(case.q, *caches, *case.on_device(), **arguments)
    check_out(case, out, case.reference()[0])


def test_operators() -> None:
    case = mixed("cpu")
    arguments = scaled(case, case.kv_heads)
    plan = case.built(kv_dtype=F8)
    out = OPS.attention(case.q, plan=plan.plan_id, **arguments)
    check_out(case, out, case.reference()[0])
    out = OPS.hybrid_attention(
        case.q, arguments.pop("k_cache"), arguments.pop("v_cache"), *case.on_device(), **arguments
    )
    check_out(case, out, case.reference()[0])


def test_fake_results() -> None:
    case = mixed("cpu")
    arguments = scaled(case, 1)
    plan = case.plan(kv_dtype=F8)
    mode = FakeTensorMode()
    with mode:
        fake = {field: mode.from_tensor(tensor) for field, tensor in arguments.items()}
        out = plan.attention(mode.from_tensor(case.q), **fake)
    assert (out.shape, out.dtype) == (case.q.shape, case.q.dtype)


def test_refusals() -> None:
    case = mixed("cpu")
    arguments = scaled(case, case.kv_heads)
    plan = case.built(kv_dtype=F8)
    with pytest.raises(podattn.ArgumentError, match="k_cache holds int8; the plan is for float8_e4m3fn"):
        plan.attention(case.q, **{**arguments, "k_cache": arguments["k_cache"].view(torch.int8)})
    with pytest.raises(podattn.ArgumentError, match="v_cache holds float8_e5m2; the plan is for float8_e4m3fn"):
        plan.attention(case.q, **{**arguments, "v_cache": arguments["v_cache"].view(torch.float8_e5m2)})
    with pytest.raises(podattn.ArgumentError, match="k_cache holds uint8; the plan is for float32"):
        case.built().attention(case.q, arguments["k_cache"].view(torch.uint8), case.v.float())
    with pytest.raises(podattn.ArgumentError, match="v_scale of KV head 1 = -1 is not a finite number above 0"):
        plan.attention(case.q, **{**arguments, "v_scale": np.array([1, -1], np.float32)})
    with pytest.raises(
        podattn.ArgumentError, match="kv_dtype float8_e5m2 is none of float32, float16, bfloat16, float8_"
    ):
        case.plan(kv_dtype=torch.float8_e5m2)
    with pytest.raises(podattn.ArgumentError, match="kv_dtype uint8 is none of"):
        podattn.hybrid_attention(case.q, arguments["k_cache"].view(torch.uint8), case.v, *case.on_device())
