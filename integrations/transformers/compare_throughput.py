#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Throughput of transformers' continuous batching with podattn and with its own attention, in turns, on one model.

    python3 integrations/transformers/compare_throughput.py --device cpu
    python3 integrations/transformers/compare_throughput.py --device cuda:0 --dtype bfloat16 --own flash_attention_3

The model has random weights and the attention shape that is asked for; prompts are random. Each round generates with
both, warm; the first round is not counted. Prints one JSON line per implementation: the median seconds of a round,
tokens per second, prompts included and generated alone, and how long the answers of both are the same. With random
weights tokens are about equally likely, and in 16 bits answers part early: as they do between two kernels of
transformers' own.
"""

from __future__ import annotations

import argparse
import inspect
import json
import random
import statistics
import time
from typing import Any

import torch
import transformers
from transformers.generation.configuration_utils import ContinuousBatchingConfig, GenerationConfig

import podattn_transformers


def arguments() -> argparse.Namespace:
    """What to run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--own", default="sdpa", help="transformers' own implementation to compare with")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", default="8,2", help="query heads, KV heads")
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--window", type=int, default=0, help="a sliding window of every layer; 0: none")
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--prompt", default="4096,8192", help="shortest and longest prompt, in tokens")
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--batch-tokens", type=int, default=512, help="of one step")
    parser.add_argument("--page-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def make_model(args: argparse.Namespace) -> Any:
    """A model of the shape, on the device."""
    torch.manual_seed(args.seed)
    q_heads, kv_heads = (int(heads) for heads in args.heads.split(","))
    config: dict[str, Any] = {
        "vocab_size": 1000,
        "hidden_size": args.hidden,
        "intermediate_size": 2 * args.hidden,
        "num_hidden_layers": args.layers,
        "num_attention_heads": q_heads,
        "num_key_value_heads": kv_heads,
        "head_dim": args.head_dim,
        "max_position_embeddings": 1 << 17,
    }
    if args.window:
        model = transformers.MistralForCausalLM(transformers.MistralConfig(**config, sliding_window=args.window))
    else:
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config))
    return model.eval().to(device=args.device, dtype=getattr(torch, args.dtype))


def generate(model: Any, prompts: list[list[int]], args: argparse.Namespace) -> tuple[float, list[list[int]]]:
    """The seconds of one round, and the tokens."""
    total = sum(len(prompt) + args.new_tokens for prompt in prompts)
    names = inspect.signature(ContinuousBatchingConfig.__init__).parameters
    page_size = {"page_size" if "page_size" in names else "block_size": args.page_size}
    config = ContinuousBatchingConfig(
        **page_size,
        num_blocks=total // args.page_size + 2 * len(prompts),
        max_batch_tokens=args.batch_tokens,
    )
    if "auto_switch_to_flash" in names:
        config.auto_switch_to_flash = False
    generation = GenerationConfig(max_new_tokens=args.new_tokens, do_sample=False, eos_token_id=-1, pad_token_id=0)
    begin = time.perf_counter()
    results = model.generate_batch(inputs=prompts, generation_config=generation, continuous_batching_config=config)
    seconds = time.perf_counter() - begin
    in_order = sorted(results, key=lambda name: int(name.split("_")[-1]))
    answers = [results[name].generated_tokens for name in in_order]
    if [len(answer) for answer in answers] != [args.new_tokens] * len(prompts):
        raise SystemExit("the engine failed, as its log says")
    return seconds, answers


def tokens_before_difference(own: list[int], other: list[int]) -> int:
    """How long two answers are the same."""
    return next((i for i, (a, b) in enumerate(zip(own, other)) if a != b), len(own))


def main() -> None:
    """Compares."""
    args = arguments()
    rng = random.Random(args.seed)
    shortest, longest = (int(tokens) for tokens in args.prompt.split(","))
    lengths = [rng.randint(shortest, longest) for _ in range(args.requests)]
    prompts = [[rng.randrange(2, 1000) for _ in range(length)] for length in lengths]
    model = make_model(args)
    seconds: dict[str, list[float]] = {args.own: [], podattn_transformers.NAME: []}
    tokens: dict[str, list[list[int]]] = {}
    for number in range(args.rounds + 1):
        for name in seconds:
            if name == args.own:
                model.set_attn_implementation(name)
            else:
                podattn_transformers.enable(model)
            elapsed, tokens[name] = generate(model, prompts, args)
            if number:
                seconds[name].append(elapsed)
    pairs = list(zip(*tokens.values()))
    for name, elapsed in seconds.items():
        median = statistics.median(elapsed)
        print(
            json.dumps(
                {
                    "implementation": name,
                    "seconds": round(median, 3),
                    "all_seconds": [round(value, 3) for value in elapsed],
                    "tokens_per_s": round((sum(lengths) + args.requests * args.new_tokens) / median, 1),
                    "generated_per_s": round(args.requests * args.new_tokens / median, 1),
                    "same_requests": sum(own == other for own, other in pairs),
                    "tokens_before_difference": [tokens_before_difference(own, other) for own, other in pairs],
                    **{key: value for key, value in vars(args).items() if key not in ("own", "rounds")},
                }
            )
        )


if __name__ == "__main__":
    main()
