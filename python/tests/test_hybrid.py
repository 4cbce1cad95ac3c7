# SPDX-License-Identifier: Apache-2.0
"""The one-call form."""

from __future__ import annotations

import threading

import pytest
import torch
from hybrid_case import Case, check_lse, check_out
from test_plan import dtype_of, mixed

import podattn
from podattn import _hybrid


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("kv_layout", ["NHD", "HND"])
def test_against_reference(device: str, kv_layout: str, on_device: bool) -> None:
    case = mixed(device, kv_layout=kv_layout, window_tokens=30)
    requests = case.on_device() if on_device else (case.q_start, case.kv_len, case.page_table)
    out, lse = podattn.hybrid_attention(
        case.q, case.k, case.v, *requests, kv_layout=kv_layout, window_tokens=30, return_lse=True
    )
    expected_out, expected_lse = case.reference()
    check_out(case, out, expected_out)
    check_lse(lse, expected_lse)


def test_slots_lists_and_numpy() -> None:
    case = mixed("cpu", page_size=4)
    flat = [x.reshape(-1, case.kv_heads, case.head_dim).numpy() for x in (case.k, case.v)]
    lists = [x.tolist() for x in (case.q_start, case.kv_len, case.page_table)]
    out = podattn.hybrid_attention(case.q.numpy(), *flat, *lists, page_size=4)
    check_out(case, out, case.reference()[0])


def test_given_results(device: str) -> None:
    case = mixed(device)
    out, lse = torch.empty_like(case.q), torch.empty(case.q.shape[:2], device=device)
    requests = (case.q_start, case.kv_len, case.page_table)
    assert podattn.hybrid_attention(case.q, case.k, case.v, *requests, out, lse)[0] is out
    check_out(case, out, case.reference()[0])


def test_plans_are_found_again() -> None:
    _hybrid._plans._plans.clear()
    for seed, count in enumerate([5, 6, 7, 8]):
        case = Case([(1, 30)] * count, seed=seed)
        requests = (case.q_start, case.kv_len, case.page_table)
        check_out(case, podattn.hybrid_attention(case.q, case.k, case.v, *requests), case.reference()[0])
    assert len(_hybrid._plans._plans) == 1
    for tokens in range(1, 2 * _hybrid._MOST_PLANS):
        case = Case([(1, 1)], q_heads=tokens, kv_heads=1, head_dim=8)
        podattn.hybrid_attention(case.q, case.k, case.v, case.q_start, case.kv_len, case.page_table)
    assert len(_hybrid._plans._plans) == _hybrid._MOST_PLANS


def test_threads_work_side_by_side() -> None:
    batches = [Case([(20, 50), (1, 40 + seed)], seed=seed) for seed in range(4)]
    outs: dict[int, list[torch.Tensor]] = {}

    def work(i: int) -> None:
        case = batches[i]
        requests = (case.q_start, case.kv_len, case.page_table)
        outs[i] = [podattn.hybrid_attention(case.q, case.k, case.v, *requests) for _ in range(5)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, case in enumerate(batches):
        for out in outs[i]:
            check_out(case, out, case.reference()[0])


def test_wrong_shapes() -> None:
    case = mixed("cpu")
    with pytest.raises(podattn.ArgumentError, match="k_cache has shape"):
        podattn.hybrid_attention(case.q, case.k[0, 0], case.v, [0, 1], [1])
    with pytest.raises(podattn.ArgumentError, match="page_size = 3, but the pages of k_cache hold 16"):
        podattn.hybrid_attention(case.q, case.k, case.v, [0, 1], [1], page_size=3)
    with pytest.raises(podattn.LimitError, match=r"kv_len\[0\] = 17 exceeds max_kv_len = 16"):
        podattn.hybrid_attention(case.q, case.k, case.v, [0, 1], [17], [[0]])


@pytest.mark.gpu
def test_memory_of_a_call_on_a_side_stream(gpu: str) -> None:
    case = mixed(gpu, dtype=dtype_of(gpu))
    requests = case.on_device()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        outs = [podattn.hybrid_attention(case.q, case.k, case.v, *requests) for _ in range(20)]
    stream.synchronize()
    for out in outs:
        check_out(case, out, case.reference()[0])
