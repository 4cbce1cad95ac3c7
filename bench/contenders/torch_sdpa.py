# SPDX-License-Identifier: Apache-2.0
"""PyTorch's scaled_dot_product_attention: the prefill, then the decodes, each backend by itself.

It reads no pages, so it gets contiguous caches. The query heads of a group are the rows of one head in its decodes, so
that no cache is read twice.
"""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

from .batch import Inputs, LeftOut
from .timing import Call


def _heads_first(x: torch.Tensor) -> torch.Tensor:
    """[..., tokens, heads, head_dim] as a view [..., heads, tokens, head_dim]."""
    return x.transpose(-2, -3)


def _serial(inputs: Inputs, backend: SDPBackend, repeat_kv: bool, chunk_mask: bool) -> Call:
    b = inputs.batch
    group = b.q_heads // b.kv_heads
    causal = {"attn_mask": causal_lower_right(b.prefill_q, b.prefill_kv)} if chunk_mask else {"is_causal": True}
    repeated = {}

    def prefill_kv(layer: int):
        if repeat_kv and layer not in repeated:  # not timed: an engine could store them so
            repeated[layer] = [x.repeat_interleave(group, 1) for x in inputs.contiguous(layer)[:2]]
        return repeated[layer] if repeat_kv else inputs.contiguous(layer)[:2]

    def call(layer: int):
        q = inputs.layers[layer].q
        k, v = prefill_kv(layer)
        decode_k, decode_v = inputs.contiguous(layer)[2:]
        with sdpa_kernel(backend):
            prefill = scaled_dot_product_attention(
                *(_heads_first(x)[None] for x in (q[: b.prefill_q], k, v)), enable_gqa=not repeat_kv, **causal
            )
            decode = scaled_dot_product_attention(
                q[b.prefill_q :].view(b.decode_n, b.kv_heads, group, b.head_dim),
                _heads_first(decode_k),
                _heads_first(decode_v),
            )
        return _heads_first(prefill[0]), decode.reshape(b.decode_n, b.q_heads, b.head_dim)

    for layer in range(len(inputs.layers)):
        prefill_kv(layer)
    return call


def flash(inputs: Inputs) -> Call:
    return _serial(inputs, SDPBackend.FLASH_ATTENTION, repeat_kv=False, chunk_mask=True)


def efficient(inputs: Inputs) -> Call:
    return _serial(inputs, SDPBackend.EFFICIENT_ATTENTION, repeat_kv=True, chunk_mask=True)


def cudnn(inputs: Inputs) -> Call:
    if inputs.batch.prefill_q != inputs.batch.prefill_kv:
        raise LeftOut("cuDNN through PyTorch masks whole prompts only, not chunks")
    return _serial(inputs, SDPBackend.CUDNN_ATTENTION, repeat_kv=False, chunk_mask=False)


def math(inputs: Inputs) -> Call:
    """The slow one, for machines without a GPU."""
    return _serial(inputs, SDPBackend.MATH, repeat_kv=True, chunk_mask=True)
