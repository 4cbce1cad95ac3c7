# SPDX-License-Identifier: Apache-2.0
"""A batch's two sides, prefill and decodes, as calls of their own: one alone, one after the other, both together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import torch

from .batch_file import Batch
from .inputs import Inputs, LeftOut
from .timing import Call

Side = Callable[[int], torch.Tensor]


@dataclass(frozen=True)
class Alone:
    """A call that computes these requests of the batch alone, and returns their tokens only."""

    side: Side
    requests: range

    def __call__(self, index: int) -> tuple[torch.Tensor]:
        return (self.side(index),)


def requests_of(call: Call, batch: Batch) -> range:
    """What a call computes of a batch."""
    return call.requests if isinstance(call, Alone) else batch.all


def in_turn(prefill: Side, decode: Side) -> Call:
    return lambda index: (prefill(index), decode(index))


def on_two_streams(inputs: Inputs, prefill: Side, decode: Side) -> Call:
    if inputs.device.type != "cuda":
        raise LeftOut("a CPU has no streams")
    side = torch.cuda.Stream(inputs.device)

    def call(index: int):
        main = torch.cuda.current_stream(inputs.device)
        side.wait_stream(main)
        with torch.cuda.stream(side):
            second = decode(index)
        second.record_stream(main)
        first = prefill(index)
        main.wait_stream(side)
        return first, second

    return call
