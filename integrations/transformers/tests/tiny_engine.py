# SPDX-License-Identifier: Apache-2.0
"""Tiny random models, and continuous batching with them."""

from __future__ import annotations

import contextlib
import inspect
import random
from collections.abc import Iterator
from typing import Any, Optional

import torch
import transformers
from transformers.generation.configuration_utils import ContinuousBatchingConfig, GenerationConfig
from transformers.generation.continuous_batching import PagedAttentionCache

import podattn_transformers

VOCABULARY = 97
WINDOW = 24


def make_model(kind: str) -> Any:
    """A model of four layers with random weights, in float32, so that two ways to compute it agree on every token."""
    torch.manual_seed(0)
    common: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
    }
    if kind == "llama":
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**common))
    elif kind == "mistral":
        model = transformers.MistralForCausalLM(transformers.MistralConfig(**common, sliding_window=WINDOW))
    elif kind == "gemma2":
        model = transformers.Gemma2ForCausalLM(
            transformers.Gemma2Config(
                **common, sliding_window=WINDOW, query_pre_attn_scalar=16, attn_logit_softcapping=5.0
            )
        )
    elif kind == "gemma3":
        layer_types = ["sliding_attention"] * 3 + ["full_attention"]
        model = transformers.Gemma3ForCausalLM(
            transformers.Gemma3TextConfig(
                **common, sliding_window=WINDOW, query_pre_attn_scalar=16, layer_types=layer_types
            )
        )
    else:
        assert kind == "gpt-oss"
        model = transformers.GptOssForCausalLM(
            transformers.GptOssConfig(**common, sliding_window=WINDOW, num_local_experts=2, num_experts_per_tok=1)
        )
        for name, parameter in model.named_parameters():
            if "sinks" in name:
                torch.nn.init.normal_(parameter)
    return model.eval().float()


def make_prompts(seed: int, lengths: list[int], shared: int = 0) -> list[list[int]]:
    """Random tokens; the first `shared` are the same in all prompts."""
    rng = random.Random(seed)
    prefix = [rng.randrange(3, VOCABULARY) for _ in range(shared)]
    return [prefix + [rng.randrange(3, VOCABULARY) for _ in range(length)] for length in lengths]


@contextlib.contextmanager
def watched_caches() -> Iterator[list[Any]]:
    """The caches that engines make meanwhile."""
    caches: list[Any] = []
    original = PagedAttentionCache.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        caches.append(self)

    PagedAttentionCache.__init__ = init
    try:
        yield caches
    finally:
        PagedAttentionCache.__init__ = original


def generate(
    model: Any, implementation: str, prompts: list[list[int]], page_size: int, **config: Any
) -> tuple[list[list[int]], Optional[Any]]:
    """The greedy tokens after each prompt, and podattn's counts if it computed them."""
    parameters = inspect.signature(ContinuousBatchingConfig.__init__).parameters
    config["page_size" if "page_size" in parameters else "block_size"] = page_size
    if implementation == podattn_transformers.NAME:
        podattn_transformers.enable(model)
    else:
        model.set_attn_implementation(implementation)
    with watched_caches() as caches:
        results = model.generate_batch(
            inputs=prompts,
            generation_config=GenerationConfig(max_new_tokens=12, do_sample=False, eos_token_id=-1, pad_token_id=0),
            continuous_batching_config=ContinuousBatchingConfig(
                **{"num_blocks": 1024 // page_size, "max_batch_tokens": 48} | config
            ),
        )
    assert len(results) == len(prompts), "the engine failed, as it says in its log"
    in_order = sorted(results, key=lambda name: int(name.split("_")[-1]))
    tokens = [results[name].generated_tokens for name in in_order]
    used = implementation == podattn_transformers.NAME
    return tokens, podattn_transformers.stats_of(caches[0]) if used else None
