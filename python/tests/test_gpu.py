# SPDX-License-Identifier: Apache-2.0
"""What only a GPU has: streams, lengths that the host does not know, captured graphs."""

from __future__ import annotations

import pytest
import torch
from hybrid_case import Case, check_lse, check_out

import podattn

pytestmark = pytest.mark.gpu

REQUESTS = [(200, 900), (1, 700), (0, 0), (1, 1), (3, 333), (1, 1024)]


def large(gpu: str, **changes: object) -> Case:
    shape = {
        "q_heads": 16,
        "kv_heads": 4,
        "head_dim": 128,
        "dtype": torch.bfloat16,
        "device": gpu,
        "requests": REQUESTS,
    }
    return Case(**{**shape, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("page_size", [1, 16, 64, 256])
def test_lengths_on_the_device(gpu: str, page_size: int) -> None:
    case = large(gpu, page_size=page_size)
    plan = case.plan()
    plan.build(*case.on_device())
    out, lse = plan.attention(case.q, case.k, case.v, return_lse=True)
    plan.check()
    expected_out, expected_lse = case.reference()
    check_out(case, out, expected_out)
    check_lse(lse, expected_lse)


def test_nothing_is_allocated_with_results_given(gpu: str) -> None:
    case = large(gpu)
    plan, requests = case.plan(), case.on_device()
    out, lse = torch.empty_like(case.q), torch.empty(case.q.shape[:2], device=gpu)
    plan.build(*requests)

    def count() -> int:
        return torch.cuda.memory_stats()["allocation.all.allocated"]

    before = count()
    for _ in range(3):
        plan.build(*requests)
        plan.attention(case.q, case.k, case.v, out, lse)
    assert count() == before
    check_out(case, out, case.reference()[0])


def test_side_stream(gpu: str) -> None:
    """Work waits for what its stream holds, and for nothing else."""
    case = large(gpu)
    plan, requests = case.plan(), case.on_device()
    plan.build(*requests)
    plan.attention(case.q, case.k, case.v)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    q = torch.full_like(case.q, float("nan"))
    with torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)
        q.copy_(case.q)
        plan.build(*requests)
        out = plan.attention(q, case.k, case.v)
        done = stream.record_event()
    assert not done.query()
    done.synchronize()
    check_out(case, out, case.reference()[0])


@pytest.mark.parametrize("kind", ["object", "address"])
def test_given_stream(gpu: str, kind: str) -> None:
    case = large(gpu)
    plan, requests = case.plan(), case.on_device()
    stream = torch.cuda.Stream()
    given = stream if kind == "object" else stream.cuda_stream
    out = torch.zeros_like(case.q)
    torch.cuda.synchronize()
    plan.build(*requests, stream=given)
    plan.attention(case.q, case.k, case.v, out, stream=given)
    plan.check(stream=given)
    stream.synchronize()
    check_out(case, out, case.reference()[0])


def captured(
    plan: podattn.Plan,
    case: Case,
    requests: tuple[torch.Tensor, ...],
    outs: list[torch.Tensor],
    with_build: bool = True,
) -> torch.cuda.CUDAGraph:
    """One layer for each result as a graph, the plan before them or not, after a call that makes what is made once."""
    plan.build(*requests)
    plan.attention(case.q, case.k, case.v, outs[0])
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        if with_build:
            plan.build(*requests)
        for out in outs:
            plan.attention(case.q, case.k, case.v, out)
    return graph


def test_graph_replays_with_new_lengths(gpu: str) -> None:
    case = large(gpu)
    plan, requests = case.plan(), case.on_device()
    outs = [torch.empty_like(case.q) for _ in range(2)]
    graph = captured(plan, case, requests, outs)
    for less in (0, 1, 60):
        lengths = [(q_len, max(q_len, kv_len - less)) for q_len, kv_len in REQUESTS]
        case.requests = lengths
        case.kv_len = torch.tensor([kv_len for _, kv_len in lengths], dtype=torch.int32)
        requests[1].copy_(case.kv_len)
        for out in outs:
            out.fill_(float("nan"))
        graph.replay()
        torch.cuda.synchronize()
        for out in outs:
            check_out(case, out, case.reference()[0])


def test_graph_of_attention_follows_the_last_build(gpu: str) -> None:
    """Built outside, before each replay; the graph holds the layers alone."""
    case = large(gpu)
    plan, requests = case.plan(), case.on_device()
    outs = [torch.empty_like(case.q) for _ in range(2)]
    graph = captured(plan, case, requests, outs, with_build=False)
    for less in (0, 1, 60):
        case.requests = [(q_len, max(q_len, kv_len - less)) for q_len, kv_len in REQUESTS]
        case.kv_len = torch.tensor([kv_len for _, kv_len in case.requests], dtype=torch.int32)
        for row in case.page_table:
            row[row >= 0] = row[row >= 0].flip(0)
        requests[1].copy_(case.kv_len)
        requests[2].copy_(case.page_table)
        for out in outs:
            out.fill_(float("nan"))
        plan.build(*requests)
        graph.replay()
        torch.cuda.synchronize()
        plan.check()
        for out in outs:
            check_out(case, out, case.reference()[0])


def change_query_tokens(case: Case, requests: tuple[torch.Tensor, ...], q_lens: list[int]) -> int:
    """Other query tokens for the same requests, in the case and in the arrays on the device; returns how many."""
    case.requests = [(q_len, max(q_len, kv_len)) for q_len, (_, kv_len) in zip(q_lens, REQUESTS)]
    case.q_start = torch.tensor([0, *q_lens]).cumsum(0).to(torch.int32)
    case.kv_len = torch.tensor([kv_len for _, kv_len in case.requests], dtype=torch.int32)
    for array, values in zip(requests, (case.q_start, case.kv_len)):
        array.copy_(values)
    return sum(q_lens)


@pytest.mark.parametrize("build_is_captured", [True, False])
def test_graph_replays_with_new_query_tokens(gpu: str, build_is_captured: bool) -> None:
    """The host knows nothing of `q_start`: fewer tokens, none, a decode that becomes a chunk, all of them again."""
    case = large(gpu)
    plan, requests = case.plan(), case.on_device()
    outs = [torch.empty_like(case.q) for _ in range(2)]
    graph = captured(plan, case, requests, outs, build_is_captured)
    for q_lens in ([3, 1, 0, 0, 1, 0], [0] * 6, [0, 150, 0, 1, 0, 33], [q_len for q_len, _ in REQUESTS]):
        tokens = change_query_tokens(case, requests, q_lens)
        for out in outs:
            out.fill_(7)
        if not build_is_captured:
            plan.build(*requests)
        graph.replay()
        torch.cuda.synchronize()
        plan.check()
        for out in outs:
            check_out(case, out[:tokens], case.reference()[0])
            assert (out[tokens:] == 7).all()


def test_bad_request_is_read_without_waiting(gpu: str) -> None:
    case = large(gpu)
    plan, requests = case.plan(), case.on_device()
    plan.build(*requests)
    plan.attention(case.q, case.k, case.v)
    torch.cuda.synchronize()
    assert plan.bad_request == 0
    good = requests[1].clone()
    requests[1][3] = -1
    plan.build(*requests)
    torch.cuda.synchronize()
    assert plan.bad_request == 1 + 3
    requests[1].copy_(good)
    plan.build(*requests)
    torch.cuda.synchronize()
    assert plan.bad_request == 1 + 3
    plan.clear_bad_request()
    plan.build(*requests)
    plan.check()
    assert plan.bad_request == 0


def test_bad_request_does_not_wait(gpu: str) -> None:
    case = large(gpu)
    plan, requests = case.plan(), case.on_device()
    plan.build(*requests)
    torch.cuda.synchronize()
    requests[1][3] = -1
    torch.cuda._sleep(200_000_000)
    plan.build(*requests)
    assert plan.bad_request == 0
    torch.cuda.synchronize()
    assert plan.bad_request == 1 + 3


def test_query_tokens_beyond_the_arrays(gpu: str) -> None:
    """A q_start that says more tokens than the arrays have is refused on the device; nothing is written past them."""
    case = large(gpu)
    plan, requests = case.plan(max_q_tokens=1024), case.on_device()
    tokens = case.q.shape[0]
    rows = torch.full((tokens + 50, case.q_heads, case.head_dim), 7.0, dtype=case.dtype, device=gpu)
    requests[0][-1] += 20
    plan.build(*requests, num_q_tokens=tokens)
    plan.attention(case.q, case.k, case.v, rows[:tokens])
    with pytest.raises(podattn.ArgumentError, match="q_start"):
        plan.check()
    assert plan.bad_request == len(REQUESTS)
    assert (rows[tokens:] == 7).all()


def test_graph_of_the_one_call_form(gpu: str) -> None:
    case = large(gpu)
    requests = case.on_device()
    podattn.hybrid_attention(case.q, case.k, case.v, *requests)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = podattn.hybrid_attention(case.q, case.k, case.v, *requests)
    others = [podattn.hybrid_attention(case.q * 2, case.k, case.v, *requests) for _ in range(3)]
    out.zero_()
    graph.replay()
    torch.cuda.synchronize()
    check_out(case, out, case.reference()[0])
    assert not torch.equal(others[0], out)


def test_host_arrays_cannot_be_captured(gpu: str) -> None:
    case = large(gpu)
    plan = case.built()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        graph.capture_begin()
        with pytest.raises(podattn.UnsupportedError, match="while the stream is being captured"):
            plan.build(case.q_start, case.kv_len, case.page_table)
        torch.zeros(1, device=gpu)
        graph.capture_end()


def test_compiled_with_graphs(gpu: str) -> None:
    """mode="reduce-overhead" captures the operators into CUDA graphs."""
    torch._dynamo.reset()
    case = large(gpu)
    plan = case.built()
    layer = torch.compile(lambda q, k, v: plan.attention(q * 1.0, k, v) + 0, fullgraph=True, mode="reduce-overhead")
    for _ in range(4):
        torch.compiler.cudagraph_mark_step_begin()
        out = layer(case.q, case.k, case.v).clone()
    check_out(case, out, case.reference()[0])


def test_two_plans_on_two_streams(gpu: str) -> None:
    cases = [large(gpu, seed=seed) for seed in range(2)]
    plans = [case.plan() for case in cases]
    requests = [case.on_device() for case in cases]
    streams = [torch.cuda.Stream() for _ in cases]
    torch.cuda.synchronize()
    outs = []
    for case, plan, arrays, stream in zip(cases, plans, requests, streams):
        with torch.cuda.stream(stream):
            for _ in range(10):
                plan.build(*arrays)
                out = plan.attention(case.q, case.k, case.v)
            outs.append(out)
    torch.cuda.synchronize()
    for case, out in zip(cases, outs):
        check_out(case, out, case.reference()[0])
