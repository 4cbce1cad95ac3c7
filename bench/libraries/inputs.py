# SPDX-License-Identifier: Apache-2.0
"""The tensors of a batch, the same for every library. Their memory is filled once, for all batches."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch

from .batch_file import Batch

# Keys and values of one layer that would stay in the L2 cache until the next call are kept several times.
ROTATED_BYTES = 250e6
MAX_LAYERS = 12
MAX_QUERY_BYTES = 256e6  # of the queries' copies
F8 = torch.float8_e4m3fn
F8_SCALE = 2.0**-6  # of normal numbers: the largest of them all stay below 448


class LeftOut(Exception):  # noqa: N818
    """A library does not compute this batch; the message says why."""


class Missing(LeftOut):
    """A library computes no batch of this run: it is not here, or it does not read such caches."""


def _longest_page(batch: Batch) -> int:
    """Of a contiguous cache: a length that kernels like."""
    return -(-max(batch.kv_lens) // 16) * 16


class Layout:
    """Where the cache of one layer has which request's tokens: in pages in random order; or, with page size 0, one
    request after the other without gaps.

    A library that reads pages sees a contiguous cache as a page a request. Requests differ in length, so these pages
    are as long as the longest and overlap: they begin at multiples of `stride` tokens, as every request then does.
    """

    def __init__(self, batch: Batch, seed: int = 0) -> None:
        self.is_contiguous = batch.page_size == 0
        self.used_tokens = sum(batch.kv_lens)
        kv_len = torch.tensor(batch.kv_lens)
        if self.is_contiguous:
            self.page_size = _longest_page(batch)
            starts = kv_len.cumsum(0) - kv_len
            self.stride = math.gcd(*starts.tolist()) or self.page_size
            self.num_pages = int(starts[-1]) // self.stride + 1
            self.num_tokens = int(starts[-1]) + self.page_size  # the last page, too, lies in the cache
            self.pages_of = torch.ones_like(kv_len)
            self.pages = (starts // self.stride).to(torch.int32)
        else:
            self.page_size = self.stride = batch.page_size
            self.pages_of = (kv_len + self.page_size - 1) // self.page_size
            self.num_pages = int(self.pages_of.sum())
            self.num_tokens = self.num_pages * self.page_size
            order = torch.randperm(self.num_pages, generator=torch.Generator().manual_seed(seed))
            self.pages = order.to(torch.int32)
        self.page_start = torch.nn.functional.pad(self.pages_of.cumsum(0), (1, 0))

    @cached_property
    def page_table(self) -> torch.Tensor:
        """[requests, most pages of one] int32, on the host; unused entries are 0."""
        width = int(self.pages_of.max())
        table = torch.zeros(len(self.pages_of), width, dtype=torch.int32)
        table[torch.arange(width) < self.pages_of[:, None]] = self.pages
        return table

    def page_list(self, request: int) -> torch.Tensor:
        return self.pages[int(self.page_start[request]) : int(self.page_start[request + 1])]


@dataclass
class Layer:
    """Tensors of one layer: q [tokens, q_heads, head_dim], k and v [pages, page_size, kv_heads, head_dim], and the
    memory that the pages show, k_tokens and v_tokens [tokens, kv_heads, head_dim].
    """

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    k_tokens: torch.Tensor
    v_tokens: torch.Tensor


def cache_elements(batch: Batch) -> int:
    """Of the keys of one layer; the values are as many."""
    if batch.page_size == 0:
        tokens = sum(batch.kv_lens) - batch.kv_lens[-1] + _longest_page(batch)
    else:
        tokens = sum(-(-r.kv // batch.page_size) * r.count for r in batch.requests) * batch.page_size
    return tokens * batch.kv_heads * batch.head_dim


def query_elements(batch: Batch) -> int:
    return batch.num_tokens * batch.q_heads * batch.head_dim


class Memory:
    """Random numbers for the caches and the queries of every batch. No batch writes to it."""

    def __init__(
        self,
        batches: Iterable[Batch],
        device: str,
        dtype: torch.dtype,
        most_bytes: int = 1 << 62,
        kv_dtype: torch.dtype | None = None,
    ) -> None:
        """`kv_dtype`: of the caches, if it is not `dtype`."""
        self.device, self.dtype, self.kv_dtype = torch.device(device), dtype, kv_dtype or dtype
        self.max_layers = MAX_LAYERS if self.device.type == "cuda" else 1
        self.generator = torch.Generator(device).manual_seed(0)
        batches = list(batches)
        most = most_bytes // self.kv_dtype.itemsize
        wanted = [2 * self.layers_wanted(batch) * cache_elements(batch) for batch in batches]
        one_layer = [2 * cache_elements(batch) for batch in batches]
        # Copies are made as far as memory allows; a batch whose single layer is too large is left out later.
        fitting = [one for one in one_layer if one <= most]
        self.cache = self._random(max([min(max(wanted), most), *fitting]), self.kv_dtype)
        queries = max(query_elements(batch) for batch in batches)
        copies = max(1, min(self.max_layers, int(MAX_QUERY_BYTES // (queries * dtype.itemsize))))
        self.queries = self._random(queries * copies, dtype)

    def _random(self, elements: int, dtype: torch.dtype) -> torch.Tensor:
        values = torch.empty(elements, dtype=dtype, device=self.device)
        for chunk in values.split(1 << 28):
            if dtype == F8:
                wide = torch.empty(chunk.shape, dtype=self.dtype, device=self.device)
                chunk.copy_(wide.normal_(generator=self.generator).mul_(1 / F8_SCALE))
            else:
                chunk.normal_(generator=self.generator)
        return values

    def layers_wanted(self, batch: Batch) -> int:
        return min(self.max_layers, math.ceil(ROTATED_BYTES / (batch.seen_elements * self.kv_dtype.itemsize)))

    def layers_of(self, batch: Batch) -> int:
        """How many layers of a batch there are. LeftOut if there is no room for one."""
        room = self.cache.numel() // (2 * cache_elements(batch))
        if room == 0:
            raise LeftOut(f"its keys and values take {2 * self.kv_dtype.itemsize * cache_elements(batch) / 1e9:.1f} GB")
        return min(room, self.layers_wanted(batch))


class Inputs:
    """The tensors of a batch; `layout` says where a cache has what."""

    def __init__(self, batch: Batch, memory: Memory) -> None:
        self.batch, self.device, self.dtype, self.kv_dtype = batch, memory.device, memory.dtype, memory.kv_dtype
        num_layers = memory.layers_of(batch)
        self.layout = Layout(batch)
        row = batch.kv_heads * batch.head_dim
        one = self.layout.num_tokens * row
        caches = memory.cache[: 2 * num_layers * one].view(num_layers, 2, -1, batch.kv_heads, batch.head_dim)
        shape = (self.layout.num_pages, self.layout.page_size, batch.kv_heads, batch.head_dim)
        strides = (self.layout.stride * row, row, batch.head_dim, 1)
        size = query_elements(batch)
        num_queries = min(num_layers, memory.queries.numel() // size)
        queries = memory.queries[: num_queries * size].view(num_queries, -1, batch.q_heads, batch.head_dim)
        self.layers = [
            Layer(queries[i % num_queries], k.as_strided(shape, strides), v.as_strided(shape, strides), k, v)
            for i, (k, v) in enumerate(caches)
        ]

    @cached_property
    def kv_scale(self) -> torch.Tensor | None:
        """What keys and values are multiplied by: one float, on the device; None: nothing."""
        return torch.full((1,), F8_SCALE, device=self.device) if self.kv_dtype == F8 else None

    @cached_property
    def q_start(self) -> torch.Tensor:
        """[requests + 1] int32, on the host."""
        return torch.tensor([0, *self.batch.q_lens]).cumsum(0).to(torch.int32)

    @cached_property
    def kv_len(self) -> torch.Tensor:
        """[requests] int32, on the host."""
        return torch.tensor(self.batch.kv_lens, dtype=torch.int32)

    def tokens_of(self, requests: range) -> slice:
        """The query tokens of some requests."""
        return slice(int(self.q_start[requests.start]), int(self.q_start[requests.stop]))

    def cache_of(self, request: int, layer: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of one request, each [kv, kv_heads, head_dim]. Copies, unless the cache is contiguous."""
        tokens, kv_len = self.layers[layer], self.batch.kv_lens[request]
        pages = self.layout.page_list(request)
        if self.layout.is_contiguous:
            begin = int(pages[0]) * self.layout.stride
            return tokens.k_tokens[begin : begin + kv_len], tokens.v_tokens[begin : begin + kv_len]
        pages = pages.long().to(self.device)
        return tokens.k[pages].flatten(0, 1)[:kv_len], tokens.v[pages].flatten(0, 1)[:kv_len]
