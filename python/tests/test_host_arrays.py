# SPDX-License-Identifier: Apache-2.0
"""Batches in the host's memory: any integers, copied by the build."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import pytest
import torch
from hybrid_case import Case, check_out
from test_arrays import OnlyDLPack, OnlyInterface
from test_plan import mixed

import podattn

KINDS: dict[str, Callable[[torch.Tensor], Any]] = {
    "int64 tensors": torch.Tensor.long,
    "int16 tensors": torch.Tensor.short,
    "int64 arrays": lambda x: x.numpy().astype(np.int64),
    "uint64 arrays": lambda x: x.clamp_min(0).numpy().astype(np.uint64),
    "big-endian arrays": lambda x: x.numpy().astype(">i4"),
    "every second element": lambda x: torch.stack([x, x * 0 - 9], dim=-1)[..., 0].numpy(),
    "lists of numbers of NumPy": lambda x: [np.int64(v) for v in x] if x.dim() == 1 else x.tolist(),
    "lists of rows": lambda x: list(x.numpy()),
    "tuples": lambda x: tuple(map(tuple, x.tolist())) if x.dim() == 2 else tuple(x.tolist()),
    "DLPack of int64": lambda x: OnlyDLPack(x.long()),
    "DLPack with strides": lambda x: OnlyDLPack(torch.stack([x, x * 0 - 9], dim=-1)[..., 0]),
    "an array interface": lambda x: OnlyInterface("__array_interface__", x.numpy().astype(np.int64)),
}


def batch_of(case: Case) -> list[torch.Tensor]:
    return [case.q_start, case.kv_len, case.page_table]


@pytest.mark.parametrize("kind", KINDS)
def test_any_integers(kind: str, device: str) -> None:
    case = mixed(device)
    plan = case.plan()
    plan.build(*(KINDS[kind](x) for x in batch_of(case)))
    check_out(case, plan.attention(case.q, case.k, case.v), case.reference()[0])


def test_int64_in_the_one_call_form(device: str) -> None:
    case = mixed(device)
    out = podattn.hybrid_attention(case.q, case.k, case.v, *(x.long() for x in batch_of(case)))
    check_out(case, out, case.reference()[0])


@pytest.mark.parametrize("pinned", [False, pytest.param(True, marks=pytest.mark.gpu)])
def test_the_arrays_may_change_after_the_build(pinned: bool, device: str) -> None:
    """Even while the stream has not come to the build yet."""
    if pinned and device == "cpu":
        pytest.skip("only a GPU reads pinned memory later")
    case = mixed(device)
    plan = case.plan(max_masks=2)
    causal = torch.ones(len(case.requests), dtype=torch.int32)
    arrays = [x.pin_memory() if pinned else x.clone() for x in (*batch_of(case), causal)]
    plan.build(*arrays[:3], masks=[podattn.Mask(causal_per_request=arrays[3]), podattn.Mask()])
    plan.attention(case.q, case.k, case.v)
    if device != "cpu":
        torch.cuda._sleep(200_000_000)
    plan.build(*arrays[:3], masks=[podattn.Mask(causal_per_request=arrays[3]), podattn.Mask()])
    for array in arrays:
        array.fill_(1 << 20)
    for mask in range(2):
        check_out(case, plan.attention(case.q, case.k, case.v, mask=mask), case.reference()[0])


def test_only_pages_that_are_read_are_copied() -> None:
    """A table as engines keep it, of a row for the longest context, is as cheap as one that fits."""
    case = mixed("cpu")
    plan = case.plan()
    wide = torch.full((len(case.requests), 1 << 16), -7, dtype=torch.int64)
    wide[:, : case.page_table.shape[1]] = case.page_table
    plan.build(case.q_start, case.kv_len, wide)
    check_out(case, plan.attention(case.q, case.k, case.v), case.reference()[0])
    assert plan._batch.struct.max_pages <= case.page_table.shape[1]


@pytest.mark.parametrize("kind", [torch.Tensor.numpy, lambda x: x])
def test_no_query_tokens(kind: Callable[[torch.Tensor], Any], device: str) -> None:
    """Arrays of NumPy without elements have strides of 0."""
    if device != "cpu":
        kind = lambda x: x  # noqa: E731
    case = mixed(device)
    q, k, v = (kind(x) for x in (case.q, case.k, case.v))
    plan = case.plan()
    plan.build([0, 0], [4], case.page_table[:1])
    for out, lse in (
        plan.attention(q[:0], k, v, return_lse=True),
        plan.attention(q[:0], k, v, q[:0], kind(torch.empty(0, case.q_heads, device=device))),
        podattn.hybrid_attention(q[:0], k, v, [0, 0], [4], case.page_table[:1], return_lse=True),
    ):
        assert tuple(out.shape) == (0, case.q_heads, case.head_dim) and tuple(lse.shape) == (0, case.q_heads)
    out, lse = podattn.merge([q[:0]] * 2, [kind(torch.empty(0, case.q_heads, device=device))] * 2)
    assert tuple(out.shape) == (0, case.q_heads, case.head_dim)


def test_a_page_table_without_pages() -> None:
    plan = podattn.Plan(q_heads=1, kv_heads=1, head_dim=8, page_size=4, num_pages=1, max_requests=2, max_q_tokens=4,
                        max_kv_len=4, dtype="float32", device="cpu")  # fmt: skip
    q, k = np.ones((2, 1, 8), np.float32), np.ones((1, 4, 1, 8), np.float32)
    for table in (np.zeros((2, 0), np.int32), [[], []], torch.zeros(2, 0, dtype=torch.int32)):
        plan.build([0, 1, 2], [0, 0], table, causal=False)
        out, lse = plan.attention(q, k, k, return_lse=True)
        assert (out == 0).all() and (lse == -np.inf).all()


@pytest.mark.gpu
def test_int64_on_a_gpu_is_named(gpu: str) -> None:
    case = mixed(gpu)
    with pytest.raises(podattn.ArgumentError, match="kv_len holds int64 on cuda:0; int32 is needed there"):
        case.plan().build(case.q_start.to(gpu), case.kv_len.long().to(gpu), case.page_table.to(gpu))
