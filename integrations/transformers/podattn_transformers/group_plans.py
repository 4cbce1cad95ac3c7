# SPDX-License-Identifier: Apache-2.0
"""The plans of one engine's cache, and the memory that they share."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import torch

import podattn

from .layer_groups import Group

COPY_PAGE = 64
"""Tokens per page of copied keys: as GPU kernels like it, whatever the engine's page size is."""


class Shape(NamedTuple):
    """What the model's layers have in common."""

    q_heads: int
    kv_heads: int
    head_dim: int
    dtype: torch.dtype
    device: torch.device


class Plans:
    """Plans, made when they are first needed: one per group, since groups have block tables of their own, and one more
    for a group that has to copy keys. All run on one stream, one after the other, so that they share scratch.
    """

    def __init__(self, shape: Shape, max_q_tokens: int, max_kv_len: int) -> None:
        self.shape = shape
        self._max_q_tokens = max_q_tokens
        self._max_kv_len = max_kv_len
        self._plans: dict[tuple[int, bool], podattn.Plan] = {}
        self._scratch: Optional[podattn.Scratch] = None
        self._copies: Optional[tuple[torch.Tensor, torch.Tensor]] = None

    def _make(self, group: Group, is_copied: bool) -> podattn.Plan:
        shape = self.shape
        on_gpu = shape.device.type == "cuda"
        kept = min(group.window - 1, self._max_kv_len) if group.window else self._max_kv_len
        plan = podattn.Plan(
            q_heads=shape.q_heads,
            kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            page_size=COPY_PAGE if is_copied else group.page_size,
            max_requests=self._max_q_tokens,
            max_q_tokens=self._max_q_tokens,
            max_kv_len=kept + self._max_q_tokens,
            dtype=shape.dtype,
            batch_memory="device" if on_gpu else "host",
            device=shape.device,
        )
        if self._scratch is None or self._scratch.num_bytes < plan.scratch_bytes:
            self._scratch = podattn.Scratch(plan.scratch_bytes, device=shape.device)
        plan.attach(scratch=self._scratch)
        return plan

    def build(
        self,
        group: Group,
        q_start: torch.Tensor,
        kv_len: torch.Tensor,
        table: torch.Tensor,
        num_pages: int,
        num_q_tokens: int,
        *,
        is_copied: bool = False,
    ) -> podattn.Plan:
        """The group's plan, built for a step.

        Raises:
            podattn.ArgumentError: the engine's lengths or tables are wrong; on a GPU those of an earlier step.
        """
        key = group.index, is_copied
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._make(group, is_copied)
        elif plan.bad_request:  # does not wait
            plan.check()
        plan.build(
            q_start,
            kv_len,
            table,
            window_tokens=group.window if is_copied else 0,
            num_pages=num_pages,
            num_q_tokens=num_q_tokens,
        )
        return plan

    def copy_memory(self, num_pages: int) -> tuple[torch.Tensor, torch.Tensor]:
        """At least so many pages for K and for V, which hold one layer's at a time."""
        if self._copies is None or self._copies[0].shape[0] < num_pages:
            shape = self.shape
            sizes = (num_pages, COPY_PAGE, shape.kv_heads, shape.head_dim)
            self._copies = (
                torch.empty(sizes, dtype=shape.dtype, device=shape.device),
                torch.empty(sizes, dtype=shape.dtype, device=shape.device),
            )
        return self._copies


def plans_for(shape: Shape, cache: Any, num_slots: int) -> Plans:
    """Plans for whatever an engine with that cache may ask."""
    return Plans(shape, int(cache.max_batch_tokens), num_slots)
