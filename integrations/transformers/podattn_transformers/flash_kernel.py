# SPDX-License-Identifier: Apache-2.0
"""The functions of a flash-attention kernel module, computed by podattn: for engines that look for these by name.

Each call plans for itself; `podattn.Plan` serves a model's layers with one plan. What podattn does not serve is refused
by name.
"""

from __future__ import annotations

from typing import Any, Optional, Union

import torch

import podattn

Window = Union["tuple[int, int]", "list[int]"]


def _refuse(condition: bool, what: str) -> None:
    if condition:
        raise podattn.UnsupportedError(f"podattn as a flash-attention kernel: {what} is not supported")


def _mask(causal: bool, window_size: Window) -> dict[str, Any]:
    left, right = window_size
    _refuse(right > 0, f"window_size = {tuple(window_size)}, which looks ahead,")
    is_causal = causal or right == 0
    _refuse(not is_causal and left >= 0, f"window_size = {tuple(window_size)} without causal")
    return {"causal": is_causal, "window_tokens": left + 1 if left >= 0 else 0}


def _sinks(sinks: Optional[torch.Tensor]) -> Optional[torch.Tensor]:
    return None if sinks is None else sinks.detach().float()


def flash_attn_varlen_func(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: Optional[torch.Tensor] = None,
    max_seqlen_q: int = 0,
    max_seqlen_k: int = 0,
    dropout_p: float = 0.0,
    softmax_scale: Optional[float] = None,
    causal: bool = False,
    window_size: Window = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Optional[torch.Tensor] = None,
    block_table: Optional[torch.Tensor] = None,
    seqused_k: Optional[torch.Tensor] = None,
    s_aux: Optional[torch.Tensor] = None,
    return_attn_probs: bool = False,
) -> Any:
    """Attention of packed sequences, to packed keys or, with `block_table`, to pages.

    Args:
        q: `[tokens, q_heads, head_dim]`.
        k: `[keys, kv_heads, head_dim]`, or `[pages, page_size, kv_heads, head_dim]` with a block table.
        v: like `k`.
        cu_seqlens_q: int32 `[n + 1]`, where each sequence's queries begin.
        cu_seqlens_k: the same for keys; None if `seqused_k` has their number.
        max_seqlen_q: not needed.
        max_seqlen_k: not needed.
        dropout_p: 0.
        softmax_scale: None: 1 / sqrt(head_dim).
        causal: the last query sees the last key.
        window_size: keys to the left and to the right that a query sees; -1: all.
        softcap: 0: off.
        alibi_slopes: float32 `[q_heads]`; on a CPU.
        block_table: int32 `[n, pages]`.
        seqused_k: int32 `[n]`, the keys of each sequence, instead of `cu_seqlens_k`.
        s_aux: `[q_heads]`, sinks.
        return_attn_probs: also returns the log-sum-exp, and None.

    Returns:
        `[tokens, q_heads, head_dim]`; or that, the log-sum-exp `[q_heads, tokens]`, and None.
    """
    _refuse(bool(dropout_p), f"dropout_p = {dropout_p}")
    if seqused_k is None:
        if cu_seqlens_k is None:
            raise podattn.ArgumentError("cu_seqlens_k and seqused_k are both None")
        kv_len = cu_seqlens_k.diff().to(torch.int32)
    else:
        kv_len = seqused_k.to(torch.int32)
    if block_table is None:
        if cu_seqlens_k is None:
            raise podattn.ArgumentError("cu_seqlens_k is None: packed keys need it")
        # A page per key: sequences begin anywhere.
        longest = int(max_seqlen_k) or (int(kv_len.max()) if kv_len.numel() else 0)
        table = cu_seqlens_k[:-1, None] + torch.arange(max(longest, 1), device=k.device)
        table = table.clamp_(max=max(k.shape[0] - 1, 0)).to(torch.int32)
        k, v = k[:, None], v[:, None]
    else:
        table = block_table.to(torch.int32)
    result = podattn.hybrid_attention(
        q,
        k,
        v,
        cu_seqlens_q.to(torch.int32),
        kv_len,
        table,
        return_lse=return_attn_probs,
        scale=softmax_scale,
        softcap=softcap,
        sinks=_sinks(s_aux),
        alibi_slopes=alibi_slopes,
        **_mask(causal, window_size),
    )
    if return_attn_probs:
        out, lse = result
        return out, lse.transpose(0, 1), None
    return result


def flash_attn_with_kvcache(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    k: Optional[torch.Tensor] = None,
    v: Optional[torch.Tensor] = None,
    cache_seqlens: Union[int, torch.Tensor, None] = None,
    block_table: Optional[torch.Tensor] = None,
    softmax_scale: Optional[float] = None,
    causal: bool = False,
    window_size: Window = (-1, -1),
    softcap: float = 0.0,
    s_aux: Optional[torch.Tensor] = None,
    return_softmax_lse: bool = False,
) -> Any:
    """Attention of equally many new tokens per sequence to a cache, into which their keys and values are written first.

    Args:
        q: `[n, new, q_heads, head_dim]`.
        k_cache: `[pages, page_size, kv_heads, head_dim]`, or `[n, max_len, kv_heads, head_dim]` without block table.
        v_cache: like `k_cache`.
        k: `[n, new, kv_heads, head_dim]`, or None: the cache has them.
        v: like `k`.
        cache_seqlens: int32 `[n]` or one number: keys in the cache, without `k`.
        block_table: int32 `[n, pages]`.
        softmax_scale: None: 1 / sqrt(head_dim).
        causal: the last query sees the last key.
        window_size: keys to the left and to the right that a query sees; -1: all.
        softcap: 0: off.
        s_aux: `[q_heads]`, sinks.
        return_softmax_lse: also returns the log-sum-exp.

    Returns:
        `[n, new, q_heads, head_dim]`; or that, and the log-sum-exp `[n, q_heads, new]`.
    """
    num, new = q.shape[:2]
    if cache_seqlens is None:
        raise podattn.ArgumentError("cache_seqlens is None")
    if (k is None) != (v is None):
        raise podattn.ArgumentError("one of k and v is None")
    past: torch.Tensor = torch.as_tensor(cache_seqlens, dtype=torch.int32, device=q.device).expand(num)
    kv_len = past
    if k is not None and v is not None:
        kv_len = past + k.shape[1]
        page_size = k_cache.shape[1]
        position = past.long()[:, None] + torch.arange(k.shape[1], device=q.device)
        rows = torch.arange(num, device=q.device)[:, None].expand_as(position)
        page = rows if block_table is None else block_table[rows, position // page_size].long()
        place = position if block_table is None else position % page_size
        k_cache[page, place] = k
        v_cache[page, place] = v
    q_start = torch.arange(num + 1, dtype=torch.int32, device=q.device) * new
    result = podattn.hybrid_attention(
        q.reshape(num * new, *q.shape[2:]),
        k_cache,
        v_cache,
        q_start,
        kv_len.contiguous(),
        None if block_table is None else block_table.to(torch.int32),
        return_lse=return_softmax_lse,
        scale=softmax_scale,
        softcap=softcap,
        sinks=_sinks(s_aux),
        **_mask(causal, window_size),
    )
    if return_softmax_lse:
        out, lse = result
        return out.view(num, new, *out.shape[1:]), lse.view(num, new, -1).transpose(1, 2)
    return result.view(num, new, *result.shape[1:])
