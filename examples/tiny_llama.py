#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Decodes a tiny Llama with random weights in hybrid batches, and checks every token against PyTorch's attention.

Requests arrive one after another. A step holds the next token of every running request and a chunk of one prompt,
whose keys and values podattn rotates and puts into pages of a shared cache; it computes the step's attention in one
call per layer, planned once. Afterwards each request's text goes through the same model again, alone and in one piece,
with scaled_dot_product_attention: it has to choose the same token at every place.

    python3 examples/tiny_llama.py --device cpu
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from typing import Callable, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import podattn

VOCABULARY, WIDTH, LAYERS, Q_HEADS, KV_HEADS, HEAD_DIM = 256, 256, 3, 4, 2, 64
PAGE_SIZE, CHUNK_TOKENS, MAX_KV_LEN = 16, 48, 256
ROPE = podattn.Rope(base=10_000.0)

# Attention of one layer: (layer, q, k, v of the new tokens, not rotated) -> output, all [tokens, heads, head_dim].
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


class Block(nn.Module):
    """Attention and feed-forward, each after a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm, self.feed_norm = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, (Q_HEADS + 2 * KV_HEADS) * HEAD_DIM, bias=False)
        self.project = nn.Linear(Q_HEADS * HEAD_DIM, WIDTH, bias=False)
        self.gate_up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(2 * WIDTH, WIDTH, bias=False)
        # Large enough for attention to choose, so that a wrong one changes the text.
        nn.init.normal_(self.qkv.weight, std=1.5 * WIDTH**-0.5)
        nn.init.normal_(self.project.weight, std=2.0 * WIDTH**-0.5)

    def forward(self, x: Tensor, layer: int, attend: Attend) -> Tensor:
        qkv = self.qkv(self.attention_norm(x)).view(-1, Q_HEADS + 2 * KV_HEADS, HEAD_DIM)
        q, k, v = qkv.split([Q_HEADS, KV_HEADS, KV_HEADS], dim=1)
        x = x + self.project(attend(layer, q, k, v).flatten(1).to(x.dtype))
        gate, up = self.gate_up(self.feed_norm(x)).chunk(2, dim=1)
        return x + self.down(F.silu(gate) * up)


class TinyLlama(nn.Module):
    """Token ids in, logits out; how attention is computed is the caller's choice."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.RMSNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, tokens: Tensor, attend: Attend) -> Tensor:
        x = self.embedding(tokens)
        for layer, block in enumerate(self.blocks):
            x = block(x, layer, attend)
        return self.head(self.norm(x))


def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """Rotary position embedding of `[tokens, heads, head_dim]`."""
    frequencies = ROPE.base ** (-torch.arange(0, HEAD_DIM, 2, device=x.device) / HEAD_DIM)
    angles = positions.unsqueeze(1) * frequencies
    cosine, sine = angles.cos().unsqueeze(1), angles.sin().unsqueeze(1)
    low, high = x.float().chunk(2, dim=2)
    return torch.cat([low * cosine - high * sine, low * sine + high * cosine], dim=2).to(x.dtype)


@dataclass
class Request:
    """A prompt, the tokens chosen for it, and its pages of the cache."""

    prompt: list[int]
    max_new_tokens: int
    arrives: int
    pages: list[int] = field(default_factory=list)
    num_cached: int = 0
    text: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.text = list(self.prompt)

    @property
    def is_finished(self) -> bool:
        return len(self.text) == len(self.prompt) + self.max_new_tokens


class PagedEngine:
    """Steps through requests with chunked prefill over one paged cache."""

    def __init__(self, model: TinyLlama, requests: list[Request], dtype: torch.dtype, device: str) -> None:
        self.model, self.dtype, self.device = model, dtype, device
        num_pages = sum(-(-(len(r.prompt) + r.max_new_tokens) // PAGE_SIZE) for r in requests)
        self.free_pages = torch.randperm(num_pages).tolist()
        # A page holds its keys, then its values, as some engines keep them: a matter of strides.
        self.cache = torch.zeros(LAYERS, num_pages, 2, PAGE_SIZE, KV_HEADS, HEAD_DIM, dtype=dtype, device=device)
        self.plan = podattn.Plan(
            q_heads=Q_HEADS, kv_heads=KV_HEADS, head_dim=HEAD_DIM, page_size=PAGE_SIZE, num_pages=num_pages,
            max_requests=len(requests), max_q_tokens=CHUNK_TOKENS + len(requests), max_kv_len=MAX_KV_LEN,
            dtype=dtype, device=device,
        )  # fmt: skip

    def step(self, running: list[Request]) -> None:
        """One token of every decoding request, and a chunk of the first prompt that is not cached yet."""
        batch = self._choose(running)
        q_lens = [count for _, count in batch]
        for request, count in batch:
            self._reserve(request, request.num_cached + count)
        tokens = [t for r, count in batch for t in r.text[r.num_cached : r.num_cached + count]]
        logits = self._run(batch, q_lens, torch.tensor(tokens, device=self.device))
        lasts = torch.tensor(q_lens).cumsum(0) - 1
        for (request, count), token in zip(batch, logits[lasts.to(self.device)].argmax(1).tolist()):
            request.num_cached += count
            if request.num_cached == len(request.text):
                request.text.append(token)

    def _choose(self, running: list[Request]) -> list[tuple[Request, int]]:
        decodes = [(r, 1) for r in running if len(r.text) - r.num_cached == 1 and r.num_cached >= len(r.prompt)]
        prompts = [r for r in running if r.num_cached < len(r.prompt)]
        chunks = [(r, min(CHUNK_TOKENS, len(r.prompt) - r.num_cached)) for r in prompts[:1]]
        return chunks + decodes

    def _reserve(self, request: Request, kv_len: int) -> None:
        while len(request.pages) * PAGE_SIZE < kv_len:
            request.pages.append(self.free_pages.pop())

    def _run(self, batch: list[tuple[Request, int]], q_lens: list[int], tokens: Tensor) -> Tensor:
        q_start = [sum(q_lens[:i]) for i in range(len(q_lens) + 1)]
        width = max(len(r.pages) for r, _ in batch)
        table = [r.pages + [0] * (width - len(r.pages)) for r, _ in batch]
        self.plan.build(q_start, [r.num_cached + count for r, count in batch], table)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = self.cache[layer, :, 0], self.cache[layer, :, 1]
            # The batch says where each token goes, and at which position it is rotated.
            q = self.plan.append(k, v, keys, values, q, rope=ROPE)
            return self.plan.attention(q, keys, values)

        return self.model(tokens, attend)


def serve(model: TinyLlama, requests: list[Request], dtype: torch.dtype, device: str) -> tuple[int, int]:
    """Runs all requests to their end; returns (steps, hybrid steps)."""
    engine = PagedEngine(model, requests, dtype, device)
    steps = hybrid_steps = 0
    while not all(r.is_finished for r in requests):
        running = [r for r in requests if r.arrives <= steps and not r.is_finished]
        num_decoding = sum(r.num_cached >= len(r.prompt) for r in running)
        hybrid_steps += 0 < num_decoding < len(running)
        engine.step(running)
        steps += 1
    return steps, hybrid_steps


def sdpa_logits(model: TinyLlama, text: list[int], dtype: torch.dtype, device: str) -> Tensor:
    """Of every place of a text, by the same model on PyTorch's attention."""
    positions = torch.arange(len(text), device=device)

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = rotate(q, positions), rotate(k, positions)
        heads_first = (x.to(dtype).transpose(0, 1).unsqueeze(0) for x in (q, k, v))
        return F.scaled_dot_product_attention(*heads_first, is_causal=True, enable_gqa=True)[0].transpose(0, 1)

    return model(torch.tensor(text, device=device), attend)


def count_mismatches(model: TinyLlama, requests: list[Request], dtype: torch.dtype, device: str) -> int:
    """Places where PyTorch's attention would have chosen another token."""
    mismatches = 0
    for request in requests:
        logits = sdpa_logits(model, request.text[:-1], dtype, device)
        chosen = logits[len(request.prompt) - 1 :].argmax(1).tolist()
        mismatches += sum(a != b for a, b in zip(chosen, request.text[len(request.prompt) :]))
    return mismatches


@torch.no_grad()
def main() -> Optional[str]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"],
                        help="of attention and cache; float32 on a CPU, float16 on a GPU")  # fmt: skip
    parser.add_argument("--requests", type=int, default=6)
    parser.add_argument("--new-tokens", type=int, default=24)
    options = parser.parse_args()
    name = options.dtype or ("float32" if options.device == "cpu" else "float16")
    dtype = getattr(torch, name)
    torch.manual_seed(0)
    model = TinyLlama().to(options.device)
    requests = [
        Request(torch.randint(VOCABULARY, (20 + 37 * i % 120,)).tolist(), options.new_tokens, arrives=3 * i)
        for i in range(options.requests)
    ]
    steps, hybrid_steps = serve(model, requests, dtype, options.device)
    mismatches = count_mismatches(model, requests, dtype, options.device)
    num_tokens = options.requests * options.new_tokens
    print(f"{options.device}, {name}: {steps} steps, {hybrid_steps} of them hybrid; "
          f"{num_tokens - mismatches} of {num_tokens} tokens as with PyTorch's attention")  # fmt: skip
    return f"{mismatches} tokens differ" if mismatches else None


if __name__ == "__main__":
    sys.exit(main())
