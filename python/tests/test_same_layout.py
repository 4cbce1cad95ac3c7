# SPDX-License-Identifier: Apache-2.0
"""Calls whose tensors are laid out as those of the call before take a short way, and leave it for any change."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Callable

import numpy as np
import pytest
import torch
from hybrid_case import Case, check_lse, check_out
from test_plan import mixed

import podattn
from podattn import _integers, _same_layout
from podattn._batch import Batch
from podattn._integers import Integers
from podattn._limits import make_limits


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


def test_sinks_of_other_layers(way: str) -> None:
    """Each layer has its own; other values per head come and go, and what is wrong is noticed."""
    case, plan = warm(way)
    slopes, generator = torch.linspace(0.1, 0.5, case.q_heads), torch.Generator().manual_seed(5)
    for options in ("s", "s", "s", "", "s", "sa", "s", "a", "s"):
        given: dict[str, Any] = {"sinks": torch.randn(case.q_heads, generator=generator)} if "s" in options else {}
        given |= {"alibi_slopes": slopes} if "a" in options else {}
        fresh = case.built().attention(case.q, case.k, case.v, **given)
        assert torch.equal(plan.attention(case.q, case.k, case.v, **given), fresh)
    sinks = torch.zeros(case.q_heads)
    for wrong, message in [
        (sinks[1:], "sinks has shape"),
        (sinks.half(), "sinks holds float16"),
        (torch.zeros(2 * case.q_heads)[::2], "sinks has stride 2"),
        (sinks.clone().requires_grad_(), "sinks requires grad"),
    ]:
        plan.attention(case.q, case.k, case.v, sinks=sinks)
        with pytest.raises(podattn.Error, match=message):
            plan.attention(case.q, case.k, case.v, sinks=wrong)


def test_values_per_head_of_numpy() -> None:
    case, plan = warm("asked")
    sinks = torch.linspace(-1, 2, case.q_heads)
    expected = plan.attention(case.q, case.k, case.v, sinks=sinks)
    assert torch.equal(plan.attention(case.q, case.k, case.v, sinks=sinks.numpy()), expected)


@pytest.mark.parametrize("with_lse", [False, True])
def test_other_numbers_of_tokens(way: str, with_lse: bool) -> None:
    """As from step to step of an engine: queries are a slice of a wider tensor."""
    case, plan = warm(way)
    heads, dim = case.q_heads, case.q.shape[2]
    generator = torch.Generator().manual_seed(3)
    for step, num_tokens in enumerate((43, 43, 44, 60, 60, 1, 2, 1, 43, 0, 50)):
        taken = min(num_tokens, 40)
        plan.build([0, taken], [taken], [list(range(case.k.shape[0]))[: case.page_table.shape[1]]], num_q_tokens=taken)
        wide = torch.randn(num_tokens, 2 * heads, dim, generator=generator)
        q, out = wide[:, :heads], torch.full((num_tokens, heads, dim), float("nan"))
        plain = plan.attention(q.clone(), case.k, case.v, out.clone())
        lse = torch.empty(num_tokens, heads) if with_lse and step % 2 else None
        plan.attention(q, case.k, case.v, out, lse)
        assert torch.equal(out[:taken], plain[:taken])
        assert bool(out[taken:].isnan().all())


def test_queries_and_results_of_different_numbers(way: str) -> None:
    case, plan = warm(way)
    more, out = torch.cat([case.q, case.q]), torch.full_like(case.q, 7)
    with pytest.raises(podattn.ArgumentError, match=r"out has shape \(43, 4, 64\); \(86, 4, 64\) is needed"):
        plan.attention(more, case.k, case.v, out)
    assert bool((out == 7).all())
    with pytest.raises(podattn.ArgumentError, match="q has 42 tokens; the plan was built for 43"):
        plan.attention(case.q[:-1], case.k, case.v, out[:-1])


def test_a_batch_in_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the long way, for tensors that stand for those of a GPU: the same struct, or no short way."""
    generator = np.random.default_rng(11)
    monkeypatch.setattr(_integers, "read", _as_on_gpu)
    device: Any = SimpleNamespace(array_device="cuda:0", is_cuda=True)
    limits = make_limits(q_heads=4, kv_heads=2, head_dim=64, page_size=16, max_requests=99, max_q_tokens=99,
                         max_kv_len=99, max_masks=2)  # fmt: skip
    masks = [(podattn.Mask(),), (podattn.Mask(window_tokens=9), podattn.Mask())]
    short, num_short = Batch(limits, device), 0
    table = torch.zeros(40, 12, dtype=torch.int32)
    for _ in range(300):
        n, columns, which = (int(generator.integers(0, top)) for top in (30, 40, 8))
        n, columns = (1 if n < 3 else n), (7 if columns else 8)
        given = masks[0] if which else masks[1]
        arrays = (torch.zeros(n + 1, dtype=torch.int32), torch.zeros(n, dtype=torch.int32), table[:n, :columns])
        long = Batch(limits, device)
        long.set(*arrays, given, 0)
        if short.set_same(*arrays, given):
            num_short += 1
        else:
            short.set(*arrays, given, 0)
        wanted, found = _values_of(long), _values_of(short)
        if n == 1:  # whose row stride does not count
            wanted.pop("page_table_stride"), found.pop("page_table_stride")
        assert found == wanted
    assert num_short > 150
    usual = (torch.zeros(6, dtype=torch.int32), torch.zeros(5, dtype=torch.int32), table[:5, :7])
    short.set(*usual, masks[0], 0)
    assert short.set_same(*usual, masks[0])
    for i, other in [(0, usual[0][:-1]), (1, usual[1][1:]), (2, usual[2][:3]), (0, usual[0].long()),
                     (1, torch.zeros(10, dtype=torch.int32)[::2]), (2, table[:5, :8]), (2, None)]:  # fmt: skip
        arrays = [*usual]
        arrays[i] = other
        assert not short.set_same(*arrays, masks[0])
    assert not short.set_same(*usual, masks[1])
    with pytest.raises(podattn.ArgumentError, match="page_table has 3 rows for 5 requests"):
        short.set(usual[0], usual[1], table[:3, :8], masks[0], 0)
    assert not short.set_same(*usual, masks[0])
    per_request = (podattn.Mask(causal_per_request=torch.ones(5, dtype=torch.int32)),)
    short.set(*usual, per_request, 0)
    assert not short.set_same(*usual, per_request)


def _as_on_gpu(array: torch.Tensor, field: str, stream: int, columns: Any = None) -> Integers:
    stride = array.stride(0) if array.dim() == 2 and array.shape[0] > 1 else array.shape[-1]
    return Integers(array.data_ptr(), tuple(array.shape), "cuda:0", array, stride if array.dim() == 2 else 1)


def _values_of(batch: Batch) -> dict[str, Any]:
    names = [name for name, _ in batch.struct._fields_ if name != "masks"]
    masks = [(mask.causal, mask.window_tokens) for mask in batch._masks[: batch.struct.num_masks]]
    return {name: getattr(batch.struct, name) for name in names} | {"masks": masks}
