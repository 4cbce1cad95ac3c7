# SPDX-License-Identifier: Apache-2.0
"""The backend on random steps of all modes, with a fake of SGLang's classes, against double precision."""

from __future__ import annotations

import os
import random
import types
from typing import Any

import pytest
import torch
from attention_reference import reference
from fake_sglang import (
    ForwardBatch,
    ForwardMode,
    TokenPool,
    WindowedPool,
    free_pages,
    make_layer,
    make_pool,
    make_runner,
)

TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
SEED = int(os.environ.get("PODATTN_SEED", "1"))
COUNT = int(os.environ.get("PODATTN_COUNT", "16"))
DRAFTS = 4


class Run:
    """A backend with its pools, and what every layer's keys and values should be by now."""

    def __init__(self, seed: int, monkeypatch: pytest.MonkeyPatch, **fixed: Any) -> None:
        from podattn_sglang.sglang_backend import PodattnBackend

        self.rng = rng = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        choices: dict[str, list[Any]] = {
            "window": [None, 1, 6, 31],  # as SGLang has it: keys before the query's own
            "own_pool": [False, True],
            "page_size": [1, 4, 16],
            "dtype": list(TOLERANCE),
            "heads": [(4, 2), (2, 2), (6, 1)],
            "head_dim": [16, 64],
            "softcap": [0.0, 20.0],
            "with_sinks": [False, True],
            "with_host_lengths": [False, True],
            "speculation_in": ["server_args", "runtime_context"],
        }
        for name, values in choices.items():
            setattr(self, name, fixed[name] if name in fixed else rng.choice(values))
        if self.window is None:
            self.own_pool = False
        self.windows = [None, self.window, None, self.window] if self.window is not None else [None, None]
        self.tell_speculation(monkeypatch)
        heads, dim, num_pages = self.heads[1], self.head_dim, 1024 // self.page_size
        size = (num_pages - 1) * self.page_size
        full = [i for i, window in enumerate(self.windows) if window is None or not self.own_pool]
        make = TokenPool if self.own_pool else make_pool
        pool: Any = make(full, size, self.page_size, heads, dim, self.dtype)
        self.free = free_pages(num_pages, rng)
        if self.own_pool:
            windowed = [i for i, window in enumerate(self.windows) if window is not None]
            swa_pages = num_pages // 2 + 3
            swa_size = (swa_pages - 1) * self.page_size
            pool = WindowedPool(pool, TokenPool(windowed, swa_size, self.page_size, heads, dim, self.dtype))
            self.free_windowed = free_pages(swa_pages, rng)
        self.pool = pool
        self.runner = make_runner(pool, self.page_size, self.heads, dim, self.dtype, self.window)
        self.backend = PodattnBackend(self.runner)
        self.sinks = torch.randn(self.heads[0], generator=self.generator) if self.with_sinks else None
        self.pages: dict[int, list[int]] = {}
        self.lengths: dict[int, int] = {}
        self.keys: dict[tuple[int, int], torch.Tensor] = {}
        self.values: dict[tuple[int, int], torch.Tensor] = {}

    def tell_speculation(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from sglang.srt import runtime_context

        told = types.SimpleNamespace(speculative_eagle_topk=1, speculative_num_draft_tokens=DRAFTS)
        if self.speculation_in == "runtime_context":
            monkeypatch.setattr(runtime_context, "get_spec", lambda: told, raising=False)
        else:
            monkeypatch.setattr("fake_sglang.SPECULATION.speculative_eagle_topk", 1)
            monkeypatch.setattr("fake_sglang.SPECULATION.speculative_num_draft_tokens", DRAFTS)

    def grow(self, request: int, length: int) -> None:
        """Gives a request slots for so many tokens, in the window's pool too."""
        pages = self.pages.setdefault(request, [])
        table = self.runner.req_to_token_pool.req_to_token
        while len(pages) * self.page_size < length:
            page = self.free.pop()
            first = len(pages) * self.page_size
            slots = torch.arange(page * self.page_size, (page + 1) * self.page_size)
            table[request, first : first + self.page_size] = slots.to(torch.int32)
            pages.append(page)
            if self.own_pool:
                own = self.free_windowed.pop()
                self.pool.mapping[slots] = torch.arange(own * self.page_size, (own + 1) * self.page_size)

    def leave(self, request: int, length: int) -> None:
        """The window's pool takes back pages that no later query sees."""
        for index, page in enumerate(self.pages[request]):
            slots = slice(page * self.page_size, (page + 1) * self.page_size)
            is_left = (index + 1) * self.page_size <= length - self.window
            if is_left and self.pool.mapping[slots][0] != 0:
                self.free_windowed.append(int(self.pool.mapping[slots][0]) // self.page_size)
                self.pool.mapping[slots] = 0

    def step(self, mode: ForwardMode, news: dict[int, int], padding: int = 0, in_graph: bool = False) -> None:
        """One forward pass. In a graph, the batch is padded by whole requests of one token and one key."""
        requests = [(request, self.lengths.get(request, 0), new) for request, new in news.items()]
        for request, past, new in requests:
            self.grow(request, past + new)
        is_verify = mode is ForwardMode.TARGET_VERIFY
        per_padding = DRAFTS if is_verify else 1
        table = self.runner.req_to_token_pool.req_to_token
        slots = [table[request, past : past + new] for request, past, new in requests]
        extra = padding * per_padding
        loc = torch.cat([*slots, torch.zeros(extra, dtype=torch.int32)]).long()
        lens = torch.tensor([past if is_verify else past + new for _, past, new in requests] + [1] * padding)
        batch = ForwardBatch(
            forward_mode=mode,
            batch_size=len(requests) + padding,
            req_pool_indices=torch.tensor([request for request, _, _ in requests] + [0] * padding),
            seq_lens=lens,
            out_cache_loc=loc,
            seq_lens_cpu=lens.clone() if self.with_host_lengths else None,
        )
        if mode in (ForwardMode.EXTEND, ForwardMode.MIXED):
            batch.extend_seq_lens = torch.tensor([new for _, _, new in requests] + [1] * padding)
        if is_verify:
            batch.spec_info = types.SimpleNamespace(topk=1, draft_token_num=DRAFTS)
        if in_graph:
            self.backend.init_forward_metadata_out_graph(batch, in_capture=False)
            self.backend.init_forward_metadata_in_graph(batch)
        else:
            self.backend.init_forward_metadata(batch)
        for index, window in enumerate(self.windows):
            self.run_layer(index, window, requests, loc.shape[0], batch)
        for request, past, new in requests:
            self.lengths[request] = past + new
            if self.own_pool:
                self.leave(request, past + new)

    def run_layer(self, index: int, window: Any, requests: Any, num_tokens: int, batch: ForwardBatch) -> None:
        layer = make_layer(index, self.heads, self.head_dim, -1 if window is None else window, self.softcap)
        q_heads, kv_heads = self.heads

        def randn(heads: int) -> torch.Tensor:
            return torch.randn(num_tokens, heads * self.head_dim, generator=self.generator).to(self.dtype)

        q, k, v = randn(q_heads), randn(kv_heads), randn(kv_heads)
        k_rows, v_rows = k.view(num_tokens, kv_heads, -1), v.view(num_tokens, kv_heads, -1)
        # As a slice of one projection of queries, keys and values.
        q = torch.cat([q, k, v], 1)[:, : q.shape[1]]
        out = self.backend.forward(q, k_rows, v_rows, layer, batch, sinks=self.sinks)
        assert out.shape == (num_tokens, q_heads * self.head_dim)
        assert out.isfinite().all()
        begin = 0
        for request, _, new in requests:
            for stored, rows in ((self.keys, k_rows), (self.values, v_rows)):
                past = stored.get((request, index))
                own = rows[begin : begin + new]
                stored[request, index] = own if past is None else torch.cat([past, own])
            wanted = reference(
                q[begin : begin + new].reshape(new, q_heads, -1),
                self.keys[request, index],
                self.values[request, index],
                0 if window is None else window + 1,
                layer.scaling,
                self.softcap,
                self.sinks,
            )
            error = (out[begin : begin + new].double().view_as(wanted) - wanted).abs().max().item()
            assert error <= TOLERANCE[self.dtype], f"request {request}, layer {index}: {error}"
            begin += new

    def accept(self, news: dict[int, int]) -> None:
        """After a verification: drafts behind the accepted ones are forgotten."""
        for request, accepted in news.items():
            self.lengths[request] -= DRAFTS - accepted
            for stored in (self.keys, self.values):
                for index in range(len(self.windows)):
                    stored[request, index] = stored[request, index][: self.lengths[request]]


@pytest.mark.parametrize("case", range(COUNT))
def test_random_steps_agree_with_double_precision(case: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = SEED * 1000 + case if COUNT > 1 else SEED
    run = Run(seed, monkeypatch)
    print(f"PODATTN_SEED={seed} PODATTN_COUNT=1:", run.window, run.own_pool, run.page_size, run.dtype)
    run.backend.init_cuda_graph_state(8, 8 * DRAFTS)
    for _ in range(8):
        names = run.rng.sample(range(1, 6), run.rng.randint(1, 4))
        known = [name for name in names if run.lengths.get(name)]
        kind = run.rng.choice(["extend", "mixed", "decode", "graph", "verify"])
        if kind in ("decode", "graph") and known:
            run.step(ForwardMode.DECODE, dict.fromkeys(known, 1), 2 * (kind == "graph"), kind == "graph")
        elif kind == "verify" and known and not run.own_pool:
            in_graph = run.rng.random() < 0.5
            run.step(ForwardMode.TARGET_VERIFY, dict.fromkeys(known, DRAFTS), int(in_graph), in_graph)
            run.accept({name: run.rng.randint(1, DRAFTS) for name in known})
        else:
            news = {name: run.rng.choice([1, 2, 9, 33]) for name in names}
            run.step(ForwardMode.MIXED if 1 in news.values() else ForwardMode.EXTEND, news)


@pytest.mark.parametrize("own_pool", [False, True])
def test_every_mode_in_turn(own_pool: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(3, monkeypatch, window=6, own_pool=own_pool, page_size=4, dtype=torch.float32)
    run.backend.init_cuda_graph_state(8, 8 * DRAFTS)
    run.step(ForwardMode.EXTEND, {1: 40, 2: 3})
    run.step(ForwardMode.MIXED, {2: 1, 3: 17, 1: 1})
    run.step(ForwardMode.DECODE, {3: 1, 1: 1})
    run.step(ForwardMode.TARGET_VERIFY, {1: DRAFTS, 2: DRAFTS})
    run.step(ForwardMode.DECODE, {1: 1, 3: 1}, padding=3, in_graph=True)
    run.step(ForwardMode.TARGET_VERIFY, {3: DRAFTS, 2: DRAFTS}, padding=1, in_graph=True)
    run.step(ForwardMode.DECODE, {1: 1, 2: 1, 3: 1}, in_graph=True)


def test_a_step_larger_than_all_before(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(4, monkeypatch, window=None, page_size=1)
    monkeypatch.setattr("podattn_sglang.pool_plan.FIRST_LIMITS", (1, 4))
    run.step(ForwardMode.EXTEND, {1: 3})
    run.step(ForwardMode.MIXED, {2: 100, 3: 50, 1: 1})
    run.step(ForwardMode.DECODE, {1: 1})
