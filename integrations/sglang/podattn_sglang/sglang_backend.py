# SPDX-License-Identifier: Apache-2.0
"""The class that SGLang's model runner talks to."""

from __future__ import annotations

from typing import Any, Optional

import torch
from sglang.srt.layers.attention.base_attn_backend import AttentionBackend
from sglang.srt.mem_cache.memory_pool import KVWriteLoc
from sglang.srt.runtime_context import get_parallel

import podattn

from .pool_plan import Limits, PoolPlan, SharedScratch
from .step_arrays import refuse, shape_of


class PodattnBackend(AttentionBackend):
    """Every step, of any mode, is planned once and is one launch per layer."""

    needs_cpu_seq_lens = False

    def __init__(self, runner: Any) -> None:
        super().__init__()
        config, speculation = runner.model_config, _speculation(runner)
        refuse(bool(getattr(runner, "is_draft_worker", False)), "a draft model: give it another attention backend")
        refuse(getattr(runner, "use_mla_backend", False) is True, "MLA")
        refuse(bool(getattr(config, "is_encoder_decoder", False)), "encoders and cross attention")
        refuse(getattr(runner, "attention_chunk_size", None) is not None, "attention in chunks")
        topk = speculation.speculative_eagle_topk or 0
        refuse(topk > 1, f"speculative_eagle_topk = {topk}: trees of draft tokens")
        refuse(runner.kv_cache_dtype != runner.dtype, f"a KV cache of {runner.kv_cache_dtype} for {runner.dtype}")
        translator = getattr(runner, "kv_index_translator", None)
        refuse(bool(getattr(translator, "is_translating", False)), "the unified memory pool")
        self.req_to_token_pool = runner.req_to_token_pool
        # The rank's GPU with its number; runner.device is "cuda" on every rank.
        self.device = self.req_to_token_pool.req_to_token.device
        self.token_to_kv_pool = runner.token_to_kv_pool
        self._config = config
        self._dtype = runner.dtype
        self._page_size = int(runner.page_size)
        self._num_draft_tokens = int(speculation.speculative_num_draft_tokens or 0)
        # Draft tokens that go past the model's limit have columns too.
        self._max_kv_len = int(self.req_to_token_pool.req_to_token.shape[1])
        window = runner.sliding_window_size
        self._window = 0 if window is None or window < 0 else window + 1
        translate = getattr(self.token_to_kv_pool, "translate_loc_from_full_to_swa", None)
        self._translate = translate if self._window and getattr(self.token_to_kv_pool, "swa_layer_nums", 0) else None
        self._swa_loc: Optional[torch.Tensor] = None
        self._full, self._windowed = self._make_plans()

    def _make_plans(self) -> tuple[PoolPlan, Optional[PoolPlan]]:
        """A plan for the pool of all tokens; and one for that of the window's, where layers with windows have one."""
        tp_size = get_parallel().attn_tp_size
        limits = Limits(
            q_heads=self._config.num_attention_heads // tp_size,
            kv_heads=self._config.get_num_kv_heads(tp_size),
            head_dim=self._config.head_dim,
            dtype=self._dtype,
            page_size=self._page_size,
            max_kv_len=self._max_kv_len,
            device=self.device,
        )
        scratch = SharedScratch()
        own_pool = self._translate is not None
        windows = [0] if own_pool or not self._window else [0, self._window]
        windowed = PoolPlan(limits, scratch, [self._window], self._translate) if own_pool else None
        return PoolPlan(limits, scratch, windows, None), windowed

    def _pools(self) -> list[tuple[PoolPlan, int]]:
        """Each plan, and the pages of its pool."""
        pool = self.token_to_kv_pool
        if self._windowed is None:
            return [(self._full, _num_pages(pool, self._page_size))]
        return [
            (self._full, _num_pages(pool.full_kv_pool, self._page_size)),
            (self._windowed, _num_pages(pool.swa_kv_pool, self._page_size)),
        ]

    # Once per step

    def init_forward_metadata(self, forward_batch: Any) -> None:
        """Plans an eager step."""
        shape = shape_of(forward_batch, self._num_draft_tokens)
        requests = forward_batch.req_pool_indices[: forward_batch.batch_size]
        if forward_batch.batch_size:
            for plan, num_pages in self._pools():
                plan.build(shape, self.req_to_token_pool.req_to_token, requests, num_pages)
        self.init_forward_metadata_in_graph(forward_batch)

    def init_cuda_graph_state(self, max_bs: int, max_num_tokens: int) -> None:
        """Makes what captured steps of up to so many requests and tokens use."""
        for plan, _ in self._pools():
            plan.prepare_graphs(max_bs, max(max_num_tokens, max_bs))

    def init_forward_metadata_out_graph(self, forward_batch: Any, in_capture: bool = False) -> None:
        """Plans the step of a capture, or the one that the next replay computes."""
        mode = forward_batch.forward_mode
        refuse(
            not (mode.is_decode_or_idle() or mode.is_target_verify()),
            f"CUDA graphs of forward mode {getattr(mode, 'name', mode)}",
        )
        shape = shape_of(forward_batch, self._num_draft_tokens)
        requests = forward_batch.req_pool_indices[: forward_batch.batch_size]
        for plan, num_pages in self._pools():
            plan.build_for_graph(shape, self.req_to_token_pool.req_to_token, requests, num_pages)

    def init_forward_metadata_in_graph(self, forward_batch: Any) -> None:
        """Where new keys go in the window's own pool; part of the graph."""
        if self._translate is not None and forward_batch.out_cache_loc is not None:
            self._swa_loc = self._translate(forward_batch.out_cache_loc)

    def get_cuda_graph_seq_len_fill_value(self) -> int:
        """Keys of a padding request, which has one query token."""
        return 1

    # Once per layer

    def forward_decode(
        self, q: Any, k: Any, v: Any, layer: Any, forward_batch: Any, save_kv_cache: bool = True, **kwargs: Any
    ) -> torch.Tensor:
        """One layer of a step of decode tokens."""
        return self._forward(q, k, v, layer, forward_batch, save_kv_cache, kwargs)

    def forward_extend(
        self, q: Any, k: Any, v: Any, layer: Any, forward_batch: Any, save_kv_cache: bool = True, **kwargs: Any
    ) -> torch.Tensor:
        """One layer of a step of prefill chunks, of chunks and decode tokens together, or of draft tokens."""
        return self._forward(q, k, v, layer, forward_batch, save_kv_cache, kwargs)

    def _forward(
        self, q: Any, k: Any, v: Any, layer: Any, batch: Any, save_kv_cache: bool, kwargs: dict[str, Any]
    ) -> torch.Tensor:
        sinks = kwargs.pop("sinks", None)
        for name, value in kwargs.items():
            refuse(value is not None and value is not False, f"{name} of attention")
        refuse(bool(layer.is_cross_attention), "encoders and cross attention")
        kind = getattr(layer.attn_type, "value", layer.attn_type)
        refuse(kind not in ("decoder", None), f"attn_type {kind!r}")
        refuse(layer.qk_head_dim != layer.v_head_dim, f"values of {layer.v_head_dim} elements per head")
        size = layer.sliding_window_size
        window = 0 if size is None or size < 0 else size + 1
        refuse(
            window not in (0, self._window), f"a layer with a window of {window} keys; the model's is {self._window}"
        )
        if save_kv_cache and k is not None:
            self.token_to_kv_pool.set_kv_buffer(layer, KVWriteLoc(batch.out_cache_loc, self._swa_loc), k, v)
        pool, mask = self._full, 1 if window else 0
        if window and self._windowed is not None:
            pool, mask = self._windowed, 0
        if pool.current is None:
            raise podattn.StateError("podattn in SGLang: attention before init_forward_metadata")
        queries = q.reshape(-1, layer.tp_q_head_num, layer.qk_head_dim)
        # Later layers compute with padded tokens too: rows that no request has must be numbers.
        out = torch.zeros(queries.shape, dtype=q.dtype, device=q.device)
        pool.current.attention(
            queries,
            self.token_to_kv_pool.get_key_buffer(layer.layer_id),
            self.token_to_kv_pool.get_value_buffer(layer.layer_id),
            out,
            scale=layer.scaling,
            softcap=layer.logit_cap or None,
            sinks=None if sinks is None else sinks.float(),
            mask=mask,
        )
        return out.view(-1, layer.tp_q_head_num * layer.v_head_dim)

    def support_triton(self) -> bool:
        """SGLang may use its own Triton kernels beside this."""
        return True


def _speculation(runner: Any) -> Any:
    """Where this version of SGLang keeps what it resolved of the speculative arguments."""
    from sglang.srt import runtime_context

    if hasattr(runtime_context, "get_spec"):
        return runtime_context.get_spec()
    return runner.server_args


def _num_pages(pool: Any, page_size: int) -> int:
    """Of a pool, its page for padding included."""
    return (int(pool.size) + page_size) // page_size
