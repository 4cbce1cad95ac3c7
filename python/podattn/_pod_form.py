# SPDX-License-Identifier: Apache-2.0
"""The call in the form of the original POD-Attention: prefill and decode as two sets of tensors.

The library takes one base address for keys and one for values. Two caches become one cache of more pages: page numbers
count steps of a stride that divides the distance between the two and the distances between their own pages. Nothing is
moved; pages may overlap in address, as only those that the page table names are read.
"""

from __future__ import annotations

from math import gcd
from typing import Any, NamedTuple, Optional

from ._arrays import Borrowed
from ._errors import ArgumentError, UnsupportedError
from ._hybrid import plan_once
from ._torch import torch


class _Part(NamedTuple):
    """The prefills, or the decodes."""

    name: str
    q: Any
    k: Any
    v: Any
    seqlens: Any
    rows: Any
    block_table: Any

    @property
    def num_requests(self) -> int:
        return int(self.q.shape[0])

    @property
    def q_len(self) -> int:
        return int(self.q.shape[1])

    @property
    def num_tokens(self) -> int:
        return self.num_requests * self.q_len


class _Pages(NamedTuple):
    """Where a part's pages lie among all: page `p` of its own has the number `shift + p * step`."""

    shift: int
    step: int
    num_pages: int


def fused_attention_with_kvcache(
    q_p: Any,
    k_cache_p: Any,
    v_cache_p: Any,
    q_d: Any,
    k_cache_d: Any,
    v_cache_d: Any,
    *,
    cache_seqlens_p: Any = None,
    cache_seqlens_d: Any = None,
    cache_batch_idx: Any = None,
    block_table_p: Any = None,
    block_table_d: Any = None,
    softmax_scale: Optional[float] = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Any = None,
    return_softmax_lse: bool = False,
) -> tuple[Any, ...]:
    """Prefill and decode, given apart as POD-Attention takes them, in one fused call. PyTorch only.

    For code that comes from `true_fused_attn_with_kvcache`. The schedule's parameters of that call (`num_splits_p`,
    `num_splits_d`, `fused_params`) do not exist here: the planner decides. New keys and values are written into the
    cache before the call. `Plan` saves the planning of all layers but one, and lets one batch hold any mix of requests.

    Caches are not copied. Two caches at two addresses have to have the same token and head strides, and to be as far
    apart in their keys as in their values, as two slices of one tensor are. Queries are copied together unless one
    part directly follows the other in memory.

    Args:
        q_p: `[prefills, tokens, q_heads, head_dim]`, or None.
        k_cache_p: `[caches, cache_tokens, kv_heads, head_dim]`, or `[pages, page_size, kv_heads, head_dim]` with
            `block_table_p`.
        v_cache_p: like `k_cache_p`.
        q_d: `[decodes, tokens, q_heads, head_dim]`, or None.
        k_cache_d: like `k_cache_p`, for the decodes.
        v_cache_d: like `k_cache_d`.
        cache_seqlens_p: context tokens of each prefill, its new ones included: int32 `[prefills]`, a number for all, or
            None for the whole cache. On a GPU they should lie there; lengths beyond a cache are then not noticed.
        cache_seqlens_d: the same of each decode.
        cache_batch_idx: int32 `[decodes]`: the row of `k_cache_d` that each decode has; None: row i.
        block_table_p: int32 `[prefills, pages]`. Both block tables, or none.
        block_table_d: int32 `[decodes, pages]`.
        softmax_scale: None is 1 / sqrt(head_dim).
        causal: aligned to the last token of the context.
        window_size: keys to the left and right that a query sees beside its own; -1 is all. To the right, 0 or -1.
        softcap: 0 is off.
        alibi_slopes: float32 `[q_heads]`.
        return_softmax_lse: also returns `[requests, q_heads, tokens]` float32 of both.

    Returns:
        `(out_p, out_d)`, shaped like the queries, None for what was None; then `lse_p, lse_d` if asked for.

    Raises:
        UnsupportedError: the two caches cannot be one range of pages; the message says why.
        ArgumentError: shapes, dtypes, devices or lengths are wrong.
    """
    if torch is None:
        raise UnsupportedError("fused_attention_with_kvcache takes tensors of PyTorch, which is not installed")
    parts = [
        _Part("p", q_p, k_cache_p, v_cache_p, cache_seqlens_p, None, block_table_p),
        _Part("d", q_d, k_cache_d, v_cache_d, cache_seqlens_d, cache_batch_idx, block_table_d),
    ]
    present = [part for part in parts if part.q is not None]
    if not present:
        raise ArgumentError("q_p and q_d are both None")
    for part in present:
        _check_part(part)
    causal, window_tokens = _mask(causal, window_size)
    q = _pack_queries([part.q for part in present])
    k, v, pages = _join_caches(present)
    starts, lengths, table = _requests(present, pages)
    plan = plan_once(
        q, None, k.dtype, (k.shape[0], k.shape[1], k.shape[2]), "NHD", lengths, table.shape[1] * k.shape[1]
    )
    plan.build(
        starts,
        lengths,
        table,
        causal=causal,
        window_tokens=window_tokens,
        num_pages=k.shape[0],
        num_q_tokens=q.shape[0],
    )
    out = torch.empty(q.shape, dtype=present[0].q.dtype, device=present[0].q.device)
    lse = torch.empty(q.shape[:2], dtype=torch.float32, device=out.device) if return_softmax_lse else None
    plan.attention(q, k, v, out, lse, scale=softmax_scale or 0.0, softcap=softcap, alibi_slopes=alibi_slopes)
    outs = _split(parts, out)
    return outs if lse is None else (*outs, *(x if x is None else x.transpose(1, 2) for x in _split(parts, lse)))


def _check_part(part: _Part) -> None:
    for field, tensor in (("q", part.q), ("k_cache", part.k), ("v_cache", part.v)):
        if tensor is None or tensor.dim() != 4:
            shape = None if tensor is None else tuple(tensor.shape)
            raise ArgumentError(f"{field}_{part.name} has shape {shape}; four dimensions are needed")
    if part.k.shape != part.v.shape:
        raise ArgumentError(
            f"k_cache_{part.name} has shape {tuple(part.k.shape)}, v_cache_{part.name} {tuple(part.v.shape)}"
        )
    if part.q_len == 0:
        raise ArgumentError(f"q_{part.name} has no tokens")
    most = part.k.shape[1]
    if part.block_table is None and _longest(part) > most:
        raise ArgumentError(f"cache_seqlens_{part.name} reaches {_longest(part)}, but the cache holds {most} tokens")


def _longest(part: _Part) -> int:
    """Of the lengths that the host knows."""
    if isinstance(part.seqlens, int):
        return part.seqlens
    if part.seqlens is None or part.seqlens.is_cuda or part.seqlens.numel() == 0:
        return 0
    return int(part.seqlens.max())


def _mask(causal: bool, window_size: tuple[int, int]) -> tuple[bool, int]:
    """`(causal, window_tokens)` of the library."""
    left, right = window_size
    if right not in (-1, 0):
        raise UnsupportedError(f"window_size = {window_size}: a window to the right of the query is not supported")
    return causal or right == 0, 0 if left < 0 else left + 1


# ---- queries ----


def _pack_queries(queries: list[Any]) -> Any:
    flat = [q.reshape(-1, *q.shape[2:]) for q in queries]
    if len(flat) == 1:
        return flat[0]
    first, second = flat
    end = first.data_ptr() + first.shape[0] * first.stride(0) * first.element_size()
    is_alike = first.dtype == second.dtype and first.device == second.device and first.shape[1:] == second.shape[1:]
    if is_alike and second.data_ptr() == end and first.stride() == second.stride():
        shape = (first.shape[0] + second.shape[0], *first.shape[1:])
        return Borrowed(first.data_ptr(), shape, first.stride(), first.dtype, first.device, queries)
    return torch.cat(flat)


def _split(parts: list[_Part], packed: Any) -> tuple[Any, Any]:
    """Each part's rows, in the shape of its queries."""
    found: list[Any] = []
    begin = 0
    for part in parts:
        if part.q is None:
            found.append(None)
            continue
        end = begin + part.num_tokens
        found.append(packed[begin:end].view(part.num_requests, part.q_len, *packed.shape[1:]))
        begin = end
    return found[0], found[1]


# ---- caches ----


def _distance(tensor: Any, base: Any) -> int:
    """In elements."""
    num_bytes = tensor.data_ptr() - base.data_ptr()
    if num_bytes % tensor.element_size():
        raise UnsupportedError("the two caches are no whole number of elements apart")
    return int(num_bytes // tensor.element_size())


def _join_caches(parts: list[_Part]) -> tuple[Borrowed, Borrowed, list[_Pages]]:
    """All caches as one of more pages, with each part's place in it."""
    base = min(parts, key=lambda part: part.k.data_ptr())
    stride = 0
    for part in parts:
        _check_joinable(part, base)
        stride = gcd(stride, _distance(part.k, base.k), part.k.stride(0) if part.k.shape[0] > 1 else 0)
    pages = []
    for part in parts:
        shift = _distance(part.k, base.k) // stride if stride else 0
        step = part.k.stride(0) // stride if part.k.shape[0] > 1 else 1
        pages.append(_Pages(shift, step, shift + (part.k.shape[0] - 1) * step + 1))
    num_pages = max(entry.num_pages for entry in pages)
    if num_pages >= 1 << 31:
        raise UnsupportedError(f"the two caches are {num_pages} pages of {stride} elements apart; 32 bits count pages")
    page_size = max(part.k.shape[1] for part in parts)
    owners = [(part.k, part.v) for part in parts]

    def borrow(tensor: Any) -> Borrowed:
        shape = (num_pages, page_size, *tensor.shape[2:])
        strides = (stride, *tensor.stride()[1:])
        return Borrowed(tensor.data_ptr(), shape, strides, tensor.dtype, tensor.device, owners)

    return borrow(base.k), borrow(base.v), pages


def _check_joinable(part: _Part, base: _Part) -> None:
    if part.k.shape[0] > 1 and part.k.stride(0) != part.v.stride(0):
        raise UnsupportedError(
            f"k_cache_{part.name} has stride {part.k.stride(0)} in its first dimension, v_cache_{part.name} "
            f"{part.v.stride(0)}; one page table serves both, so they have to be equal"
        )
    for field, tensor, other in (("k_cache", part.k, base.k), ("v_cache", part.v, base.v)):
        if tensor.dtype != other.dtype or tensor.device != other.device or tensor.shape[2:] != other.shape[2:]:
            raise ArgumentError(f"{field}_p and {field}_d differ in dtype, device, heads or head_dim")
        if tensor.stride()[1:] != other.stride()[1:]:
            raise UnsupportedError(
                f"{field}_p and {field}_d have strides {other.stride()[1:]} and {tensor.stride()[1:]} within a page; "
                "one call needs the same"
            )
    if (part.block_table is None) != (base.block_table is None):
        raise UnsupportedError("block_table_p and block_table_d: one call needs both, or none")
    if part.block_table is not None and part.k.shape[1] != base.k.shape[1]:
        raise UnsupportedError(f"pages of {base.k.shape[1]} and {part.k.shape[1]} tokens; one call needs the same")
    if _distance(part.k, base.k) != _distance(part.v, base.v):
        raise UnsupportedError(
            f"k_cache_p and k_cache_d are {_distance(part.k, base.k)} elements apart, v_cache_p and v_cache_d "
            f"{_distance(part.v, base.v)}; one page table serves both, so they have to be equal. Take the caches as "
            "slices of one tensor for keys and one for values"
        )


# ---- requests ----


def _requests(parts: list[_Part], pages: list[_Pages]) -> tuple[Any, Any, Any]:
    """`(q_start, kv_len, page_table)`, on the GPU if any of what they are made of is there, otherwise on the host."""
    given = [x for part in parts for x in (part.seqlens, part.rows, part.block_table)]
    devices = [x.device for x in given if x is not None and not isinstance(x, int) and x.is_cuda]
    device = devices[0] if devices else torch.device("cpu")
    starts, lengths, tables, begin = [_int32s(0, 1, 1, device)], [], [], 0
    for part, place in zip(parts, pages):
        starts.append(_int32s(begin + part.q_len, part.q_len, part.num_requests, device))
        lengths.append(_lengths(part, device))
        tables.append(_table(part, place, device))
        begin += part.num_tokens
    width = max(table.shape[1] for table in tables)
    wide = [torch.nn.functional.pad(table, (0, width - table.shape[1]), value=-1) for table in tables]
    return torch.cat(starts), torch.cat(lengths), torch.cat(wide)


def _int32s(first: int, step: int, count: int, device: Any) -> Any:
    return torch.arange(first, first + step * count, step, dtype=torch.int32, device=device)


def _lengths(part: _Part, device: Any) -> Any:
    if part.seqlens is None or isinstance(part.seqlens, int):
        length = part.k.shape[1] if part.seqlens is None else part.seqlens
        if part.seqlens is None and part.block_table is not None:
            raise ArgumentError(f"cache_seqlens_{part.name} is None; a paged cache does not tell the lengths")
        return torch.full((part.num_requests,), length, dtype=torch.int32, device=device)
    return part.seqlens.to(device)


def _table(part: _Part, place: _Pages, device: Any) -> Any:
    if part.block_table is not None:
        return _scaled(part.block_table.to(device), place)
    if part.rows is not None:
        return _scaled(part.rows.to(device).unsqueeze(1), place)
    if part.k.shape[0] < part.num_requests:
        raise ArgumentError(f"k_cache_{part.name} has {part.k.shape[0]} rows for {part.num_requests} requests")
    return _int32s(place.shift, place.step, part.num_requests, device).unsqueeze(1)


def _scaled(entries: Any, place: _Pages) -> Any:
    return entries if place.step == 1 and place.shift == 0 else entries * place.step + place.shift
