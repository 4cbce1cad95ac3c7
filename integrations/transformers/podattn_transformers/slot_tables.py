# SPDX-License-Identifier: Apache-2.0
"""From the engine's tensors to the arrays of a batch, on the device, without waiting for it.

Shapes depend on numbers that the host knows, so that all of this can be captured into a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .layer_groups import Group


def listed_reads(group: Group, request: str, past: int, new: int) -> list[int]:
    """What the engine's `read_index` holds of a request: the first slot of each page, which is all that a page table
    needs, or, where a chunk goes past the window, the slots of the past keys in order and as many marks as new ones.
    """
    if group.fits_pages(past, new):
        return group.page_starts(request, past, new)
    slots: list[int] = group.owner.get_read_indices(request, past, new)
    return slots


def num_reads(group: Group, past: int, new: int) -> int:
    """The length of that list."""
    if group.fits_pages(past, new):
        kept = min(past + new, group.window) if group.window else past + new
        return -(-kept // group.page_size)
    return min(past, group.window - 1) + new


def page_table(slots: torch.Tensor, first: torch.Tensor, step: int, max_pages: int, page_size: int) -> torch.Tensor:
    """int32 `[n, max_pages]`: request r's page j has its first slot at `slots[first[r] + step * j]`.

    Entries after a request's last page are those of others, or the last of all, and are not read.
    """
    places = first[:, None] + torch.arange(0, max_pages * step, step, device=slots.device)
    return (slots[places.clamp_(max=slots.shape[0] - 1)] // page_size).to(torch.int32)


def full_page_table(
    group: Group, cu_q: torch.Tensor, kv_len: torch.Tensor, reads: torch.Tensor, writes: torch.Tensor, max_pages: int
) -> torch.Tensor:
    """The table of a group that keeps all keys. Without reads all keys are new, and `writes` has a slot for each."""
    if reads.numel() == 0:
        return page_table(writes, cu_q[:-1].long(), group.page_size, max_pages, group.page_size)
    counts = (kv_len + (group.page_size - 1)) // group.page_size
    return page_table(reads, (counts.cumsum(0) - counts).long(), 1, max_pages, group.page_size)


def decode_slots(group: Group, cu_q: torch.Tensor, kv_len: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Where the new key of each request goes, in a batch of one token each; padding goes to the trash."""
    last = (kv_len.long() - 1).clamp_(min=0)
    page = table.gather(1, (last // group.page_size)[:, None])[:, 0].long()
    slots = page * group.page_size + last % group.page_size
    return slots.masked_fill_(cu_q[1:] == cu_q[:-1], group.trash_slot)


def rows_of(parts: Sequence[tuple[int, int]], device: torch.device) -> slice | torch.Tensor:
    """The half-open ranges `parts` as an index: a slice where each begins at the end of the one before."""
    if all(end == begin for (_, end), (begin, _) in zip(parts, parts[1:])):
        return slice(parts[0][0], parts[-1][1])
    return torch.cat([torch.arange(begin, end) for begin, end in parts]).to(device)
