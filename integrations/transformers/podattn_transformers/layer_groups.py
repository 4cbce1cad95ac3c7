# SPDX-License-Identifier: Apache-2.0
"""The layers of an engine's cache that share block tables, in the two forms in which engines keep them.

5.17's cache has a tensor per layer of a group, and `group_cache_managers`; 5.24's is one tensor, cut among
`cache_allocators`. This is the only file that knows the difference.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class Group:
    """One group of layers. A *slot* is a token's row in a layer's K or V; pages are `page_size` slots."""

    index: int
    layer_type: str
    first_layer: int
    page_size: int
    window: int
    """0: all keys are kept. Otherwise the keys that are: position p is in slot p % window of the request's pages."""
    block_slots: int
    """Slots from one block's page to the next one's."""
    trash_slot: int
    """Where padding tokens are written."""
    owner: Any
    """The engine's object, which has the lists of the requests' blocks."""
    slots: dict[int, tuple[torch.Tensor, torch.Tensor]]
    """Each layer's K and V, `[slots, kv_heads, head_dim]`."""
    pages: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(init=False)
    """The same, `[num_pages, page_size, kv_heads, head_dim]`, equally many in all layers."""
    num_pages: int = field(init=False)

    def __post_init__(self) -> None:
        """Makes the views by page. Where layers lie in one tensor, those of later layers begin later in it."""
        num_pages = min(rows.shape[0] for tensors in self.slots.values() for rows in tensors) // self.page_size

        def by_page(rows: torch.Tensor) -> torch.Tensor:
            return rows[: num_pages * self.page_size].view(num_pages, self.page_size, *rows.shape[1:])

        self.num_pages = num_pages
        self.pages = {layer: (by_page(k), by_page(v)) for layer, (k, v) in self.slots.items()}

    def page_starts(self, request: str, past: int, new: int) -> list[int]:
        """The first slot of each page that a request's step reads."""
        kept = min(past + new, self.window) if self.window else past + new
        blocks = self.owner.block_table[request]
        return [block * self.block_slots for block in blocks[: -(-kept // self.page_size)]]

    def fits_pages(self, past: int, new: int) -> bool:
        """Whether the step's keys are all in the pages once the new ones are written, in an order that attention may
        take them in: of one query's window any order will do.
        """
        return not self.window or new == 1 or past + new <= self.window


def groups_of(cache: Any) -> list[Group]:
    """The groups of an engine's `PagedAttentionCache`, in the order of its indices."""
    if hasattr(cache, "cache_allocators"):
        return [_of_allocator(allocator) for allocator in cache.cache_allocators.values()]
    return [_of_manager(cache, manager) for manager in cache.group_cache_managers]


def layers_of(cache: Any, groups: list[Group]) -> dict[int, Group]:
    """The group of each layer."""
    if hasattr(cache, "cache_allocators"):
        return {layer: groups[allocator.index] for layer, allocator in cache.layer_to_allocator.items()}
    return {layer: groups[index] for layer, (index, _) in cache.layer_index_to_group_indices.items()}


def num_slots(cache: Any) -> int:
    """No request can have more tokens than this."""
    return int(cache.max_tokens_read if hasattr(cache, "max_tokens_read") else cache.num_pages)


def _of_allocator(allocator: Any) -> Group:
    return Group(
        index=allocator.index,
        layer_type=allocator.layer_type,
        first_layer=min(allocator.layer_indices),
        page_size=allocator.tokens_per_page,
        window=getattr(allocator, "sliding_window", 0),
        block_slots=allocator.block_physical_stride,
        trash_slot=allocator.write_trash_index,
        owner=allocator,
        slots=dict(allocator._kv_token_views),
    )


def _of_manager(cache: Any, manager: Any) -> Group:
    index = manager._index
    layers = {layer: place for layer, (group, place) in cache.layer_index_to_group_indices.items() if group == index}
    window = getattr(manager, "sliding_window", 0)
    return Group(
        index=index,
        layer_type="sliding_attention" if window else "full_attention",
        first_layer=min(layers),
        page_size=cache.block_size,
        window=window,
        block_slots=cache.block_size,
        trash_slot=cache.write_trash_index,
        owner=manager,
        slots={layer: (cache.key_cache[place], cache.value_cache[place]) for layer, place in layers.items()},
    )
