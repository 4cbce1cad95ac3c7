# SPDX-License-Identifier: Apache-2.0
"""The attention function alone, on random batches over several steps, against double precision."""

from __future__ import annotations

import os
import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from attention_reference import reference
from fake_paged_cache import layer_slots, make_cache

import podattn
from podattn_transformers import attention_function, stats_of

TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
NUM_BLOCKS = 200
SEED = int(os.environ.get("PODATTN_SEED", "1"))
COUNT = int(os.environ.get("PODATTN_COUNT", "16"))


class Run:
    """A cache, its requests, and what every layer's keys and values should be by now."""

    def __init__(self, seed: int, **fixed: Any) -> None:
        self.rng = rng = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        choices = {
            "form": ["tensor", "tensors"],
            "layers": [[0, 0], [1, 0, 1], [0, 1, 1, 0], [0]],
            "window": [1, 7, 24, 64],
            "page_size": [4, 16, 32],
            "dtype": list(TOLERANCE),
            "heads": [(4, 2), (2, 2), (6, 1)],
            "head_dim": [16, 64],
            "softcap": [None, 20.0],
            "sinks": [False, True],
        }
        for name, values in choices.items():
            setattr(self, name, fixed[name] if name in fixed else rng.choice(values))
        self.q_heads, self.kv_heads = self.heads
        self.cache = make_cache(
            self.form,
            self.layers,
            self.window,
            self.page_size,
            NUM_BLOCKS,
            self.kv_heads,
            self.head_dim,
            self.dtype,
            rng,
        )
        self.sinks = torch.randn(self.q_heads, generator=self.generator) if self.sinks else None
        self.lengths: dict[str, int] = {}
        self.keys: dict[tuple[str, int], torch.Tensor] = {}
        self.values: dict[tuple[str, int], torch.Tensor] = {}
        self.worst = 0.0

    def randn(self, *sizes: int) -> torch.Tensor:
        return torch.randn(*sizes, generator=self.generator).to(self.dtype)

    def step(self, news: dict[str, int], padding: int, with_table: bool) -> None:
        """One forward pass, in which the requests have so many new tokens."""
        requests = [(name, self.lengths.get(name, 0), new) for name, new in news.items()]
        num_tokens = sum(news.values()) + padding
        num_padded = len(requests) + padding
        allocators = self.cache.allocators
        for name, past, new in requests:
            for allocator in allocators:
                allocator.allocate(name, past + new)
            self.lengths[name] = past + new
        kwargs: dict[str, Any] = {"cache": self.cache, "is_causal": True, "block_table": None}
        kwargs["cu_seq_lens_q"] = self.cumulated([new for _, _, new in requests], num_padded)
        kwargs["cu_seq_lens_k"], kwargs["max_length_k"] = {}, {}
        for index, allocator in enumerate(allocators):
            kind = "sliding_attention" if index else "full_attention"
            lengths = [allocator.get_kv_len(past, new) for _, past, new in requests]
            kwargs["cu_seq_lens_k"][kind] = self.cumulated(lengths, num_padded)
            kwargs["max_length_k"][kind] = max(lengths) + self.rng.choice([0, 100])
        if len(allocators) == 1 and self.form == "tensors":
            kwargs["cu_seq_lens_k"] = kwargs["cu_seq_lens_k"]["full_attention"]
            kwargs["max_seqlen_k"] = kwargs.pop("max_length_k")["full_attention"]
        self.add_slots(kwargs, requests, num_tokens, with_table)
        for layer, group in enumerate(self.layers):
            self.run_layer(layer, self.window if group else 0, requests, num_tokens, kwargs)

    def cumulated(self, counts: list[int], num: int) -> torch.Tensor:
        padded = torch.tensor([0, *counts, *[0] * (num - len(counts))])
        return padded.cumsum(0).to(torch.int32)

    def add_slots(self, kwargs: dict[str, Any], requests: Any, num_tokens: int, with_table: bool) -> None:
        allocators = self.cache.allocators
        if with_table:
            table = torch.full((len(allocators), num_tokens, 20), -1, dtype=torch.int32)
            for index, allocator in enumerate(allocators):
                for row, (name, _, _) in enumerate(requests):
                    for column, block in enumerate(allocator.block_table[name]):
                        table[index, row, column] = block * (allocator.block_slots // self.page_size)
            kwargs["block_table"] = table
            kwargs["read_index"] = kwargs["write_index"] = [torch.zeros(0, dtype=torch.int64)] * len(allocators)
            return
        reads: Any = [[] for _ in allocators] if any(past for _, past, _ in requests) else None
        writes: list[list[int]] = [[] for _ in allocators]
        state = attention_function.state_of(self.cache)
        for name, past, new in requests:
            state.list_request(name, past, new, reads, writes)
        for allocator, slots in zip(allocators, writes):
            slots.extend([allocator.write_trash_index] * (num_tokens - len(slots)))
        kwargs["write_index"] = [torch.tensor(slots) for slots in writes]
        kwargs["read_index"] = [torch.tensor(slots, dtype=torch.int64) for slots in reads or [[]] * len(allocators)]

    def run_layer(self, layer: int, window: int, requests: Any, num_tokens: int, kwargs: dict[str, Any]) -> None:
        q = self.randn(1, self.q_heads, num_tokens, self.head_dim)
        k = self.randn(1, self.kv_heads, num_tokens, self.head_dim)
        v = self.randn(1, self.kv_heads, num_tokens, self.head_dim)
        scale = 0.3
        before = [rows.clone() for rows in layer_slots(self.cache, layer)]
        out, weights = attention_function.attention(
            SimpleNamespace(layer_idx=layer),
            q,
            k,
            v,
            None,
            scaling=scale,
            softcap=self.softcap,
            s_aux=self.sinks,
            sliding_window=window or None,
            **kwargs,
        )
        assert weights is None
        assert out.shape == (1, num_tokens, self.q_heads, self.head_dim)
        assert out.dtype == self.dtype
        self.check_writes(layer, window, requests, before)
        begin = 0
        for name, _, new in requests:
            for stored, states in ((self.keys, k), (self.values, v)):
                rows = states[0, :, begin : begin + new].transpose(0, 1)
                past = stored.get((name, layer))
                stored[name, layer] = rows if past is None else torch.cat([past, rows])
            wanted = reference(
                q[0, :, begin : begin + new].transpose(0, 1),
                self.keys[name, layer],
                self.values[name, layer],
                window,
                scale,
                self.softcap,
                self.sinks,
            )
            error = (out[0, begin : begin + new].double() - wanted).abs().max().item()
            assert error <= TOLERANCE[self.dtype], f"{name}, layer {layer}: {error}"
            begin += new
        assert (out[0, begin:] == 0).all()

    def check_writes(self, layer: int, window: int, requests: Any, before: list[torch.Tensor]) -> None:
        """Of the layer's own slots, those of the new keys and of the trash alone were written."""
        allocator = self.cache.allocators[self.layers[layer]]
        written = [allocator.write_trash_index]
        for name, past, new in requests:
            first = max(past, past + new - window) if window else past
            written += [allocator.slot(name, position) for position in range(first, past + new)]
        own = torch.arange(NUM_BLOCKS)[:, None] * allocator.block_slots + torch.arange(self.page_size)
        for old, rows in zip(before, layer_slots(self.cache, layer)):
            old[written] = rows[written]
            assert torch.equal(old[own].nan_to_num(9e9), rows[own].nan_to_num(9e9))

    def random_steps(self, num_steps: int) -> None:
        for _ in range(num_steps):
            names = self.rng.sample("abcdefgh", self.rng.randint(1, 5))
            news = {name: self.rng.choice([1, 1, 2, 5, 17, 40]) for name in names}
            padding = self.rng.choice([0, 0, 3])
            only_full = max(self.layers) == 0
            with_table = only_full and set(news.values()) == {1} and self.rng.random() < 0.7
            self.step(news, padding, with_table)


@pytest.mark.parametrize("case", range(COUNT))
def test_random_steps_agree_with_double_precision(case: int) -> None:
    run = Run(SEED * 1000 + case if COUNT > 1 else SEED)
    print(f"PODATTN_SEED={SEED * 1000 + case} PODATTN_COUNT=1:", run.form, run.layers, run.window, run.dtype)
    run.random_steps(8)


@pytest.mark.parametrize("form", ["tensor", "tensors"])
def test_decode_steps_with_block_tables(form: str) -> None:
    run = Run(5, form=form, layers=[0, 0], dtype=torch.float32)
    run.step({"a": 9, "b": 33}, 0, False)
    for padding in (0, 2, 0):
        run.step({"b": 1, "a": 1}, padding, True)
    stats = stats_of(run.cache)
    assert (stats.steps, stats.block_table_steps, stats.mixed_steps) == (4, 3, 0)
    assert stats.calls == 4 * 2


@pytest.mark.parametrize("form", ["tensor", "tensors"])
def test_chunks_past_the_window_among_decodes_in_every_order(form: str) -> None:
    """The copied requests are neighbours or not, so that rows are a slice or an index."""
    run = Run(6, form=form, layers=[1, 0, 1], window=24, page_size=16, dtype=torch.float32)
    run.step({"a": 30, "b": 3, "c": 40, "d": 20}, 0, False)
    run.step({"a": 1, "b": 5, "c": 30, "d": 1}, 0, False)
    run.step({"c": 2, "a": 1, "d": 3, "b": 1}, 4, False)
    run.step({"a": 2, "b": 25, "c": 9, "d": 24}, 0, False)
    stats = stats_of(run.cache)
    assert stats.mixed_steps == 2
    # Per layer with the window: 30 and 40; 23 past keys and 30; 23 and 2 (d's 24 fit); all four, b with 9 past keys.
    assert stats.copied_tokens == 2 * (70 + 53 + 25 + (25 + 34 + 32 + 47))


def test_windows_that_hold_all_keys_copy_nothing() -> None:
    run = Run(7, layers=[1, 1, 0], window=64)
    run.step({"a": 30, "b": 1}, 0, False)
    run.step({"a": 34, "b": 7, "c": 64}, 0, False)
    run.step({"a": 1, "b": 7, "c": 1}, 0, False)
    assert stats_of(run.cache).copied_tokens == 0


def refusal(**changes: Any) -> str:
    """What is said of a first step whose arguments are changed so."""
    run = Run(8, layers=[0, 1], window=8, dtype=torch.float32, heads=(4, 2), head_dim=16)
    q, k = torch.zeros(1, 4, 1, 16), torch.zeros(1, 2, 1, 16)
    arguments: dict[str, Any] = {"query": q, "key": k, "value": k, "attention_mask": None}
    arguments |= {"cache": run.cache, "cu_seq_lens_q": torch.zeros(1, dtype=torch.int32)} | changes
    layer = arguments.pop("layer", 0)
    with pytest.raises(podattn.UnsupportedError) as error:
        attention_function.attention(SimpleNamespace(layer_idx=layer), **arguments)
    return str(error.value)


def test_what_is_not_served_is_refused_by_name() -> None:
    assert "no paged cache" in refusal(cache=None)
    assert "no paged cache" in refusal(cu_seq_lens_q=None)
    assert "dropout = 0.1" in refusal(dropout=0.1)
    assert "position_bias" in refusal(position_bias=torch.zeros(1))
    assert "is_causal = False" in refusal(is_causal=False)
    assert "batch of 2" in refusal(query=torch.zeros(2, 4, 1, 16))
    assert "values of 8 elements per head with keys of 16" in refusal(value=torch.zeros(1, 2, 1, 8))
    assert "layer 0 has sliding_window = 8, its cache no window" in refusal(sliding_window=8)
    assert "layer 1 has sliding_window = 9, its cache 8" in refusal(sliding_window=9, layer=1)
