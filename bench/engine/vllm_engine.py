# SPDX-License-Identifier: Apache-2.0
"""VLLM in this process, with random weights, stepped by hand."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Sequence
from typing import Any

# Before vLLM is imported: its scheduler has to be here to be seen, and nothing is fetched.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")

import torch
import vllm
from libraries.energy import Counter, NotThere
from libraries.result_file import GPU_FIELDS, commit_here, gpu_state
from vllm.sampling_params import RequestOutputKind

from .load import Request

GRAPH_MODES = {"piecewise": "PIECEWISE", "full": "FULL"}


class VllmEngine:
    """One attention backend and one model; the budget may change between runs."""

    def __init__(
        self,
        model: str,
        backend: str,
        mode: str,
        max_budget: int,
        max_len: int,
        max_requests: int,
        block_size: int,
        memory: float,
        layers: int | None,
        **options: Any,
    ) -> None:
        """`options` go to vLLM's `LLM` besides, or in place of, what the other arguments say."""
        if backend in ("CUSTOM", "PODATTN"):
            import podattn_vllm

            podattn_vllm.register()  # from a source tree there is no entry point
        own: dict[str, Any] = {
            "load_format": "dummy",
            "skip_tokenizer_init": True,
            "hf_overrides": {"num_hidden_layers": layers} if layers else {},
            "max_model_len": max_len,
            "max_num_batched_tokens": max_budget,
            "max_num_seqs": max_requests,
            "enable_prefix_caching": False,
            "block_size": block_size,
            "gpu_memory_utilization": memory,
            "enforce_eager": mode == "eager",
            "attention_backend": backend,
            "compilation_config": {"cudagraph_mode": GRAPH_MODES[mode]} if mode in GRAPH_MODES else {},
            "disable_log_stats": True,
            "seed": 0,
        }
        self._llm = vllm.LLM(model, **{**own, **options})
        self._engine = self._llm.llm_engine
        self._core = self._engine.engine_core.engine_core
        self._vocabulary = self._core.vllm_config.model_config.get_vocab_size()
        self._rng = random.Random(0)
        self.steps: list[tuple[int, int]] = []
        self._watch_scheduler()
        self._fill_weights()
        try:
            self._counter: Counter | None = Counter(torch.device("cuda", torch.cuda.current_device()))
            self._no_energy = ""
        except NotThere as error:
            self._counter, self._no_energy = None, str(error)

    def info(self, commit: str | None) -> dict[str, Any]:
        """What is measured; `commit` of podattn, where it is not that of this folder."""
        config = self._core.vllm_config
        layers = config.compilation_config.static_forward_context.values()
        return {
            "vllm": vllm.__version__,
            "torch": torch.__version__,
            "gpu": torch.cuda.get_device_name(),
            "gpu_state": f"{gpu_state(torch.cuda.current_device())} ({GPU_FIELDS})",
            "commit": commit or commit_here(),
            "impls": sorted({type(layer.impl).__name__ for layer in layers if hasattr(layer, "impl")}),
            "cudagraph_mode": str(config.compilation_config.cudagraph_mode),
            "async_scheduling": config.scheduler_config.async_scheduling,
            "kv_blocks": config.cache_config.num_gpu_blocks,
            "block_size": config.cache_config.block_size,
            "no_energy": self._no_energy,
        }

    def set_budget(self, tokens: int) -> None:
        self._core.scheduler.max_num_scheduled_tokens = tokens

    def add(self, key: str, request: Request) -> None:
        prompt = self._rng.choices(range(1000, self._vocabulary), k=request.prompt_tokens)
        params = vllm.SamplingParams(
            temperature=0.0,
            max_tokens=request.output_tokens,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        self._engine.add_request(key, {"prompt_token_ids": prompt}, params)

    def step(self) -> Iterable[tuple[str, int]]:
        return [
            (output.request_id, len(output.outputs[0].token_ids)) for output in self._engine.step() if output.outputs
        ]

    def greedy(self, prompts: list[list[int]], tokens: int) -> list[list[tuple[int, float]]]:
        """The likeliest token after each prompt, `tokens` times, and its logarithmic probability."""
        params = vllm.SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True, detokenize=False, logprobs=1)
        outputs = self._llm.generate([{"prompt_token_ids": prompt} for prompt in prompts], params, use_tqdm=False)
        answers = []
        for output in outputs:
            chosen = output.outputs[0]
            answers.append([(token, table[token].logprob) for token, table in zip(chosen.token_ids, chosen.logprobs)])
        return answers

    def has_work(self) -> bool:
        return bool(self._engine.has_unfinished_requests())

    def abort(self, keys: Sequence[str]) -> None:
        self._engine.abort_request(list(keys))
        while self.has_work():
            self._engine.step()

    def wait(self) -> None:
        torch.cuda.synchronize()

    def millijoules(self) -> int | None:
        """Of the whole board since the driver was loaded; None without a counter."""
        return None if self._counter is None else self._counter.millijoules()

    def _watch_scheduler(self) -> None:
        """Notes decode tokens and prompt tokens of each step; a request with one token is a decode."""
        scheduler = self._core.scheduler
        schedule = scheduler.schedule

        def noted(*args: Any, **kwargs: Any) -> Any:
            output = schedule(*args, **kwargs)
            counts = output.num_scheduled_tokens.values()
            if counts:
                decodes = sum(1 for count in counts if count == 1)
                self.steps.append((decodes, sum(counts) - decodes))
            return output

        scheduler.schedule = noted

    def _fill_weights(self) -> None:
        """As a new model has them: with vLLM's dummy weights, all nearly 0, activations would be too."""
        worker = self._core.model_executor.driver_worker
        model = getattr(worker, "worker", worker).model_runner.get_model()
        generator = torch.Generator(device="cuda").manual_seed(1)
        with torch.inference_mode():
            for name, parameter in model.named_parameters():
                if not parameter.is_floating_point():
                    continue
                if parameter.dim() < 2:
                    parameter.fill_(1.0)
                    continue
                spread = 1.0 if "embed" in name else 0.02
                for part in parameter.data.split(4096):
                    part.copy_(torch.randn(part.shape, generator=generator, device="cuda") * spread)
        torch.cuda.synchronize()
