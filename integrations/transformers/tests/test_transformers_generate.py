# SPDX-License-Identifier: Apache-2.0
"""transformers' engine on a CPU: with podattn it generates the same tokens as with its own attention."""

from __future__ import annotations

import types
from typing import Any

import pytest
import torch
from tiny_engine import generate, make_model, make_prompts
from transformers.generation.continuous_batching import PagedAttentionCache

from podattn_transformers import NAME

LENGTHS = [1, 60, 5, 130, 20, 40, 1, 130, 20, 60]

# Where the engine's own attention is not "sdpa", the model has something that this does not compute: softcap, sinks.
MODELS = {"llama": "sdpa", "mistral": "sdpa", "gemma3": "sdpa", "gemma2": "eager", "gpt-oss": "eager"}
CASES = [("llama", 4), ("llama", 16), ("llama", 256), ("mistral", 16), ("mistral", 32), ("gemma3", 8), ("gemma2", 16)]


@pytest.mark.parametrize("kind, page_size", [*CASES, ("gpt-oss", 4), ("gpt-oss", 16)])
def test_the_same_tokens_as_the_engines_own_attention(kind: str, page_size: int) -> None:
    model = make_model(kind)
    prompts = make_prompts(3, LENGTHS)
    wanted, _ = generate(model, MODELS[kind], prompts, page_size)
    tokens, stats = generate(model, NAME, prompts, page_size)
    assert tokens == wanted
    assert stats.steps > 12
    assert stats.mixed_steps >= 5
    assert stats.calls >= stats.steps * 4
    assert (stats.copied_tokens > 0) == (kind != "llama")


def test_requests_that_share_a_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    search = PagedAttentionCache.search_prefix_match

    def search_prefix_match(self: Any, *args: Any) -> int:
        found.append(search(self, *args))
        return found[-1]

    monkeypatch.setattr(PagedAttentionCache, "search_prefix_match", search_prefix_match)
    model = make_model("llama")
    # The first step is filled by the first request, whose pages the others find.
    prompts = make_prompts(4, [3, 9, 1, 30], shared=64)
    wanted, _ = generate(model, "sdpa", prompts, 16, max_batch_tokens=64)
    found.clear()
    tokens, stats = generate(model, NAME, prompts, 16, max_batch_tokens=64)
    assert tokens == wanted
    assert stats.mixed_steps > 0
    assert found.count(64) == 3


def test_a_cache_too_small_for_all_requests_at_once() -> None:
    model = make_model("llama")
    prompts = make_prompts(5, LENGTHS)
    wanted, _ = generate(model, "sdpa", prompts, 16, num_blocks=12)
    tokens, _ = generate(model, NAME, prompts, 16, num_blocks=12)
    assert tokens == wanted


def test_block_tables_for_decode_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine makes them where it sees a GPU; here it only believes that it does."""
    from transformers.generation.continuous_batching import initialization

    fake_cuda = types.SimpleNamespace(is_available=lambda: True)
    fake_torch = types.SimpleNamespace(**{name: getattr(torch, name) for name in dir(torch)} | {"cuda": fake_cuda})
    model = make_model("llama")
    prompts = make_prompts(6, LENGTHS)
    wanted, _ = generate(model, "sdpa", prompts, 16)
    monkeypatch.setattr(initialization, "torch", fake_torch)
    options: dict[str, Any] = {"use_cuda_graph": False, "use_async_batching": False, "max_blocks_per_request": 16}
    tokens, stats = generate(model, NAME, prompts, 16, **options)
    assert tokens == wanted
    assert stats.block_table_steps >= 5
    assert stats.mixed_steps >= 5


def test_padded_batches() -> None:
    """As the engine pads them for graphs and compiled models."""
    from transformers import CompileConfig

    model = make_model("gemma3")
    prompts = make_prompts(7, LENGTHS)
    wanted, _ = generate(model, "sdpa", prompts, 16)
    eager = CompileConfig(backend="eager", fullgraph=False, dynamic=False)
    tokens, stats = generate(model, NAME, prompts, 16, varlen_compile_config=eager)
    assert tokens == wanted
    assert stats.mixed_steps >= 5
