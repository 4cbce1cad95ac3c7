# SPDX-License-Identifier: Apache-2.0
"""What libraries/timing.py and energy.py call of torch.cuda, on the CPU: a clock that moves a fixed time a call."""

from __future__ import annotations

import contextlib


class Clock:
    """Of a GPU that computes what is enqueued without delay."""

    def __init__(self) -> None:
        self.us = 0.0
        self.log: list[str] = []
        self.captured: list | None = None

    def work(self, name: str, us: float) -> None:
        """What a call does: its time passes, or it becomes part of a graph."""
        if self.captured is not None:
            self.captured.append((name, us))
        else:
            self.log.append(name)
            self.us += us


def install(monkeypatch, torch) -> Clock:
    clock = Clock()

    class Event:
        def __init__(self, enable_timing=False):
            self.us = None

        def record(self):
            self.us = clock.us

        def synchronize(self):
            assert self.us is not None

        def elapsed_time(self, end):
            return (end.us - self.us) / 1e3

    class CUDAGraph:
        def capture_begin(self):
            assert clock.captured is None
            clock.captured = []

        def capture_end(self):
            self.work, clock.captured = clock.captured, None

        def replay(self):
            assert clock.captured is None
            for name, us in self.work:
                clock.work(name, us)

    class Stream:
        def __init__(self, device=None):
            pass

        def wait_stream(self, other):
            assert isinstance(other, Stream)

    def sleep(cycles):
        clock.us += cycles / 2000

    def synchronize(device=None):
        assert clock.captured is None

    fakes = {
        "Event": Event,
        "CUDAGraph": CUDAGraph,
        "Stream": Stream,
        "stream": lambda stream: contextlib.nullcontext(),
        "current_stream": lambda device=None: Stream(),
        "synchronize": synchronize,
        "_sleep": sleep,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return clock
