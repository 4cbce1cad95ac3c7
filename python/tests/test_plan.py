# SPDX-License-Identifier: Apache-2.0
"""Plan.build and Plan.attention against scaled_dot_product_attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hybrid_case import Case, check_lse, check_out
from hypothesis import given, settings
from hypothesis import strategies as st

import podattn

MIXED = [(33, 70), (1, 100), (0, 0), (1, 17), (5, 5), (2, 64), (1, 1)]


def requests() -> st.SearchStrategy[list[tuple[int, int]]]:
    """Up to eight of any kind, (q_len, kv_len)."""
    one = st.tuples(st.one_of(st.integers(0, 3), st.integers(0, 70)), st.integers(0, 150))
    return st.lists(one.map(lambda r: (r[0], r[0] + r[1])), min_size=1, max_size=8)


@st.composite
def cases(draw: st.DrawFn, device: str) -> Case:
    """A batch that the device takes."""
    is_cuda = device != "cpu"
    kv_heads = draw(st.sampled_from([1, 2, 3]))
    dtypes = [torch.float16, torch.bfloat16] + ([] if is_cuda else [torch.float32])
    return Case(
        requests=draw(requests()),
        kv_heads=kv_heads,
        q_heads=kv_heads * draw(st.sampled_from([1, 2, 4, 8])),
        head_dim=draw(st.sampled_from([64, 128] if is_cuda else [8, 40, 64, 128])),
        page_size=draw(st.sampled_from([1, 8, 16, 64] if is_cuda else [1, 3, 16, 64])),
        dtype=draw(st.sampled_from(dtypes)),
        kv_layout=draw(st.sampled_from(["NHD", "HND"])),
        causal=draw(st.booleans()),
        window_tokens=draw(st.sampled_from([0, 0, 1, 20])),
        seed=draw(st.integers(0, 1000)),
        device=device,
    )


@settings(max_examples=40)
@given(data=st.data())
def test_any_batch(data: st.DataObject, device: str) -> None:
    case = data.draw(cases(device))
    plan = case.built()
    tokens = case.q.shape[0]
    out = torch.full((tokens, case.q_heads, case.head_dim), float("nan"), dtype=case.dtype, device=device)
    lse = torch.full((tokens, case.q_heads), float("nan"), device=device)
    results = plan.attention(case.q, case.k, case.v, out, lse)
    assert results[0] is out and results[1] is lse
    expected_out, expected_lse = case.reference()
    check_out(case, out, expected_out)
    check_lse(lse, expected_lse)


def dtype_of(device: str) -> torch.dtype:
    """One that the device takes."""
    return torch.float32 if device == "cpu" else torch.bfloat16


def mixed(device: str, **changes: object) -> Case:
    return Case(**{"requests": list(MIXED), "device": device, "dtype": dtype_of(device), **changes})  # type: ignore[arg-type]


def test_one_plan_serves_layers_and_steps(device: str) -> None:
    first, second = mixed(device, seed=1), mixed(device, seed=2)
    second.page_table, second.kv_len = first.page_table, first.kv_len
    plan = first.built()
    for case in (first, second):
        check_out(case, plan.attention(case.q, case.k, case.v), case.reference()[0])
    memory = plan._memory
    decodes = Case([(1, 40), (1, 60)], device=device, dtype=dtype_of(device), spare_pages=first.num_pages - 7)
    assert decodes.num_pages == first.num_pages
    plan.build(decodes.q_start, decodes.kv_len, decodes.page_table)
    check_out(decodes, plan.attention(decodes.q, decodes.k, decodes.v), decodes.reference()[0])
    assert plan._memory is memory


def test_results_are_made_only_when_asked_for(device: str) -> None:
    case = mixed(device)
    plan = case.built()
    out = plan.attention(case.q, case.k, case.v)
    assert isinstance(out, torch.Tensor) and out.dtype == case.dtype and str(out.device) == device
    pair = plan.attention(case.q, case.k, case.v, return_lse=True)
    assert torch.equal(pair[0], out)
    check_lse(pair[1], case.reference()[1])


def test_other_element_types_for_cache_and_results() -> None:
    case = mixed("cpu")
    cache = [x.to(torch.bfloat16) for x in (case.k, case.v)]
    case.k, case.v = (x.to(torch.float32) for x in cache)
    plan = case.built(dtype="float32", kv_dtype=torch.bfloat16, out_dtype=np.float16)
    out = plan.attention(case.q, *cache)
    assert out.dtype == torch.float16
    case.dtype = torch.float16
    check_out(case, out, case.reference()[0])


def test_lists_and_arrays_plan_the_same(device: str) -> None:
    case = mixed(device)
    plan = case.plan()
    outs = []
    for convert in (torch.Tensor.tolist, torch.Tensor.numpy, lambda x: x):
        plan.build(*(convert(x) for x in (case.q_start, case.kv_len, case.page_table)))
        outs.append(plan.attention(case.q, case.k, case.v))
    assert torch.equal(outs[0], outs[1]) and torch.equal(outs[0], outs[2])


def test_no_requests_and_no_tokens(device: str) -> None:
    case = mixed(device)
    plan = case.plan()
    plan.build([0], [], None)
    assert plan.attention(case.q[:0], case.k, case.v).shape == (0, case.q_heads, case.head_dim)
    plan.build([0, 0], [0], case.page_table[:1])
    assert plan.attention(case.q[:0], case.k, case.v, return_lse=True)[1].shape == (0, case.q_heads)


def test_rows_after_the_batch_stay(device: str) -> None:
    case = mixed(device)
    plan = case.built()
    longer = torch.cat([case.q, case.q[:3]])
    out = torch.full_like(longer, 7)
    plan.attention(longer, case.k, case.v, out)
    check_out(case, out[:-3], case.reference()[0])
    assert (out[-3:] == 7).all()


def test_scale_and_softcap(device: str) -> None:
    case = mixed(device)
    plan = case.built()
    halved = plan.attention(case.q, case.k, case.v, scale=0.5 / case.head_dim**0.5)
    case.q = case.q / 2
    check_out(case, halved, case.reference()[0])
    one = Case([(1, 20)], q_heads=1, kv_heads=1, device=device, dtype=dtype_of(device))
    scores = one.q.cpu().double()[0, 0] @ one.context(one.k, 0)[0].T
    weights = torch.softmax(2 * torch.tanh(scores / 8 / 2), 0)
    capped = one.built().attention(one.q, one.k, one.v, softcap=2.0)
    check_out(one, capped[0, 0], weights @ one.context(one.v, 0)[0])


def test_sinks(device: str) -> None:
    case = mixed(device)
    sinks = torch.linspace(-1, 2, case.q_heads, device=device)
    out, lse = case.built().attention(case.q, case.k, case.v, sinks=sinks, return_lse=True)
    expected, expected_lse = case.reference()
    total = torch.logaddexp(expected_lse, sinks.cpu().double())
    check_out(case, out, expected * (expected_lse - total).exp().unsqueeze(2))
    check_lse(lse, total)


def test_values_per_head_are_forgotten() -> None:
    case = mixed("cpu")
    plan = case.built()
    slopes = torch.tensor([0.1, 0.2, 0.3, 0.4])
    k_scale, v_scale = torch.tensor([0.5, 2.0]), torch.tensor([3.0, 1.0])
    out = plan.attention(case.q, case.k, case.v, alibi_slopes=slopes, k_scale=k_scale, v_scale=v_scale)
    plain = plan.attention(case.q, case.k, case.v)
    check_out(case, plain, case.reference()[0])
    case.k, case.v = case.k * k_scale[:, None], case.v * v_scale[:, None]
    check_out(case, out, case.reference(slopes)[0])


@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize("kind", [torch.tensor, np.float32])
def test_one_scale_for_all_heads(shape: tuple[int, ...], kind: Any) -> None:
    case = mixed("cpu")
    plan = case.built()
    k_scale, v_scale = (kind(value).reshape(shape) for value in (0.5, 3.0))
    out = plan.attention(case.q, case.k, case.v, k_scale=k_scale, v_scale=v_scale)
    only_v = plan.attention(case.q, case.k, case.v, v_scale=v_scale)
    expected = case.reference()[0]
    check_out(case, only_v, 3 * expected)
    case.k = case.k * 0.5
    check_out(case, out, 3 * case.reference()[0])
    each = torch.full((case.kv_heads,), 3.0)
    assert torch.equal(plan.attention(case.q, case.k, case.v, v_scale=each), out)


def test_scales_of_two_kinds_are_refused() -> None:
    case = mixed("cpu")
    with pytest.raises(podattn.ArgumentError, match="k_scale has 1 values, v_scale 2; both need one"):
        case.built().attention(case.q, case.k, case.v, k_scale=torch.ones(1), v_scale=torch.ones(2))


def test_values_per_head_are_forgotten_after_a_mistake() -> None:
    case = mixed("cpu")
    plan = case.built()
    with pytest.raises(podattn.ArgumentError, match="v_scale has shape"):
        plan.attention(case.q, case.k, case.v, sinks=torch.ones(case.q_heads), v_scale=torch.ones(7))
    check_out(case, plan.attention(case.q, case.k, case.v), case.reference()[0])


def test_info_and_device(device: str) -> None:
    case = mixed(device)
    plan = case.built()
    assert plan.info().num_requests == len(MIXED)
    if device == "cpu":
        assert (plan.info().num_prefill_requests, plan.info().num_decode_requests) == (1, 5)
    assert plan.info().kernel
    plan.check()
    info = podattn.device_info(device)
    assert info.backend == device.partition(":")[0] and info.num_ctas > 0
    assert podattn.device_info(torch.device(device)) == info
