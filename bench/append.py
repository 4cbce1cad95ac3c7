#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Time of Plan.append beside a copy of as many bytes, which take turns; writes a CSV file.

Heads and layout are Llama-3-8B's: bf16, 32 query and 8 KV heads of 128, q, k and v slices of one tensor, pages of 16 in
random order, a slot_mapping. A time is that of one layer of a CUDA graph of many, whose tensors do not fit the L2
cache. The copy is PyTorch's, of contiguous tensors; it reads and writes together as many bytes as the append does.

    python3 bench/append.py --out bench/out/append.csv
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

try:
    import torch
except ImportError:
    sys.exit("bench/append.py needs PyTorch: pip install torch")

from libraries import result_file
from libraries.timing import Gpu, Host, machine_of

import podattn

Q_HEADS, KV_HEADS, HEAD_DIM, PAGE_SIZE = 32, 8, 128, 16
ELEMENT_BYTES = 2  # of what is appended
CACHES = {"bf16": torch.bfloat16, "f8e4m3": torch.float8_e4m3fn}
# A graph's layers together: several times the L2 cache.
GRAPH_BYTES, MOST_LAYERS, LEAST_LAYERS = 600e6, 48, 8
COLUMNS = "tokens what cache us us_least us_most copy_us mbytes share".split()


@dataclass
class Work:
    """A kind of append."""

    name: str
    cache: str
    has_q: bool = False
    rope: Optional[str] = None  # "base" or "tables"
    has_scales: bool = False

    @property
    def token_bytes(self) -> int:
        """Read and written."""
        kv, q = 2 * KV_HEADS * HEAD_DIM, Q_HEADS * HEAD_DIM * self.has_q
        return kv * (ELEMENT_BYTES + CACHES[self.cache].itemsize) + q * 2 * ELEMENT_BYTES


WORKS = [
    Work("kv", "bf16"),
    Work("kv, rope", "bf16", rope="base"),
    Work("q and kv, rope", "bf16", has_q=True, rope="base"),
    Work("q and kv, rope of tables", "bf16", has_q=True, rope="tables"),
    Work("kv", "f8e4m3"),
    Work("q and kv, rope", "f8e4m3", has_q=True, rope="base"),
    Work("q and kv, rope, scales", "f8e4m3", has_q=True, rope="base", has_scales=True),
]


def tables(place: str, positions: int) -> podattn.Rope:
    frequencies = 10000.0 ** -(torch.arange(0, HEAD_DIM, 2, device=place) / HEAD_DIM)
    angles = torch.arange(positions, device=place)[:, None] * frequencies
    return podattn.Rope(cos=angles.cos(), sin=angles.sin())


def append_call(work: Work, tokens: int, layers: int, device: str) -> Callable[[int], object]:
    """Appends one layer."""
    place = device.partition(",")[0].partition(":")[0] if device.startswith("cpu") else device.partition(",")[0]
    num_pages = 2 * -(-tokens // PAGE_SIZE)
    plan = podattn.Plan(
        q_heads=Q_HEADS, kv_heads=KV_HEADS, head_dim=HEAD_DIM, page_size=PAGE_SIZE, num_pages=num_pages,
        max_requests=16, max_q_tokens=tokens, max_kv_len=num_pages * PAGE_SIZE, dtype=torch.bfloat16,
        kv_dtype=CACHES[work.cache], device=device,
    )  # fmt: skip
    width = (Q_HEADS + 2 * KV_HEADS) * HEAD_DIM
    given = [torch.randn(tokens, width, device=place, dtype=torch.bfloat16) for _ in range(layers)]
    heads = [x.view(tokens, -1, HEAD_DIM).split([Q_HEADS, KV_HEADS, KV_HEADS], dim=1) for x in given]
    shape = (num_pages, PAGE_SIZE, KV_HEADS, HEAD_DIM)
    caches = [torch.zeros(2, *shape, device=place, dtype=CACHES[work.cache]) for _ in range(layers)]
    outs = [torch.empty(tokens, Q_HEADS, HEAD_DIM, device=place, dtype=torch.bfloat16) for _ in range(layers)]
    pages = torch.randperm(num_pages, device=place)[: num_pages // 2]
    slots = (pages[:, None] * PAGE_SIZE + torch.arange(PAGE_SIZE, device=place)).view(-1)[:tokens].contiguous()
    options: dict[str, object] = {"slot_mapping": slots}
    if work.rope:
        options["positions"] = torch.arange(tokens, device=place)
        options["rope"] = podattn.Rope(base=10000.0) if work.rope == "base" else tables(place, tokens)
    if work.has_scales:
        options["k_scale"] = options["v_scale"] = torch.full((KV_HEADS,), 0.5, device=place)

    def call(layer: int) -> None:
        q, k, v = heads[layer]
        queries = (q, outs[layer]) if work.has_q else ()
        plan.append(k, v, caches[layer][0], caches[layer][1], *queries, **options)

    return call


def copy_call(num_bytes: int, layers: int, place: str) -> Callable[[int], object]:
    """Reads and writes together so many bytes."""
    given = [torch.ones(num_bytes // 2, device=place, dtype=torch.uint8) for _ in range(layers)]
    taken = [torch.zeros_like(x) for x in given]
    return lambda layer: taken[layer].copy_(given[layer])


def measure(machine: Gpu | Host, work: Work, tokens: int, repeats: int, device: str) -> dict[str, object]:
    """A row of the file."""
    num_bytes = tokens * work.token_bytes
    layers = max(LEAST_LAYERS, min(MOST_LAYERS, int(GRAPH_BYTES / num_bytes)))
    place = "cpu" if device.startswith("cpu") else device.partition(",")[0]
    calls = [append_call(work, tokens, layers, device), copy_call(num_bytes, layers, place)]
    for call in calls:
        call(0)
    replays = [machine.graph(call, list(range(layers))) for call in calls]
    pending: list[list[Callable[[], float]]] = [[], []]
    for turn in range(repeats + 2):
        for replay, times in zip(replays, pending):
            us = machine.timed(replay)
            if turn >= 2:
                times.append(us)
    machine.synchronize()
    appended, copied = ([us() / layers for us in times] for times in pending)
    us, copy_us = statistics.median(appended), statistics.median(copied)
    return {
        "tokens": tokens, "what": work.name, "cache": work.cache, "us": f"{us:.2f}", "us_least": f"{min(appended):.2f}",
        "us_most": f"{max(appended):.2f}", "copy_us": f"{copy_us:.2f}", "mbytes": f"{num_bytes / 1e6:.2f}",
        "share": f"{copy_us / us:.3f}",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda:0", help="as of Plan (default: cuda:0)")
    parser.add_argument("--tokens", type=int, nargs="+", default=[256, 2048, 8192], help="of a step")
    parser.add_argument("--repeats", type=int, default=30, help="graphs timed of each kind (default: 30)")
    parser.add_argument("--commit", help="what to say was measured; default: git's HEAD")
    parser.add_argument("--out", type=Path, help="CSV file; default: standard output")
    arguments = parser.parse_args()
    place = torch.device("cpu" if arguments.device.startswith("cpu") else arguments.device.partition(",")[0])
    machine = machine_of(place)
    title = "podattn's append beside a copy, by bench/append.py"
    turns = "append and copy take turns; medians of one layer in microseconds, layers back to back as one CUDA graph"
    with open(arguments.out, "w", encoding="utf-8") if arguments.out else sys.stdout as file:
        lines = [*result_file.header(title, place, arguments.commit, turns), ";".join(COLUMNS)]
        for line in lines:
            print(line, file=file)
        for tokens in arguments.tokens:
            for work in WORKS:
                row = measure(machine, work, tokens, arguments.repeats, arguments.device)
                print(";".join(str(row[column]) for column in COLUMNS), file=file, flush=True)


if __name__ == "__main__":
    main()
