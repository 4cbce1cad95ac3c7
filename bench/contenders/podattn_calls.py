# SPDX-License-Identifier: Apache-2.0
"""podattn through its Python front: fused, its own serial and streams, and each side alone."""

from __future__ import annotations

import torch

from .batch import Inputs, Missing
from .sides import Alone, in_turn, on_two_streams
from .timing import Call


def _library():
    try:
        import podattn
    except (ImportError, OSError) as error:
        raise Missing(f"podattn cannot be imported: {error}") from error
    return podattn


class _Part:
    """A plan for a range of a batch's requests, and its call."""

    def __init__(self, inputs: Inputs, requests: range) -> None:
        b = inputs.batch
        self.inputs = inputs
        self.tokens = inputs.tokens_of(requests)
        begin, end = requests.start, requests.stop
        self.plan = _library().Plan(
            device=inputs.device,
            q_heads=b.q_heads,
            kv_heads=b.kv_heads,
            head_dim=b.head_dim,
            dtype=inputs.dtype,
            page_size=inputs.layout.page_size,
            num_pages=inputs.layout.num_pages,
            max_requests=len(requests),
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
    return _Part(inputs, inputs.batch.prefill), _Part(inputs, inputs.batch.decodes)


def fused(inputs: Inputs) -> Call:
    part = _Part(inputs, inputs.batch.requests)
    return lambda index: (part(index),)


def serial(inputs: Inputs) -> Call:
    return in_turn(*_sides(inputs))


def streams(inputs: Inputs) -> Call:
    return on_two_streams(inputs, *_sides(inputs))


def prefill(inputs: Inputs) -> Call:
    return Alone(_Part(inputs, inputs.batch.prefill), inputs.batch.prefill)


def decode(inputs: Inputs) -> Call:
    return Alone(_Part(inputs, inputs.batch.decodes), inputs.batch.decodes)
