# SPDX-License-Identifier: Apache-2.0
"""Times of several calls that take turns, so that a change of the machine's speed meets all of them."""

from __future__ import annotations

import time
from typing import Callable

import torch

Call = Callable[[int], object]

WARM_UPS = 5
CYCLES_PER_US = 2000  # of torch.cuda._sleep, at most


def host_us(call: Call, layers: int) -> float:
    """What the host needs to enqueue a call."""
    times = []
    for turn in range(WARM_UPS):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        call(turn % layers)
        times.append((time.perf_counter() - begin) * 1e6)
    torch.cuda.synchronize()
    return min(times)


def measure_cuda(calls: dict[str, Call], layers: int, repeats: int) -> dict[str, list[float]]:
    """Microseconds of every turn of every call, by the GPU's events.

    The stream is kept busy before each call for as long as the host needs to enqueue it, so that slow Python is not
    counted.
    """
    lead_cycles = {name: int((1.5 * host_us(call, layers) + 20) * CYCLES_PER_US) for name, call in calls.items()}
    events: dict[str, list] = {name: [] for name in calls}
    for turn in range(WARM_UPS + repeats):
        for name, call in calls.items():
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda._sleep(lead_cycles[name])
            begin.record()
            call(turn % layers)
            end.record()
            if turn >= WARM_UPS:
                events[name].append((begin, end))
    torch.cuda.synchronize()
    return {name: [1e3 * begin.elapsed_time(end) for begin, end in pairs] for name, pairs in events.items()}


def measure_cpu(calls: dict[str, Call], layers: int, repeats: int) -> dict[str, list[float]]:
    """The same by the host's clock, for trying things out where there is no GPU."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats):
        for name, call in calls.items():
            begin = time.perf_counter()
            call(turn % layers)
            times[name].append((time.perf_counter() - begin) * 1e6)
    return times


def measure(calls: dict[str, Call], layers: int, repeats: int, device: torch.device) -> dict[str, list[float]]:
    return (measure_cuda if device.type == "cuda" else measure_cpu)(calls, layers, repeats)
