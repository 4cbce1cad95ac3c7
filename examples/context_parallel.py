#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Context parallel attention: a request's cache lies on several ranks, and partial results are merged by their LSEs.

    torchrun --nproc-per-node 2 examples/context_parallel.py

Every rank keeps a run of a request's positions: the first ranks its beginning, the last one that has any its tail. All
ranks have the same queries. In each step a rank attends to the keys that it has, and the results are gathered with
their LSEs and merged. New keys are at the end of the context, so that only the rank with the tail needs a causal mask;
all keys of the ranks before it are older than every query. A rank that has nothing of a request gives it a length of 0:
its LSE is -inf then, and it weighs nothing. One call serves requests of all three kinds.

Afterwards each step is computed once more in one process that has the whole cache. Gloo and the CPU where PyTorch sees
no GPU, otherwise NCCL and a GPU for each rank.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from typing import Optional

import torch
import torch.distributed as dist
from torch import Tensor

import podattn

Q_HEADS, KV_HEADS, HEAD_DIM, PAGE_SIZE = 8, 2, 64, 16
CHUNK_TOKENS, MAX_REQUESTS, NUM_DECODES = 96, 3, 6
ROPE = podattn.Rope(base=10_000.0)

# Relative L2 difference: partial results are rounded to the dtype before they are merged.
BOUND = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}


@dataclass
class Request:
    """A sequence, which arrives at a step."""

    name: str
    prompt: int
    arrives: int
    lens: list[int]
    """[rank]: how many of its tokens each has."""
    pages: list[list[int]]
    """[rank][page]: numbers of that rank's cache."""

    @property
    def length(self) -> int:
        return sum(self.lens)

    def place(self, count: int, room: int) -> int:
        """Takes `count` new tokens to one rank, which then has the tail.

        It is the last one that has any, or the next if there is no room for all of them.
        """
        tail = max((rank for rank, tokens in enumerate(self.lens) if tokens), default=0)
        if self.lens[tail] + count > room:
            tail += 1
        if tail == len(self.lens) or count > room:
            raise SystemExit(f"{len(self.lens)} ranks with room for {room} tokens each cannot take request {self.name}")
        self.lens[tail] += count
        return tail


@dataclass
class Part:
    """The part of a step's batch that one rank sees, and the slots of its new tokens: -1 for other ranks' tokens."""

    kv_len: list[int]
    page_table: list[list[int]]
    has_tail: list[int]
    slots: list[int]


class Cache:
    """Keys and values, a plan for them, and their pages: of a rank, or of one process that has all."""

    def __init__(self, num_pages: int, max_kv_len: int, dtype: torch.dtype, device: torch.device, name: str) -> None:
        self.k = torch.zeros(num_pages, PAGE_SIZE, KV_HEADS, HEAD_DIM, dtype=dtype, device=device)
        self.v = torch.zeros_like(self.k)
        self.device = device
        self.plan = podattn.Plan(
            q_heads=Q_HEADS, kv_heads=KV_HEADS, head_dim=HEAD_DIM, page_size=PAGE_SIZE, num_pages=num_pages,
            max_requests=MAX_REQUESTS, max_q_tokens=MAX_REQUESTS * CHUNK_TOKENS, max_kv_len=max_kv_len,
            dtype=dtype, device=name,
        )  # fmt: skip

    def attend(
        self, q_start: list[int], part: Part, positions: list[int], q: Tensor, k: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Stores the new keys and values that belong here, and attends to all that are here: `(out, lse)`."""
        causal = torch.tensor(part.has_tail, dtype=torch.int32)
        self.plan.build(q_start, part.kv_len, part.page_table, masks=[podattn.Mask(causal_per_request=causal)])
        slots, where = (torch.tensor(values).to(self.device) for values in (part.slots, positions))
        q = self.plan.append(k, v, self.k, self.v, q, slot_mapping=slots, positions=where, rope=ROPE)
        return self.plan.attention(q, self.k, self.v, return_lse=True)


class Pages:
    """Which pages of each rank are free."""

    def __init__(self, ranks: int, num_pages: int) -> None:
        self._free = [torch.randperm(num_pages).tolist() for _ in range(ranks)]

    def part_of(self, rank: int, step: list[tuple[Request, int]], tails: list[int]) -> Part:
        """What a rank sees of a step whose new tokens were placed."""
        slots: list[int] = []
        for (request, count), tail in zip(step, tails):
            own = request.pages[rank]
            own += [self._free[rank].pop() for _ in range(-(-request.lens[rank] // PAGE_SIZE) - len(own))]
            places = range(request.lens[rank] - count, request.lens[rank]) if tail == rank else [-1] * count
            slots += [p if p < 0 else own[p // PAGE_SIZE] * PAGE_SIZE + p % PAGE_SIZE for p in places]
        width = max(max(len(request.pages[rank]) for request, _ in step), 1)
        table = [request.pages[rank] + [-1] * (width - len(request.pages[rank])) for request, _ in step]
        return Part([request.lens[rank] for request, _ in step], table, [int(t == rank) for t in tails], slots)


def next_step(requests: list[Request], number: int) -> list[tuple[Request, int]]:
    """The requests of a step and their new tokens: a chunk of a prompt, or one token."""
    step = []
    for request in requests:
        left = request.prompt - request.length
        if number >= request.arrives and left > -NUM_DECODES:
            step.append((request, min(left, CHUNK_TOKENS) if left > 0 else 1))
    return step


def gather(part: Tensor) -> list[Tensor]:
    """What each rank has."""
    parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, part)
    return parts


def difference(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@dataclass
class Counts:
    """What was seen."""

    steps: int = 0
    chunks: int = 0
    decodes: int = 0
    split: int = 0
    """Requests of steps whose keys are on several ranks."""
    empty: int = 0
    """Times that a rank had nothing of a request."""
    worst: float = 0.0
    worst_lse: float = 0.0


def run(room: int, dtype: torch.dtype, device: torch.device, name: str) -> Counts:
    """All steps, on all ranks and then in one process."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    # One that reaches the last rank, one that stays on the first, and one that leaves it while it decodes.
    shapes = [("long", room * (ranks - 1) + room // 3, 0), ("short", 40, 1), ("middle", room - 3, 3)]
    requests = [Request(*shape, [0] * ranks, [[] for _ in range(ranks)]) for shape in shapes]
    whole = [Request(*shape, [0], [[]]) for shape in shapes]
    num_pages = len(shapes) * -(-room // PAGE_SIZE)
    own = Cache(num_pages, room, dtype, device, name)
    everything = Cache(ranks * num_pages, ranks * room, dtype, device, name)
    pages, all_pages = Pages(ranks, num_pages), Pages(1, ranks * num_pages)
    counts = Counts()
    while step := next_step(requests, counts.steps):
        news = [count for _, count in step]
        q_start = [sum(news[:i]) for i in range(len(news) + 1)]
        positions = [request.length + i for request, count in step for i in range(count)]
        heads = torch.randn(q_start[-1], Q_HEADS + 2 * KV_HEADS, HEAD_DIM).to(dtype).to(device)
        q, k, v = heads.split([Q_HEADS, KV_HEADS, KV_HEADS], dim=1)

        tails = [request.place(count, room) for request, count in step]
        out, lse = own.attend(q_start, pages.part_of(rank, step, tails), positions, q, k, v)
        out, lse = podattn.merge(gather(out), gather(lse))

        alone = [(whole[requests.index(request)], count) for request, count in step]
        for request, count in alone:
            request.place(count, ranks * room)
        part = all_pages.part_of(0, alone, [0] * len(alone))
        expected, expected_lse = everything.attend(q_start, part, positions, q, k, v)

        counts.steps += 1
        counts.chunks += sum(count > 1 for count in news)
        counts.decodes += news.count(1)
        counts.split += sum(sum(map(bool, request.lens)) > 1 for request, _ in step)
        counts.empty += sum(request.lens.count(0) for request, _ in step)
        counts.worst = max(counts.worst, difference(out, expected))
        counts.worst_lse = max(counts.worst_lse, float((lse - expected_lse).abs().max()))
    return counts


@torch.no_grad()
def main() -> Optional[str]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--room", type=int, default=480, help="tokens of a request that a rank takes (default 480)")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"],
                        help="of queries and cache; float32 on CPUs, float16 on GPUs")  # fmt: skip
    options = parser.parse_args()
    if not dist.is_torchelastic_launched():
        return "start it with torchrun --nproc-per-node 2"
    is_gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if is_gpu else torch.device("cpu")
    if is_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if is_gpu else "gloo")
    torch.manual_seed(0)  # queries, keys and pages are the same everywhere
    dtype = options.dtype or ("float16" if is_gpu else "float32")
    threads = max((os.cpu_count() or 1) // dist.get_world_size(), 1)
    counts = run(options.room, getattr(torch, dtype), device, str(device) if is_gpu else f"cpu:{threads}")
    if dist.get_rank() == 0:
        print(f"{dist.get_world_size()} ranks, {dist.get_backend()}, {dtype}: {counts.steps} steps with "
              f"{counts.chunks} chunks and {counts.decodes} decodes; {counts.split} of these over several ranks; "
              f"{counts.empty} times a rank had no key of a request")  # fmt: skip
        print(f"largest difference to one process {counts.worst:.1e}, of an LSE {counts.worst_lse:.1e}")
    dist.destroy_process_group()
    is_right = counts.worst <= BOUND[getattr(torch, dtype)] and counts.worst_lse <= 1e-3
    return None if is_right else "the ranks together are not as one process"


if __name__ == "__main__":
    sys.exit(main())
