# SPDX-License-Identifier: Apache-2.0
"""What a build changes: nothing but that the plan is not built, unless it succeeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hybrid_case import check_out
from test_plan import mixed

import podattn

REFUSED = {
    "in C": {"kv_len": [7] * 7},
    "a page table of one dimension": {"page_table": [0]},
    "no array": {"q_start": None},
    "a window that is no integer": {"window_tokens": 2.5},
    "pages that are no integer": {"num_pages": 3.0},
    "negative pages": {"num_pages": -3},
    "tokens that are no integer": {"num_q_tokens": 2.5},
    "too few tokens": {"num_q_tokens": 42},
    "no tokens": {"num_q_tokens": 0},
    "masks beside causal": {"masks": [podattn.Mask()], "causal": False},
}


@pytest.mark.parametrize("name", REFUSED)
def test_attention_after_a_refused_build_is_refused(name: str) -> None:
    changes = REFUSED[name]
    case = mixed("cpu")
    arrays = {"q_start": case.q_start.tolist(), "kv_len": case.kv_len.tolist(), "page_table": case.page_table.tolist()}
    plan = case.plan()
    plan.build(**arrays)
    with pytest.raises(podattn.ArgumentError):
        plan.build(**{**arrays, **changes})
    out = torch.full_like(case.q, 7)
    calls: list[Any] = [
        lambda: plan.attention(case.q, case.k, case.v, out),
        lambda: plan.attention(case.q[:1], case.k, case.v, out[:1]),
        lambda: plan.attention(case.q[:0], case.k, case.v),
        plan.info,
        plan.check,
        lambda: plan.visit(lambda item: None),
    ]
    for call in calls:
        with pytest.raises(podattn.StateError, match=r"Plan.build\(\) has not succeeded"):
            call()
    assert (out == 7).all()
    plan.build(**arrays)
    plan.attention(case.q, case.k, case.v, out)
    check_out(case, out, case.reference()[0])


def test_nothing_is_written_past_a_short_result() -> None:
    """A batch of 64 tokens, then one of a single token that is refused: its result has a single row."""
    plan = podattn.Plan(q_heads=4, kv_heads=1, head_dim=64, page_size=4, num_pages=64, max_requests=2, max_q_tokens=64,
                        max_kv_len=256, dtype="float32", device="cpu:1")  # fmt: skip
    k = np.ones((64, 4, 1, 64), np.float32)
    plan.build([0, 64], [256], [list(range(64))])
    with pytest.raises(podattn.ArgumentError, match="page_table has shape"):
        plan.build([0, 1], [4], [0])
    rows = np.full((64, 4, 64), -7, np.float32)
    with pytest.raises(podattn.StateError):
        plan.attention(np.ones((1, 4, 64), np.float32), k, k, out=rows[:1])
    assert (rows == -7).all()


def test_pages_may_come_with_the_build(device: str) -> None:
    case = mixed(device)
    plan = case.plan(num_pages=None)
    with pytest.raises(podattn.ArgumentError, match="num_pages is None, and the plan was made without it"):
        plan.build(case.q_start, case.kv_len, case.page_table)
    for pages in (case.num_pages, None):
        plan.build(case.q_start, case.kv_len, case.page_table, num_pages=pages)
        check_out(case, plan.attention(case.q, case.k, case.v), case.reference()[0])


def test_tokens_of_the_arrays(device: str) -> None:
    case = mixed(device)
    plan = case.plan(max_q_tokens=100)
    plan.build(*case.on_device(), num_q_tokens=43)
    check_out(case, plan.attention(case.q, case.k, case.v), case.reference()[0])
    with pytest.raises(podattn.ArgumentError, match="q has 42 tokens; the plan was built for 43"):
        plan.attention(case.q[:-1], case.k, case.v)
    with pytest.raises(podattn.LimitError, match="num_q_tokens = 101 exceeds max_q_tokens = 100"):
        plan.build(*case.on_device(), num_q_tokens=101)


def test_visit(device: str) -> None:
    case = mixed(device)
    plan = case.built()
    items: list[podattn.WorkItem] = []
    plan.visit(items.append)
    info = plan.info()
    kinds = [item.kind for item in items]
    assert kinds == ["prefill"] * info.num_prefill_items + ["decode"] * info.num_decode_items
    assert sum(item.num_tiles for item in items) == info.num_prefill_tiles + info.num_decode_tiles
    assert {item.request for item in items} == {r for r, (q_len, _) in enumerate(case.requests) if q_len}
    seen: list[podattn.WorkItem] = []
    plan.visit(lambda item: seen.append(item) or len(seen) == 2)
    assert seen == items[:2]

    def fail(item: podattn.WorkItem) -> None:
        raise KeyError(item.ticket)

    with pytest.raises(KeyError, match="0"):
        plan.visit(fail)


def test_there_is_no_word_for_bad_requests_on_a_cpu() -> None:
    plan = mixed("cpu").built()
    assert plan.bad_request is None
    plan.clear_bad_request()
