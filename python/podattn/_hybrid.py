# SPDX-License-Identifier: Apache-2.0
"""One call that plans and computes. Its plans are kept and found again by their limits; its memory is per call."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Literal, Optional, overload

from . import _arrays, _memory, _torch
from ._arrays import Layout
from ._dtypes import dtype_name
from ._errors import ArgumentError
from ._layer import is_heads_first
from ._plan import Plan
from ._tracing import needs_operator
from ._values import count

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._typing import Array, ArrayT, BatchOptions, IntegerArray

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


def _shape(layout: Layout, field: str, num_dims: tuple[int, ...]) -> tuple[int, ...]:
    shape = tuple(layout[0])
    if len(shape) not in num_dims:
        raise ArgumentError(f"{field} has shape {shape}; {' or '.join(map(str, num_dims))} dimensions are needed")
    return shape


def _pages_of(k: Layout, is_hnd: bool, page_size: int) -> tuple[int, int, int]:
    """`(num_pages, page_size, kv_heads)` of a cache."""
    shape = _shape(k, "k_cache", (3, 4))
    if len(shape) == 3:
        page_size = page_size or 1
        return shape[0] // page_size, page_size, shape[1]
    tokens, heads = (2, 1) if is_hnd else (1, 2)
    if page_size not in (0, shape[tokens]):
        raise ArgumentError(f"page_size = {page_size}, but the pages of k_cache hold {shape[tokens]} tokens")
    return shape[0], shape[tokens], shape[heads]


def _requests_of(kv_len: Any) -> tuple[int, bool]:
    """`(how many, whether the host can read their lengths)`."""
    if isinstance(kv_len, (list, tuple, range)):
        return len(kv_len), True
    layout = _arrays.view(kv_len, "kv_len")[1]
    return _shape(layout, "kv_len", (1,))[0], str(layout[3]) == "cpu"


def _table_pages(page_table: Any) -> int:
    """Entries per request, of an array or of a list of lists."""
    if page_table is None:
        return 1
    if isinstance(page_table, (list, tuple, range)):
        return max((len(row) for row in page_table if hasattr(row, "__len__")), default=0)
    return _shape(_arrays.view(page_table, "page_table")[1], "page_table", (2,))[1]


def _v_head_dim(k: Layout, v_cache: Any, given: int) -> int:
    """Elements of a value: those of `v_cache` if there is one."""
    if v_cache is None:
        return given or tuple(k[0])[-1]
    dim = _shape(_arrays.view(v_cache, "v_cache")[1], "v_cache", (3, 4))[-1]
    if given not in (0, dim):
        raise ArgumentError(f"v_head_dim = {given}, but values of v_cache have {dim} elements")
    return dim


def plan_once(q: Any, out: Any, k: Layout, v_head_dim: int, pages: tuple[int, int, int], kv_layout: str, kv_len: Any,
              table_pages: int, alibi: bool = False, right_windows: bool = False) -> Plan:  # fmt: skip
    """A plan for such a batch, with memory that is this call's alone.

    The memory comes from PyTorch's caching allocator where there is one: it is ordered by the stream, and what a
    captured CUDA graph uses stays with the graph.
    """
    _, page_size, kv_heads = pages
    layout = _arrays.view(q, "q")[1]
    dtype, device = dtype_name(layout[2], "q"), str(layout[3])
    num_tokens, q_heads, head_dim = _shape(layout, "q", (3,))
    num_requests, is_host = _requests_of(kv_len)
    plan = _plans.get(
        q_heads=q_heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        v_head_dim=v_head_dim,
        page_size=page_size,
        max_requests=_bound(num_requests),
        max_q_tokens=_bound(num_tokens),
        max_kv_len=min(_bound(max(table_pages, 1) * page_size), 1 << 30),
        dtype=dtype,
        kv_dtype=dtype_name(k[2], "k_cache"),
        out_dtype=dtype if out is None else dtype_name(_arrays.view(out, "out")[1][2], "out"),
        batch_memory="host" if is_host or device == "cpu" else "device",
        alibi=alibi,
        right_windows=right_windows,
        kv_layout=kv_layout,
        device=device,
    )
    if plan._is_cuda:
        plan._attach_parts(*_memory.allocate(plan._device, plan.workspace_bytes).split(plan.plan_bytes))
    return plan


@overload
def hybrid_attention(
    q: ArrayT,
    k_cache: Array,
    v_cache: Optional[Array],
    q_start: IntegerArray,
    kv_len: IntegerArray,
    page_table: Optional[IntegerArray] = None,
    out: None = None,
    lse: None = None,
    *,
    return_lse: Literal[False] = False,
    **options: Unpack[BatchOptions],
) -> ArrayT: ...


@overload
def hybrid_attention(
    q: ArrayT,
    k_cache: Array,
    v_cache: Optional[Array],
    q_start: IntegerArray,
    kv_len: IntegerArray,
    page_table: Optional[IntegerArray] = None,
    out: None = None,
    lse: None = None,
    *,
    return_lse: Literal[True],
    **options: Unpack[BatchOptions],
) -> tuple[ArrayT, ArrayT]: ...


@overload
def hybrid_attention(
    q: Array,
    k_cache: Array,
    v_cache: Optional[Array],
    q_start: IntegerArray,
    kv_len: IntegerArray,
    page_table: Optional[IntegerArray] = None,
    out: Optional[Array] = None,
    lse: Optional[Array] = None,
    *,
    return_lse: bool = False,
    **options: Unpack[BatchOptions],
) -> Any: ...


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
    v_head_dim: int = 0,
    return_lse: bool = False,
    scale: Optional[float] = None,
    softcap: Optional[float] = None,
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
        v_cache: like `k_cache`, but for the last dimension. None: values are the first elements of the keys.
        q_start: `[n + 1]`; int32 on a GPU, any integers on the host.
        kv_len: `[n]`.
        page_table: `[n, pages]`; None if request r has the one page r.
        out: like `q`, of the values' last dimension; made if None.
        lse: float32 `[tokens, q_heads]`.
        causal: see `Plan.build`.
        window_tokens: see `Plan.build`.
        kv_layout: "NHD" or "HND".
        page_size: of a cache of three dimensions; 1 if 0.
        v_head_dim: elements of a value, without a `v_cache`; as those of a key if 0.
        return_lse: makes an `lse` if none is given.
        scale: see `Plan.attention`; so are the rest.
        softcap: None or 0 is off.
        sinks: float32 `[q_heads]`.
        alibi_slopes: float32 `[q_heads]`.
        k_scale: float32, one element or `[kv_heads]`.
        v_scale: float32, one element or `[kv_heads]`.

    Returns:
        `out`, or `(out, lse)` if an `lse` was given or asked for.
    """
    if out is None and lse is None and needs_operator(q):
        scale, softcap = scale or 0.0, softcap or 0.0  # None is 0
        torch = _torch.torch
        operator = torch.ops.podattn.hybrid_attention_lse if return_lse else torch.ops.podattn.hybrid_attention
        return operator(q, k_cache, v_cache, q_start, kv_len, page_table, causal, window_tokens, kv_layout, page_size,
                        v_head_dim, scale, softcap, sinks, alibi_slopes, k_scale, v_scale)  # fmt: skip
    _torch.find()
    is_hnd = is_heads_first(kv_layout)
    k = _arrays.view(k_cache, "k_cache")[1]
    pages = _pages_of(k, is_hnd, count(page_size, "page_size"))
    dim = _v_head_dim(k, v_cache, count(v_head_dim, "v_head_dim"))
    plan = plan_once(q, out, k, dim, pages, kv_layout, kv_len, _table_pages(page_table),
                     alibi_slopes is not None)  # fmt: skip
    plan.build(
        q_start,
        kv_len,
        page_table,
        causal=causal,
        window_tokens=window_tokens,
        num_pages=pages[0],
        num_q_tokens=_arrays.shape_of(q, "q")[0],
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
