# SPDX-License-Identifier: Apache-2.0
"""One call that plans and computes. Its plans are kept and found again by their limits; its memory is per call."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, Optional

from . import _arrays, _memory
from ._device import device_name
from ._dtypes import dtype_name
from ._errors import ArgumentError
from ._plan import Plan, _needs_operator
from ._torch import torch

_MOST_PLANS = 32


class _Plans(threading.local):
    """The plans that this thread used last. A plan belongs to one thread at a time."""

    def __init__(self) -> None:
        self._plans: OrderedDict[tuple[Any, ...], Plan] = OrderedDict()

    def get(self, **limits: Any) -> Plan:
        key = tuple(limits.values())
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = Plan(**limits)
        self._plans.move_to_end(key)
        if len(self._plans) > _MOST_PLANS:
            self._plans.popitem(last=False)
        return plan


_plans = _Plans()


def _bound(count: int) -> int:
    """The power of two from `count` up: few plans serve all sizes."""
    return 1 << max(count - 1, 0).bit_length()


def _shape(array: Any, field: str, num_dims: tuple[int, ...]) -> tuple[int, ...]:
    shape = tuple(getattr(array, "shape", ()))
    if len(shape) not in num_dims:
        raise ArgumentError(f"{field} has shape {shape}; {' or '.join(map(str, num_dims))} dimensions are needed")
    return shape


def _pages_of(k_cache: Any, kv_layout: str, page_size: int) -> tuple[int, int, int]:
    """`(num_pages, page_size, kv_heads)` of a cache."""
    shape = _shape(k_cache, "k_cache", (3, 4))
    if len(shape) == 3:
        page_size = page_size or 1
        return shape[0] // page_size, page_size, shape[1]
    tokens, heads = (2, 1) if kv_layout == "HND" else (1, 2)
    if page_size not in (0, shape[tokens]):
        raise ArgumentError(f"page_size = {page_size}, but the pages of k_cache hold {shape[tokens]} tokens")
    return shape[0], shape[tokens], shape[heads]


def _device_of(q: Any) -> str:
    if hasattr(q, "device") and _arrays.is_torch(q):
        return device_name(q.device)
    return str(_arrays.view(q, "q")[1][3])


def plan_once(q: Any, out_dtype: Any, kv_dtype: Any, pages: tuple[int, int, int], kv_layout: str,
              kv_len: Any, max_kv_len: int) -> Plan:  # fmt: skip
    """A plan for such a batch, with memory that is this call's alone.

    The memory comes from PyTorch's caching allocator where there is one: it is ordered by the stream, and what a
    captured CUDA graph uses stays with the graph.
    """
    _, page_size, kv_heads = pages
    num_tokens, q_heads, head_dim = _shape(q, "q", (3,))
    plan = _plans.get(
        q_heads=q_heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        page_size=page_size,
        max_requests=_bound(len(kv_len)),
        max_q_tokens=_bound(num_tokens),
        max_kv_len=min(_bound(max_kv_len), 1 << 30),
        dtype=dtype_name(q.dtype),
        kv_dtype=dtype_name(kv_dtype),
        out_dtype=dtype_name(q.dtype if out_dtype is None else out_dtype),
        batch_memory="device" if _arrays.is_torch(kv_len) and kv_len.is_cuda else "host",
        kv_layout=kv_layout,
        device=_device_of(q),
    )
    if plan._is_cuda:
        plan._attach_parts(*_memory.allocate(plan._device, plan.workspace_bytes).split(plan.plan_bytes))
    return plan


def hybrid_attention(
    q: Any,
    k_cache: Any,
    v_cache: Any,
    q_start: Any,
    kv_len: Any,
    page_table: Any = None,
    out: Any = None,
    lse: Any = None,
    *,
    causal: bool = True,
    window_tokens: int = 0,
    kv_layout: str = "NHD",
    page_size: int = 0,
    return_lse: bool = False,
    scale: float = 0.0,
    softcap: float = 0.0,
    sinks: Any = None,
    alibi_slopes: Any = None,
    k_scale: Any = None,
    v_scale: Any = None,
) -> Any:
    """Plans and computes the attention of a hybrid batch in one call, for where nothing is computed twice per step.

    Shapes, dtypes, results and errors are those of `Plan.build` and `Plan.attention`; a model of several layers saves
    the planning of all but one by using them. On a GPU it runs on the current stream of the library that made `q`.

    Args:
        q: `[tokens, q_heads, head_dim]`; its device is where the work is done.
        k_cache: `[pages, page_size, kv_heads, head_dim]`, `[pages, kv_heads, page_size, head_dim]` if `kv_layout` is
            "HND", or `[pages * page_size, kv_heads, head_dim]`.
        v_cache: like `k_cache`.
        q_start: int32 `[n + 1]`.
        kv_len: int32 `[n]`.
        page_table: int32 `[n, pages]`; None if request r has the one page r.
        out: like `q`; made if None.
        lse: float32 `[tokens, q_heads]`.
        causal: see `Plan.build`.
        window_tokens: see `Plan.build`.
        kv_layout: "NHD" or "HND".
        page_size: of a cache of three dimensions; 1 if 0.
        return_lse: makes an `lse` if none is given.
        scale: see `Plan.attention`; so are the rest.
        softcap: 0 is off.
        sinks: float32 `[q_heads]`.
        alibi_slopes: float32 `[q_heads]`.
        k_scale: float32, one element or `[kv_heads]`.
        v_scale: float32, one element or `[kv_heads]`.

    Returns:
        `out`, or `(out, lse)` if an `lse` was given or asked for.
    """
    if out is None and lse is None and _needs_operator(q):
        operator = torch.ops.podattn.hybrid_attention_lse if return_lse else torch.ops.podattn.hybrid_attention
        return operator(q, k_cache, v_cache, q_start, kv_len, page_table, causal, window_tokens, kv_layout, page_size,
                        scale, softcap, sinks, alibi_slopes, k_scale, v_scale)  # fmt: skip
    pages = _pages_of(k_cache, kv_layout, page_size)
    table_pages = 1 if page_table is None else _table_pages(page_table)
    plan = plan_once(
        q, getattr(out, "dtype", None), k_cache.dtype, pages, kv_layout, kv_len, max(table_pages, 1) * pages[1]
    )
    plan.build(
        q_start,
        kv_len,
        page_table,
        causal=causal,
        window_tokens=window_tokens,
        num_pages=pages[0],
        num_q_tokens=q.shape[0],
    )
    return plan.attention(
        q,
        k_cache,
        v_cache,
        out,
        lse,
        return_lse=return_lse,
        scale=scale,
        softcap=softcap,
        sinks=sinks,
        alibi_slopes=alibi_slopes,
        k_scale=k_scale,
        v_scale=v_scale,
    )


def _table_pages(page_table: Any) -> int:
    """Entries per request, of an array or of a list of lists."""
    shape: Optional[tuple[int, ...]] = getattr(page_table, "shape", None)
    if shape is None:
        return len(page_table[0]) if page_table else 0
    return _shape(page_table, "page_table", (2,))[1]
