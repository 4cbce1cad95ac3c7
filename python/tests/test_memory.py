# SPDX-License-Identifier: Apache-2.0
"""The two parts of a plan's memory: allocated, given, shared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hybrid_case import Case, check_out
from test_errors import limits
from test_plan import mixed

import podattn


def rows_of_bytes(device: str, num_bytes: int) -> torch.Tensor:
    return torch.zeros(num_bytes + 256, dtype=torch.uint8, device=device)


def check_attention(case: Case, plan: podattn.Plan) -> None:
    plan.build(case.q_start, case.kv_len, case.page_table)
    check_out(case, plan.attention(case.q, case.k, case.v), case.reference()[0])


def test_sizes_are_known_before_anything_is_allocated(device: str) -> None:
    case = mixed(device)
    plan = case.plan(max_masks=2)
    sizes = podattn.workspace_bytes(
        q_heads=case.q_heads,
        kv_heads=case.kv_heads,
        head_dim=case.head_dim,
        page_size=case.page_size,
        max_requests=len(case.requests) + 1,
        max_q_tokens=case.q.shape[0],
        max_kv_len=100,
        dtype=case.dtype,
        max_masks=2,
        device=device,
    )
    assert sizes == (plan.plan_bytes, plan.scratch_bytes)
    assert (sizes.plan_bytes, sizes.scratch_bytes) == sizes
    assert plan.workspace_bytes == sum(sizes)
    assert case.plan().plan_bytes < plan.plan_bytes and case.plan().scratch_bytes == plan.scratch_bytes


def test_sizes_of_wrong_limits() -> None:
    wrong = {name: value for name, value in limits(kv_heads=3).items() if name != "num_pages"}
    with pytest.raises(podattn.ArgumentError, match="kv_heads = 3"):
        podattn.workspace_bytes(**wrong)


@pytest.mark.gpu
def test_batches_on_the_device_need_no_room_for_copies(gpu: str) -> None:
    case = mixed(gpu)
    plan = case.plan(batch_memory="device")
    assert plan.plan_bytes < case.plan().plan_bytes
    plan.build(*case.on_device())
    check_out(case, plan.attention(case.q, case.k, case.v), case.reference()[0])
    with pytest.raises(podattn.UnsupportedError, match="batch_memory = POD_MEMORY_DEVICE"):
        plan.build(case.q_start, case.kv_len, case.page_table)


def test_both_parts_of_the_caller(device: str) -> None:
    case = mixed(device)
    plan = case.plan()
    plan_memory, scratch = rows_of_bytes(device, plan.plan_bytes), rows_of_bytes(device, plan.scratch_bytes)
    plan.attach(plan_memory, scratch)
    check_attention(case, plan)
    assert plan_memory.any()


def test_one_row_of_bytes_for_both_parts(device: str) -> None:
    case = mixed(device)
    memory = rows_of_bytes(device, case.plan().workspace_bytes)
    check_attention(case, case.plan(workspace=memory))
    assert memory.any()


def test_plans_that_share_scratch(device: str) -> None:
    """They plan for themselves, and compute in turns."""
    cases = [mixed(device, seed=seed, head_dim=head_dim) for seed, head_dim in enumerate((64, 128))]
    plans = [case.plan() for case in cases]
    scratch = podattn.Scratch(max(plan.scratch_bytes for plan in plans), device)
    for case, plan in zip(cases, plans):
        plan.attach(scratch=scratch)
        plan.build(case.q_start, case.kv_len, case.page_table)
    for _ in range(2):
        for case, plan in zip(cases, plans):
            check_out(case, plan.attention(case.q, case.k, case.v), case.reference()[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda plan: {"plan_memory": np.zeros(plan.plan_bytes - 1, np.uint8)}, "plan_memory has .* bytes from its"),
        (lambda plan: {"scratch": np.zeros(plan.scratch_bytes - 1, np.uint8)}, "scratch has .* bytes from its first"),
        (lambda plan: {"plan_memory": np.zeros(plan.plan_bytes, np.float32)}, "plan_memory has shape .* of float32"),
        (lambda plan: {"scratch": podattn.Scratch(plan.scratch_bytes - 1, "cpu")}, "scratch has .* bytes; .* are need"),
        (lambda plan: {"plan_memory": torch.zeros(1, device="meta")}, "plan_memory is on meta; the plan is on cpu"),
    ],
)
def test_wrong_memory_changes_nothing(make: Any, message: str) -> None:
    case = mixed("cpu")
    plan = case.built()
    with pytest.raises(podattn.WorkspaceError, match=message):
        plan.attach(**make(plan))
    check_out(case, plan.attention(case.q, case.k, case.v), case.reference()[0])


def test_wrong_memory_for_both_parts() -> None:
    case = mixed("cpu")
    num_bytes = case.plan().workspace_bytes
    for wrong in (np.zeros(num_bytes - 1, np.uint8), np.zeros(num_bytes, np.float32)):
        with pytest.raises(podattn.WorkspaceError, match="workspace has"):
            case.plan(workspace=wrong)
    with pytest.raises(podattn.ArgumentError, match="num_bytes = -1"):
        podattn.Scratch(-1, "cpu")


def test_other_memory_asks_for_another_build() -> None:
    case = mixed("cpu")
    plan = case.built()
    plan.attach()
    with pytest.raises(podattn.StateError, match="build"):
        plan.attention(case.q, case.k, case.v)
    check_attention(case, plan)


def test_two_plans_in_one_plan_memory_are_noticed() -> None:
    case = mixed("cpu")
    first, second = case.plan(), case.plan()
    memory = rows_of_bytes("cpu", first.plan_bytes)
    first.attach(memory)
    second.attach(memory)
    check_attention(case, first)
    check_attention(case, second)
    with pytest.raises(podattn.WorkspaceError, match="another plan was built in this plan's plan_memory"):
        first.attention(case.q, case.k, case.v)


@pytest.mark.gpu
def test_scratch_of_another_device(gpu: str) -> None:
    plan = mixed(gpu).plan()
    with pytest.raises(podattn.WorkspaceError, match="scratch is on cpu; the plan is on cuda:0"):
        plan.attach(scratch=podattn.Scratch(plan.scratch_bytes, "cpu"))
