# SPDX-License-Identifier: Apache-2.0
"""Partial results by their LSEs: the same as attention over all keys."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import pytest
import torch
from hybrid_case import Case, check_lse, check_out
from test_arrays import OnlyDLPack, numpy_of
from test_plan import dtype_of

import podattn


def parts_of(device: str, num_parts: int = 3, **changes: Any) -> tuple[Case, list[torch.Tensor], list[torch.Tensor]]:
    """A batch that sees all keys, and its results over runs of whole pages."""
    case = Case([(5, 96), (1, 96), (2, 96)], causal=False, device=device, dtype=dtype_of(device), **changes)
    outs, lses = [], []
    pages = 96 // case.page_size
    for part in range(num_parts):
        begin, end = pages * part // num_parts, pages * (part + 1) // num_parts
        plan = case.plan()
        lengths = torch.full_like(case.kv_len, (end - begin) * case.page_size)
        plan.build(case.q_start, lengths, case.page_table[:, begin:end].contiguous(), causal=False)
        out, lse = plan.attention(case.q, case.k, case.v, return_lse=True)
        outs.append(out)
        lses.append(lse)
    return case, outs, lses


@pytest.mark.parametrize("num_parts", [1, 2, 3, 6])
def test_against_all_keys(device: str, num_parts: int) -> None:
    case, outs, lses = parts_of(device, num_parts)
    out, lse = podattn.merge(outs, lses)
    assert isinstance(out, torch.Tensor) and out.dtype == case.dtype
    expected_out, expected_lse = case.reference()
    check_out(case, out, expected_out)
    check_lse(lse, expected_lse)


def test_numpy_and_dlpack() -> None:
    case, outs, lses = parts_of("cpu")
    expected_out, expected_lse = case.reference()
    out, lse = podattn.merge([numpy_of(x) for x in outs], [numpy_of(x) for x in lses])
    assert isinstance(out, np.ndarray) and isinstance(lse, np.ndarray)
    check_out(case, out, expected_out)
    check_lse(lse, expected_lse)
    check_out(case, podattn.merge([OnlyDLPack(x) for x in outs], lses)[0], expected_out)


def test_results_given(device: str) -> None:
    case, outs, lses = parts_of(device)
    expected_out, expected_lse = case.reference()
    wide = torch.zeros(case.q.shape[0], 2 * case.q_heads, case.head_dim, dtype=torch.float32, device=device)
    out, lse = wide[:, : case.q_heads], torch.zeros(case.q_heads, case.q.shape[0], device=device).T
    found = podattn.merge(outs, lses, out, lse)
    assert found[0] is out and found[1] is lse
    check_out(case, out, expected_out)
    check_lse(lse, expected_lse)
    assert (wide[:, case.q_heads :] == 0).all()
    podattn.merge(outs, lses, outs[1], lses[1])
    check_out(case, outs[1], expected_out)
    check_lse(lses[1], expected_lse)


def test_parts_by_their_strides(device: str) -> None:
    _, outs, lses = parts_of(device)
    both = torch.stack(outs, dim=1)
    columns = torch.stack(lses, dim=2)
    out, lse = podattn.merge([both[:, i] for i in range(3)], [columns[:, :, i] for i in range(3)])
    expected = podattn.merge(outs, lses)
    assert torch.equal(out, expected[0]) and torch.equal(lse, expected[1])


def test_a_part_that_saw_nothing_weighs_nothing(device: str) -> None:
    _, outs, lses = parts_of(device, 2)
    out, lse = podattn.merge(outs, [lses[0], torch.full_like(lses[1], -torch.inf)])
    assert torch.equal(out, outs[0])
    torch.testing.assert_close(lse, lses[0])
    out, lse = podattn.merge(outs, [torch.full_like(x, -torch.inf) for x in lses])
    assert (out == 0).all() and (lse == -torch.inf).all()


Change = Callable[[list[Any], list[Any]], Any]


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda outs, lses: podattn.merge([], []), podattn.ArgumentError, "outs has 0 arrays, lses 0"),
        (lambda outs, lses: podattn.merge(outs, lses[:1]), podattn.ArgumentError, "outs has 2 arrays, lses 1"),
        (lambda outs, lses: podattn.merge(9 * outs, 9 * lses), podattn.ArgumentError, "num_parts = 18"),
        (lambda outs, lses: podattn.merge([outs[0], outs[1][:2]], lses), podattn.ArgumentError, r"outs\[1\] has shape"),
        (lambda outs, lses: podattn.merge([outs[0][0], outs[1]], lses), podattn.ArgumentError, r"outs\[0\] has shape"),
        (lambda outs, lses: podattn.merge([outs[0], outs[1].half()], lses), podattn.ArgumentError, "float16, outs"),
        (
            lambda outs, lses: podattn.merge([x.double() for x in outs], lses),
            podattn.ArgumentError,
            "float64 is none of",
        ),
        (lambda outs, lses: podattn.merge(outs, [lses[0], lses[1].T]), podattn.ArgumentError, r"lses\[1\] has shape"),
        (
            lambda outs, lses: podattn.merge(outs, [x.half() for x in lses]),
            podattn.ArgumentError,
            "lses.0. holds float16",
        ),
        (lambda outs, lses: podattn.merge(outs, lses, outs[0][:1]), podattn.ArgumentError, "out has shape"),
        (
            lambda outs, lses: podattn.merge(outs, lses, None, lses[0].double()),
            podattn.ArgumentError,
            "lse holds float64",
        ),
        (lambda outs, lses: podattn.merge([outs[0], outs[1].to("meta")], lses), podattn.ArgumentError, "is on meta"),
        (lambda outs, lses: podattn.merge([1, 2], lses), podattn.ArgumentError, r"outs\[0\] is a int"),
        (
            lambda outs, lses: podattn.merge([x.clone().requires_grad_() for x in outs], lses),
            podattn.UnsupportedError,
            "no backward pass",
        ),
    ],
)
def test_mistakes(call: Change, kind: type[podattn.Error], message: str) -> None:
    _, outs, lses = parts_of("cpu", 2)
    with pytest.raises(kind, match=message):
        call(outs, lses)


def test_read_only_results_are_refused() -> None:
    _, outs, lses = parts_of("cpu", 2)
    out = np.zeros(tuple(outs[0].shape), np.float32)
    out.flags.writeable = False
    with pytest.raises(podattn.ArgumentError, match="read-only"):
        podattn.merge([x.numpy() for x in outs], [x.numpy() for x in lses], out)


def test_operator(device: str) -> None:
    _, outs, lses = parts_of(device)
    torch.library.opcheck(torch.ops.podattn.merge.default, (outs, lses))
    found = torch.ops.podattn.merge(outs, lses)
    expected = podattn.merge(outs, lses)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def test_compiled(device: str) -> None:
    torch._dynamo.reset()
    _, outs, lses = parts_of(device, 2)
    expected = podattn.merge(outs, lses)

    def made(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return podattn.merge([a * 1, b], lses)[0] + 0

    def given(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return podattn.merge([a * 1, b], lses, out)[1] + 0

    found = torch.compile(made, fullgraph=True, backend="aot_eager")(*outs)
    torch.testing.assert_close(found, expected[0])
    out = torch.zeros_like(outs[0])
    found = torch.compile(given, fullgraph=True, backend="aot_eager")(*outs, out)
    torch.testing.assert_close(found, expected[1])
    torch.testing.assert_close(out, expected[0])
