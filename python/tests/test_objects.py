# SPDX-License-Identifier: Apache-2.0
"""What Python itself does with the package's objects: copies, pickles, names, subclasses of what they take."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any, Callable

import numpy as np
import pytest
import torch
from hybrid_case import check_lse, check_out
from test_plan import mixed

import podattn


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_plans_and_scratch_are_not_copied(copied: Callable[[Any], Any]) -> None:
    for original in (mixed("cpu").built(), podattn.Scratch(64, "cpu")):
        name = type(original).__name__
        with pytest.raises(podattn.UnsupportedError, match=f"a podattn.{name} .* cannot be copied or pickled"):
            copied(original)


def test_what_is_no_memory_is_copied() -> None:
    info = mixed("cpu").built().info()
    for value in (info, podattn.device_info("cpu"), podattn.Mask(window_tokens=3), podattn.ArgumentError("text")):
        found = pickle.loads(pickle.dumps(value))
        assert type(found) is type(value) and str(found) == str(value)


def test_names_are_the_public_ones() -> None:
    for name in podattn.__all__:
        thing = getattr(podattn, name)
        assert name == "__version__" or thing.__module__ == "podattn"
    assert "ForwardRef" not in str(inspect.signature(podattn.DeviceInfo))
    assert str(inspect.signature(podattn.WorkspaceBytes)) == "(plan_bytes: int, scratch_bytes: int)"


def test_repr_of_a_plan() -> None:
    case = mixed("cpu")
    plan = case.plan(kv_dtype=torch.bfloat16)
    limits = "q_heads=4, kv_heads=2, head_dim=64, page_size=16, max_requests=8, max_q_tokens=43, max_kv_len=100"
    assert repr(plan) == f"<podattn.Plan {limits}, float32/bfloat16 on cpu, not built>"
    plan.build(case.q_start, case.kv_len, case.page_table)
    assert repr(plan).endswith("on cpu, built for 7 requests>")


class Tensor(torch.Tensor):
    """Nothing of its own."""


def test_subclasses_of_tensors(device: str) -> None:
    case = mixed(device)
    q, k, v = (x.as_subclass(Tensor) for x in (case.q, case.k, case.v))
    expected_out, expected_lse = case.reference()
    plan = case.built()
    out, lse = plan.attention(q, k, v, return_lse=True)
    check_out(case, out.as_subclass(torch.Tensor), expected_out)
    check_lse(lse.as_subclass(torch.Tensor), expected_lse)
    out = podattn.hybrid_attention(q, k, v, case.q_start.tolist(), case.kv_len.tolist(), case.page_table.tolist())
    check_out(case, out.as_subclass(torch.Tensor), expected_out)
    for found in (
        torch.ops.podattn.attention(q, k, v, plan.plan_id),
        torch.ops.podattn.hybrid_attention(q, k, v, *case.on_device()),
        podattn.merge([q], [lse])[0] - q + out,
        torch.ops.podattn.merge([q], [lse])[0] - q + out,
    ):
        check_out(case, found.as_subclass(torch.Tensor), expected_out)


def test_read_only_memory_is_refused() -> None:
    case = mixed("cpu")
    plan = case.plan()
    rows = np.zeros(plan.workspace_bytes + 256, np.uint8)
    rows.flags.writeable = False
    for call, name in (
        (lambda: plan.attach(plan_memory=rows), "plan_memory"),
        (lambda: plan.attach(scratch=rows), "scratch"),
        (lambda: case.plan(workspace=rows), "workspace"),
    ):
        with pytest.raises(podattn.WorkspaceError, match=f"{name} is read-only"):
            call()
    outs, lses = [np.zeros((3, 4, 64), np.float32)], [np.zeros((3, 4), np.float32)]
    for name, like in (("out", outs[0]), ("lse", lses[0])):
        given = like.copy()
        given.flags.writeable = False
        with pytest.raises(podattn.ArgumentError, match=f"{name} is read-only"):
            podattn.merge(outs, lses, **{name: given})


def test_none_means_the_default(device: str) -> None:
    case = mixed(device)
    out = case.built().attention(case.q, case.k, case.v, scale=None, softcap=None)
    check_out(case, out, case.reference()[0])
    out = podattn.hybrid_attention(case.q, case.k, case.v, *case.on_device(), scale=None, softcap=None)
    check_out(case, out, case.reference()[0])
    compiled = torch.compile(lambda q, k, v: case_plan.attention(q * 1, k, v, scale=None), backend="eager")
    case_plan = case.built()
    check_out(case, compiled(case.q, case.k, case.v), case.reference()[0])


def test_options_that_change_in_place_are_seen() -> None:
    case = mixed("cpu")
    plan = case.built()
    scale = np.array(0.125, np.float32)
    first = plan.attention(case.q, case.k, case.v, scale=scale)
    scale[...] = 0.5
    second = plan.attention(case.q, case.k, case.v, scale=scale)
    assert torch.equal(second, plan.attention(case.q, case.k, case.v, scale=0.5)) and not torch.equal(first, second)
    assert torch.equal(first, plan.attention(case.q, case.k, case.v))


@pytest.mark.parametrize("window", [2**32 + 1, 2**31])
def test_integers_do_not_wrap(window: int) -> None:
    case = mixed("cpu")
    plan = case.built()
    with pytest.raises(podattn.ArgumentError, match=f"window_tokens = {window} is outside"):
        plan.build(case.q_start, case.kv_len, case.page_table, window_tokens=window)
    with pytest.raises(podattn.ArgumentError, match=rf"masks\[0\].window_tokens = {window} is outside"):
        plan.build(case.q_start, case.kv_len, case.page_table, masks=[podattn.Mask(window_tokens=window)])
    with pytest.raises(podattn.ArgumentError, match=f"page_size = {window} is outside"):
        case.plan(page_size=window)
    with pytest.raises(podattn.ArgumentError, match=f"q_heads = {window} is outside"):
        case.plan(q_heads=window)
