#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tensor parallel attention: every rank has its share of the heads, and all ranks together are one layer.

    torchrun --nproc-per-node 2 examples/tensor_parallel.py

The layer is cut as engines cut it: q, k and v are projected by columns, each rank attends with its heads to a cache of
its own, the output is projected by rows, and one all-reduce adds what the ranks have. Where there are more ranks than
KV heads, several ranks keep the same KV head. Nothing of this concerns podattn: a rank's plan is made for the rank's
heads, and the batch is the same on all ranks.

Afterwards each step is computed once more with all heads in one plan. A head's bits are the same where both plans cut
its work at the same places, which is decided by how much work there is for how many workers; otherwise they are the
same but for rounding. Gloo and the CPU where PyTorch sees no GPU, otherwise NCCL and a GPU for each rank.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import NamedTuple, Optional

import torch
import torch.distributed as dist
from torch import Tensor

import podattn

WIDTH, HEAD_DIM, PAGE_SIZE, NUM_PAGES, MAX_KV_LEN = 256, 64, 16, 64, 256
ROPE = podattn.Rope(base=10_000.0)

# The requests of each step, and how many new tokens each has: chunks of prompts, decodes, and a draft of three tokens.
STEPS = [
    [("a", 150), ("b", 37)],
    [("a", 1), ("c", 60), ("b", 1)],
    [("b", 3), ("a", 1), ("c", 1)],
]

# Relative L2 difference of the layer's results: sums in another order, rounded to the dtype before they are added.
BOUND = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 1e-2}


class Heads(NamedTuple):
    """Which heads of the model a rank has."""

    q: range
    kv: range


def heads_of(rank: int, ranks: int, q_heads: int, kv_heads: int) -> Heads:
    """A rank's share. Its query heads are neighbours, and so are the KV heads that these read."""
    if q_heads % ranks or (kv_heads % ranks and ranks % kv_heads):
        raise SystemExit(f"{q_heads} query and {kv_heads} KV heads cannot be shared by {ranks} ranks")
    num_q, num_kv = q_heads // ranks, max(kv_heads // ranks, 1)
    first_kv = rank * kv_heads // ranks
    return Heads(range(rank * num_q, (rank + 1) * num_q), range(first_kv, first_kv + num_kv))


class Batch(NamedTuple):
    """A step's requests: the same on all ranks."""

    q_start: list[int]
    kv_len: list[int]
    page_table: list[list[int]]


def batches() -> list[Batch]:
    """Of STEPS, with pages in no order."""
    free = torch.randperm(NUM_PAGES).tolist()
    lengths: dict[str, int] = {}
    pages: dict[str, list[int]] = {}
    made = []
    for step in STEPS:
        q_start = [0]
        for name, count in step:
            q_start.append(q_start[-1] + count)
            lengths[name] = lengths.get(name, 0) + count
            own = pages.setdefault(name, [])
            own += [free.pop() for _ in range(-(-lengths[name] // PAGE_SIZE) - len(own))]
        width = max(len(pages[name]) for name, _ in step)
        table = [pages[name] + [-1] * (width - len(pages[name])) for name, _ in step]
        made.append(Batch(q_start, [lengths[name] for name, _ in step], table))
    return made


class HeadsAttention:
    """Attention of some heads, with their part of the KV cache."""

    def __init__(self, heads: Heads, dtype: torch.dtype, device: torch.device, podattn_device: str) -> None:
        shape = (NUM_PAGES, PAGE_SIZE, len(heads.kv), HEAD_DIM)
        self.k_cache = torch.zeros(shape, dtype=dtype, device=device)
        self.v_cache = torch.zeros_like(self.k_cache)
        self.plan = podattn.Plan(
            q_heads=len(heads.q), kv_heads=len(heads.kv), head_dim=HEAD_DIM, page_size=PAGE_SIZE, num_pages=NUM_PAGES,
            max_requests=max(map(len, STEPS)), max_q_tokens=MAX_KV_LEN, max_kv_len=MAX_KV_LEN,
            dtype=dtype, device=podattn_device,
        )  # fmt: skip

    def __call__(self, batch: Batch, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.plan.build(*batch)
        q = self.plan.append(k, v, self.k_cache, self.v_cache, q, rope=ROPE)
        return self.plan.attention(q, self.k_cache, self.v_cache)

    def cuts(self, kv_head: int) -> list[tuple[int, ...]]:
        """Where the step's plan cuts the work of a KV head, counted within this rank."""
        found: list[tuple[int, ...]] = []

        def visit(item: podattn.WorkItem) -> None:
            if item.kv_head == kv_head:
                found.append((item.request, item.row_begin, item.row_end, item.kv_begin, item.kv_end))

        self.plan.visit(visit)
        return sorted(found)


class Weights(NamedTuple):
    """Of some heads: `[width, heads, head_dim]`, and of the output `[heads, head_dim, width]`."""

    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor

    def of(self, heads: Heads) -> Weights:
        """Columns of the first three, rows of the last."""
        q, kv = slice(heads.q.start, heads.q.stop), slice(heads.kv.start, heads.kv.stop)
        return Weights(self.q[:, q], self.k[:, kv], self.v[:, kv], self.out[q])


def random_weights(q_heads: int, kv_heads: int, dtype: torch.dtype) -> Weights:
    q, k, v = (torch.randn(WIDTH, heads, HEAD_DIM) * WIDTH**-0.5 for heads in (q_heads, kv_heads, kv_heads))
    out = torch.randn(q_heads, HEAD_DIM, WIDTH) * (q_heads * HEAD_DIM) ** -0.5
    return Weights(*(weight.to(dtype) for weight in (q, k, v, out)))


def project(x: Tensor, weight: Tensor) -> Tensor:
    """`[tokens, width]` to `[tokens, heads, head_dim]`."""
    return (x @ weight.flatten(1)).view(len(x), *weight.shape[1:])


def project_out(heads: Tensor, weight: Tensor) -> Tensor:
    return heads.flatten(1) @ weight.flatten(0, 1)


def gather_heads(part: Tensor, copies: int = 1) -> Tensor:
    """All heads `[tokens, heads, head_dim]`, of which each rank has a part; `copies` ranks have the same."""
    parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, part.contiguous())
    return torch.cat(parts[::copies], dim=1)


def difference(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


class Counts:
    """What the comparison found."""

    def __init__(self) -> None:
        self.heads = self.alike = self.same_bits = 0
        self.worst_head = self.worst_layer = 0.0
        self.is_right = True

    def add_heads(self, found: Tensor, expected: Tensor, alike: list[bool]) -> None:
        """Heads of one step; those that were cut alike have to have the same bits."""
        for head, is_alike in enumerate(alike):
            is_same = torch.equal(found[:, head], expected[:, head])
            self.heads, self.alike, self.same_bits = self.heads + 1, self.alike + is_alike, self.same_bits + is_same
            error = difference(found[:, head], expected[:, head])
            self.worst_head = max(self.worst_head, error)
            self.is_right &= (is_same or not is_alike) and error <= BOUND[found.dtype]

    def add_layer(self, found: Tensor, expected: Tensor) -> None:
        """The layer's output in one step."""
        error = difference(found, expected)
        self.worst_layer = max(self.worst_layer, error)
        self.is_right &= error <= BOUND[found.dtype]


def run(q_heads: int, kv_heads: int, dtype: torch.dtype, device: torch.device, podattn_device: str) -> Counts:
    """All steps, on all ranks and then in one process."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    own, everything = heads_of(rank, ranks, q_heads, kv_heads), Heads(range(q_heads), range(kv_heads))
    copies = max(ranks // kv_heads, 1)
    weights = Weights(*(weight.to(device) for weight in random_weights(q_heads, kv_heads, dtype)))
    own_weights = weights.of(own)
    attend = HeadsAttention(own, dtype, device, podattn_device)
    attend_alone = HeadsAttention(everything, dtype, device, podattn_device)
    counts = Counts()
    for batch in batches():
        x = torch.randn(batch.q_start[-1], WIDTH).to(dtype).to(device)
        q, k, v = (project(x, weight) for weight in own_weights[:3])
        out = attend(batch, q, k, v)
        y = project_out(out, own_weights.out)
        dist.all_reduce(y)

        # One process with all heads, from the same q, k and v.
        q, k, v = gather_heads(q), gather_heads(k, copies), gather_heads(v, copies)
        expected = attend_alone(batch, q, k, v)
        alike = torch.tensor([
            attend.cuts((head * kv_heads // q_heads) - own.kv.start) == attend_alone.cuts(head * kv_heads // q_heads)
            for head in own.q
        ])  # fmt: skip
        alike = gather_heads(alike[None, :, None].to(device)).flatten()
        counts.add_heads(gather_heads(out), expected, alike.tolist())
        counts.add_layer(y, project_out(expected, weights.out))
    return counts


def same_kernels(device: torch.device) -> str:
    """The device's name for podattn.

    Processes on a CPU find the fastest kernels each by a trial. Others give other bits, so that all take those of
    rank 0.
    """
    if device.type == "cuda":
        return str(device)
    kernels = [podattn.device_info("cpu").kernel]
    dist.broadcast_object_list(kernels)
    threads = max((os.cpu_count() or 1) // dist.get_world_size(), 1)
    return f"cpu:{threads},isa={kernels[0]}"


@torch.no_grad()
def main() -> Optional[str]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--q-heads", type=int, default=8)
    parser.add_argument("--kv-heads", type=int, default=4)
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"],
                        help="of the layer and its cache; float32 on CPUs, float16 on GPUs")  # fmt: skip
    options = parser.parse_args()
    if not dist.is_torchelastic_launched():
        return "start it with torchrun --nproc-per-node 2"
    is_gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if is_gpu else torch.device("cpu")
    if is_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if is_gpu else "gloo")
    torch.manual_seed(0)  # weights, inputs and pages are the same everywhere
    name = options.dtype or ("float16" if is_gpu else "float32")
    counts = run(options.q_heads, options.kv_heads, getattr(torch, name), device, same_kernels(device))
    if dist.get_rank() == 0:
        own = heads_of(0, dist.get_world_size(), options.q_heads, options.kv_heads)
        print(f"{dist.get_world_size()} ranks with {len(own.q)} of {options.q_heads} query heads and {len(own.kv)} of "
              f"{options.kv_heads} KV heads each, {dist.get_backend()}, {name}")  # fmt: skip
        print(f"attention: {counts.same_bits} of {counts.heads} heads are bit for bit as in one process; "
              f"{counts.alike} were cut alike; largest difference {counts.worst_head:.1e}")  # fmt: skip
        print(f"layer: largest difference {counts.worst_layer:.1e}")
    dist.destroy_process_group()
    return None if counts.is_right else "the ranks together are not as one process"


if __name__ == "__main__":
    sys.exit(main())
