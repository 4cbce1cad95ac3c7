# SPDX-License-Identifier: Apache-2.0
"""Shapes of models, as the configuration that an engine reads. Weights are random: speed does not depend on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "torch_dtype": "bfloat16",
}
_QWEN3: dict[str, Any] = {
    **_LLAMA,
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 5120,
    "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-6,
    "vocab_size": 151936,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "attention_bias": False,
}
_GPT_OSS_LAYERS = 24

SHAPES: dict[str, dict[str, Any]] = {
    "llama-8b": _LLAMA,
    "qwen3-14b": {**_QWEN3, "num_hidden_layers": 40, "num_attention_heads": 40, "intermediate_size": 17408},
    "qwen3-32b": {**_QWEN3, "num_hidden_layers": 64, "num_attention_heads": 64, "intermediate_size": 25600},
    # Windows of 128 tokens in every second layer, and sinks. Needs an engine with kernels for mixtures of experts.
    "gpt-oss-20b": {
        **_LLAMA,
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "num_hidden_layers": _GPT_OSS_LAYERS,
        "num_attention_heads": 64,
        "head_dim": 64,
        "num_local_experts": 32,
        "num_experts_per_tok": 4,
        "sliding_window": 128,
        "layer_types": ["sliding_attention", "full_attention"] * (_GPT_OSS_LAYERS // 2),
        "attention_bias": True,
        "vocab_size": 201088,
        "rope_theta": 150000.0,
        "bos_token_id": 199998,
        "eos_token_id": 200002,
    },
}


def write_shape(name: str, folder: Path) -> Path:
    """A folder that an engine takes as a model without weights and without a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(SHAPES[name], indent=1), encoding="utf-8")
    return folder
