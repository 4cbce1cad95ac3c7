# SPDX-License-Identifier: Apache-2.0
"""The plans for one of SGLang's token pools: one for eager steps, and one whose arrays CUDA graphs remember."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Optional

import torch

import podattn

from .step_arrays import Shape, page_table

FIRST_LIMITS = 64, 2048
"""Requests and query tokens of the first eager plan; a larger step gets a larger one."""


@dataclass
class Limits:
    """What stays the same in all steps."""

    q_heads: int
    kv_heads: int
    head_dim: int
    dtype: torch.dtype
    page_size: int
    max_kv_len: int
    device: torch.device


class SharedScratch:
    """Memory for partial results. All plans run on one stream, one after the other."""

    def __init__(self) -> None:
        self._scratch: Optional[podattn.Scratch] = None

    def attach(self, plan: podattn.Plan, device: torch.device) -> None:
        """Gives a plan its memory."""
        if self._scratch is None or self._scratch.num_bytes < plan.scratch_bytes:
            self._scratch = podattn.Scratch(plan.scratch_bytes, device=device)
        plan.attach(scratch=self._scratch)


@dataclass
class GraphArrays:
    """What a captured step reads: written anew before each replay."""

    q_start: torch.Tensor
    kv_len: torch.Tensor
    table: torch.Tensor


@dataclass
class PoolPlan:
    """Plans one step after the other for the layers whose keys are in one pool."""

    limits: Limits
    scratch: SharedScratch
    windows: list[int]
    """Of its masks; 0: all keys."""
    translate: Optional[Callable[[torch.Tensor], torch.Tensor]]
    current: Optional[podattn.Plan] = field(default=None, init=False)
    """The plan of the step that was planned last."""
    _eager: Optional[podattn.Plan] = field(default=None, init=False)
    _eager_limits: tuple[int, int] = field(default=(0, 0), init=False)
    _captured: Optional[podattn.Plan] = field(default=None, init=False)
    _arrays: Optional[GraphArrays] = field(default=None, init=False)
    _kept: Any = field(default=None, init=False)
    """Arrays of the last eager step, until the next one."""

    @property
    def max_columns(self) -> int:
        """Pages of the longest request."""
        return -(-self.limits.max_kv_len // self.limits.page_size)

    def _make(self, max_requests: int, max_q_tokens: int) -> podattn.Plan:
        limits = self.limits
        plan = podattn.Plan(
            q_heads=limits.q_heads,
            kv_heads=limits.kv_heads,
            head_dim=limits.head_dim,
            page_size=limits.page_size,
            max_requests=max_requests,
            max_q_tokens=max_q_tokens,
            max_kv_len=limits.max_kv_len,
            max_masks=len(self.windows),
            dtype=limits.dtype,
            batch_memory="device" if limits.device.type == "cuda" else "host",
            device=limits.device,
        )
        self.scratch.attach(plan, limits.device)
        return plan

    def _build(self, plan: podattn.Plan, q_start: Any, kv_len: Any, table: Any, num_pages: int, tokens: int) -> None:
        if plan.bad_request:  # of an earlier step; does not wait
            plan.check()
        masks = [podattn.Mask(window_tokens=window) for window in self.windows]
        plan.build(q_start, kv_len, table, masks=masks, num_pages=num_pages, num_q_tokens=tokens)
        self.current = plan

    def build(self, shape: Shape, req_to_token: torch.Tensor, requests: torch.Tensor, num_pages: int) -> None:
        """Plans an eager step. The plan grows with the largest step that was seen."""
        num = requests.shape[0]
        if self._eager is None or num > self._eager_limits[0] or shape.num_tokens > self._eager_limits[1]:
            sizes = zip((num, shape.num_tokens), self._eager_limits, FIRST_LIMITS)
            max_requests, max_q_tokens = (max(size) for size in sizes)
            self._eager = self._make(max_requests, max_q_tokens)
            self._eager_limits = max_requests, max_q_tokens
        columns = self.max_columns if shape.longest is None else max(-(-shape.longest // self.limits.page_size), 1)
        table = page_table(req_to_token, requests, columns, self.limits.page_size, self.translate)
        self._kept = shape, table
        self._build(self._eager, shape.q_start, shape.kv_len, table, num_pages, shape.num_tokens)

    def prepare_graphs(self, max_requests: int, max_tokens: int) -> None:
        """Makes what captured steps use."""
        device = self.limits.device
        self._captured = self._make(max_requests, max_tokens)
        self._arrays = GraphArrays(
            torch.zeros(max_requests + 1, dtype=torch.int32, device=device),
            torch.zeros(max_requests, dtype=torch.int32, device=device),
            torch.zeros(max_requests, self.max_columns, dtype=torch.int32, device=device),
        )

    def build_for_graph(self, shape: Shape, req_to_token: torch.Tensor, requests: torch.Tensor, num_pages: int) -> None:
        """Plans the step of a capture or of a replay, both alike.

        Raises:
            podattn.StateError: `prepare_graphs` was not called.
        """
        if self._captured is None or self._arrays is None:
            raise podattn.StateError("podattn in SGLang: init_cuda_graph_state was not called")
        num = requests.shape[0]
        columns = self.max_columns if shape.longest is None else max(-(-shape.longest // self.limits.page_size), 1)
        arrays = self._arrays
        arrays.q_start[: num + 1].copy_(shape.q_start)
        arrays.kv_len[:num].copy_(shape.kv_len)
        arrays.table[:num, :columns].copy_(
            page_table(req_to_token, requests, columns, self.limits.page_size, self.translate)
        )
        self._build(
            self._captured,
            arrays.q_start[: num + 1],
            arrays.kv_len[:num],
            arrays.table[:num],
            num_pages,
            shape.num_tokens,
        )
