# SPDX-License-Identifier: Apache-2.0
"""Batch files: `name;q_heads;kv_heads;head_dim;window;requests`, one batch a line; `#` begins a line of comment.

`requests` are `[COUNTx]Q@KV`, separated by spaces: Q new tokens at the end of a context of KV tokens, COUNT times (1).
`window` is the number of keys that a token sees, its own included; 0 is no limit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

COLUMNS = "name q_heads kv_heads head_dim window requests".split()
# Requests with more new tokens than this are prefill; the others are decodes, with drafts or without.
MAX_DECODE_TOKENS = 16
_REQUEST = re.compile(r"(?:(\d+)x)?(\d+)@(\d+)")


class BatchFileError(Exception):
    """A batch file is wrong; the message names the file, the line and the field."""


@dataclass(frozen=True)
class Requests:
    """`count` requests of `q` new tokens at the end of `kv` tokens of context."""

    count: int
    q: int
    kv: int

    def __str__(self) -> str:
        return f"{self.count}x{self.q}@{self.kv}" if self.count > 1 else f"{self.q}@{self.kv}"


def _sum_to(n: int) -> int:
    return n * (n + 1) // 2


@dataclass(frozen=True)
class Batch:
    """One line of a batch file. `page_size` is the run's: 0 is a contiguous cache."""

    name: str
    q_heads: int
    kv_heads: int
    head_dim: int
    window: int
    requests: tuple[Requests, ...]
    file: str = ""
    page_size: int = 16

    @property
    def label(self) -> str:
        return f"{self.file}/{self.name}" if self.file else self.name

    @property
    def is_decode(self) -> list[bool]:
        return [r.q <= MAX_DECODE_TOKENS for r in self.requests]

    @cached_property
    def ordered(self) -> list[Requests]:
        """Prefill first, then decodes, each in the file's order."""
        return sorted(self.requests, key=lambda r: r.q <= MAX_DECODE_TOKENS)

    @cached_property
    def q_lens(self) -> list[int]:
        return [r.q for r in self.ordered for _ in range(r.count)]

    @cached_property
    def kv_lens(self) -> list[int]:
        return [r.kv for r in self.ordered for _ in range(r.count)]

    @cached_property
    def num_prefill(self) -> int:
        return sum(r.count for r in self.requests if r.q > MAX_DECODE_TOKENS)

    @property
    def all(self) -> range:
        """Indices into q_lens and kv_lens."""
        return range(len(self.q_lens))

    @property
    def prefill(self) -> range:
        return range(self.num_prefill)

    @property
    def decodes(self) -> range:
        return range(self.num_prefill, len(self.q_lens))

    @property
    def has_both_sides(self) -> bool:
        return 0 < self.num_prefill < len(self.q_lens)

    @property
    def num_tokens(self) -> int:
        return sum(r.count * r.q for r in self.requests)

    def seen_tokens(self, r: Requests) -> int:
        """Keys of one such request that any of its tokens sees."""
        return min(r.kv, r.q + self.window - 1) if self.window else r.kv

    @property
    def seen_elements(self) -> int:
        """Of keys and values that have to be read."""
        return 2 * self.kv_heads * self.head_dim * sum(r.count * self.seen_tokens(r) for r in self.requests)

    @property
    def flops(self) -> int:
        """Multiplications and additions that the masks leave."""
        pairs = 0
        for r in self.requests:
            window = min(self.window or r.kv, r.kv)
            rising = max(0, min(window, r.kv) - (r.kv - r.q))  # tokens that see all before them, fewer than the window
            before = r.kv - r.q
            pairs += r.count * (_sum_to(before + rising) - _sum_to(before) + (r.q - rising) * window)
        return 4 * self.q_heads * self.head_dim * pairs

    def part(self, requests: range) -> Batch:
        """The batch that is left when one side is computed alone; or all of it."""
        if requests == self.all:
            return self
        kept = tuple(r for r in self.requests if (r.q > MAX_DECODE_TOKENS) == (requests == self.prefill))
        return replace(self, requests=kept)


def format_requests(requests: Iterable[Requests]) -> str:
    return " ".join(map(str, requests))


def parse_requests(text: str) -> tuple[Requests, ...]:
    """ValueError names the request that is wrong."""
    found = []
    for word in text.split():
        match = _REQUEST.fullmatch(word)
        if not match:
            raise ValueError(f'requests: "{word}" is not [COUNTx]Q@KV')
        request = Requests(*(int(number or 1) for number in match.groups()))
        if not (request.count >= 1 and 1 <= request.q <= request.kv):
            raise ValueError(f'requests: "{word}": COUNT and Q are at least 1, and KV is at least Q')
        found.append(request)
    if not found:
        raise ValueError("requests: there are none")
    return tuple(found)


def _number(field: str, text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise ValueError(f'{field}: "{text}" is not a whole number of at least {least}')
    return int(text)


def parse_line(line: str, file: str = "", page_size: int = 16) -> Batch:
    """ValueError names the field."""
    fields = [field.strip() for field in line.split(";")]
    if len(fields) != len(COLUMNS):
        raise ValueError(f"{len(fields)} fields; {len(COLUMNS)} are needed: {';'.join(COLUMNS)}")
    name, *numbers, requests = fields
    if not name or "/" in name or ": " in name:
        raise ValueError(f'name: "{name}" is empty or has a "/" or ": "')
    q_heads, kv_heads, head_dim = (_number(f, text, 1) for f, text in zip(COLUMNS[1:4], numbers))
    if q_heads % kv_heads:
        raise ValueError(f"q_heads: {q_heads} is not a multiple of kv_heads {kv_heads}")
    window = _number("window", numbers[3], 0)
    return Batch(name, q_heads, kv_heads, head_dim, window, parse_requests(requests), file, page_size)


def read_batches(path: Path, page_size: int = 16) -> list[Batch]:
    """BatchFileError if there is no such file, no batch, or one that is wrong or named twice."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BatchFileError(f"{path}: {error.strerror}") from None
    batches: dict[str, Batch] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#") or line.replace(" ", "") == ";".join(COLUMNS):
            continue
        try:
            batch = parse_line(line, path.stem, page_size)
        except ValueError as error:
            raise BatchFileError(f"{path}:{number}: {error}") from None
        if batch.name in batches:
            raise BatchFileError(f"{path}:{number}: name: {batch.name} is there twice")
        batches[batch.name] = batch
    if not batches:
        raise BatchFileError(f"{path}: no batches")
    return list(batches.values())


def format_batch(batch: Batch) -> str:
    numbers = (batch.q_heads, batch.kv_heads, batch.head_dim, batch.window)
    return ";".join((batch.name, *map(str, numbers), format_requests(batch.requests)))
