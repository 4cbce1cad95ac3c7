# SPDX-License-Identifier: Apache-2.0
"""What `register` and `enable` do to transformers, and to models that do not ask for podattn."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from fake_paged_cache import make_cache
from tiny_engine import generate, make_model, make_prompts
from transformers.generation.continuous_batching import PagedAttentionCache, model_runner
from transformers.integrations import hub_kernels

import podattn
import podattn_transformers
from podattn_transformers import engine_hooks, flash_kernel, stats_of

OWNERS = [
    (PagedAttentionCache, "extend_read_and_write_indices"),
    (PagedAttentionCache, "update"),
    (model_runner.ModelRunner, "_get_forward_fn"),
    (hub_kernels, "load_and_register_attn_kernel"),
]


def functions() -> list[Any]:
    return [getattr(owner, name) for owner, name in OWNERS]


def test_registering_again_changes_nothing() -> None:
    assert podattn_transformers.register() == podattn_transformers.NAME
    before = functions()
    podattn_transformers.register()
    assert functions() == before


def test_a_model_may_be_loaded_with_the_name() -> None:
    podattn_transformers.register()
    model = make_model("llama")
    again = type(model)._from_config(model.config, attn_implementation=podattn_transformers.NAME)
    assert again.config._attn_implementation == podattn_transformers.NAME


def test_a_model_that_lists_its_flash_implementations_keeps_podattn() -> None:
    model = make_model("gpt-oss")
    assert model._compatible_flash_implementations
    podattn_transformers.enable(model)
    assert model.config._attn_implementation == podattn_transformers.NAME
    assert podattn_transformers.NAME not in type(model)._compatible_flash_implementations


def test_a_model_that_goes_back_to_its_own_attention() -> None:
    model = make_model("llama")
    prompts = make_prompts(1, [5, 40])
    wanted, _ = generate(model, "sdpa", prompts, 16)
    generate(model, podattn_transformers.NAME, prompts, 16)
    tokens, _ = generate(model, "sdpa", prompts, 16)
    assert tokens == wanted


def test_a_plain_forward_is_refused() -> None:
    model = make_model("llama")
    podattn_transformers.enable(model)
    with pytest.raises(podattn.UnsupportedError, match="only continuous batching"):
        model(torch.tensor([[5, 6, 7]]))


def test_a_model_that_does_not_take_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("llama")
    monkeypatch.setattr(type(model), "set_attn_implementation", lambda self, name: None)
    with pytest.raises(ValueError, match=r"LlamaForCausalLM does not take .* it keeps 'sdpa'"):
        podattn_transformers.enable(model)


def test_an_engine_that_lacks_what_is_needed_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_hooks, "_installed", False)
    monkeypatch.delattr(model_runner.ModelRunner, "_get_forward_fn")
    before = PagedAttentionCache.update
    with pytest.raises(ImportError, match=r"ModelRunner has no _get_forward_fn\(\)"):
        podattn_transformers.register()
    monkeypatch.setattr(model_runner.ModelRunner, "_get_forward_fn", lambda self, kind: None, raising=False)
    with pytest.raises(ImportError, match=r"ModelRunner\._get_forward_fn\(\) has no parameter use_block_table"):
        podattn_transformers.register()
    assert PagedAttentionCache.update is before


def test_graphs_are_left_to_models_without_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph's shapes are fixed, and how many keys a window's chunks copy is not."""
    podattn_transformers.register()

    class Runner:
        use_cuda_graph_varlen = use_cuda_graph_decode = True
        _compiled_varlen = _compiled_decode = None
        _forward_process_and_sample = "forward"

        def __init__(self, cache: Any) -> None:
            self.cache = cache

    def uses_graph(layers: list[int], name: str = podattn_transformers.NAME) -> bool:
        cache = make_cache("tensor", layers, 24, 16, 20, 2, 16, torch.float32, random.Random(1))
        cache.config._attn_implementation = name
        return model_runner.ModelRunner._get_forward_fn(Runner(cache), False)[1]

    assert uses_graph([0, 0])
    assert not uses_graph([0, 1])
    assert uses_graph([0, 1], "flash_attention_2")


def test_other_kernels_are_loaded_as_before() -> None:
    podattn_transformers.register()
    load = hub_kernels.load_and_register_attn_kernel
    assert load(podattn_transformers.NAME) is flash_kernel
    assert load("not-a-kernel") is None


def test_counts_of_a_cache_that_was_never_served() -> None:
    with pytest.raises(ValueError, match="has not served"):
        stats_of(object())
