#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares every call of podattn inside vLLM with FlashAttention-3 on the same tensors.

    PYTHONPATH=python:integrations/vllm:bench python3 integrations/vllm/check_forwards.py [CASE...]

Each case is an engine with a few layers of random weights, run eagerly, so that every call passes here. Prints a JSON
line per case: calls by kind of step, the most query tokens of a request, and the largest relative L2 distance. Exits
with 1 if one is above the limit.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from engine.load import Request
from engine.shapes import SHAPES
from engine.vllm_engine import VllmEngine
from vllm.vllm_flash_attn import flash_attn_varlen_func

from podattn_vllm import layer_impl

LAYERS, MAX_LEN, BUDGET = 4, 8192, 512
MEMORY = 0.1  # of the GPU; what an engine had may not come back before the process ends
# Two kernels that round probabilities and outputs to the same dtype differ by a few of its roundings.
LIMITS = {torch.bfloat16: 6e-3, torch.float16: 1e-3}
_LLAMA, _QWEN = "llama-8b", "qwen3-14b"
_WINDOWS = {"sliding_window": 256, "layer_types": ["sliding_attention", "full_attention"] * (LAYERS // 2)}
_SHARD = {"num_attention_heads": 8, "num_key_value_heads": 1, "hidden_size": 1024, "intermediate_size": 2048}
_D64 = {"num_attention_heads": 64, "head_dim": 64}
_NGRAMS = {"method": "ngram", "num_speculative_tokens": 7, "prompt_lookup_max": 3, "prompt_lookup_min": 1}
# The model, what its configuration has else, and vLLM's options.
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "llama": (_LLAMA, {}, {}),
    "f16": (_LLAMA, {}, {"dtype": "float16"}),
    "qwen3": (_QWEN, {}, {}),
    "shard": (_LLAMA, _SHARD, {}),
    "head_dim_64": (_LLAMA, _D64, {}),
    "windows": (_LLAMA, _WINDOWS, {}),
    "prefix_caching": (_LLAMA, {}, {"enable_prefix_caching": True}),
    "page_64": (_LLAMA, {}, {"block_size": 64}),
    "fp8": (_LLAMA, {}, {"kv_cache_dtype": "fp8"}),
    "speculative": (_LLAMA, {}, {"speculative_config": _NGRAMS}),
}


def unquantised(
    page_table: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, layer: Any, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A table of all its pages, and these pages in another dtype."""
    pages, places = page_table.clamp(min=0).unique(return_inverse=True)
    k, v = (
        (part[pages].float() * scale).to(dtype)
        for part, scale in ((k_cache, layer._k_scale), (v_cache, layer._v_scale))
    )
    return places.to(torch.int32), k, v


class Comparison:
    """Takes the place of the backend's `forward`."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.most_tokens, self.worst, self.limit = 0, 0.0, 0.0
        self._forward = layer_impl.PodAttentionImpl.forward

    def forward(self, impl: Any, layer: Any, query: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        """Podattn's result, after it was compared."""
        output = self._forward(impl, layer, query, *rest, **named)
        metadata = named["attn_metadata"] if "attn_metadata" in named else rest[3]
        if metadata is not None:
            self._compare(impl, layer, query, metadata, output)
        return output

    def _compare(self, impl: Any, layer: Any, query: torch.Tensor, metadata: Any, output: torch.Tensor) -> None:
        q_start, kv_len, page_table = metadata.arrays
        k_cache, v_cache = impl._k_cache, impl._v_cache
        if impl._has_scales:  # FlashAttention-3 would quantise the query too
            page_table, k_cache, v_cache = unquantised(page_table, k_cache, v_cache, layer, query.dtype)
        q_len = q_start.diff()
        tokens, most = int(q_start[-1]), int(q_len.max())
        window = (impl.window_tokens - 1, 0) if impl.window_tokens else (-1, -1)
        expected = flash_attn_varlen_func(
            query[:tokens],
            k_cache,
            v_cache,
            max_seqlen_q=most,
            cu_seqlens_q=q_start,
            max_seqlen_k=int(kv_len.max()),
            seqused_k=kv_len,
            block_table=page_table,
            softmax_scale=impl.scale,
            causal=True,
            window_size=list(window),
            softcap=impl.softcap,
            fa_version=3,
        )
        distance = (output[:tokens].float() - expected.float()).norm() / expected.float().norm()
        singles = int((q_len == 1).sum())
        kind = "decode" if singles == len(q_len) else "prefill" if singles == 0 else "hybrid"
        self.kinds[kind] += 1
        self.most_tokens = max(self.most_tokens, most)
        self.worst = max(self.worst, float("inf") if distance.isnan() else distance.item())
        self.limit = LIMITS[query.dtype]


def run(name: str, requests: list[Request]) -> Comparison:
    """One case, until its requests are done; they come in two halves."""
    shape, changes, options = CASES[name]
    comparison = Comparison()
    with tempfile.TemporaryDirectory() as folder:
        config = {**SHAPES[shape], "num_hidden_layers": LAYERS, **changes}
        Path(folder, "config.json").write_text(json.dumps(config), encoding="utf-8")
        page_size = options.get("block_size", 16)
        others = {name: value for name, value in options.items() if name != "block_size"}
        engine = VllmEngine(folder, "CUSTOM", "eager", BUDGET, MAX_LEN, 64, page_size, MEMORY, None, **others)
    layer_impl.PodAttentionImpl.forward = lambda *given, **named: comparison.forward(*given, **named)
    try:
        half = len(requests) // 2
        for number, request in enumerate(requests[:half]):
            engine.add(f"first{number}", request)
        for _ in range(20):
            engine.step()
        for number, request in enumerate(requests[half:]):
            engine.add(f"second{number}", request)
        while engine.has_work():
            engine.step()
    finally:
        layer_impl.PodAttentionImpl.forward = comparison._forward
    del engine
    gc.collect()
    torch.cuda.empty_cache()
    return comparison


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)} (all)")
    parser.add_argument("--requests", type=int, default=16, metavar="N", help="of each case (16)")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.cases if name not in CASES]
    if unknown:
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    requests = [Request(64 + 1500 * i % 4000, 16 + 7 * i % 40) for i in range(arguments.requests)]
    has_failed = False
    for name in arguments.cases or CASES:
        found = run(name, requests)
        is_right = bool(found.kinds) and found.worst <= found.limit
        has_failed |= not is_right
        row = {"case": name, "calls": dict(found.kinds), "most_q_tokens": found.most_tokens, "worst": found.worst}
        print(json.dumps({**row, "limit": found.limit, "is_right": is_right}), flush=True)
    return 1 if has_failed else 0


if __name__ == "__main__":
    sys.exit(main())
