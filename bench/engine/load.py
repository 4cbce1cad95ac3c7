# SPDX-License-Identifier: Apache-2.0
"""Requests by how many tokens they have: made from a seed, or read from a trace."""

from __future__ import annotations

import csv
import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class LoadError(Exception):
    """A load cannot be made; the message names it and what is wrong."""


class Request(NamedTuple):
    """One request, and when it comes, in seconds from the start."""

    prompt_tokens: int
    output_tokens: int
    at_s: float = 0.0


@dataclass(frozen=True)
class Load:
    """Requests, all at once; `left_out` are those of a trace that are longer than the model's context."""

    name: str
    requests: list[Request]
    left_out: int = 0


class _Lengths(NamedTuple):
    """Log-normal, by its mean, and cut to a range."""

    mean: float
    sigma: float
    least: int
    most: int

    def draw(self, rng: random.Random) -> int:
        middle = math.log(self.mean) - self.sigma**2 / 2
        return min(self.most, max(self.least, round(rng.lognormvariate(middle, self.sigma))))


# Means and spreads near those of public traces: summaries of papers, and conversations.
SYNTHETIC = {
    "arxiv": (_Lengths(10_000, 0.5, 1_000, 30_000), _Lengths(470, 0.7, 16, 2_000)),
    "chat": (_Lengths(1_150, 1.1, 16, 8_000), _Lengths(210, 0.8, 8, 1_000)),
}
# Names of the same two columns in public traces: prompt, answer.
_TRACE_COLUMNS = [
    ("num_prefill_tokens", "num_decode_tokens"),
    ("ContextTokens", "GeneratedTokens"),
    ("input_length", "output_length"),
]
GRAMMAR = "arxiv:COUNT, chat:COUNT, uniform:COUNT:LOW-HIGH:LOW-HIGH (prompt, answer) or trace=FILE:COUNT"


def make_load(text: str, max_len: int, seed: int) -> Load:
    """A load of that description; the same seed gives the same requests."""
    kind, *fields = text.split(":")
    rng = random.Random(f"{seed} {text}")
    try:
        if kind in SYNTHETIC and len(fields) == 1:
            prompts, answers = SYNTHETIC[kind]
            pairs = ((prompts.draw(rng), answers.draw(rng)) for _ in range(1_000_000))
            return _take(kind, pairs, int(fields[0]), max_len)
        if kind == "uniform" and len(fields) == 3:
            ranges = [_range(part) for part in fields[1:]]
            pairs = ((rng.randint(*ranges[0]), rng.randint(*ranges[1])) for _ in range(1_000_000))
            return _take(text.partition(":")[2], pairs, int(fields[0]), max_len)
        if kind.startswith("trace=") and len(fields) == 1:
            path = Path(kind.partition("=")[2])
            return _take(path.stem, _trace(path), int(fields[0]), max_len)
    except ValueError as error:
        raise LoadError(f"load {text!r}: {error}; {GRAMMAR} is needed") from None
    raise LoadError(f"load {text!r} is none of {GRAMMAR}")


def _range(text: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    if not dash or not 1 <= int(low) <= int(high):
        raise ValueError(f"{text!r} is no range LOW-HIGH from 1 up")
    return int(low), int(high)


def _take(name: str, pairs: Iterator[tuple[int, int]], count: int, max_len: int) -> Load:
    """The first `count` that fit into the model's context."""
    if count < 1:
        raise ValueError(f"{count} requests")
    requests: list[Request] = []
    left_out = 0
    for prompt, answer in pairs:
        if prompt < 1 or answer < 1 or prompt + answer > max_len:
            left_out += 1
            if left_out > 1000 * count:
                break
            continue
        requests.append(Request(prompt, answer))
        if len(requests) == count:
            return Load(name, requests, left_out)
    raise LoadError(f"load {name}: {len(requests)} of {count} requests have at most {max_len} tokens")


def _trace(path: Path) -> Iterator[tuple[int, int]]:
    """Prompt and answer tokens of each line, of CSV with a heading or of JSON lines."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = map(json.loads, file) if path.suffix == ".jsonl" else csv.DictReader(file)
            for number, row in enumerate(rows, start=1):
                yield _lengths(row, path, number)
    except OSError as error:
        raise LoadError(f"{path}: {error.strerror}") from None


def _lengths(row: dict[str, object], path: Path, number: int) -> tuple[int, int]:
    for prompt, answer in _TRACE_COLUMNS:
        if prompt in row and answer in row:
            try:
                return int(float(str(row[prompt]))), int(float(str(row[answer])))
            except ValueError:
                raise LoadError(
                    f"{path}: request {number} has {prompt} {row[prompt]!r} and {answer} {row[answer]!r}"
                ) from None
    known = "; ".join(", ".join(pair) for pair in _TRACE_COLUMNS)
    raise LoadError(f"{path}: request {number} has {', '.join(map(str, row))}, and none of: {known}")
