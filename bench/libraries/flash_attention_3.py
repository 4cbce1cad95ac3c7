# SPDX-License-Identifier: Apache-2.0
"""FlashAttention-3 as vLLM builds it: the sides alone, in turn and on two streams, and one call over all requests.

As vLLM does, the scheduler's metadata is made once per batch, outside the call that is timed.
"""

from __future__ import annotations

import importlib
from typing import Callable

import torch

from .inputs import Inputs, Missing
from .sides import Alone, in_turn, on_two_streams
from .timing import Call

MODULE = "vllm.vllm_flash_attn"
AUTOMATIC, UNSPLIT = 0, 1
# What vLLM allows where it allows splits at all (its attention_config.flash_attn_max_num_splits_for_cuda_graph). The
# library then splits each request as it needs; left to itself it splits none if the longest has enough query tokens.
MOST_SPLITS = 32


def _function(name: str) -> Callable:
    """Missing if it is not here."""
    try:
        return getattr(importlib.import_module(MODULE), name)
    except (ImportError, AttributeError) as error:
        raise Missing(f"{MODULE}.{name} cannot be imported: {error}") from error


class _Part:
    """One varlen call over a range of a batch's requests."""

    def __init__(self, inputs: Inputs, requests: range, num_splits: int = AUTOMATIC) -> None:
        b, device, layout = inputs.batch, inputs.device, inputs.layout
        begin, end = requests.start, requests.stop
        self.inputs, self.requests = inputs, requests
        self.tokens = inputs.tokens_of(requests)
        self.function = _function("flash_attn_varlen_func")
        q_start = (inputs.q_start[begin : end + 1] - inputs.q_start[begin]).to(device)
        kv_len = inputs.kv_len[begin:end].to(device)
        max_q, max_kv = max(b.q_lens[begin:end]), max(b.kv_lens[begin:end])
        window = (b.window - 1, 0) if b.window else (-1, -1)
        self.is_decode_batch = requests == b.decodes and len(set(b.kv_lens[begin:end])) == 1
        metadata = _function("get_scheduler_metadata")(
            batch_size=len(requests),
            max_seqlen_q=max_q,
            max_seqlen_k=max_kv,
            num_heads_q=b.q_heads,
            num_heads_kv=b.kv_heads,
            headdim=b.head_dim,
            cache_seqlens=kv_len,
            qkv_dtype=inputs.dtype,
            cu_seqlens_q=q_start,
            page_size=None if layout.is_contiguous else layout.page_size,
            causal=True,
            window_size=window,
            num_splits=num_splits,
        )
        self.settings = {
            "max_seqlen_q": max_q,
            "cu_seqlens_q": q_start,
            "max_seqlen_k": max_kv,
            "causal": True,
            "window_size": list(window),
            "scheduler_metadata": metadata,
            "num_splits": num_splits,
            "fa_version": 3,
            **self._lengths(kv_len),
        }

    def _lengths(self, kv_len: torch.Tensor) -> dict[str, torch.Tensor]:
        """How the call finds each request's keys, in the form of `_cache`."""
        layout = self.inputs.layout
        if not layout.is_contiguous:
            begin, end = self.requests.start, self.requests.stop
            width = int(layout.pages_of[begin:end].max())
            return {
                "seqused_k": kv_len,
                "block_table": layout.page_table[begin:end, :width].contiguous().to(self.inputs.device),
            }
        if self.is_decode_batch:
            return {"seqused_k": kv_len}
        starts = torch.nn.functional.pad(kv_len.cumsum(0), (1, 0))
        return {"cu_seqlens_k": starts.to(torch.int32)}

    def _cache(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Pages; or the tokens of decodes of one length, by request; or all tokens, packed."""
        layer = self.inputs.layers[index]
        if not self.inputs.layout.is_contiguous:
            return layer.k, layer.v
        lengths = self.inputs.batch.kv_lens
        begin, end = self.requests.start, self.requests.stop
        first = sum(lengths[:begin])
        used = slice(first, first + sum(lengths[begin:end]))
        k, v = layer.k_tokens[used], layer.v_tokens[used]
        if self.is_decode_batch:
            return k.unflatten(0, (end - begin, -1)), v.unflatten(0, (end - begin, -1))
        return k, v

    def __call__(self, index: int) -> torch.Tensor:
        q = self.inputs.layers[index].q[self.tokens]
        return self.function(q, *self._cache(index), **self.settings)


def _sides(inputs: Inputs) -> tuple[_Part, _Part]:
    return _Part(inputs, inputs.batch.prefill), _Part(inputs, inputs.batch.decodes)


def _mixed(inputs: Inputs, num_splits: int) -> Call:
    part = _Part(inputs, inputs.batch.all, num_splits)
    return lambda index: (part(index),)


def serial(inputs: Inputs) -> Call:
    return in_turn(*_sides(inputs))


def streams(inputs: Inputs) -> Call:
    return on_two_streams(inputs, *_sides(inputs))


def mixed(inputs: Inputs) -> Call:
    return _mixed(inputs, AUTOMATIC)


def mixed_unsplit(inputs: Inputs) -> Call:
    return _mixed(inputs, UNSPLIT)


def mixed_split(inputs: Inputs) -> Call:
    return _mixed(inputs, MOST_SPLITS)


def prefill(inputs: Inputs) -> Call:
    return Alone(_Part(inputs, inputs.batch.prefill), inputs.batch.prefill)


def decode(inputs: Inputs) -> Call:
    return Alone(_Part(inputs, inputs.batch.decodes), inputs.batch.decodes)
