# SPDX-License-Identifier: Apache-2.0
"""An engine's paged cache in the two forms that engines have, with as much of them as podattn uses. Written from the
definition: a window keeps position p in slot p % window.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

SENTINEL = -7
"""Marks a new key in a list of slots: no slot, so that whoever reads it as one fails."""


class Allocator:
    """Blocks of one group of layers. Their order is random, so that neighbours in a request are none in the cache."""

    def __init__(self, page_size: int, window: int, block_slots: int, free: list[int]) -> None:
        self.page_size = page_size
        self.sliding_window = window
        self.block_slots = block_slots
        self.free = free
        self.block_table: dict[str, list[int]] = {}

    def allocate(self, request: str, length: int) -> None:
        kept = min(length, self.sliding_window) if self.sliding_window else length
        blocks = self.block_table.setdefault(request, [])
        while len(blocks) * self.page_size < kept:
            blocks.append(self.free.pop())

    def slot(self, request: str, position: int) -> int:
        place = position % self.sliding_window if self.sliding_window else position
        return self.block_table[request][place // self.page_size] * self.block_slots + place % self.page_size

    def get_read_indices(self, request: str, past: int, new: int) -> list[int]:
        assert self.sliding_window, "slots of a group without a window are never asked for one by one"
        first = past - min(past, self.sliding_window - 1)
        return [self.slot(request, position) for position in range(first, past)] + [SENTINEL] * new

    def get_write_indices(self, request: str, past: int, new: int) -> list[int]:
        skipped = max(new - self.sliding_window, 0) if self.sliding_window else 0
        slots = [self.slot(request, position) for position in range(past + skipped, past + new)]
        return [self.write_trash_index] * skipped + slots

    def get_kv_len(self, past: int, new: int) -> int:
        return new + (min(past, self.sliding_window - 1) if self.sliding_window else past)


def make_cache(
    form: str,
    layers: list[int],
    window: int,
    page_size: int,
    num_blocks: int,
    heads: int,
    dim: int,
    dtype: Any,
    rng: Any,
) -> Any:
    """A cache whose layer i is of group `layers[i]`; group 1 has the window.

    form: "tensor", one for all layers, in which each block has a page of K and a page of V per layer; or "tensors", K
    and V of each layer of a group, which it shares with a layer of the other group.
    """
    members = [[layer for layer, group in enumerate(layers) if group == index] for index in range(max(layers) + 1)]
    config = SimpleNamespace(_attn_implementation="podattn_flash_3")
    cache = SimpleNamespace(config=config, max_batch_tokens=512)
    nan = float("nan")
    if form == "tensor":
        allocators: dict[str, Any] = {}
        cache.layer_to_allocator = {}
        for index, own in enumerate(members):
            rows = 2 * len(own) * page_size
            free = rng.sample(range(1, num_blocks), num_blocks - 1)
            allocator = Allocator(page_size, window if index else 0, rows, free)
            tensor = torch.full((num_blocks * rows, heads, dim), nan, dtype=dtype)
            tensor[:rows] = 0
            allocator.index, allocator.layer_indices = index, own
            allocator.layer_type = "sliding_attention" if index else "full_attention"
            allocator.tokens_per_page, allocator.block_physical_stride = page_size, rows
            allocator.write_trash_index = 0
            allocator._kv_token_views = {
                layer: (tensor[2 * i * page_size :], tensor[(2 * i + 1) * page_size :]) for i, layer in enumerate(own)
            }
            allocators[allocator.layer_type] = allocator
            cache.layer_to_allocator |= dict.fromkeys(own, allocator)
        cache.cache_allocators = allocators
        cache.max_tokens_read = num_blocks * page_size
        cache.allocators = list(allocators.values())
    else:
        shared = rng.sample(range(num_blocks - 1), num_blocks - 1)
        cache.block_size = page_size
        cache.num_pages = num_blocks * page_size
        cache.write_trash_index = (num_blocks - 1) * page_size
        size = (num_blocks * page_size, heads, dim)
        num_tensors = max(len(own) for own in members)
        cache.key_cache = [torch.full(size, nan, dtype=dtype) for _ in range(num_tensors)]
        cache.value_cache = [torch.full(size, nan, dtype=dtype) for _ in range(num_tensors)]
        for tensor in cache.key_cache + cache.value_cache:
            tensor[-page_size:] = 0
        cache.layer_index_to_group_indices = {
            layer: (index, place) for index, own in enumerate(members) for place, layer in enumerate(own)
        }
        cache.allocators = []
        for index in range(len(members)):
            allocator = Allocator(page_size, window if index else 0, page_size, shared)
            allocator._index, allocator.write_trash_index = index, cache.write_trash_index
            if not index:
                del allocator.sliding_window
                allocator.__class__ = type("FullAllocator", (Allocator,), {"sliding_window": 0})
            cache.allocators.append(allocator)
        cache.group_cache_managers = cache.allocators
    return cache


def layer_slots(cache: Any, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """K and V of a layer, `[slots, kv_heads, head_dim]`."""
    if hasattr(cache, "cache_allocators"):
        return cache.layer_to_allocator[layer]._kv_token_views[layer]
    place = cache.layer_index_to_group_indices[layer][1]
    return cache.key_cache[place], cache.value_cache[place]
