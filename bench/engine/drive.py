# SPDX-License-Identifier: Apache-2.0
"""Gives requests to an engine as they come, and notes when their tokens come out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .load import Request


class Engine(Protocol):
    """What is measured. A step computes one batch."""

    def add(self, key: str, request: Request) -> None: ...

    def step(self) -> Iterable[tuple[str, int]]: ...

    def has_work(self) -> bool: ...

    def abort(self, keys: Sequence[str]) -> None: ...


class Clock:
    """Seconds of this machine."""

    def now(self) -> float:
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass
class Served:
    """One request: when it came, and when each of its tokens came out, in seconds from the start."""

    request: Request
    token_times: list[float] = field(default_factory=list)

    @property
    def is_finished(self) -> bool:
        return len(self.token_times) >= self.request.output_tokens


@dataclass
class Run:
    """All requests that came, and the time that it took."""

    served: list[Served]
    seconds: float


def drive(engine: Engine, requests: Sequence[Request], clock: Clock, tag: str, limit_s: float = float("inf")) -> Run:
    """Until all are served, or the time is over: then the rest is aborted and unfinished."""
    waiting = sorted(requests, key=lambda request: request.at_s)
    served: dict[str, Served] = {}
    come = 0
    begin = clock.now()
    while come < len(waiting) or engine.has_work():
        now = clock.now() - begin
        if now > limit_s:
            engine.abort([key for key, one in served.items() if not one.is_finished])
            break
        while come < len(waiting) and waiting[come].at_s <= now:
            key = f"{tag}-{come}"
            served[key] = Served(waiting[come])
            engine.add(key, waiting[come])
            come += 1
        if not engine.has_work():
            clock.sleep(min(waiting[come].at_s - now, 0.01) + 1e-6)  # never so little that no time passes
            continue
        outputs = list(engine.step())
        now = clock.now() - begin
        for key, count in outputs:
            served[key].token_times += [now] * count
    return Run([*served.values(), *map(Served, waiting[come:])], clock.now() - begin)
