# SPDX-License-Identifier: Apache-2.0
"""Calls whose tensors are laid out as those of the call before take a short way, and leave it for any change."""

from __future__ import annotations

from typing import Any, Callable

import pytest
import torch
from hybrid_case import Case, check_lse, check_out
from test_plan import mixed

import podattn
from podattn import _same_layout


@pytest.fixture(params=["asked", "compared"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How layouts are told apart: by PyTorch's guards, or without them."""
    if request.param == "compared":
        monkeypatch.setattr(_same_layout, "_sees_every_change", lambda: False)
    return request.param


def warm(way: str, device: str = "cpu", with_lse: bool = False) -> tuple[Case, podattn.Plan]:
    """A plan that has computed this layout often enough to know it."""
    case = mixed(device)
    plan = case.built()
    out, lse = torch.empty_like(case.q), torch.empty(case.q.shape[:2], device=device) if with_lse else None
    for _ in range(3):
        plan.attention(case.q, case.k, case.v, out, lse)
    layer = plan._layer
    assert ((layer.is_same_with_lse if with_lse else layer.is_same) is not None) == (way == "asked")
    return case, plan


def test_this_version_of_pytorch_can_be_asked() -> None:
    assert _same_layout._sees_every_change()


def test_other_tensors_of_the_same_layout(way: str, device: str) -> None:
    case, plan = warm(way, device)
    case.q, case.k, case.v = case.q * 2, case.k.flip(1), case.v + 1
    out = torch.full_like(case.q, float("nan"))
    plan.attention(case.q, case.k, case.v, out)
    check_out(case, out, case.reference()[0])


def test_an_lse_comes_and_goes(way: str, device: str) -> None:
    case, plan = warm(way, device, with_lse=True)
    expected_out, expected_lse = case.reference()
    for with_lse in (True, False, False, False, True, True, True, False):
        lse = torch.full(case.q.shape[:2], float("nan"), device=device) if with_lse else None
        out = torch.full_like(case.q, float("nan"))
        plan.attention(case.q, case.k, case.v, out, lse)
        check_out(case, out, expected_out)
        if lse is not None:
            check_lse(lse, expected_lse)


@pytest.mark.parametrize("name", ["q", "k", "v", "out"])
def test_other_strides(way: str, name: str, device: str) -> None:
    case, plan = warm(way, device)
    tensors = {"q": case.q, "k": case.k, "v": case.v, "out": torch.full_like(case.q, float("nan"))}
    wider = torch.cat([tensors[name], tensors[name]], dim=-2)
    tensors[name] = wider[..., : tensors[name].shape[-2], :]
    plan.attention(*tensors.values())
    check_out(case, tensors["out"], case.reference()[0])


@pytest.mark.parametrize(
    ("name", "change", "kind", "message"),
    [
        ("q", lambda t: t[:, :2], podattn.ArgumentError, "q has shape"),
        ("q", lambda t: t[:-1], podattn.ArgumentError, "out has shape"),
        ("q", lambda t: t.half(), podattn.ArgumentError, "q holds float16"),
        ("q", lambda t: t[:1].expand(t.shape), podattn.ArgumentError, "q is broadcast along dimension 0"),
        ("q", lambda t: t.clone().requires_grad_(), podattn.UnsupportedError, "q requires grad"),
        ("q", lambda t: torch.nn.Parameter(t), podattn.UnsupportedError, "q requires grad"),
        ("q", lambda t: t.to("meta"), podattn.ArgumentError, "q is on meta"),
        ("q", lambda t: None, podattn.ArgumentError, "q is a NoneType"),
        ("k", lambda t: t[:-1], podattn.ArgumentError, "k_cache has 22 pages"),
        ("k", lambda t: t.double(), podattn.ArgumentError, "k_cache holds float64"),
        ("k", lambda t: t.transpose(2, 3).contiguous().transpose(2, 3), podattn.ArgumentError, "k_cache has stride"),
        ("v", lambda t: t.transpose(1, 2), podattn.ArgumentError, "v_cache has shape"),
        ("v", lambda t: t.clone().requires_grad_(), podattn.UnsupportedError, "v_cache requires grad"),
        ("out", lambda t: t.clone().requires_grad_(), podattn.UnsupportedError, "out requires grad"),
        ("out", lambda t: t[1:], podattn.ArgumentError, "out has shape"),
        ("lse", lambda t: t.double(), podattn.ArgumentError, "lse holds float64"),
        ("lse", lambda t: t[1:], podattn.ArgumentError, "lse has shape"),
    ],
)
def test_a_wrong_one_is_noticed(
    way: str, name: str, change: Callable[[Any], Any], kind: type[podattn.Error], message: str
) -> None:
    case, plan = warm(way, with_lse=name == "lse")
    out, lse = torch.empty_like(case.q), torch.empty(case.q.shape[:2]) if name == "lse" else None
    tensors = {"q": case.q, "k": case.k, "v": case.v, "out": out, "lse": lse}
    wrong = {**tensors, name: change(tensors[name])}
    with pytest.raises(kind, match=message):
        plan.attention(*wrong.values())
    out.fill_(float("nan"))
    plan.attention(*tensors.values())
    check_out(case, out, case.reference()[0])


def test_a_tensor_that_is_changed_in_place_is_noticed(way: str) -> None:
    case, plan = warm(way)
    out = torch.empty_like(case.q)
    plan.attention(case.q, case.k, case.v, out)
    case.q.requires_grad_()
    with pytest.raises(podattn.UnsupportedError, match="q requires grad"):
        plan.attention(case.q, case.k, case.v, out)
    with torch.no_grad():
        for _ in range(3):
            plan.attention(case.q, case.k, case.v, out)
    with pytest.raises(podattn.UnsupportedError, match="q requires grad"):
        plan.attention(case.q, case.k, case.v, out)
    case.q.requires_grad_(False)
    case.k.resize_(0)
    with pytest.raises(podattn.ArgumentError, match="k_cache has shape"):
        plan.attention(case.q, case.k, case.v, out)


def test_more_pages_are_asked_for(way: str) -> None:
    case, plan = warm(way)
    plan.build(case.q_start, case.kv_len, case.page_table, num_pages=case.k.shape[0] + 1)
    with pytest.raises(podattn.ArgumentError, match="k_cache has 23 pages; the plan is for num_pages = 24"):
        plan.attention(case.q, case.k, case.v, torch.empty_like(case.q))


def test_more_tokens_are_planned(way: str) -> None:
    case, plan = warm(way)
    few = case.q[:5]
    plan.build([0, 5], [5], [[0]])
    for _ in range(3):
        plan.attention(few, case.k, case.v, torch.empty_like(few))
    plan.build(case.q_start, case.kv_len, case.page_table)
    with pytest.raises(podattn.ArgumentError, match="q has 5 tokens; the plan was built for 43"):
        plan.attention(few, case.k, case.v, torch.empty_like(few))


def test_one_tensor_as_keys_and_values(way: str) -> None:
    case, plan = warm(way)
    case.v = case.k
    for _ in range(4):
        out = torch.full_like(case.q, float("nan"))
        plan.attention(case.q, case.k, case.k, out)
        check_out(case, out, case.reference()[0])


def test_values_per_head_of_numpy() -> None:
    case, plan = warm("asked")
    sinks = torch.linspace(-1, 2, case.q_heads)
    expected = plan.attention(case.q, case.k, case.v, sinks=sinks)
    assert torch.equal(plan.attention(case.q, case.k, case.v, sinks=sinks.numpy()), expected)
