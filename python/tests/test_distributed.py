# SPDX-License-Identifier: Apache-2.0
"""Attention that is shared by several ranks: by heads, and by positions of the context."""

from __future__ import annotations

import importlib.util
import os
import random
import re
import subprocess
import sys
from typing import Any

import pytest
import torch
from hybrid_case import Case, check_lse, check_out
from hypothesis import given, settings
from hypothesis import strategies as st
from test_examples import EXAMPLES
from test_plan import dtype_of

import podattn

# ---- by heads ----


def cuts(plan: podattn.Plan, kv_head: int) -> list[tuple[int, ...]]:
    """Where the plan cuts the work of a KV head."""
    found: list[tuple[int, ...]] = []

    def visit(item: podattn.WorkItem) -> None:
        if item.kv_head == kv_head:
            found.append((item.request, item.row_begin, item.row_end, item.kv_begin, item.kv_end))

    plan.visit(visit)
    return sorted(found)


def check_shares(case: Case, ranks: int) -> int:
    """Each rank's heads, from slices of the arrays, against all heads; returns how many heads were cut alike."""
    whole = case.built()
    out, lse = whole.attention(case.q, case.k, case.v, return_lse=True)
    num_q, num_kv, group = case.q_heads // ranks, case.kv_heads // ranks, case.q_heads // case.kv_heads
    num_alike = 0
    for rank in range(ranks):
        plan = case.built(q_heads=num_q, kv_heads=num_kv)
        k, v = (cache[:, :, rank * num_kv : (rank + 1) * num_kv] for cache in (case.k, case.v))
        own = slice(rank * num_q, (rank + 1) * num_q)
        found, found_lse = plan.attention(case.q[:, own], k, v, return_lse=True)
        for head in range(num_kv):
            here = slice(head * group, (head + 1) * group)
            there = slice(rank * num_q + here.start, rank * num_q + here.stop)
            if cuts(plan, head) == cuts(whole, rank * num_kv + head):
                num_alike += 1
                assert torch.equal(found[:, here], out[:, there]) and torch.equal(found_lse[:, here], lse[:, there])
            check_out(case, found[:, here], out[:, there].cpu().double())
            check_lse(found_lse[:, here], lse[:, there].cpu().double())
    return num_alike


def test_heads_that_are_cut_alike_have_the_same_bits(device: str) -> None:
    """As long as there is a worker for every piece, it does not matter how many heads there are."""
    case = Case([(40, 90), (1, 150), (0, 0), (3, 60)], q_heads=8, kv_heads=4, device=device, dtype=dtype_of(device))
    alike = [check_shares(case, ranks) for ranks in (1, 2, 4)]
    assert device != "cpu" or alike == [4, 4, 4]


def test_heads_that_are_cut_otherwise_are_the_same_but_for_rounding() -> None:
    """A plan with fewer heads has more workers for each, and cuts finer."""
    case = Case([(1, 3000), (1, 2000)], q_heads=8, kv_heads=4)
    assert check_shares(case, 1) == 4 and check_shares(case, 4) == 0


@settings(max_examples=30)
@given(
    ranks=st.sampled_from([2, 4]),
    num_kv=st.integers(1, 2),
    group=st.sampled_from([1, 2, 5]),
    lengths=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 700)), min_size=1, max_size=5),
    seed=st.integers(0, 99),
)
def test_shares_of_heads(ranks: int, num_kv: int, group: int, lengths: list[tuple[int, int]], seed: int) -> None:
    requests = [(q_len, q_len + past) for q_len, past in lengths]
    kv_heads = ranks * num_kv
    check_shares(Case(requests, q_heads=group * kv_heads, kv_heads=kv_heads, seed=seed), ranks)


# ---- by positions ----


def check_positions(case: Case, rng: random.Random, ranks: int) -> None:
    """Each rank's run of positions in a call of its own, merged, against the definition."""
    bounds, tails = [], []
    for q_len, kv_len in case.requests:
        whole_pages = (kv_len - q_len) // case.page_size  # the new tokens are together, on the rank that has the tail
        tail = rng.randrange(ranks)
        begins = sorted(rng.randint(0, whole_pages) * case.page_size for _ in range(tail))
        bounds.append([0, *begins, *[kv_len] * (ranks - tail)])
        tails.append(tail)
    outs, lses = [], []
    for rank in range(ranks):
        lens = [ends[rank + 1] - ends[rank] for ends in bounds]
        table = torch.full_like(case.page_table, -1)
        for r, length in enumerate(lens):
            first, count = bounds[r][rank] // case.page_size, -(-length // case.page_size)
            table[r, :count] = case.page_table[r, first : first + count]
        causal = torch.tensor([tail == rank for tail in tails], dtype=torch.int32)
        plan = case.plan()
        plan.build(case.q_start, lens, table, masks=[podattn.Mask(causal_per_request=causal)])
        out, lse = plan.attention(case.q, case.k, case.v, return_lse=True)
        outs.append(out)
        lses.append(lse)
    out, lse = podattn.merge(outs, lses)
    expected, expected_lse = case.reference()
    check_out(case, out, expected)
    check_lse(lse, expected_lse)


def test_chunk_and_decode_over_two_ranks(device: str) -> None:
    """A chunk, a decode, a request of which the second rank has nothing, and an empty one."""
    for seed in range(8):
        case = Case([(40, 900), (1, 700), (3, 20), (0, 0)], device=device, dtype=dtype_of(device), seed=seed)
        check_positions(case, random.Random(seed), 2)


@settings(max_examples=30)
@given(
    ranks=st.integers(1, 5),
    lengths=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 400)), min_size=1, max_size=4),
    page_size=st.sampled_from([1, 16, 24]),
    seed=st.integers(0, 999),
)
def test_runs_of_positions(ranks: int, lengths: list[tuple[int, int]], page_size: int, seed: int) -> None:
    requests = [(q_len, q_len + past) for q_len, past in lengths]
    check_positions(Case(requests, page_size=page_size, seed=seed), random.Random(seed), ranks)


# ---- the examples, on CPUs ----


def torchrun(ranks: int, name: str, *arguments: str) -> str:
    """What the ranks print; the test fails if one of them does."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    command += [str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("ranks", "kv_heads", "shares", "alike"),
    [
        (2, 4, "2 ranks with 4 of 8 query heads and 2 of 4 KV heads each", 24),
        # Two ranks for each KV head: half the rows for it, so that plans are not alike. Rows do not see each other.
        (4, 2, "4 ranks with 2 of 8 query heads and 1 of 2 KV heads each", 0),
    ],
)
def test_tensor_parallel(ranks: int, kv_heads: int, shares: str, alike: int) -> None:
    output = torchrun(ranks, "tensor_parallel.py", f"--kv-heads={kv_heads}")
    assert f"{shares}, gloo, float32" in output
    assert f"24 of 24 heads are bit for bit as in one process; {alike} were cut alike" in output


def test_context_parallel() -> None:
    output = torchrun(2, "context_parallel.py")
    seen = re.search(r"(\d+) chunks and (\d+) decodes; (\d+) of these over several ranks; (\d+) times", output)
    assert seen, output
    assert all(int(count) >= 10 for count in seen.groups())


def load(name: str) -> Any:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("q_heads", "kv_heads", "ranks"), [(8, 8, 2), (8, 2, 2), (8, 2, 4), (12, 1, 4), (64, 8, 16)])
def test_every_query_head_finds_its_kv_head(q_heads: int, kv_heads: int, ranks: int) -> None:
    """A rank's query heads are those that no other has, and read the KV heads that it has, in order."""
    heads = [load("tensor_parallel").heads_of(rank, ranks, q_heads, kv_heads) for rank in range(ranks)]
    assert [q for own in heads for q in own.q] == list(range(q_heads))
    for own in heads:
        group = len(own.q) // len(own.kv)
        assert [own.kv[i // group] for i in range(len(own.q))] == [q * kv_heads // q_heads for q in own.q]


@pytest.mark.parametrize(("q_heads", "kv_heads", "ranks"), [(8, 4, 3), (12, 3, 2), (12, 4, 6)])
def test_heads_that_cannot_be_shared(q_heads: int, kv_heads: int, ranks: int) -> None:
    with pytest.raises(SystemExit, match=f"{q_heads} query and {kv_heads} KV heads cannot be shared by {ranks} ranks"):
        load("tensor_parallel").heads_of(0, ranks, q_heads, kv_heads)
