# SPDX-License-Identifier: Apache-2.0
"""What libraries/flash_attention_3.py calls of vLLM, on the CPU: as strict as the library about its arguments."""

from __future__ import annotations

import types

import torch


class Metadata:
    """Remembers what it was made for; the library's has no more than its size to tell it by."""

    def __init__(self, settings: dict, kv_len: list[int]) -> None:
        self.settings, self.kv_len = settings, kv_len


def get_scheduler_metadata(
    batch_size,
    max_seqlen_q,
    max_seqlen_k,
    num_heads_q,
    num_heads_kv,
    headdim,
    cache_seqlens,
    qkv_dtype=torch.bfloat16,
    headdim_v=None,
    cu_seqlens_q=None,
    cu_seqlens_k_new=None,
    cache_leftpad=None,
    page_size=None,
    max_seqlen_k_new=0,
    causal=False,
    window_size=(-1, -1),
    has_softcap=False,
    num_splits=0,
    pack_gqa=None,
    sm_margin=0,
):
    assert cache_seqlens.dtype == cu_seqlens_q.dtype == torch.int32
    assert len(cache_seqlens) == batch_size == len(cu_seqlens_q) - 1
    settings = {
        "max_seqlen_q": max_seqlen_q,
        "max_seqlen_k": max_seqlen_k,
        "heads": (num_heads_q, num_heads_kv, headdim),
        "dtype": qkv_dtype,
        "q_start": cu_seqlens_q.tolist(),
        "page_size": page_size,
        "causal": causal,
        "window": tuple(window_size),
        "num_splits": num_splits,
    }
    return Metadata(settings, cache_seqlens.tolist())


def _request(q, k, v, window):
    """One request, causal, the last query sees all keys, or as many as the window has."""
    group = q.shape[1] // k.shape[1]
    q, k, v = (x.transpose(0, 1).float() for x in (q, k, v))
    mask = torch.ones(q.shape[1], k.shape[1]).tril(k.shape[1] - q.shape[1]).bool()
    if window[0] >= 0:
        mask = mask.triu(k.shape[1] - q.shape[1] - window[0])
    k, v = k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(0, 1)


def flash_attn_varlen_func(
    q,
    k,
    v,
    max_seqlen_q,
    cu_seqlens_q,
    max_seqlen_k,
    cu_seqlens_k=None,
    seqused_k=None,
    causal=False,
    window_size=None,
    block_table=None,
    scheduler_metadata=None,
    num_splits=0,
    fa_version=2,
):
    assert (cu_seqlens_k is None) != (seqused_k is None)
    assert all(x is None or (x.dtype == torch.int32 and x.is_contiguous()) for x in (cu_seqlens_k, seqused_k))
    assert isinstance(window_size, list) and len(window_size) == 2 and window_size[1] in (-1, 0)
    assert fa_version == 3 and causal and q.is_contiguous() and k.shape == v.shape
    requests = len(cu_seqlens_q) - 1
    if block_table is not None:
        assert block_table.dtype == torch.int32 and len(block_table) == requests and k.dim() == 4
        lengths = seqused_k.tolist()
        caches = [[x[pages.long()].flatten(0, 1) for pages in block_table] for x in (k, v)]
    elif cu_seqlens_k is not None:
        assert k.dim() == 3 and len(cu_seqlens_k) == requests + 1 and cu_seqlens_k[-1] == len(k)
        lengths = cu_seqlens_k.diff().tolist()
        caches = [x.split(lengths) for x in (k, v)]
    else:
        assert k.shape[:2] == (requests, max_seqlen_k)
        lengths, caches = seqused_k.tolist(), [k, v]
    assert max(lengths) == max_seqlen_k and cu_seqlens_q.diff().max() == max_seqlen_q
    assert scheduler_metadata.kv_len == lengths
    assert scheduler_metadata.settings == {
        "max_seqlen_q": max_seqlen_q,
        "max_seqlen_k": max_seqlen_k,
        "heads": (q.shape[1], k.shape[-2], q.shape[2]),
        "dtype": q.dtype,
        "q_start": cu_seqlens_q.tolist(),
        "page_size": None if block_table is None else k.shape[1],
        "causal": causal,
        "window": tuple(window_size),
        "num_splits": num_splits,
    }
    chunks = q.split(cu_seqlens_q.diff().tolist())
    outs = [_request(chunk, ks[:n], vs[:n], window_size) for chunk, ks, vs, n in zip(chunks, *caches, lengths)]
    return torch.cat(outs).to(q.dtype)


def modules() -> dict[str, types.ModuleType]:
    """For sys.modules."""
    package, fake = types.ModuleType("vllm"), types.ModuleType("vllm.vllm_flash_attn")
    fake.flash_attn_varlen_func, fake.get_scheduler_metadata = flash_attn_varlen_func, get_scheduler_metadata
    return {"vllm": package, "vllm.vllm_flash_attn": fake}
