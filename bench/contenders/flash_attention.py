# SPDX-License-Identifier: Apache-2.0
"""FlashAttention-2 as its own package, and FlashAttention-3 as SGLang builds it."""

from __future__ import annotations

import importlib
from typing import Callable

import torch

from .batch import Inputs, Missing
from .timing import Call


def imported(module: str, name: str) -> Callable:
    """A library's function; Missing if it is not here."""
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise Missing(f"{module}.{name} cannot be imported: {error}") from error


def version_2_serial(inputs: Inputs) -> Call:
    """On contiguous caches: its pages have 256 tokens or more."""
    prefill = imported("flash_attn", "flash_attn_func")
    decode = imported("flash_attn", "flash_attn_with_kvcache")
    middle = inputs.batch.prefill_q
    decode_len = inputs.kv_len[1:].to(inputs.device)
    for index in range(len(inputs.layers)):
        inputs.contiguous(index)

    def call(index: int):
        q = inputs.layers[index].q
        k, v, decode_k, decode_v = inputs.contiguous(index)
        first = prefill(q[None, :middle], k[None], v[None], causal=True)[0]
        return first, decode(q[middle:, None], decode_k, decode_v, cache_seqlens=decode_len, causal=True)[:, 0]

    return call


def sglang(inputs: Inputs) -> Call:
    """One call over prefill and decodes together, on pages."""
    function = imported("sgl_kernel.flash_attn", "flash_attn_with_kvcache")
    if inputs.layout.is_contiguous:
        raise Missing("reads pages, and the cache is contiguous")
    settings = {
        "cache_seqlens": inputs.kv_len.to(inputs.device),
        "page_table": inputs.page_table.to(inputs.device),
        "cu_seqlens_q": inputs.q_start.to(inputs.device),
        "max_seqlen_q": inputs.batch.prefill_q,
        "causal": True,
    }

    def call(index: int):
        layer = inputs.layers[index]
        out = function(layer.q, layer.k, layer.v, **settings)
        return (out if torch.is_tensor(out) else out[0],)

    return call
