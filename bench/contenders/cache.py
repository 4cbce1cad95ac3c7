# SPDX-License-Identifier: Apache-2.0
"""Where the keys and values of a batch lie in memory: in pages, or one request behind the other."""

from __future__ import annotations

import math
from typing import Union

import torch


class PagedLayout:
    """Pages of one size, in random order."""

    is_contiguous = False

    def __init__(self, prefill_kv: int, decode_n: int, decode_kv: int, page_size: int, seed: int) -> None:
        self.page_size, self.prefill_kv, self.decode_kv = page_size, prefill_kv, decode_kv
        pages_of = [math.ceil(kv_len / page_size) for kv_len in [prefill_kv] + [decode_kv] * decode_n]
        self.num_pages = sum(pages_of)
        self.num_tokens = self.num_pages * page_size
        order = torch.randperm(self.num_pages, generator=torch.Generator().manual_seed(seed)).to(torch.int32)
        self.page_lists = list(order.split(pages_of))

    def pages(self, cache: torch.Tensor) -> torch.Tensor:
        """[pages, page_size, ...] of a cache [num_tokens, ...]."""
        return cache.unflatten(0, (self.num_pages, self.page_size))

    def prefill(self, cache: torch.Tensor) -> torch.Tensor:
        """A copy of the prefill's tokens, [kv, ...]."""
        return self.pages(cache)[self.page_lists[0].long().to(cache.device)].flatten(0, 1)[: self.prefill_kv]

    def decodes(self, cache: torch.Tensor) -> torch.Tensor:
        """A copy of the decodes' tokens, [n, kv, ...]."""
        table = torch.stack(self.page_lists[1:]).long().to(cache.device)
        return self.pages(cache)[table].flatten(1, 2)[:, : self.decode_kv]


class ContiguousLayout:
    """The prefill's tokens, then each decode's, without gaps.

    A library that reads pages sees a page a request. Requests differ in length, so the pages are as long as the longest
    and overlap: they begin where a multiple of `stride` tokens does, as every request then does.
    """

    is_contiguous = True

    def __init__(self, prefill_kv: int, decode_n: int, decode_kv: int) -> None:
        self.prefill_kv, self.decode_n, self.decode_kv = prefill_kv, decode_n, decode_kv
        self.stride = math.gcd(prefill_kv, decode_kv)
        self.page_size = max(prefill_kv, decode_kv)
        starts = [0] + [prefill_kv + i * decode_kv for i in range(decode_n)]
        self.page_lists = [torch.tensor([start // self.stride], dtype=torch.int32) for start in starts]
        self.num_pages = starts[-1] // self.stride + 1
        self.num_tokens = starts[-1] + self.page_size  # the last page, too, lies in the cache

    @property
    def used_tokens(self) -> int:
        """Without what is there for the last page's sake."""
        return self.prefill_kv + self.decode_n * self.decode_kv

    def pages(self, cache: torch.Tensor) -> torch.Tensor:
        """[pages, page_size, ...], overlapping views of a cache [num_tokens, ...]."""
        token_stride = cache.stride(0)
        size, strides = cache.shape[1:], cache.stride()[1:]
        return cache.as_strided(
            (self.num_pages, self.page_size, *size), (self.stride * token_stride, token_stride, *strides)
        )

    def prefill(self, cache: torch.Tensor) -> torch.Tensor:
        """The prefill's tokens, [kv, ...]."""
        return cache[: self.prefill_kv]

    def decodes(self, cache: torch.Tensor) -> torch.Tensor:
        """The decodes' tokens, [n, kv, ...]."""
        return cache[self.prefill_kv : self.used_tokens].unflatten(0, (self.decode_n, self.decode_kv))


Layout = Union[PagedLayout, ContiguousLayout]


def layout_of(prefill_kv: int, decode_n: int, decode_kv: int, page_size: int, seed: int) -> Layout:
    """`page_size` 0 is a contiguous cache."""
    if page_size == 0:
        return ContiguousLayout(prefill_kv, decode_n, decode_kv)
    return PagedLayout(prefill_kv, decode_n, decode_kv, page_size, seed)
