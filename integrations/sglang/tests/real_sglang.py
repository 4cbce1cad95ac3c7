# SPDX-License-Identifier: Apache-2.0
"""SGLang's own classes in the place of the fake ones: base class, registry, forward modes, layers, and the pool that
they share. A window's own pool, forward batches and the model runner stay fake.
"""

from __future__ import annotations

import types
from typing import Any

import fake_sglang


def use() -> None:
    """Replaces the fake ones, before the tests import them."""
    from sglang.srt import runtime_context
    from sglang.srt.layers.radix_attention import RadixAttention
    from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool
    from sglang.srt.model_executor.forward_batch_info import ForwardMode

    from podattn_sglang import sglang_backend

    def make_pool(layers: list[int], size: int, page_size: int, heads: int, dim: int, dtype: Any) -> Any:
        return MHATokenToKVPool(size, page_size, dtype, heads, dim, len(layers), "cpu", False)

    def make_layer(index: int, heads: tuple[int, int], dim: int, window: int, logit_cap: float) -> Any:
        return RadixAttention(heads[0], dim, 0.3, heads[1], index, logit_cap=logit_cap, sliding_window_size=window)

    fake_sglang.ForwardMode = ForwardMode
    fake_sglang.make_pool = make_pool
    fake_sglang.make_layer = make_layer
    if hasattr(runtime_context, "get_spec"):
        runtime_context.get_spec = lambda: fake_sglang.SPECULATION
    sglang_backend.get_parallel = lambda: types.SimpleNamespace(attn_tp_size=1)
