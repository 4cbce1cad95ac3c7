#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times `Plan.build` on batches of few and of very many requests: on a GPU from arrays in its memory, and without the
host's part, since an engine's host is ahead of the GPU.

    python3 bench/plan_times.py --device cuda:0
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import Callable

try:
    import torch
except ImportError:
    sys.exit("bench/plan_times.py needs PyTorch: pip install torch")

import podattn

Q_HEADS, KV_HEADS, HEAD_DIM, PAGE_SIZE = 32, 8, 128, 16
# (requests, query tokens of each, context of each, window)
BATCHES = [
    *((n, 1, 1, 0) for n in (256, 257, 4096, 65536)),
    *((n, 34, 34, 0) for n in (256, 257, 2048, 4096, 8192)),
    *((n, 1, 4096, 0) for n in (256, 1024)),
    *((1024, 1, 131072, window) for window in (0, 128)),
]
BUILDS, TURNS = 10, 7


def graph_us(build: Callable[[], None]) -> float:
    """Of one of the builds of a captured graph."""
    build()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(BUILDS):
            build()
    times = []
    for _ in range(TURNS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e3 / BUILDS)
    return statistics.median(times)


def host_us(build: Callable[[], None]) -> float:
    """Of one build, where the host plans."""
    times = []
    for _ in range(TURNS):
        begin = time.perf_counter()
        build()
        times.append((time.perf_counter() - begin) * 1e6)
    return statistics.median(times)


def build_us(requests: int, q_len: int, kv_len: int, window: int, device: str) -> float:
    """Of one batch. Nothing is attended to, so that no cache is needed and pages may be shared."""
    is_gpu = device.startswith("cuda")
    pages = -(-kv_len // PAGE_SIZE)
    place = {"dtype": torch.int32, "device": "cuda" if is_gpu else "cpu"}
    q_start = torch.arange(requests + 1, **place) * q_len
    kv_lens, table = torch.full((requests,), kv_len, **place), torch.zeros((requests, pages), **place)
    plan = podattn.Plan(
        q_heads=Q_HEADS,
        kv_heads=KV_HEADS,
        head_dim=HEAD_DIM,
        page_size=PAGE_SIZE,
        num_pages=1,
        max_requests=requests,
        max_q_tokens=requests * q_len,
        max_kv_len=kv_len,
        batch_memory="device" if is_gpu else "host",
        device=device,
    )

    def build() -> None:
        plan.build(q_start, kv_lens, table, window_tokens=window, num_q_tokens=requests * q_len)

    took = (graph_us if is_gpu else host_us)(build)
    plan.check()
    return took


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0", help="as pod_device_open takes it (default cuda:0)")
    parser.add_argument("--most", type=int, default=sys.maxsize, metavar="N", help="leave out batches of more requests")
    arguments = parser.parse_args(argv)
    name = podattn.device_info(arguments.device).name
    print(f"podattn {podattn.__version__} on {name}, {Q_HEADS}/{KV_HEADS} heads of {HEAD_DIM}, pages of {PAGE_SIZE}")
    for requests, q_len, kv_len, window in BATCHES:
        if requests > arguments.most:
            continue
        took = build_us(requests, q_len, kv_len, window, arguments.device)
        batch = f"{requests} x {q_len}@{kv_len}" + (f", window of {window}" if window else "")
        print(f"{batch:<32}{took:>9.1f} us")


if __name__ == "__main__":
    main()
