# SPDX-License-Identifier: Apache-2.0
"""FlashAttention-2 and -3: as their own packages, and as the builds that vLLM and SGLang ship."""

from __future__ import annotations

import importlib
from typing import Callable

import torch

from .batch import Inputs, Missing
from .timing import Call


def _function(module: str, name: str) -> Callable:
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise Missing(f"{module}.{name} cannot be imported: {error}") from error


def version_2_serial(inputs: Inputs) -> Call:
    """On contiguous caches: its pages have 256 tokens or more."""
    prefill = _function("flash_attn", "flash_attn_func")
    decode = _function("flash_attn", "flash_attn_with_kvcache")
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


class _Mixed:
    """The arguments of one call over prefill and decodes together, on pages."""

    def __init__(self, inputs: Inputs) -> None:
        self.q_start = inputs.q_start.to(inputs.device)
        self.kv_len = inputs.kv_len.to(inputs.device)
        self.page_table = inputs.page_table.to(inputs.device)
        self.max_q, self.max_kv = inputs.batch.prefill_q, max(inputs.batch.kv_lens)


def _version_3(inputs: Inputs, module: str) -> Call:
    function, mixed = _function(module, "flash_attn_with_kvcache"), _Mixed(inputs)

    def call(index: int):
        layer = inputs.layers[index]
        out = function(
            layer.q,
            layer.k,
            layer.v,
            cache_seqlens=mixed.kv_len,
            page_table=mixed.page_table,
            cu_seqlens_q=mixed.q_start,
            max_seqlen_q=mixed.max_q,
            causal=True,
        )
        return (out if torch.is_tensor(out) else out[0],)

    return call


def version_3(inputs: Inputs) -> Call:
    return _version_3(inputs, "flash_attn_interface")


def sglang(inputs: Inputs) -> Call:
    return _version_3(inputs, "sgl_kernel.flash_attn")


def vllm(inputs: Inputs) -> Call:
    function, mixed = _function("vllm.vllm_flash_attn", "flash_attn_varlen_func"), _Mixed(inputs)

    def call(index: int):
        layer = inputs.layers[index]
        return (
            function(
                layer.q,
                layer.k,
                layer.v,
                max_seqlen_q=mixed.max_q,
                cu_seqlens_q=mixed.q_start,
                max_seqlen_k=mixed.max_kv,
                seqused_k=mixed.kv_len,
                block_table=mixed.page_table,
                causal=True,
            ),
        )

    return call
