# SPDX-License-Identifier: Apache-2.0
"""How this version of vLLM lays out a layer's KV cache, and views of it as podattn takes them.

The layout is that of vLLM's default backend, so that other backends, KV connectors and hybrid models see what they
expect. It is asked for, not deduced from a version number.
"""

import enum
import functools
from typing import Any

import torch
from vllm.v1.attention.backend import AttentionBackend


class KvLayout(enum.Enum):
    """The shape of a layer's cache as `forward` gets it. Strides may be of any order: NHD and HND are both right."""

    KEYS_FIRST = "[2, pages, tokens, heads, dim]"
    PAGES_FIRST = "[pages, 2, tokens, heads, dim]"
    PACKED = "[pages, heads, tokens, 2 * dim]"


# A probe in which no two dimensions are equal.
_PAGES, _TOKENS, _HEADS, _DIM = 3, 16, 5, 64
_SHAPES = {
    (2, _PAGES, _TOKENS, _HEADS, _DIM): KvLayout.KEYS_FIRST,
    (_PAGES, 2, _TOKENS, _HEADS, _DIM): KvLayout.PAGES_FIRST,
    (_PAGES, _HEADS, _TOKENS, 2 * _DIM): KvLayout.PACKED,
}


def backends_declare_shape() -> bool:
    """Whether backends say which shape their cache has. Newer versions of vLLM fix it."""
    return hasattr(AttentionBackend, "get_kv_cache_shape")


def default_backend() -> Any:
    """The backend whose layout is followed."""
    from vllm.v1.attention.backends.flash_attn import FlashAttentionBackend

    return FlashAttentionBackend


@functools.cache
def kv_layout() -> KvLayout:
    """The layout; raises RuntimeError if it is none that is known here."""
    if not backends_declare_shape():
        return KvLayout.PACKED
    shape = tuple(default_backend().get_kv_cache_shape(_PAGES, _TOKENS, _HEADS, _DIM))
    if shape not in _SHAPES:
        known = ", ".join(layout.value for layout in KvLayout)
        raise RuntimeError(
            f"this vLLM has the KV cache shape {shape} for {_PAGES} pages of {_TOKENS} tokens, {_HEADS} heads and "
            f"head size {_DIM}; podattn-vllm knows {known}"
        )
    return _SHAPES[shape]


def num_pages(kv_cache: torch.Tensor, layout: KvLayout) -> int:
    """Pages of a cache; 0 of the placeholder that a layer has before its cache is bound."""
    if kv_cache.numel() == 0:
        return 0
    return kv_cache.shape[1] if layout is KvLayout.KEYS_FIRST else kv_cache.shape[0]


def split(kv_cache: torch.Tensor, layout: KvLayout, head_dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values `[pages, tokens, heads, dim]`, without a copy; raises ValueError for another shape."""
    shape = tuple(kv_cache.shape)
    if layout is KvLayout.PACKED:
        if len(shape) != 4 or shape[-1] != 2 * head_dim:
            raise ValueError(f"the KV cache has shape {shape}; {layout.value} with dim = {head_dim} is needed")
        k, v = kv_cache.transpose(1, 2).tensor_split(2, dim=-1)
    else:
        pair = 0 if layout is KvLayout.KEYS_FIRST else 1
        if len(shape) != 5 or shape[pair] != 2 or shape[-1] != head_dim:
            raise ValueError(f"the KV cache has shape {shape}; {layout.value} with dim = {head_dim} is needed")
        k, v = kv_cache.unbind(pair)
    return _unrelated(k), _unrelated(v)


def _unrelated(view: torch.Tensor) -> torch.Tensor:
    """The same memory as a tensor that does not hold `view._base`, whose end a caller may wait for."""
    alone = torch.empty(0, dtype=view.dtype, device=view.device)
    return alone.set_(view.untyped_storage(), view.storage_offset(), view.shape, view.stride())
