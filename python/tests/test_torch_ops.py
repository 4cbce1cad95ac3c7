# SPDX-License-Identifier: Apache-2.0
"""torch.ops.podattn: opcheck, fake tensors, torch.compile."""

from __future__ import annotations

import gc
from typing import Any, Callable

import pytest
import torch
from hybrid_case import check_lse, check_out
from test_plan import mixed
from torch._subclasses.fake_tensor import FakeTensorMode

import podattn

OPS = torch.ops.podattn
FORMS = [("returns", "aot_eager"), ("returns_lse", "aot_eager"), ("writes", "aot_eager"), ("writes", "inductor")]


def test_opcheck(device: str) -> None:
    case = mixed(device)
    plan = case.plan(max_masks=2)
    plan.build(*case.on_device(), masks=[podattn.Mask(), podattn.Mask(window_tokens=9)])
    sinks = torch.zeros(case.q_heads, device=device)
    layer = (case.q, case.k, case.v, plan.plan_id)
    torch.library.opcheck(OPS.attention.default, layer)
    torch.library.opcheck(OPS.attention.default, layer, {"scale": 0.1, "sinks": sinks})
    torch.library.opcheck(OPS.attention.default, layer, {"mask": 1})
    torch.library.opcheck(OPS.attention_lse.default, layer)
    out, lse = torch.zeros_like(case.q), torch.zeros(case.q.shape[:2], device=device)
    torch.library.opcheck(OPS.attention_out.default, (out, lse, *layer))
    torch.library.opcheck(OPS.attention_out.default, (out, None, *layer))


def test_opcheck_of_the_one_call_form(device: str) -> None:
    case = mixed(device)
    batch = (case.q, case.k, case.v, *case.on_device())
    torch.library.opcheck(OPS.hybrid_attention.default, batch)
    torch.library.opcheck(OPS.hybrid_attention_lse.default, batch, {"window_tokens": 4})
    one_token = torch.tensor([0, 1], dtype=torch.int32, device=device)
    torch.library.opcheck(OPS.hybrid_attention.default, (case.q[:1], case.k, case.v, one_token, one_token[1:]))


def test_operators_compute(device: str) -> None:
    case = mixed(device)
    plan = case.built()
    expected_out, expected_lse = case.reference()
    out, lse = OPS.attention_lse(case.q, case.k, case.v, plan.plan_id)
    check_out(case, out, expected_out)
    check_lse(lse, expected_lse)
    out, lse = OPS.hybrid_attention_lse(case.q, case.k, case.v, *case.on_device())
    check_out(case, out, expected_out)
    check_lse(lse, expected_lse)


def test_fake_results() -> None:
    case = mixed("cpu")
    plan = case.plan(out_dtype="float16")
    mode = FakeTensorMode()
    with mode:
        q, k, v = (mode.from_tensor(x) for x in (case.q, case.k, case.v))
        out, lse = plan.attention(q, k, v, return_lse=True)
    assert (out.shape, out.dtype) == (case.q.shape, torch.float16)
    assert (lse.shape, lse.dtype) == (case.q.shape[:2], torch.float32)


Layer = Callable[..., Any]


def layer_of(plan: podattn.Plan, form: str) -> Layer:
    """What a model does around its attention, in one of the forms of the call."""

    def returns(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return plan.attention(q * 2, k, v, scale=0.1) + 1

    def returns_lse(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        found, lse = plan.attention(q * 2, k, v, scale=0.1, return_lse=True)
        return found * torch.exp(lse - lse).unsqueeze(2) + 1

    def writes(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        plan.attention(q * 2, k, v, out, scale=0.1)
        return out + 1

    return {"returns": returns, "returns_lse": returns_lse, "writes": writes}[form]


@pytest.mark.parametrize(("form", "backend"), FORMS)
def test_compile_a_layer(device: str, form: str, backend: str) -> None:
    torch._dynamo.reset()
    case = mixed(device, kv_layout="HND")
    layer = layer_of(case.built(), form)
    given = [torch.zeros_like(case.q) for _ in range(2)]
    expected = layer(case.q, case.k, case.v, given[0])
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    found = compiled(case.q, case.k, case.v, given[1])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(given[1], given[0])


def test_compiled_layer_follows_the_plan(device: str) -> None:
    """Built again, the same graph computes the new batch, without being compiled again."""
    torch._dynamo.reset()
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    case = mixed(device)
    plan = case.built()
    layer = torch.compile(lambda q, k, v: plan.attention(q, k, v), fullgraph=True, backend=backend)
    check_out(case, layer(case.q, case.k, case.v), case.reference()[0])
    case.kv_len = torch.where(case.kv_len > 50, case.kv_len - 7, case.kv_len)
    case.requests = [(q_len, int(length)) for (q_len, _), length in zip(case.requests, case.kv_len)]
    plan.build(case.q_start, case.kv_len, case.page_table)
    check_out(case, layer(case.q, case.k, case.v), case.reference()[0])
    assert len(graphs) == 1


def test_compiled_layers_of_two_masks(device: str) -> None:
    torch._dynamo.reset()
    case = mixed(device)
    plan = case.plan(max_masks=2)
    plan.build(case.q_start, case.kv_len, case.page_table, masks=[podattn.Mask(window_tokens=9), podattn.Mask()])

    def layers(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> list[torch.Tensor]:
        return [plan.attention(q * 1, k, v, mask=mask) for mask in range(2)]

    found = torch.compile(layers, fullgraph=True, backend="aot_eager")(case.q, case.k, case.v)
    for window_tokens, out in zip((9, 0), found):
        case.window_tokens = window_tokens
        check_out(case, out, case.reference()[0])


def test_compile_the_one_call_form_with_changing_shapes(device: str) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda q, *rest: podattn.hybrid_attention(q * 1, *rest), fullgraph=True, dynamic=True, backend="aot_eager"
    )
    for seed in range(3):
        case = mixed(device, seed=seed, requests=[(4 + seed, 60 + seed), *[(1, 30)] * (2 + seed)])
        check_out(case, compiled(case.q, case.k, case.v, *case.on_device()), case.reference()[0])


def test_a_plan_that_is_gone_is_named() -> None:
    case = mixed("cpu")
    plan_id = case.built().plan_id
    gc.collect()
    with pytest.raises(podattn.ArgumentError, match=f"there is no plan number {plan_id}"):
        OPS.attention(case.q, case.k, case.v, plan_id)
