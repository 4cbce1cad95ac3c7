# SPDX-License-Identifier: Apache-2.0
"""The largest step of an engine, as the limits of a podattn plan."""

from typing import Any

import torch


def draft_tokens(vllm_config: Any) -> int:
    """Most tokens of one request that a step holds beyond the accepted ones."""
    speculative = getattr(vllm_config, "speculative_config", None)
    drafts = getattr(speculative, "num_speculative_tokens", None) or 0
    # A parallel drafter appends as many slots again to the requests that it verifies.
    return 2 * drafts if getattr(speculative, "parallel_drafting", False) else drafts


def plan_limits(
    vllm_config: Any,
    *,
    q_heads: int,
    kv_heads: int,
    head_dim: int,
    page_size: int,
    dtype: torch.dtype,
    kv_dtype: torch.dtype,
    num_masks: int = 1,
    chunk_tokens: int = 0,
    device: torch.device,
) -> dict[str, Any]:
    """Arguments of `podattn.Plan` and of `podattn.workspace_bytes`.

    Args:
        vllm_config: the engine's configuration.
        q_heads: query heads of this rank.
        kv_heads: key and value heads of this rank.
        head_dim: elements per head.
        page_size: tokens per page, as the kernels see them.
        dtype: of queries and results.
        kv_dtype: of the cache.
        num_masks: distinct windows among the layers.
        chunk_tokens: if not 0, vLLM cuts each request into chunks of so many tokens, which are requests of their own.
        device: where the engine computes.
    """
    scheduler = vllm_config.scheduler_config
    drafts = draft_tokens(vllm_config)
    max_requests = scheduler.max_num_seqs
    max_q_tokens = max(
        scheduler.max_num_batched_tokens + drafts * max_requests,
        vllm_config.compilation_config.max_cudagraph_capture_size or 0,
    )
    if chunk_tokens:
        # A request that begins and ends within chunks has parts of two besides the whole ones.
        max_requests = min(2 * max_requests + max_q_tokens // chunk_tokens, max_q_tokens + max_requests)
    # Drafts may go past the model's limit before they are rejected, and one sampled token with them.
    longest = vllm_config.model_config.max_model_len + drafts + 1
    return {
        "q_heads": q_heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "page_size": page_size,
        "max_requests": max_requests,
        "max_q_tokens": max_q_tokens,
        "max_kv_len": -(-longest // page_size) * page_size,
        "dtype": dtype,
        "kv_dtype": kv_dtype,
        "max_masks": num_masks,
        # On a GPU lengths and tables are known there alone, so that a step needs no copy of them.
        "batch_memory": "host" if device.type == "cpu" else "device",
        "device": device,
    }
