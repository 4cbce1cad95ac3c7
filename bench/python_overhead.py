#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Host time of podattn's calls from Python.

On a CPU the batch has requests without query tokens: a call does everything but compute. On a GPU the calls are queued
and not waited for, as a server does; the driver's launch is then part of the time. The row "C call" is the library
alone.

    python3 bench/python_overhead.py --device cpu --limit-us 10
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import Callable, Optional

try:
    import torch
except ImportError:
    sys.exit("bench/python_overhead.py needs PyTorch: pip install torch")

import podattn
from podattn._library import lib

Q_HEADS, KV_HEADS, HEAD_DIM, PAGE_SIZE, REQUESTS, PAGES_EACH = 32, 8, 128, 16, 64, 2


def median_us(call: Callable[[], object], calls: int, repeats: int, wait: Callable[[], object]) -> float:
    """Median over the repeats of a call's mean host time."""
    for _ in range(calls):
        call()
    times = []
    for _ in range(repeats):
        wait()
        begin = time.perf_counter()
        for _ in range(calls):
            call()
        times.append((time.perf_counter() - begin) / calls * 1e6)
    wait()
    return statistics.median(times)


def measure(device: str, calls: int, repeats: int) -> list[tuple[str, float]]:
    """(what, microseconds) rows."""
    is_cuda = device.startswith("cuda")
    dtype = torch.bfloat16 if is_cuda else torch.float32
    place = device.partition(",")[0] if is_cuda else "cpu"  # without the library's options
    num_pages = REQUESTS * PAGES_EACH
    plan = podattn.Plan(
        q_heads=Q_HEADS, kv_heads=KV_HEADS, head_dim=HEAD_DIM, page_size=PAGE_SIZE, num_pages=num_pages,
        max_requests=REQUESTS, max_q_tokens=REQUESTS, max_kv_len=PAGE_SIZE * PAGES_EACH, dtype=dtype, device=device,
    )  # fmt: skip
    rows: list[tuple[str, float]] = []

    def row(what: str, call: Callable[[], object]) -> None:
        wait = torch.cuda.synchronize if is_cuda else lambda: None
        rows.append((what, median_us(call, calls, repeats, wait)))

    q_lens = torch.full((REQUESTS,), 1 if is_cuda else 0)
    q_start = torch.cat([torch.zeros(1, dtype=torch.int64), q_lens.cumsum(0)]).int()
    kv_len = torch.full((REQUESTS,), PAGE_SIZE * PAGES_EACH, dtype=torch.int32)
    table = torch.arange(num_pages, dtype=torch.int32).view(REQUESTS, PAGES_EACH)
    q = torch.zeros(REQUESTS, Q_HEADS, HEAD_DIM, dtype=dtype, device=place)
    k = torch.zeros(num_pages, PAGE_SIZE, KV_HEADS, HEAD_DIM, dtype=dtype, device=place)
    v, out = torch.zeros_like(k), torch.zeros_like(q)

    lists = (q_start.tolist(), kv_len.tolist(), table.tolist())
    row("Plan.build, lists", lambda: plan.build(*lists))
    row("Plan.build, tensors on the host", lambda: plan.build(q_start, kv_len, table))
    if is_cuda:
        arrays = (q_start.to(place), kv_len.to(place), table.to(place))
        row("Plan.build, tensors on the GPU", lambda: plan.build(*arrays))
    row("Plan.attention, out given", lambda: plan.attention(q, k, v, out))
    row("Plan.attention, out made", lambda: plan.attention(q, k, v))
    layers = [(k.clone(), v.clone()) for _ in range(4)]
    turn = [0]

    def next_layer() -> None:
        turn[0] = (turn[0] + 1) % len(layers)
        plan.attention(q, *layers[turn[0]], out)

    row("Plan.attention, another layer each", next_layer)
    wide = torch.zeros(REQUESTS + 8, Q_HEADS, HEAD_DIM, dtype=dtype, device=place)
    padded = [(wide[: REQUESTS + more], torch.zeros_like(wide[: REQUESTS + more])) for more in range(8)]

    def other_tokens() -> None:
        turn[0] = (turn[0] + 1) % len(padded)
        q_padded, out_padded = padded[turn[0]]
        plan.attention(q_padded, k, v, out_padded)

    row("Plan.attention, other tokens each", other_tokens)
    sinks = torch.zeros(Q_HEADS, device=place)
    row("Plan.attention, with sinks", lambda: plan.attention(q, k, v, out, sinks=sinks))
    row("torch.ops.podattn.attention_out", lambda: torch.ops.podattn.attention_out(out, None, q, k, v, plan.plan_id))
    if not is_cuda:
        arrays_of_numpy = [x.numpy() for x in (q, k, v, out)]
        row("Plan.attention, NumPy, out given", lambda: plan.attention(*arrays_of_numpy))
    stream = torch.cuda.current_stream().cuda_stream if is_cuda else 0
    plan.attention(q, k, v, out)
    arguments = (plan._handle, plan._layer.tensors_address, plan._layer.cache_address, stream)
    row("C call", lambda: lib.pod_attention(*arguments))
    return rows


def main() -> Optional[str]:
    """Prints the table; returns what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--calls", type=int, default=200, help="calls per measurement (default 200)")
    parser.add_argument("--repeats", type=int, default=51, help="measurements, of which the median counts (default 51)")
    parser.add_argument("--limit-us", type=float, help="fail if Plan.attention with out given takes longer")
    options = parser.parse_args()
    info = podattn.device_info(options.device)
    print(f"{info.name}, {info.kernel}; podattn {podattn.__version__}, PyTorch {torch.__version__}, "
          f"Python {sys.version.split()[0]}")  # fmt: skip
    print(f"median of {options.repeats} x {options.calls} calls, host time in us")
    rows = measure(options.device, options.calls, options.repeats)
    for what, us in rows:
        print(f"  {what:<36}{us:>8.2f}")
    found = dict(rows)["Plan.attention, out given"]
    if options.limit_us is not None and found > options.limit_us:
        return f"Plan.attention takes {found:.2f} us, more than {options.limit_us}"
    return None


if __name__ == "__main__":
    sys.exit(main())
