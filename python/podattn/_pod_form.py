# SPDX-License-Identifier: Apache-2.0
"""The call in the form of the original POD-Attention: prefill and decode as two sets of tensors.

The library takes one base address for keys and one for values. Two caches become one cache of more pages: page numbers
count steps of a stride that divides the distance between the two and the distances between their own pages. Nothing is
moved; pages may overlap in address, as only those that the page table names are read. Where there is no such stride, it
is two calls, one after the other.
"""

from __future__ import annotations

from math import gcd
from typing import Any, NamedTuple, Optional

from . import _arrays, _pod_parts, _torch
from ._arrays import Borrowed
from ._batch import Mask, window_pair
from ._errors import ArgumentError
from ._hybrid import plan_once
from ._pod_parts import Part
from ._rope import Rope
from ._values import flag, real


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
    k: Any = None,
    v: Any = None,
    rotary_cos: Any = None,
    rotary_sin: Any = None,
    rotary_interleaved: bool = True,
    cache_seqlens_p: Any = None,
    cache_seqlens_d: Any = None,
    cache_batch_idx: Any = None,
    cache_leftpad: Any = None,
    block_table_p: Any = None,
    block_table_d: Any = None,
    softmax_scale: Optional[float] = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: Optional[float] = None,
    alibi_slopes: Any = None,
    return_softmax_lse: bool = False,
) -> tuple[Any, ...]:
    """Prefill and decode, given apart as POD-Attention takes them, in one fused call. PyTorch only.

    For code that comes from `true_fused_attn_with_kvcache`. The schedule's parameters of that call (`num_splits_p`,
    `num_splits_d`, `fused_params`) do not exist here: the planner decides. `Plan` saves the planning of all layers but
    one, and lets one batch hold any mix of requests.

    Caches are not copied. For one fused call, two caches at two addresses need the same token and head strides, and
    have to be as far apart in their keys as in their values, as two slices of one tensor are. Where they are not, or
    only one is paged, or their pages differ in size, or values are not as wide as keys, the two parts are computed by
    two calls, one after the other: the results are the same, but nothing is fused. Queries are copied together unless
    one part directly follows the other in memory.

    Args:
        q_p: `[prefills, tokens, q_heads, head_dim]`, or None.
        k_cache_p: `[caches, cache_tokens, kv_heads, head_dim]`, or `[pages, page_size, kv_heads, head_dim]` with
            `block_table_p`.
        v_cache_p: like `k_cache_p`, but for the last dimension, which is that of the outputs.
        q_d: `[decodes, tokens, q_heads, head_dim]`, or None.
        k_cache_d: like `k_cache_p`, for the decodes.
        v_cache_d: like `k_cache_d`.
        k: new keys of the decodes, `[decodes, tokens, kv_heads, head_dim]` with as many tokens as `q_d`, which are
            written after each one's `cache_seqlens_d` tokens first, as the original does. Without a `q_d`, those of
            the prefills. None: the cache holds all.
        v: like `k`, of the last dimension of the values.
        rotary_cos: `[positions, rotary_dim / 2]`, with `k`: it and the queries of the same part are rotated, from
            position `cache_seqlens` on; queries that see all keys (neither causal nor a window) all at that position.
        rotary_sin: like `rotary_cos`.
        rotary_interleaved: elements 2 j and 2 j + 1 are a pair, not j and j + rotary_dim / 2.
        cache_seqlens_p: context tokens of each prefill, its new ones included, but not those of `k`: integers
            `[prefills]`, a number for all, or None for the whole cache. On a GPU they should lie there, as int32;
            lengths beyond a cache are then not noticed.
        cache_seqlens_d: the same of each decode.
        cache_batch_idx: `[decodes]`: the row of `k_cache_d` that each decode has; None: row i.
        cache_leftpad: `[decodes]`, without a block table: the first so many tokens of each one's row are none of its
            context, and positions count from the first token after them. Such a cache is read with pages of one token,
            by a call of its own.
        block_table_p: `[prefills, pages]`.
        block_table_d: `[decodes, pages]`. Of pages that are none of the part's cache, a GPU computes zeros.
        softmax_scale: None is 1 / sqrt(head_dim).
        causal: aligned to the last token of the context.
        window_size: keys to the left and right that a query sees beside its own; -1 is all.
        softcap: None or 0 is off.
        alibi_slopes: float32 `[q_heads]`.
        return_softmax_lse: also returns `[requests, q_heads, tokens]` float32 of both.

    Returns:
        `(out_p, out_d)`, shaped like the queries but for the last dimension, None for what was None; then `lse_p,
        lse_d` if asked for.

    Raises:
        UnsupportedError: autograd would need a backward pass, or the device lacks an option.
        ArgumentError: shapes, dtypes, devices, lengths or pages are wrong; names the argument.
    """
    mask = _mask(flag(causal, "causal"), window_size)
    return_softmax_lse = flag(return_softmax_lse, "return_softmax_lse")
    if softmax_scale is not None and real(softmax_scale, "softmax_scale") == 0:
        raise ArgumentError("softmax_scale = 0 makes every score 0; None is 1 / sqrt(head_dim)")
    new = _new(k, v)
    rope = _rope(rotary_cos, rotary_sin, flag(rotary_interleaved, "rotary_interleaved"), new)
    is_alone = q_d is None
    given = [
        ("p", q_p, k_cache_p, v_cache_p, cache_seqlens_p, None, block_table_p, causal, new if is_alone else None, None),
        ("d", q_d, k_cache_d, v_cache_d, cache_seqlens_d, cache_batch_idx, block_table_d, causal, new, cache_leftpad),
    ]
    parts = [_pod_parts.read(*part) for part in given if part[1] is not None]
    if not parts:
        raise ArgumentError("q_p and q_d are both None")
    _check_alike(parts)
    calls = [parts] if _are_one_cache(parts) else [[part] for part in parts]
    options = {"scale": softmax_scale, "softcap": softcap, "alibi_slopes": alibi_slopes}
    found = {
        part.name: result
        for together in calls
        for part, result in zip(together, _attend(together, mask, return_softmax_lse, options, rope))
    }
    nothing = (None, None)
    outs, lses = zip(found.get("p", nothing), found.get("d", nothing))
    return (*outs, *lses) if return_softmax_lse else outs


def _new(k: Any, v: Any) -> Any:
    if (k is None) != (v is None):
        raise ArgumentError(f"{'k' if k is None else 'v'} is None, the other is not")
    return None if k is None else (k, v)


def _rope(cos: Any, sin: Any, is_interleaved: bool, new: Any) -> Optional[Rope]:
    if cos is None and sin is None:
        return None
    if new is None:
        raise ArgumentError("rotary_cos and rotary_sin are given without k, whose positions they are for")
    for field, table in (("rotary_cos", cos), ("rotary_sin", sin)):
        if table is None:
            raise ArgumentError(f"{field} is None, the other is not")
    return Rope(style="pairs" if is_interleaved else "halves", cos=cos, sin=sin)


def _attend(
    parts: list[Part],
    mask: Mask,
    needs_lse: bool,
    options: dict[str, Any],
    rope: Optional[Rope],
) -> list[tuple[Any, Any]]:
    """`(out, lse)` of each part, by one call, after one that appends."""
    rotates = rope is not None and any(part.new is not None for part in parts)
    q = _pack_queries([part.q for part in parts], rotates)
    k, v, pages = _join_caches(parts)
    starts, lengths, table = _requests(parts, pages)
    k_layout = _arrays.view(k, "k_cache")[1]
    plan = plan_once(q, None, k_layout, v.shape[-1], tuple(k.shape[:3]), "NHD", lengths, table.shape[1],
                     options["alibi_slopes"] is not None, mask.right_window_tokens > 0)  # fmt: skip
    plan.build(
        starts,
        lengths,
        table,
        masks=(mask,),
        num_pages=k.shape[0],
        num_q_tokens=q.shape[0],
    )
    begin = 0
    for part, row_table in zip(parts, table.split([part.num_requests for part in parts])):
        if part.new is not None:
            part_q = q[begin : begin + part.num_tokens] if rotates else None
            _append(plan, part, row_table, k, v, part_q, rope, turns_alike=mask == Mask(causal=False))
        begin += part.num_tokens
    first = parts[0].q
    out = first.new_empty((*q.shape[:-1], v.shape[-1]))
    lse = first.new_empty(q.shape[:2], dtype=_torch.torch.float32) if needs_lse else None
    plan.attention(q, k, v, out, lse, **options)
    lses = [None] * len(parts) if lse is None else [rows.transpose(1, 2) for rows in _split(parts, lse)]
    return list(zip(_split(parts, out), lses))


def _append(plan: Any, part: Part, table: Any, k: Any, v: Any, q: Any, rope: Optional[Rope], turns_alike: bool) -> None:
    """Stores a part's new keys and values in the joined cache, and rotates its packed queries in place."""
    torch = _torch.torch
    device = part.q.device
    begin = part.seqlens - part.q_len
    if isinstance(begin, int):
        begin = torch.full((part.num_requests,), begin, dtype=torch.int64)
    begin, table, page_size = begin.to(device).long().unsqueeze(1), table.to(device).long(), k.shape[1]
    positions = begin + torch.arange(part.q_len, device=device)
    entries = positions // page_size
    is_inside = (positions >= 0) & (entries < table.shape[1])  # of what the host could not look at
    pages = table.gather(1, entries.clamp(0, table.shape[1] - 1))
    is_inside &= (pages >= 0) & (pages < k.shape[0])
    slots = torch.where(is_inside, pages * page_size + positions % page_size, -1).flatten()
    new_k, new_v = (x.reshape(-1, *x.shape[2:]) for x in part.new)
    together = q is not None and not turns_alike
    plan.append(new_k, new_v, k, v, q if together else None, q if together else None, slot_mapping=slots,
                positions=positions.flatten() if rope is not None else None, rope=rope)  # fmt: skip
    if q is not None and turns_alike:
        first = begin.expand(part.num_requests, part.q_len).flatten()
        plan.append(None, None, None, None, q, q, positions=first, rope=rope)


def _mask(causal: bool, window_size: Any) -> Mask:
    window_tokens, right_window_tokens = window_pair(window_size, "window_size")
    if right_window_tokens == 1:  # its own position is the last: causal, which every device has
        causal, right_window_tokens = True, 0
    return Mask(causal, window_tokens, None, right_window_tokens)


def _check_alike(parts: list[Part]) -> None:
    first = parts[0]
    for part in parts[1:]:
        for field, a, b in (("q", first.q, part.q), ("k_cache", first.k, part.k), ("v_cache", first.v, part.v)):
            if a.dtype != b.dtype or a.device != b.device or a.shape[2:] != b.shape[2:]:
                raise ArgumentError(f"{field}_p and {field}_d differ in dtype, device, heads or head_dim")


# ---- queries ----


def _pack_queries(queries: list[Any], is_copy: bool) -> Any:
    flat = [q.reshape(-1, *q.shape[2:]) for q in queries]
    if is_copy:
        return _torch.torch.cat(flat)
    if len(flat) == 1:
        return flat[0]
    first, second = flat
    end = first.data_ptr() + first.shape[0] * first.stride(0) * first.element_size()
    is_alike = first.dtype == second.dtype and first.device == second.device and first.shape[1:] == second.shape[1:]
    if is_alike and second.data_ptr() == end and first.stride() == second.stride():
        shape = (first.shape[0] + second.shape[0], *first.shape[1:])
        return Borrowed(first.data_ptr(), shape, first.stride(), first.dtype, first.device, queries)
    return _torch.torch.cat(flat)


def _split(parts: list[Part], packed: Any) -> list[Any]:
    """Each part's rows, in the shape of its queries."""
    rows = packed.split([part.num_tokens for part in parts])
    return [found.view(part.num_requests, part.q_len, *packed.shape[1:]) for part, found in zip(parts, rows)]


# ---- caches ----


def _are_one_cache(parts: list[Part]) -> bool:
    """Whether one page table can name the pages of all."""
    first, last = parts[0], parts[-1]
    if len(parts) == 1:
        return True
    if any(part.k.shape[0] > 1 and part.k.stride(0) != part.v.stride(0) for part in parts):
        return False
    if first.k.stride()[1:] != last.k.stride()[1:] or first.v.stride()[1:] != last.v.stride()[1:]:
        return False
    is_paged = first.block_table is not None
    if is_paged != (last.block_table is not None) or (is_paged and first.k.shape[1] != last.k.shape[1]):
        return False
    apart = last.k.data_ptr() - first.k.data_ptr()
    if apart != last.v.data_ptr() - first.v.data_ptr() or apart % first.k.element_size():
        return False
    return max(place.num_pages for place in _places(parts)[1]) < 1 << 31


def _places(parts: list[Part]) -> tuple[int, list[_Pages]]:
    """`(stride, place of each)`: the stride of a page in elements, and where each part's pages lie then."""
    base = min(part.k.data_ptr() for part in parts)
    distances = [(part.k.data_ptr() - base) // part.k.element_size() for part in parts]
    steps = [part.k.stride(0) if part.k.shape[0] > 1 else 0 for part in parts]
    stride = gcd(*distances, *steps)
    pages = []
    for part, distance, step in zip(parts, distances, steps):
        shift, step = (distance // stride, step // stride or 1) if stride else (0, 1)
        pages.append(_Pages(shift, step, shift + max(part.k.shape[0] - 1, 0) * step + 1))
    return stride, pages


def _join_caches(parts: list[Part]) -> tuple[Any, Any, list[_Pages]]:
    """The caches as one of more pages, with each part's place in it."""
    if len(parts) == 1:
        return parts[0].k, parts[0].v, [_Pages(0, 1, int(parts[0].k.shape[0]))]
    stride, pages = _places(parts)
    base = min(parts, key=lambda part: int(part.k.data_ptr()))
    num_pages = max(entry.num_pages for entry in pages)
    page_size = max(part.k.shape[1] for part in parts)
    owners = [(part.k, part.v) for part in parts]

    def borrow(tensor: Any) -> Borrowed:
        shape = (num_pages, page_size, *tensor.shape[2:])
        strides = (stride, *tensor.stride()[1:])
        return Borrowed(tensor.data_ptr(), shape, strides, tensor.dtype, tensor.device, owners)

    return borrow(base.k), borrow(base.v), pages


# ---- requests ----


def _requests(parts: list[Part], pages: list[_Pages]) -> tuple[Any, Any, Any]:
    """`(q_start, kv_len, page_table)`, on the GPU if any of what they are made of is there, otherwise on the host."""
    torch = _torch.torch
    given = [x for part in parts for x in (part.seqlens, part.rows, part.block_table)]
    devices = [x.device for x in given if isinstance(x, torch.Tensor) and x.is_cuda]
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
    return _torch.torch.arange(first, first + step * count, step, dtype=_torch.torch.int32, device=device)


def _lengths(part: Part, device: Any) -> Any:
    if not isinstance(part.seqlens, int):
        return part.seqlens.to(device)
    return _torch.torch.full((part.num_requests,), part.seqlens, dtype=_torch.torch.int32, device=device)


def _table(part: Part, place: _Pages, device: Any) -> Any:
    if part.block_table is not None:
        return _placed(part.block_table.to(device), part, place)
    if part.rows is not None:
        return _placed(part.rows.to(device).unsqueeze(1), part, place)
    return _int32s(place.shift, place.step, part.num_requests, device).unsqueeze(1)


def _placed(entries: Any, part: Part, place: _Pages) -> Any:
    """The numbers among all pages; -1, which is none, of what is no page of its own cache."""
    is_page = (entries >= 0) & (entries < part.k.shape[0])
    return _torch.torch.where(is_page, entries * place.step + place.shift, -1)
