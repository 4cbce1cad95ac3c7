# SPDX-License-Identifier: Apache-2.0
"""One hybrid batch, a prefill chunk and then decodes of one token, and its tensors: the same for every contender."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import torch

from .cache import layout_of

# Keys and values of one batch that would stay in the L2 cache from one call to the next are kept several times.
ROTATED_BYTES = 200e6
MAX_LAYERS = 16


class LeftOut(Exception):  # noqa: N818
    """A contender does not compute this batch; the message says why."""


class Missing(LeftOut):
    """A contender computes no batch of this run: its library is not here, or it does not read such caches."""


@dataclass(frozen=True)
class Batch:
    """The shape of one row of a batch file. `page_size` 0 is a contiguous cache."""

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
    def prefill(self) -> range:
        """The requests of this side."""
        return range(1)

    @property
    def decodes(self) -> range:
        return range(1, 1 + self.decode_n)

    @property
    def requests(self) -> range:
        return range(1 + self.decode_n)

    def part(self, requests: range) -> Batch:
        """The batch that is left of this one when a side is computed alone; or all of it."""
        if requests == self.prefill:
            return replace(self, decode_n=0, decode_kv=0)
        return replace(self, prefill_q=0, prefill_kv=0) if requests == self.decodes else self

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


def read_batches(path: Path, page_size: int = 16) -> list[Batch]:
    """The batches of a file with a heading line, fields separated by `;` or `,`; other columns are ignored."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    if not lines:
        raise SystemExit(f"{path}: no batches")
    rows = list(csv.DictReader(lines, delimiter=";" if ";" in lines[0] else ","))
    needed = [f.name for f in fields(Batch)][:6]
    missing = [name for name in needed if name not in lines[0].replace(",", ";").split(";")]
    if missing:
        raise SystemExit(f"{path}: no column {', '.join(missing)}")
    return [Batch(*(int(row[name]) for name in needed), page_size=page_size) for row in rows]


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


class Inputs:
    """Random tensors of a batch, made on the device. Request 0 is the prefill; `layout` says where a cache has what."""

    def __init__(self, batch: Batch, device: str, dtype: torch.dtype, seed: int = 0) -> None:
        self.batch, self.device, self.dtype = batch, torch.device(device), dtype
        self.generator = torch.Generator(device).manual_seed(seed)
        self.layout = layout_of(batch.prefill_kv, batch.decode_n, batch.decode_kv, batch.page_size, seed)
        layers = min(MAX_LAYERS, math.ceil(ROTATED_BYTES / batch.kv_bytes)) if self.device.type == "cuda" else 1
        self.layers = [self._layer() for _ in range(layers)]
        self._gathered = {}

    def _random(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self.generator, device=self.device, dtype=self.dtype)

    def _layer(self) -> Layer:
        b = self.batch
        cache = (self.layout.num_tokens, b.kv_heads, b.head_dim)
        q, k, v = self._random(sum(b.q_lens), b.q_heads, b.head_dim), self._random(*cache), self._random(*cache)
        return Layer(q, self.layout.pages(k), self.layout.pages(v), k, v)

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
        return torch.nn.utils.rnn.pad_sequence(self.layout.page_lists, batch_first=True)

    def tokens_of(self, requests: range) -> slice:
        """The query tokens of some requests."""
        return slice(int(self.q_start[requests.start]), int(self.q_start[requests.stop]))

    def contiguous(self, layer: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Keys and values of the prefill [kv, kv_heads, head_dim] and of the decodes [n, kv, kv_heads, head_dim], for
        contenders that read no pages. Copies, unless the cache is contiguous.
        """
        if layer not in self._gathered:
            caches = (self.layers[layer].k_tokens, self.layers[layer].v_tokens)
            sides = (self.layout.prefill, self.layout.decodes)
            self._gathered[layer] = tuple(side(cache) for side in sides for cache in caches)
        return self._gathered[layer]
