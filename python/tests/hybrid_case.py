# SPDX-License-Identifier: Apache-2.0
"""A hybrid batch with its tensors, and the same attention by PyTorch's scaled_dot_product_attention."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

import torch
import torch.nn.functional as F

import podattn

# Relative L2 error against float64, as docs/numerics.md states it.
MAX_ERROR = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 5e-3}


@dataclass
class Case:
    """`requests` are (q_len, kv_len)."""

    requests: list[tuple[int, int]]
    q_heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    v_head_dim: Optional[int] = None
    page_size: int = 16
    dtype: torch.dtype = torch.float32
    kv_layout: str = "NHD"
    device: str = "cpu"
    causal: bool = True
    causal_each: Optional[list[bool]] = None
    window_tokens: int = 0
    right_window_tokens: int = 0
    tree: Optional[list[int]] = None
    seed: int = 0
    spare_pages: int = 3
    q: torch.Tensor = field(init=False)
    k: torch.Tensor = field(init=False)
    v: torch.Tensor = field(init=False)
    q_start: torch.Tensor = field(init=False)
    kv_len: torch.Tensor = field(init=False)
    page_table: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        rng = torch.Generator().manual_seed(self.seed)
        pages = [-(-kv_len // self.page_size) for _, kv_len in self.requests]
        self.num_pages = sum(pages) + self.spare_pages
        starts = torch.tensor([0] + [q_len for q_len, _ in self.requests]).cumsum(0)
        self.q_start = starts.to(torch.int32)
        self.kv_len = torch.tensor([kv_len for _, kv_len in self.requests], dtype=torch.int32)
        self.page_table = torch.full((len(self.requests), max(pages, default=0) + 1), -1, dtype=torch.int32)
        order, begin = torch.randperm(self.num_pages, generator=rng, dtype=torch.int32), 0
        for r, count in enumerate(pages):
            self.page_table[r, :count] = order[begin : begin + count]
            begin += count

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=rng).to(self.dtype).to(self.device)

        self.q = normal(int(starts[-1]), self.q_heads, self.head_dim)
        inner = (self.page_size, self.kv_heads) if self.kv_layout == "NHD" else (self.kv_heads, self.page_size)
        self.k = normal(self.num_pages, *inner, self.head_dim)
        self.v = normal(self.num_pages, *inner, self.v_head_dim or self.head_dim)

    def on_device(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """`(q_start, kv_len, page_table)` on the case's device."""
        return self.q_start.to(self.device), self.kv_len.to(self.device), self.page_table.to(self.device)

    def plan(self, **changes: Any) -> podattn.Plan:
        """An empty plan that the case fits in."""
        limits: dict[str, Any] = {
            "q_heads": self.q_heads,
            "kv_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "page_size": self.page_size,
            "num_pages": self.num_pages,
            "max_requests": len(self.requests) + 1,
            "max_q_tokens": max(self.q.shape[0], 1),
            "max_kv_len": max([kv_len for _, kv_len in self.requests] + [1]),
            "dtype": self.dtype,
            "kv_layout": self.kv_layout,
            "device": self.device,
        }
        return podattn.Plan(**{**limits, **changes})

    def built(self, **changes: Any) -> podattn.Plan:
        """A plan of the case's batch, from arrays in the host's memory."""
        plan = self.plan(**changes)
        plan.build(self.q_start, self.kv_len, self.page_table, causal=self.causal, window_tokens=self.window_tokens)
        return plan

    def context(self, cache: torch.Tensor, request: int) -> torch.Tensor:
        """Float64 `[kv_heads, kv_len, dim]` of one request, on the CPU."""
        pages = self.page_table[request]
        kept = cache.cpu().double()[pages[pages >= 0].long()]
        tokens_first = kept if self.kv_layout == "NHD" else kept.transpose(1, 2)
        tokens = tokens_first.reshape(-1, self.kv_heads, cache.shape[-1])[: int(self.kv_len[request])]
        return tokens.transpose(0, 1)

    def mask(self, request: int) -> torch.Tensor:
        """Bool `[q_len, kv_len]`: which keys a query sees."""
        q_len, kv_len = self.requests[request]
        query = torch.arange(kv_len - q_len, kv_len).unsqueeze(1)
        key = torch.arange(kv_len).unsqueeze(0)
        seen = torch.ones(q_len, kv_len, dtype=torch.bool)
        if self.causal if self.causal_each is None else self.causal_each[request]:
            seen &= key <= query
        if self.window_tokens:
            seen &= key > query - self.window_tokens
        if self.right_window_tokens:
            seen &= key < query + self.right_window_tokens
        if self.tree is not None and q_len <= 64:
            words = self.tree[int(self.q_start[request]) :][:q_len]
            own = [[word >> place & 1 for place in range(q_len)] for word in words]
            seen[:, kv_len - q_len :] &= torch.tensor(own, dtype=torch.bool).reshape(q_len, q_len)
        return seen

    def reference(self, alibi_slopes: Optional[torch.Tensor] = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Float64 `(out, lse)` on the CPU."""
        outs, lses = [], []
        for r, (q_len, kv_len) in enumerate(self.requests):
            begin = int(self.q_start[r])
            q = self.q[begin : begin + q_len].cpu().double().transpose(0, 1)
            k, v = (
                self.context(cache, r).repeat_interleave(self.q_heads // self.kv_heads, 0) for cache in (self.k, self.v)
            )
            bias = torch.zeros(self.q_heads, q_len, kv_len, dtype=torch.float64)
            if alibi_slopes is not None:
                distance = torch.arange(kv_len).unsqueeze(0) - torch.arange(kv_len - q_len, kv_len).unsqueeze(1)
                bias += alibi_slopes.cpu().double()[:, None, None] * distance
            bias.masked_fill_(~self.mask(r), float("-inf"))
            scores = q @ k.transpose(1, 2) / self.head_dim**0.5 + bias
            none = q.new_zeros(*q.shape[:-1], v.shape[-1])
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias) if kv_len else none
            outs.append(out.nan_to_num(0.0).transpose(0, 1))
            lses.append(torch.logsumexp(scores, 2).transpose(0, 1))
        return torch.cat(outs), torch.cat(lses)


def relative_error(found: Any, expected: torch.Tensor) -> float:
    """Of L2 norms; infinite where `found` is not finite."""
    difference = (torch.as_tensor(found).cpu().double() - expected).norm()
    error = float(difference / expected.norm().clamp_min(1e-30))
    return error if error == error else float("inf")


def check_out(case: Case, found: Any, expected: torch.Tensor) -> None:
    """Within the bound of the case's dtype."""
    if expected.numel():
        assert relative_error(found, expected) <= MAX_ERROR[case.dtype]


def check_lse(found: Any, expected: torch.Tensor) -> None:
    """Finite where the reference is, -inf where it is, and close."""
    found = torch.as_tensor(found).cpu().double()
    assert torch.equal(torch.isfinite(found), torch.isfinite(expected))
    finite = torch.isfinite(expected)
    torch.testing.assert_close(found[finite], expected[finite], atol=2e-4, rtol=1e-4)
