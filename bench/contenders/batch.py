# SPDX-License-Identifier: Apache-2.0
"""One hybrid batch, a prefill chunk and then decodes of one token, and its tensors: the same for every contender."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import torch

# Keys and values of one batch that would stay in the L2 cache from one call to the next are kept several times.
ROTATED_BYTES = 200e6
MAX_LAYERS = 16


class LeftOut(Exception):  # noqa: N818
    """A contender does not compute this batch; the message says why."""


class Missing(LeftOut):
    """A contender's library is not here: it computes no batch."""


@dataclass(frozen=True)
class Batch:
    """The shape of one row of a batch file."""

    q_heads: int
    kv_heads: int
    prefill_q: int
    prefill_kv: int
    decode_n: int
    decode_kv: int
    head_dim: int = 128
    page_size: int = 16

    @property
    def case(self) -> str:
        return f"{self.prefill_q}@{self.prefill_kv}+{self.decode_n}@{self.decode_kv}"

    @property
    def q_lens(self) -> list[int]:
        return [self.prefill_q] + [1] * self.decode_n

    @property
    def kv_lens(self) -> list[int]:
        return [self.prefill_kv] + [self.decode_kv] * self.decode_n

    @property
    def kv_bytes(self) -> int:
        """Of keys and values in a type of two bytes."""
        return 4 * sum(self.kv_lens) * self.kv_heads * self.head_dim

    @property
    def flops(self) -> int:
        """Multiplications and additions that the masks leave."""
        seen = self.prefill_q * self.prefill_kv - self.prefill_q * (self.prefill_q - 1) // 2
        return 4 * self.q_heads * self.head_dim * (seen + self.decode_n * self.decode_kv)


def read_batches(path: Path) -> list[Batch]:
    """The batches of a file with a heading line, fields separated by `;` or `,`; other columns are ignored."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    if not lines:
        raise SystemExit(f"{path}: no batches")
    rows = list(csv.DictReader(lines, delimiter=";" if ";" in lines[0] else ","))
    needed = [f.name for f in fields(Batch)][:6]
    missing = [name for name in needed if name not in lines[0].replace(",", ";").split(";")]
    if missing:
        raise SystemExit(f"{path}: no column {', '.join(missing)}")
    return [Batch(*(int(row[name]) for name in needed)) for row in rows]


@dataclass
class Layer:
    """Tensors of one layer: q [tokens, q_heads, head_dim], k and v [pages, page_size, kv_heads, head_dim]."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor


class Inputs:
    """Random tensors of a batch. Pages lie in random order; request 0 is the prefill."""

    def __init__(self, batch: Batch, device: str, dtype: torch.dtype, seed: int = 0) -> None:
        self.batch, self.device, self.dtype = batch, torch.device(device), dtype
        self.generator = torch.Generator(device).manual_seed(seed)
        self.pages_of = [math.ceil(kv / batch.page_size) for kv in batch.kv_lens]
        self.num_pages = sum(self.pages_of)
        order = torch.randperm(self.num_pages, generator=torch.Generator().manual_seed(seed)).to(torch.int32)
        self.page_lists = list(order.split(self.pages_of))
        layers = min(MAX_LAYERS, math.ceil(ROTATED_BYTES / batch.kv_bytes)) if self.device.type == "cuda" else 1
        self.layers = [self._layer() for _ in range(layers)]
        self._contiguous = {}

    def _random(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self.generator, device=self.device, dtype=self.dtype)

    def _layer(self) -> Layer:
        b = self.batch
        cache = (self.num_pages, b.page_size, b.kv_heads, b.head_dim)
        return Layer(self._random(sum(b.q_lens), b.q_heads, b.head_dim), self._random(*cache), self._random(*cache))

    @cached_property
    def q_start(self) -> torch.Tensor:
        """[requests + 1] int32, on the host."""
        return torch.tensor([0, *self.batch.q_lens]).cumsum(0).to(torch.int32)

    @cached_property
    def kv_len(self) -> torch.Tensor:
        """[requests] int32, on the host."""
        return torch.tensor(self.batch.kv_lens, dtype=torch.int32)

    @cached_property
    def page_table(self) -> torch.Tensor:
        """[requests, most pages of one] int32, on the host; unused entries are 0."""
        return torch.nn.utils.rnn.pad_sequence(self.page_lists, batch_first=True)

    def contiguous(self, layer: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Keys and values of the prefill [kv, kv_heads, head_dim] and of the decodes [n, kv, kv_heads, head_dim], for
        contenders that read no pages.
        """
        if layer not in self._contiguous:
            self._contiguous[layer] = tuple(
                self._gather(cache, decode)
                for decode in (False, True)
                for cache in (self.layers[layer].k, self.layers[layer].v)
            )
        return self._contiguous[layer]

    def _gather(self, cache: torch.Tensor, decode: bool) -> torch.Tensor:
        if not decode:
            return cache[self.page_lists[0].long().to(self.device)].flatten(0, 1)[: self.batch.prefill_kv]
        table = torch.stack(self.page_lists[1:]).long().to(self.device)
        return cache[table].flatten(1, 2)[:, : self.batch.decode_kv]
