# SPDX-License-Identifier: Apache-2.0
"""As much of SGLang's classes as the backend meets, by which its steps run on the CPU. `test_sglang_wheels.py` compares
with the real ones what is assumed here.
"""

from __future__ import annotations

import enum
import random
import sys
import types
from dataclasses import dataclass, field
from typing import Any, Optional

import torch


class AttentionBackend:
    """The contract of the base class: an eager step is what a graph's step does outside and inside of it."""

    needs_cpu_seq_lens = True

    def init_forward_metadata(self, forward_batch: Any) -> None:
        self.init_forward_metadata_out_graph(forward_batch)
        self.init_forward_metadata_in_graph(forward_batch)

    def forward(
        self, q: Any, k: Any, v: Any, layer: Any, forward_batch: Any, save_kv_cache: bool = True, **kwargs: Any
    ) -> torch.Tensor:
        mode = forward_batch.forward_mode
        if mode.is_idle():
            return q.new_empty(q.shape[0], layer.tp_q_head_num * layer.v_head_dim)
        step = self.forward_decode if mode.is_decode() else self.forward_extend
        return step(q, k, v, layer, forward_batch, save_kv_cache=save_kv_cache, **kwargs)


class ForwardMode(enum.Enum):
    EXTEND = 1
    DECODE = 2
    MIXED = 3
    IDLE = 4
    TARGET_VERIFY = 5
    DRAFT_EXTEND_V2 = 6
    DLLM_EXTEND = 7

    def is_extend(self) -> bool:
        return self in (ForwardMode.EXTEND, ForwardMode.MIXED, ForwardMode.TARGET_VERIFY, ForwardMode.DLLM_EXTEND)

    def is_decode(self) -> bool:
        return self is ForwardMode.DECODE

    def is_decode_or_idle(self) -> bool:
        return self in (ForwardMode.DECODE, ForwardMode.IDLE)

    def is_mixed(self) -> bool:
        return self is ForwardMode.MIXED

    def is_idle(self) -> bool:
        return self is ForwardMode.IDLE

    def is_target_verify(self) -> bool:
        return self is ForwardMode.TARGET_VERIFY

    def is_dllm_extend(self) -> bool:
        return self is ForwardMode.DLLM_EXTEND


@dataclass
class KVWriteLoc:
    loc: torch.Tensor
    swa_loc: Optional[torch.Tensor] = None


@dataclass
class ForwardBatch:
    forward_mode: ForwardMode
    batch_size: int
    req_pool_indices: torch.Tensor
    seq_lens: torch.Tensor
    out_cache_loc: torch.Tensor
    seq_lens_cpu: Optional[torch.Tensor] = None
    extend_seq_lens: Optional[torch.Tensor] = None
    spec_info: Any = None
    encoder_lens: Any = None


class TokenPool:
    """Slots of all tokens, the first page of which is for padding."""

    def __init__(self, layers: list[int], size: int, page_size: int, heads: int, dim: int, dtype: Any) -> None:
        self.size = size
        rows = size + page_size
        self.k = {layer: torch.full((rows, heads, dim), float("nan"), dtype=dtype) for layer in layers}
        self.v = {layer: torch.full((rows, heads, dim), float("nan"), dtype=dtype) for layer in layers}
        for rows_of_layer in (*self.k.values(), *self.v.values()):
            rows_of_layer[:page_size] = 0

    def get_key_buffer(self, layer: int) -> torch.Tensor:
        return self.k[layer]

    def get_value_buffer(self, layer: int) -> torch.Tensor:
        return self.v[layer]

    def set_kv_buffer(self, layer: Any, loc_info: KVWriteLoc, cache_k: torch.Tensor, cache_v: torch.Tensor) -> None:
        self.k[layer.layer_id][loc_info.loc] = cache_k.view(-1, *cache_k.shape[-2:])
        self.v[layer.layer_id][loc_info.loc] = cache_v.view(-1, *cache_v.shape[-2:])


class WindowedPool:
    """A pool of all tokens for some layers and a smaller one for those with windows, in which tokens have other slots;
    those that a window has left have none.
    """

    def __init__(self, full: TokenPool, windowed: TokenPool) -> None:
        self.full_kv_pool, self.swa_kv_pool = full, windowed
        self.swa_layer_nums = len(windowed.k)
        rows = next(iter(windowed.k.values())).shape[0]
        self.mapping = torch.zeros(max(full.size * 2, rows * 2), dtype=torch.int64)

    def _of(self, layer: int) -> TokenPool:
        return self.swa_kv_pool if layer in self.swa_kv_pool.k else self.full_kv_pool

    def get_key_buffer(self, layer: int) -> torch.Tensor:
        return self._of(layer).k[layer]

    def get_value_buffer(self, layer: int) -> torch.Tensor:
        return self._of(layer).v[layer]

    def translate_loc_from_full_to_swa(self, slots: torch.Tensor) -> torch.Tensor:
        return self.mapping[slots]

    def set_kv_buffer(self, layer: Any, loc_info: KVWriteLoc, cache_k: torch.Tensor, cache_v: torch.Tensor) -> None:
        pool = self._of(layer.layer_id)
        loc = loc_info.swa_loc if pool is self.swa_kv_pool else loc_info.loc
        pool.set_kv_buffer(layer, KVWriteLoc(loc), cache_k, cache_v)


@dataclass
class Layer:
    layer_id: int
    tp_q_head_num: int
    tp_k_head_num: int
    qk_head_dim: int
    sliding_window_size: int = -1
    scaling: float = 0.3
    logit_cap: float = 0.0
    is_cross_attention: bool = False
    attn_type: Any = "decoder"
    v_head_dim: int = field(init=False)

    def __post_init__(self) -> None:
        self.v_head_dim = self.qk_head_dim


def make_pool(layers: list[int], size: int, page_size: int, heads: int, dim: int, dtype: Any) -> Any:
    """A pool for layers that share one."""
    return TokenPool(layers, size, page_size, heads, dim, dtype)


def make_layer(index: int, heads: tuple[int, int], dim: int, window: int, logit_cap: float) -> Any:
    """An attention layer, with its window as SGLang has it, -1 for none."""
    return Layer(index, *heads, dim, window, logit_cap=logit_cap)


SPECULATION = types.SimpleNamespace(speculative_eagle_topk=None, speculative_num_draft_tokens=None)


def make_runner(pool: Any, page_size: int, heads: tuple[int, int], dim: int, dtype: Any, window: Optional[int]) -> Any:
    """A model runner with 16 rows of 512 tokens."""
    config = types.SimpleNamespace(
        context_len=512,
        num_attention_heads=heads[0],
        head_dim=dim,
        get_num_kv_heads=lambda tp_size: heads[1] // tp_size,
        is_encoder_decoder=False,
    )
    return types.SimpleNamespace(
        model_config=config,
        server_args=SPECULATION,
        device="cpu",
        dtype=dtype,
        kv_cache_dtype=dtype,
        page_size=page_size,
        sliding_window_size=window,
        req_to_token_pool=types.SimpleNamespace(req_to_token=torch.zeros(16, 512 + page_size, dtype=torch.int32)),
        token_to_kv_pool=pool,
        is_draft_worker=False,
        use_mla_backend=False,
        attention_chunk_size=None,
    )


def free_pages(num_pages: int, rng: random.Random) -> list[int]:
    """All but the one for padding, in random order."""
    return rng.sample(range(1, num_pages), num_pages - 1)


def install() -> None:
    """Puts modules with these classes where the backend imports SGLang's."""
    contents: dict[str, dict[str, Any]] = {
        "sglang": {},
        "sglang.srt": {},
        "sglang.srt.layers": {},
        "sglang.srt.layers.attention": {},
        "sglang.srt.layers.attention.attention_registry": {"ATTENTION_BACKENDS": {}},
        "sglang.srt.layers.attention.base_attn_backend": {"AttentionBackend": AttentionBackend},
        "sglang.srt.mem_cache": {},
        "sglang.srt.mem_cache.memory_pool": {"KVWriteLoc": KVWriteLoc},
        "sglang.srt.runtime_context": {"get_parallel": lambda: types.SimpleNamespace(attn_tp_size=1)},
        "sglang.srt.server_args": {"ATTENTION_BACKEND_CHOICES": ["triton", "fa3"]},
    }
    for name, values in contents.items():
        module = types.ModuleType(name)
        module.__dict__.update(values)
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    registry = sys.modules["sglang.srt.layers.attention.attention_registry"]

    def register_attention_backend(name: str) -> Any:
        def decorator(factory: Any) -> Any:
            registry.ATTENTION_BACKENDS[name] = factory
            return factory

        return decorator

    registry.register_attention_backend = register_attention_backend
