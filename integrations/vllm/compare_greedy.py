#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares vLLM's greedy answers with podattn and with FlashAttention-3.

    PYTHONPATH=python:integrations/vllm:bench python3 integrations/vllm/compare_greedy.py [--modes eager,piecewise,full]

In each mode the same prompts are answered with both backends and with vLLM's Triton kernels, the control: these are a
third kernel that rounds in its own way. Weights are random, so that answers part sooner than a trained model's: where
two tokens are equally likely, the last bit decides. Prints a JSON line per mode and pair: how many first tokens are the
same, how many tokens are before the first difference, and how far logarithmic probabilities are apart until there.
Exits with 1 if podattn is further from FlashAttention-3 than FACTOR times the control.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import tempfile
from pathlib import Path

import torch
from engine.answers import Answers, compare
from engine.shapes import SHAPES
from engine.vllm_engine import VllmEngine

BUDGET, MAX_LEN, MEMORY = 512, 8192, 0.05
CACHE_BYTES = 4 << 30  # said outright: vLLM would count what engines before left behind
FACTOR = 1.5  # of the control: two samples of one spread


def answer(folder: str, backend: str, mode: str, prompts: list[list[int]], tokens: int) -> Answers:
    """Of an engine of its own."""
    engine = VllmEngine(folder, backend, mode, BUDGET, MAX_LEN, 64, 16, MEMORY, None, kv_cache_memory_bytes=CACHE_BYTES)
    answers = engine.greedy(prompts, tokens)
    del engine
    gc.collect()
    torch.cuda.empty_cache()
    return answers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", default="eager,piecewise,full", help="how vLLM runs the model (%(default)s)")
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=32, help="of each answer")
    parser.add_argument("--layers", type=int, default=4)
    arguments = parser.parse_args()
    rng = random.Random(1)
    has_failed = False
    with tempfile.TemporaryDirectory() as folder:
        config = {**SHAPES["llama-8b"], "num_hidden_layers": arguments.layers}
        Path(folder, "config.json").write_text(json.dumps(config), encoding="utf-8")
        vocabulary = config["vocab_size"]
        prompts = [
            [rng.randrange(1000, vocabulary) for _ in range(rng.randint(16, 3000))] for _ in range(arguments.prompts)
        ]
        for mode in arguments.modes.split(","):
            reference, control, own = (
                answer(folder, backend, mode, prompts, arguments.tokens)
                for backend in ("FLASH_ATTN", "TRITON_ATTN", "CUSTOM")
            )
            rows = {"control": compare(control, reference), "podattn": compare(own, reference)}
            for name, row in rows.items():
                print(json.dumps({"mode": mode, "pair": name, "prompts": len(prompts), **row}), flush=True)
            limit = FACTOR * rows["control"]["mean_logprob_distance"]
            has_failed |= rows["podattn"]["mean_logprob_distance"] > limit
    return 1 if has_failed else 0


if __name__ == "__main__":
    sys.exit(main())
