#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes every file of bench/batches. The same numbers come out each time; a test compares them with what is there.

python3 bench/make_batches.py              # into bench/batches
python3 bench/make_batches.py build/x      # elsewhere
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from libraries.batch_file import COLUMNS, Batch, Requests, format_batch, format_requests, parse_requests

FOLDER = Path(__file__).parent / "batches"


@dataclass(frozen=True)
class Shape:
    """Heads of one GPU."""

    q_heads: int
    kv_heads: int
    head_dim: int = 128

    def __str__(self) -> str:
        return f"{self.q_heads}-{self.kv_heads}" + (f"-d{self.head_dim}" if self.head_dim != 128 else "")


LLAMA_3_8B = Shape(32, 8)
HEADS = [Shape(*heads) for heads in ((32, 8), (64, 8), (32, 4), (32, 32), (16, 4))]
HEADS += [Shape(*heads) for heads in ((16, 2), (28, 4), (8, 2), (8, 1), (4, 1))]
SIX = [LLAMA_3_8B, Shape(8, 1), Shape(64, 8, 64), Shape(64, 8), Shape(28, 4), Shape(32, 32)]
RAGGED = [LLAMA_3_8B, Shape(64, 8), Shape(28, 4), Shape(40, 8), Shape(8, 1), Shape(4, 1), Shape(64, 8, 64)]

# A chunk and uniform decodes, from few decodes to many.
MIXES = [
    *("512@4096 16x1@4096", "1024@4096 16x1@4096", "2048@2048 16x1@4096", "512@16384 64x1@4096"),
    *("1024@8192 64x1@4096", "2048@4096 64x1@4096", "2048@16384 64x1@4096", "1024@16384 128x1@4096"),
    *("2048@8192 128x1@4096", "512@512 60x1@8192", "1024@8192 60x1@8192", "2048@16384 60x1@8192"),
    *("2048@8192 100x1@8192", "1024@4096 32x1@16384", "2048@8192 32x1@16384", "512@8192 54x1@16384"),
    "2048@16384 54x1@16384",
]
_RAGGED_DECODES = random.Random(48)
DECODES = {
    **{text: text for text in ("1@1024", "1@8192", "1@131072", "8x1@1024", "8x1@8192", "64x1@1024", "64x1@4096")},
    **{text: text for text in ("256x1@1024", "256x1@512")},
    "ragged48": " ".join(f"1@{_RAGGED_DECODES.randint(100, 12000)}" for _ in range(48)),
    **{text: text for text in ("32x2@4096", "32x4@4096", "32x8@4096")},
}
PROMPTS = {
    **{f"{q}@{q}": f"{q}@{q}" for q in (64, 200, 512, 1024, 2048, 4096)},
    "512@32768": "512@32768",
    "ragged4": "300@300 500@500 700@700 548@548",
    **{text: text for text in ("16x128@128", "40x37@1000", "64x16@2048")},
}
# Too many keys and values for heads that each have their own.
LARGE = ("64x1@4096", "256x1@1024")
MANY_DECODES, MANY_PROMPTS = ("256x1@200", "1024x1@200", "4096x1@200"), ("512x34@34", "2048x34@34")
WINDOWED = [
    *("16x1@8192", "256x1@1024", "64x1@32768"),
    *("2048@2048", "8192@8192", "512@32768"),
    *("512@4096 128x1@2048", "2048@8192 64x1@8192", "1024@1024 300@300 700@5000 96x1@4096"),
]


# Heads of Gemma 3 and of Qwen3-Next, and a shard of the latter.
WIDE = [Shape(*heads, 256) for heads in ((16, 8), (16, 2), (8, 1))]
WIDE_SIDES = [
    *("1024@8192", "2048@8192", "2048@2048", "512@512", "1@8192", "32x1@8192", "64x1@4096"),
    *("512@8192 32x1@8192", "1024@8192 64x1@4096", "2048@8192 64x1@4096", "1024@16384 100x1@8192"),
]
WIDE_WINDOWED = ("2048@8192", "64x1@4096", "2048@8192 64x1@4096")


def batch(shape: Shape, requests: str, name: str = "", window: int = 0) -> Batch:
    parsed = parse_requests(requests)
    name = name or format_requests(parsed).replace(" ", "+")
    return Batch(f"{shape},{name}", shape.q_heads, shape.kv_heads, shape.head_dim, window, parsed)


def llama_3_8b_84() -> Iterator[Batch]:
    decodes = ("16x1@4096", "32x1@16384", "54x1@16384", "60x1@8192", "64x1@4096", "100x1@8192", "128x1@4096")
    for q, kv, decode in product((512, 1024, 2048), (0, 4096, 8192, 16384), decodes):
        yield batch(LLAMA_3_8B, f"{q}@{kv or q} {decode}")


def heads() -> Iterator[Batch]:
    return (batch(shape, mix) for shape, mix in product(HEADS, MIXES))


def head_dim_64() -> Iterator[Batch]:
    for shape, mixes in ((Shape(64, 8, 64), MIXES), (Shape(32, 8, 64), MIXES[::2]), (Shape(8, 1, 64), MIXES[::2])):
        yield from (batch(shape, mix) for mix in mixes)


def head_dim_256() -> Iterator[Batch]:
    yield from (batch(shape, requests) for shape, requests in product(WIDE, WIDE_SIDES))
    for requests in WIDE_WINDOWED:
        made = batch(WIDE[0], requests, window=1024)
        yield replace(made, name=f"{made.name},window1024")


def drafts() -> Iterator[Batch]:
    shapes = (LLAMA_3_8B, Shape(64, 8), Shape(8, 1), Shape(64, 8, 64))
    for shape, beside, tokens in product(shapes, ("", "2048@8192 "), (2, 3, 4, 5, 8, 16)):
        yield batch(shape, f"{beside}64x{tokens}@8192")


def windows() -> Iterator[Batch]:
    for shape, window, requests in product((LLAMA_3_8B, Shape(64, 8, 64)), (128, 1024), WINDOWED):
        made = batch(shape, requests, window=window)
        yield replace(made, name=f"{made.name},window{window}")


def _table(rows: dict[str, str], many: tuple[str, ...]) -> Iterator[Batch]:
    for shape, (name, requests) in product(SIX, rows.items()):
        if shape.kv_heads < 32 or requests not in LARGE:
            yield batch(shape, requests, name if name.startswith("ragged") else "")
    yield from (batch(shape, requests) for shape, requests in product((LLAMA_3_8B, Shape(8, 1)), many))


def decodes() -> Iterator[Batch]:
    return _table(DECODES, MANY_DECODES)


def prompts() -> Iterator[Batch]:
    return _table(PROMPTS, MANY_PROMPTS)


def small() -> Iterator[Batch]:
    for requests in ("512@2048 32x1@2048", "256@256 100@612 24x1@1024", "300@300 8x4@1024", "64x1@1024"):
        yield batch(LLAMA_3_8B, requests)
    yield batch(LLAMA_3_8B, "256@1024 16x1@2048", "window", window=512)


# ---- steps of a request trace ----

# (median, sigma, least, most) of prompts and answers: the log-normal moments of `podattn replay --synthetic`.
TRACES = {
    "chat": ((833, 0.8083, 1, 16384), (167, 0.6833, 1, 4096)),
    "arxiv": ((6715, 0.7251, 4097, 32768), (338, 0.4955, 1, 2000)),
}
BUDGETS, STEPS = (512, 1024, 2048), 4
MOST_RUNNING, MOST_KV_TOKENS = 96, 400_000


def _draw(generator: random.Random, median: float, sigma: float, least: int, most: int) -> int:
    while True:
        value = round(median * generator.lognormvariate(0, sigma))
        if least <= value <= most:
            return value


@dataclass
class _Request:
    prompt: int
    answer: int
    done: int = 0  # tokens that are in the cache


def steps(trace: str, budget: int, seed: int = 1) -> Iterator[list[Requests]]:
    """Of requests without end: each running decode gets a token, then prompts get chunks, first come, first served."""
    generator = random.Random(f"{trace} {budget} {seed}")
    prompt, answer = TRACES[trace]
    running: list[_Request] = []
    while True:
        step, left = [], budget
        for request in running:
            if request.done >= request.prompt:
                step.append((request, 1))
                left -= 1
        for request in (r for r in running if r.done < r.prompt):
            step.append((request, min(left, request.prompt - request.done)))
            left -= step[-1][1]
        held = sum(r.prompt + r.answer for r in running)
        while left > 0 and len(running) < MOST_RUNNING and held < MOST_KV_TOKENS:
            running.append(_Request(_draw(generator, *prompt), _draw(generator, *answer)))
            held += running[-1].prompt + running[-1].answer
            step.append((running[-1], min(left, running[-1].prompt)))
            left -= step[-1][1]
        step = [(request, tokens) for request, tokens in step if tokens > 0]
        for request, tokens in step:
            request.done += tokens
        yield [Requests(1, tokens, request.done) for request, tokens in step]
        running = [r for r in running if r.done < r.prompt + r.answer]


def _sampled_steps() -> dict[str, str]:
    """Some hybrid steps of each trace, from when as many requests run as ever will."""
    sampled = {}
    for trace, budget in product(TRACES, BUDGETS):
        wanted = [1500 + 137 * i for i in range(STEPS)]
        for number, step in enumerate(steps(trace, budget)):
            if wanted and number >= wanted[0] and 1 < len(step) < sum(r.q for r in step):
                sampled[f"{trace},{budget},step{number}"] = format_requests(step)
                wanted.pop(0)
            if not wanted:
                break
    return sampled


def ragged() -> Iterator[Batch]:
    sampled = _sampled_steps()
    return (batch(shape, requests, name) for shape, (name, requests) in product(RAGGED, sampled.items()))


FILES = {
    "llama_3_8b_84": ("the batches of the README's headline: Llama-3-8B, a chunk and uniform decodes", llama_3_8b_84),
    "small": ("small enough for a CPU", small),
    "heads": ("ten head counts: a chunk and uniform decodes", heads),
    "head_dim_64": ("the same with head_dim 64", head_dim_64),
    "head_dim_256": ("head_dim 256: each side alone, both, and windows of 1,024 tokens", head_dim_256),
    "drafts": ("decodes of several tokens, alone and beside a chunk", drafts),
    "windows": ("windows of 128 and 1,024 tokens: decodes, prompts and both", windows),
    "decodes": ("decodes alone", decodes),
    "prompts": ("prompts alone", prompts),
    "ragged": ("steps of made-up request traces, as a scheduler of chunked prefill puts them together", ragged),
}


def text_of(name: str) -> str:
    title, make = FILES[name]
    lines = [f"# {title}; written by bench/make_batches.py", ";".join(COLUMNS), *map(format_batch, make())]
    return "\n".join(lines) + "\n"


def main(folder: Path = FOLDER) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        path = folder / f"{name}.csv"
        path.write_text(text_of(name), encoding="utf-8")
        print(f"{path}: {len(path.read_text(encoding='utf-8').splitlines()) - 2} batches")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="where the files go (bench/batches)")
    main(parser.parse_args().folder)
