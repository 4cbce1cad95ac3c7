# SPDX-License-Identifier: Apache-2.0
"""What one group of layers does in one step: planned at its first layer, used by all of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional, Union

import torch

import podattn

from . import slot_tables
from .group_plans import COPY_PAGE, Plans
from .layer_groups import Group

Rows = Union[slice, torch.Tensor]


class Request(NamedTuple):
    """One request of a step, as the engine prepared it."""

    past: int
    new: int


class Inputs(NamedTuple):
    """The engine's tensors of a step that concern one group."""

    cu_q: torch.Tensor
    cu_k: torch.Tensor
    max_kv_len: int
    reads: torch.Tensor
    writes: torch.Tensor
    block_table: Optional[torch.Tensor]
    requests: list[Request]
    """In the batch's order; of no meaning with a block table."""
    num_tokens: int
    """Of q, padding included."""


@dataclass
class Part:
    """Some of the batch's requests, as one plan sees them."""

    plan: podattn.Plan
    rows: Optional[Rows]
    """Their query tokens; None: all."""

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor, options: Any) -> None:
        """`out` of these tokens."""
        if self.rows is None:
            self.plan.attention(q, k, v, out, **options)
        elif isinstance(self.rows, slice):
            self.plan.attention(q[self.rows], k, v, out[self.rows], **options)
        else:
            out[self.rows] = self.plan.attention(q[self.rows], k, v, **options)


@dataclass
class CopiedPart(Part):
    """Prefill chunks whose new keys overwrite past ones that their own first tokens still see. Past and new keys are
    copied together, which is at most a window more than the chunk itself.
    """

    memory: tuple[torch.Tensor, torch.Tensor]
    past_slots: torch.Tensor
    past_places: torch.Tensor
    new_places: torch.Tensor

    def load(self, caches: tuple[torch.Tensor, torch.Tensor], news: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Before the step's keys and values are written."""
        for memory, cache, new in zip(self.memory, caches, news):
            places = memory.view(-1, *memory.shape[2:])
            places.index_copy_(0, self.past_places, cache.index_select(0, self.past_slots))
            places.index_copy_(0, self.new_places, new[self.rows])


@dataclass
class Step:
    """A group's step."""

    writes: torch.Tensor
    paged: Optional[Part]
    copied: Optional[CopiedPart]
    arrays: list[torch.Tensor]
    """What the plans were built from: kept until the last layer has run."""

    @property
    def calls(self) -> int:
        """Calls of podattn per layer."""
        return (self.paged is not None) + (self.copied is not None)

    @property
    def copied_tokens(self) -> int:
        """Keys that are copied, per layer."""
        return 0 if self.copied is None else len(self.copied.past_places) + len(self.copied.new_places)

    def run(
        self, group: Group, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, options: dict[str, Any]
    ) -> torch.Tensor:
        """One layer: writes k and v `[tokens, kv_heads, dim]` into its cache, and attends to it with q."""
        caches = group.slots[layer]
        if self.copied is not None:
            self.copied.load(caches, (k, v))
        for cache, new in zip(caches, (k, v)):
            cache.index_copy_(0, self.writes, new)
        # Later layers compute with padded tokens too: rows that no request has must be numbers.
        out = torch.zeros(q.shape, dtype=q.dtype, device=q.device)
        if self.paged is not None:
            self.paged.attend(q, *group.pages[layer], out, options)
        if self.copied is not None:
            self.copied.attend(q, *self.copied.memory, out, options)
        return out


class Member(NamedTuple):
    """A request and its place in the batch."""

    past: int
    new: int
    row: int
    """Its first query token."""
    read: int
    """Its first entry of `reads`."""

    @property
    def rows(self) -> tuple[int, int]:
        """Its query tokens, half-open."""
        return self.row, self.row + self.new


def plan_step(plans: Plans, group: Group, inputs: Inputs) -> Step:
    """Plans a group's step: one build, or two where some chunks go past a window and other requests do not."""
    if inputs.block_table is None and not all(group.fits_pages(*request) for request in inputs.requests):
        return _plan_apart(plans, group, inputs)
    kv_len = inputs.cu_k.diff()
    writes = inputs.writes
    if inputs.block_table is None:
        max_pages = -(-inputs.max_kv_len // group.page_size)
        table = slot_tables.full_page_table(group, inputs.cu_q, kv_len, inputs.reads, writes, max_pages)
    else:
        table = inputs.block_table
        writes = slot_tables.decode_slots(group, inputs.cu_q, kv_len, table)
    plan = plans.build(group, inputs.cu_q, kv_len, table, group.num_pages, inputs.num_tokens)
    return Step(writes, Part(plan, None), None, [inputs.cu_q, kv_len, table])


def _plan_apart(plans: Plans, group: Group, inputs: Inputs) -> Step:
    """The requests whose keys are in pages, and those whose keys have to be copied. The host knows all lengths here."""
    row = read = 0
    fitting: list[Member] = []
    others: list[Member] = []
    for request in inputs.requests:
        (fitting if group.fits_pages(*request) else others).append(Member(*request, row, read))
        row += request.new
        read += slot_tables.num_reads(group, *request)
    arrays: list[torch.Tensor] = []
    paged = _paged_part(plans, group, inputs, fitting, arrays) if fitting else None
    return Step(inputs.writes, paged, _copied_part(plans, group, inputs, others, arrays), arrays)


def _on_device(values: list[int], inputs: Inputs, arrays: list[torch.Tensor]) -> torch.Tensor:
    arrays.append(torch.tensor(values, dtype=torch.int32).to(inputs.writes.device, non_blocking=True))
    return arrays[-1]


def _q_start(members: list[Member], inputs: Inputs, arrays: list[torch.Tensor]) -> torch.Tensor:
    return _on_device([0, *itertools.accumulate(member.new for member in members)], inputs, arrays)


def _paged_part(plans: Plans, group: Group, inputs: Inputs, members: list[Member], arrays: list[torch.Tensor]) -> Part:
    has_reads = inputs.reads.numel() > 0
    lengths = [min(member.past + member.new, group.window) for member in members]
    table = slot_tables.page_table(
        inputs.reads if has_reads else inputs.writes,
        _on_device([member.read if has_reads else member.row for member in members], inputs, arrays).long(),
        1 if has_reads else group.page_size,
        -(-max(lengths) // group.page_size),
        group.page_size,
    )
    arrays.append(table)
    plan = plans.build(
        group,
        _q_start(members, inputs, arrays),
        _on_device(lengths, inputs, arrays),
        table,
        group.num_pages,
        sum(member.new for member in members),
    )
    return Part(plan, slot_tables.rows_of([member.rows for member in members], inputs.writes.device))


def _copied_part(
    plans: Plans, group: Group, inputs: Inputs, members: list[Member], arrays: list[torch.Tensor]
) -> CopiedPart:
    device = inputs.writes.device
    nothing = torch.zeros(0, dtype=torch.int64)
    lengths: list[int] = []
    pages: list[range] = []
    past_slots, past_places, new_places = [nothing.to(device)], [nothing], []
    for member in members:
        past = min(member.past, group.window - 1)
        first_page = pages[-1].stop if pages else 0
        place = first_page * COPY_PAGE
        lengths.append(past + member.new)
        pages.append(range(first_page, first_page + -(-lengths[-1] // COPY_PAGE)))
        if past:
            past_slots.append(inputs.reads[member.read : member.read + past])
        past_places.append(torch.arange(place, place + past))
        new_places.append(torch.arange(place + past, place + lengths[-1]))
    width = max(len(own) for own in pages)
    table = _on_device([page for own in pages for page in [*own, *[0] * (width - len(own))]], inputs, arrays)
    memory = plans.copy_memory(pages[-1].stop)
    plan = plans.build(
        group,
        _q_start(members, inputs, arrays),
        _on_device(lengths, inputs, arrays),
        table.view(-1, width),
        memory[0].shape[0],
        sum(member.new for member in members),
        is_copied=True,
    )
    return CopiedPart(
        plan=plan,
        rows=slot_tables.rows_of([member.rows for member in members], device),
        memory=memory,
        past_slots=torch.cat(past_slots),
        past_places=torch.cat(past_places).to(device, non_blocking=True),
        new_places=torch.cat(new_places).to(device, non_blocking=True),
    )
