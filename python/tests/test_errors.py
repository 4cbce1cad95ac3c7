# SPDX-License-Identifier: Apache-2.0
"""Every mistake is an exception of its kind that names the field."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import pytest
import torch
from hybrid_case import Case
from test_plan import mixed

import podattn


def limits(**changes: Any) -> dict[str, Any]:
    values = {"q_heads": 4, "kv_heads": 2, "head_dim": 64, "page_size": 16, "num_pages": 8, "max_requests": 4,
              "max_q_tokens": 32, "max_kv_len": 128, "dtype": "f32", "device": "cpu"}  # fmt: skip
    return {**values, **changes}


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"kv_heads": 3}, podattn.ArgumentError, "q_heads = 4 is not a multiple of kv_heads = 3"),
        ({"head_dim": 12}, podattn.ArgumentError, "head_dim = 12 is not a multiple of 8"),
        ({"max_requests": 0}, podattn.ArgumentError, "max_requests = 0"),
        ({"dtype": "int8"}, podattn.ArgumentError, "dtype int8 is none of"),
        ({"out_dtype": torch.float64}, podattn.ArgumentError, "out_dtype float64 is none of"),
        ({"kv_layout": "DHN"}, podattn.ArgumentError, "kv_layout 'DHN'"),
        ({"v_head_dim": 12}, podattn.ArgumentError, "v_head_dim = 12 is not a multiple of 8"),
        ({"v_head_dim": 584}, podattn.ArgumentError, r"v_head_dim = 584 is outside \[8, 576\]"),
        ({"max_masks": 9}, podattn.ArgumentError, r"max_masks = 9 is outside \[1, 8\]"),
        ({"batch_memory": "gpu"}, podattn.ArgumentError, "batch_memory 'gpu' is neither 'host' nor 'device'"),
        ({"dtype": "f8e4m3"}, podattn.UnsupportedError, "f8e4m3 is not supported by the cpu backend"),
        ({"device": "tpu"}, podattn.ArgumentError, "tpu"),
        ({"device": "cuda:77"}, podattn.NoDeviceError, "."),
        ({"max_kv_len": 1 << 30, "max_requests": 1 << 20}, podattn.LimitError, "KV tiles"),
    ],
)
def test_limits(changes: dict[str, Any], kind: type[podattn.Error], message: str) -> None:
    with pytest.raises(kind, match=message):
        podattn.Plan(**limits(**changes))


@pytest.mark.parametrize(
    ("arrays", "kind", "message"),
    [
        (([0, 9], [7], [[0]]), podattn.ArgumentError, r"kv_len\[0\] = 7 is smaller than q_len\[0\] = 9"),
        (([0, 1, 0], [1, 1], [[0], [1]]), podattn.ArgumentError, r"q_start\[2\] = 0 is smaller"),
        (([0, 1], [17], [[0]]), podattn.ArgumentError, r"kv_len\[0\] = 17 needs 2 pages"),
        (([0, 1], [1], [[8]]), podattn.ArgumentError, r"page_table\[0\]\[0\] = 8 is outside \[0, 8\)"),
        (([0, 40], [60], [[0, 1, 2, 3]]), podattn.LimitError, "exceeds max_q_tokens = 32"),
        (([0] * 6, [0] * 5, None), podattn.LimitError, "num_requests = 5 exceeds max_requests = 4"),
        (([0, 1], [17], None), podattn.ArgumentError, "without a page_table"),
        (([0, 1, 2], [1], None), podattn.ArgumentError, r"q_start has shape \(3,\), kv_len \(1,\)"),
        (([0, 1], [1], [[0], [1]]), podattn.ArgumentError, "page_table has 2 rows for 1 requests"),
        (([0, 1], [1], [0]), podattn.ArgumentError, r"page_table has shape \(1,\); \(1, pages\) is needed"),
        (([0, 1], [1 << 40], None), podattn.ArgumentError, r"kv_len\[0\] = 1099511627776 is outside"),
        (([0, 1], [1 << 70], None), podattn.ArgumentError, "kv_len holds object; integers are needed"),
        (([0, 2.5], [3], None), podattn.ArgumentError, "q_start holds float64; integers are needed"),
        ((["0", "1"], [3], None), podattn.ArgumentError, "q_start holds <U1; integers are needed"),
        (([0, 1], [1], [[0], []]), podattn.ArgumentError, "page_table does not become an array of integers"),
        (([0, 1], np.array([1, 1 << 31]), None), podattn.ArgumentError, r"kv_len\[1\] = 2147483648 is outside"),
        (([0, 1], torch.tensor([1.0]), None), podattn.ArgumentError, "kv_len holds float32; integers are needed"),
        ((None, [1], None), podattn.ArgumentError, "q_start is a NoneType"),
    ],
)
def test_batch(arrays: tuple[Any, Any, Any], kind: type[podattn.Error], message: str) -> None:
    plan = podattn.Plan(**limits())
    with pytest.raises(kind, match=message):
        plan.build(*arrays)
    with pytest.raises(podattn.StateError, match=r"Plan.build\(\) has not succeeded"):
        plan.attention(torch.zeros(1, 4, 64), torch.zeros(8, 16, 2, 64), torch.zeros(8, 16, 2, 64))


def changed(**changes: Callable[[Case], Any]) -> Callable[[Case], dict[str, Any]]:
    def arguments(case: Case) -> dict[str, Any]:
        plain = {"q": case.q, "k_cache": case.k, "v_cache": case.v}
        return {**plain, **{name: change(case) for name, change in changes.items()}}

    return arguments


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (
            changed(q=lambda c: c.q[:, :2]),
            podattn.ArgumentError,
            r"q has shape \(43, 2, 64\); \(any, 4, 64\) is needed",
        ),
        (changed(q=lambda c: c.q[0]), podattn.ArgumentError, "q has shape"),
        (changed(q=lambda c: c.q[:-1]), podattn.ArgumentError, "q has 42 tokens; the plan was built for 43"),
        (changed(q=lambda c: c.q.half()), podattn.ArgumentError, "q holds float16; the plan is for float32"),
        (changed(q=lambda c: "text"), podattn.ArgumentError, "q is a str"),
        (
            changed(k_cache=lambda c: c.k[:-1]),
            podattn.ArgumentError,
            "k_cache has 22 pages; the plan is for num_pages = 23",
        ),
        (changed(v_cache=lambda c: c.v.transpose(1, 2)), podattn.ArgumentError, "v_cache has shape"),
        (changed(out=lambda c: c.q[1:].clone()), podattn.ArgumentError, "out has shape"),
        (changed(lse=lambda c: c.q[:, :, 0].double()), podattn.ArgumentError, "lse holds float64"),
        (changed(out=lambda c: c.q.to("meta")), podattn.ArgumentError, "out is on meta; the plan is on cpu"),
        (changed(sinks=lambda c: torch.zeros(5)), podattn.ArgumentError, r"sinks has shape \(5,\); \(4\) is needed"),
        (changed(softcap=lambda c: -1.0), podattn.ArgumentError, "softcap = -1"),
        (changed(scale=lambda c: float("nan")), podattn.ArgumentError, "scale = nan is not finite"),
        (changed(scale=lambda c: 1e-60), podattn.ArgumentError, "scale = 1e-60 is outside what a float32 holds"),
        (changed(softcap=lambda c: 1e60), podattn.ArgumentError, r"softcap = 1e\+60 is outside what a float32 holds"),
        (changed(scale=lambda c: "2"), podattn.ArgumentError, "scale = '2' is no number"),
        (changed(mask=lambda c: 2**32), podattn.ArgumentError, "mask = 4294967296 is outside"),
        (changed(mask=lambda c: None), podattn.ArgumentError, "mask = None is no integer"),
        (changed(return_lse=lambda c: "yes"), podattn.ArgumentError, "return_lse = 'yes' is neither True nor False"),
        (
            changed(lse=lambda c: torch.zeros(4, 43)),
            podattn.ArgumentError,
            r"lse has shape \(4, 43\); \(43, 4\) is needed",
        ),
        (
            changed(sinks=lambda c: torch.zeros(4).half()),
            podattn.ArgumentError,
            "sinks holds float16; float32 is needed",
        ),
        (changed(sinks=lambda c: torch.zeros(4).requires_grad_()), podattn.UnsupportedError, "sinks requires grad"),
        (changed(k_scale=lambda c: torch.ones(1).requires_grad_()), podattn.UnsupportedError, "k_scale requires grad"),
        (changed(q=lambda c: c.q.to_sparse()), podattn.ArgumentError, "q is a Tensor of layout torch.sparse_coo"),
        (changed(k_cache=lambda c: torch._neg_view(c.k)), podattn.ArgumentError, "k_cache is to be negated yet"),
        (
            changed(q=lambda c: c.q.numpy().astype(">f4")),
            podattn.ArgumentError,
            "q holds float32 of foreign byte order",
        ),
        (changed(q=lambda c: np.ma.masked_array(c.q.numpy())), podattn.ArgumentError, "q is a masked array"),
        (changed(out=lambda c: np.empty(c.q.shape, ">f4")), podattn.ArgumentError, "out holds float32 of foreign"),
        (changed(q=lambda c: c.q.clone().requires_grad_()), podattn.UnsupportedError, "no backward pass"),
    ],
)
def test_tensors(arguments: Callable[[Case], dict[str, Any]], kind: type[Exception], message: str) -> None:
    case = mixed("cpu")
    with pytest.raises(kind, match=message):
        case.built().attention(**arguments(case))


def test_a_failed_call_leaves_the_next_alone() -> None:
    case = mixed("cpu")
    plan = case.built()
    expected = plan.attention(case.q, case.k, case.v)
    with pytest.raises(podattn.ArgumentError):
        plan.attention(case.q.half(), case.k, case.v)
    assert torch.equal(plan.attention(case.q, case.k, case.v), expected)


def test_without_grad_mode_a_parameter_passes() -> None:
    case = mixed("cpu")
    with torch.no_grad():
        case.built().attention(torch.nn.Parameter(case.q), case.k, case.v)


def test_read_only_results_are_refused() -> None:
    case = mixed("cpu")
    out = np.empty(tuple(case.q.shape), np.float32)
    out.flags.writeable = False
    with pytest.raises(podattn.ArgumentError, match="out is read-only"):
        case.built().attention(case.q.numpy(), case.k.numpy(), case.v.numpy(), out)


def test_the_kinds_are_what_callers_expect() -> None:
    assert issubclass(podattn.ArgumentError, ValueError)
    assert issubclass(podattn.LimitError, ValueError)
    assert issubclass(podattn.UnsupportedError, NotImplementedError)
    assert issubclass(podattn.StateError, RuntimeError)
    assert issubclass(podattn.OutOfMemoryError, MemoryError)


@pytest.mark.gpu
def test_arrays_of_two_places(gpu: str) -> None:
    case = mixed(gpu)
    plan = case.plan()
    with pytest.raises(podattn.ArgumentError, match="are on cpu, cuda:0"):
        plan.build(case.q_start.to(gpu), case.kv_len, case.page_table)
    plan = case.built()
    with pytest.raises(podattn.ArgumentError, match="k_cache is on cpu; the plan is on cuda:0"):
        plan.attention(case.q, case.k.cpu(), case.v)
    with pytest.raises(podattn.UnsupportedError, match="alibi_slopes"):
        plan.attention(case.q, case.k, case.v, alibi_slopes=torch.zeros(case.q_heads, device=gpu))


@pytest.mark.gpu
def test_wrong_request_on_the_device(gpu: str) -> None:
    case = mixed(gpu)
    plan = case.plan()
    starts, lengths, table = case.on_device()
    lengths[1] = case.num_pages * case.page_size * 4
    plan.build(starts, lengths, table)
    out = plan.attention(case.q, case.k, case.v)
    with pytest.raises(podattn.ArgumentError, match=r"kv_len\[1\]"):
        plan.check()
    assert (out[33] == 0).all() and (out[:33] != 0).any()


def test_grad_mode_is_looked_at_in_each_call() -> None:
    case = mixed("cpu")
    plan = case.built()
    cache = case.k.clone().requires_grad_()
    with torch.no_grad():
        plan.attention(case.q, cache, case.v)
    with pytest.raises(podattn.UnsupportedError, match="k_cache requires grad"):
        plan.attention(case.q, cache, case.v)
