# SPDX-License-Identifier: Apache-2.0
"""Times of several calls that take turns, in two ways, so that a change of the machine's speed meets all of them.

*Sustained*: the calls of several layers back to back as one CUDA graph, which is replayed. The host has no part in it,
and the chip has the clocks of a busy one. *Paused*: one call after a pause, as a chip that idles between the steps.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Callable

import torch

Call = Callable[[int], object]
Replay = Callable[[], None]

WARM_UPS = 2
CYCLES_PER_US = 2000  # of torch.cuda._sleep, at most
LEAST_PAUSE_US = 100
# A turn of the sustained way lasts about so long: graphs of short calls are replayed several times, those of long calls
# have fewer calls.
TURN_US, LEAST_CALLS = 6000, 4


@dataclass
class Times:
    """Of one call in microseconds, a value a turn; energy and clock while it was repeated without end."""

    sustained: list[float] = field(default_factory=list)
    paused: list[float] = field(default_factory=list)
    calls: int = 0
    energy_mj: float | None = None
    clock_mhz: int | None = None
    error: str = ""


class Gpu:
    """Everything that timing needs of a GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)

    def synchronize(self) -> None:
        torch.cuda.synchronize(self.device)

    def after_pause(self, call: Callable[[], object], pause_us: float) -> Callable[[], float]:
        """Enqueues one call, after a pause that covers what the host needs for that. Its time, once synchronized."""
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(int(pause_us * CYCLES_PER_US))
        begin.record()
        call()
        end.record()
        return lambda: 1e3 * begin.elapsed_time(end)

    def timed(self, function: Callable[[], object]) -> Callable[[], float]:
        return self.after_pause(function, 0)

    def graph(self, call: Call, layers: list[int]) -> Replay:
        """One graph of a call for each of these layers, on one stream. Outputs are freed as they are made, so that the
        next call gets their memory.
        """
        graph = torch.cuda.CUDAGraph()
        self.synchronize()
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            # torch.cuda.graph() collects Python's garbage first, which takes longer than all that is timed here.
            graph.capture_begin()
            try:
                for layer in layers:
                    call(layer)
            finally:
                graph.capture_end()
        torch.cuda.current_stream(self.device).wait_stream(self.stream)
        return graph.replay


class Host:
    """The same on the CPU, for trying things out where there is no GPU."""

    def synchronize(self) -> None:
        pass

    def timed(self, function: Callable[[], object]) -> Callable[[], float]:
        begin = time.perf_counter()
        function()
        us = (time.perf_counter() - begin) * 1e6
        return lambda: us

    def after_pause(self, call: Callable[[], object], pause_us: float) -> Callable[[], float]:
        return self.timed(call)

    def graph(self, call: Call, layers: list[int]) -> Replay:
        def replay() -> None:
            for layer in layers:
                call(layer)

        return replay


def machine_of(device: torch.device) -> Gpu | Host:
    return Gpu(device) if device.type == "cuda" else Host()


def _host_us(machine: Gpu | Host, call: Call, num_layers: int) -> float:
    """What the host needs to enqueue a call, at least."""
    least = float("inf")
    for turn in range(1 + WARM_UPS):
        machine.synchronize()
        begin = time.perf_counter()
        call(turn % num_layers)
        least = min(least, (time.perf_counter() - begin) * 1e6)
    machine.synchronize()
    return least


def measure_paused(
    machine: Gpu | Host, calls: dict[str, Call], num_layers: int, repeats: int, times: dict[str, Times]
) -> None:
    pauses = {name: LEAST_PAUSE_US + 1.5 * _host_us(machine, call, num_layers) for name, call in calls.items()}
    pending: dict[str, list[Callable[[], float]]] = {name: [] for name in calls}
    for turn in range(repeats):
        for place, (name, call) in enumerate(calls.items()):
            # Another layer than the call before: its keys and values would still be in the L2 cache.
            layer = (turn * len(calls) + place) % num_layers
            pending[name].append(machine.after_pause(lambda c=call, n=layer: c(n), pauses[name]))
    machine.synchronize()
    for name, turns in pending.items():
        times[name].paused = [us() for us in turns]


@dataclass
class _Graph:
    replay: Replay
    calls: int
    replays: int

    def turn(self) -> None:
        for _ in range(self.replays):
            self.replay()


def _graphs(
    machine: Gpu | Host, calls: dict[str, Call], num_layers: int, num_calls: int, times: dict[str, Times]
) -> dict[str, _Graph]:
    """A graph of each call; who cannot be captured has the reason in its Times."""
    graphs = {}
    layers = [i % num_layers for i in range(num_calls)]
    for name, call in calls.items():
        try:
            replay = machine.graph(call, layers)
            replay()  # uploads it
            machine.synchronize()
            us = machine.timed(replay)
            machine.synchronize()
            times[name].calls = num_calls
            graphs[name] = _Graph(replay, num_calls, max(1, round(TURN_US / max(us(), 1))))
        except Exception as error:  # whatever one library does, the others are timed
            times[name].error = f"no graph: {type(error).__name__}: {error}"
    return graphs


def measure_sustained(
    machine: Gpu | Host, calls: dict[str, Call], num_layers: int, num_calls: int, repeats: int, times: dict[str, Times]
) -> dict[str, _Graph]:
    """Returns the graphs, for `measure_energy`."""
    graphs = _graphs(machine, calls, num_layers, num_calls, times)
    pending: dict[str, list[Callable[[], float]]] = {name: [] for name in graphs}
    for _ in range(repeats):
        for name, graph in graphs.items():
            pending[name].append(machine.timed(graph.turn))
    machine.synchronize()
    for name, turns in pending.items():
        times[name].sustained = [us() / (graphs[name].calls * graphs[name].replays) for us in turns]
    return graphs


def measure(
    machine: Gpu | Host, calls: dict[str, Call], num_layers: int, repeats: int, paused_repeats: int, num_calls: int
) -> tuple[dict[str, Times], dict[str, _Graph]]:
    times = {name: Times() for name in calls}
    measure_paused(machine, calls, num_layers, paused_repeats, times)
    if not repeats or not calls:
        return times, {}
    shortest = min(min(t.paused, default=1.0) for t in times.values())
    num_calls = max(min(LEAST_CALLS, num_calls), min(num_calls, round(TURN_US / shortest)))
    return times, measure_sustained(machine, calls, num_layers, num_calls, repeats, times)
