# SPDX-License-Identifier: Apache-2.0
"""podattn through its Python front: fused, and its own serial and streams."""

from __future__ import annotations

import torch

from .batch import Inputs, LeftOut, Missing
from .timing import Call


def _library():
    try:
        import podattn
    except (ImportError, OSError) as error:
        raise Missing(f"podattn cannot be imported: {error}") from error
    return podattn


class _Part:
    """A plan for a range of a batch's requests, and its call."""

    def __init__(self, inputs: Inputs, begin: int, end: int) -> None:
        b = inputs.batch
        self.inputs = inputs
        self.tokens = slice(int(inputs.q_start[begin]), int(inputs.q_start[end]))
        self.plan = _library().Plan(
            device=inputs.device,
            q_heads=b.q_heads,
            kv_heads=b.kv_heads,
            head_dim=b.head_dim,
            dtype=inputs.dtype,
            page_size=b.page_size,
            num_pages=inputs.num_pages,
            max_requests=end - begin,
            max_q_tokens=self.tokens.stop - self.tokens.start,
            max_kv_len=max(b.kv_lens[begin:end]),
        )
        self.arrays = (
            inputs.q_start[begin : end + 1] - inputs.q_start[begin],
            inputs.kv_len[begin:end],
            inputs.page_table[begin:end],
        )  # kept: the plan reads them
        self.plan.build(*self.arrays)

    def __call__(self, index: int) -> torch.Tensor:
        layer = self.inputs.layers[index]
        return self.plan.attention(layer.q[self.tokens], layer.k, layer.v)


def _sides(inputs: Inputs) -> tuple[_Part, _Part]:
    return _Part(inputs, 0, 1), _Part(inputs, 1, len(inputs.pages_of))


def fused(inputs: Inputs) -> Call:
    part = _Part(inputs, 0, len(inputs.pages_of))
    return lambda index: (part(index),)


def serial(inputs: Inputs) -> Call:
    prefill, decode = _sides(inputs)
    return lambda index: (prefill(index), decode(index))


def streams(inputs: Inputs) -> Call:
    if inputs.device.type != "cuda":
        raise LeftOut("a CPU has no streams")
    prefill, decode = _sides(inputs)
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
