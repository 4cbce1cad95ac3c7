# SPDX-License-Identifier: Apache-2.0
"""One layer's tensors and cache, checked and written into the structs that the library takes."""

from __future__ import annotations

import ctypes
from typing import Any, Optional

from . import _abi, _arrays
from ._arrays import Dense, Layout, View
from ._dtypes import F8E4M3, F32, canonical_name
from ._errors import ArgumentError
from ._same_layout import Question, same_layout
from ._values import int32, real, shown

# A layout is asked for in one call from its second time on, and no more often than this made ready to be.
_MOST_QUESTIONS = 4

NO_V_SCALE = "v_scale is given, but v_cache is None: values are elements of k_cache, and k_scale is theirs too"

_NONE_YET = object()
_INT32_MAX = 2**31 - 1


def is_heads_first(kv_layout: Any) -> bool:
    """Whether it is "HND"; raises ArgumentError if it is neither that nor "NHD"."""
    if not isinstance(kv_layout, str) or kv_layout not in ("NHD", "HND"):
        raise ArgumentError(f"kv_layout {shown(kv_layout)} is neither 'NHD' nor 'HND'")
    return kv_layout == "HND"


class Layer:
    """Kept between calls: what changes from layer to layer are addresses, and strides are checked when they change.

    Tensors of PyTorch whose layout is that of the last call take a short way: `is_same` says so, and the structs get
    their addresses and nothing else.
    """

    def __init__(self, limits: _abi.Limits, device: str, is_hnd: bool) -> None:
        """`device` as arrays name theirs."""
        self._limits = limits
        self._device = device
        self._is_hnd = is_hnd
        self._num_pages = 0
        self._tells_tokens = False
        self._checked: Optional[tuple[Any, ...]] = None
        self._questions_left = 0
        self.tensors, self.cache = _abi.Tensors(), _abi.Cache()
        self.tensors_address, self.cache_address = ctypes.addressof(self.tensors), ctypes.addressof(self.cache)
        self.num_cache_pages = 0
        """Pages that both tensors of the checked cache have."""
        self.num_tokens = 0
        """Of the checked `q`."""
        self.is_same: Optional[Question] = None
        """Whether (q, k, v, out) are laid out as those that the structs' strides are of, which came without an lse."""
        self.is_same_with_lse: Optional[Question] = None
        """Whether (q, k, v, out, lse) are. At most one of the two can be asked."""
        self._is_same_but_tokens: Optional[Question] = None
        self.scale: Any = None
        """As it was given; so are the next two. They are compared by identity, so that nothing is kept that changes."""
        self.softcap: Any = None
        self.mask: Any = 0
        self.has_head_values = False
        """Whether the structs hold one."""
        self._is_same_sinks: Optional[Question] = None

    def set_batch(self, num_pages: int, tells_tokens: bool) -> None:
        """What the batch asks of all layers.

        `num_pages`: pages that a cache has at least. `tells_tokens`: whether the library compares how many tokens the
        arrays have with the batch's.
        """
        if (num_pages, tells_tokens) != (self._num_pages, self._tells_tokens):
            self._num_pages, self._tells_tokens = num_pages, tells_tokens
            self._forget()

    def _forget(self) -> None:
        self._checked = self.is_same = self.is_same_with_lse = self._is_same_but_tokens = None

    def set_tensors(self, q: Any, k: Any, v: Any, out: Any, lse: Any, stream: int) -> tuple[Any, ...]:
        """Points the structs at the arrays and returns what keeps them alive."""
        view = _arrays.view
        _arrays.check_writable(out, "out")
        _arrays.check_writable(lse, "lse")
        tensors, cache = self.tensors, self.cache
        tensors.q, q_layout, q_owner = view(q, "q", stream)
        cache.k, k_layout, k_owner = view(k, "k_cache", stream)
        cache.v, v_layout, v_owner = (None, None, None) if v is None else view(v, "v_cache", stream)
        tensors.out, out_layout, out_owner = view(out, "out", stream)
        tensors.lse, lse_layout, lse_owner = (None, None, None) if lse is None else view(lse, "lse", stream)
        layouts = (q_layout, k_layout, v_layout, out_layout, lse_layout)
        if layouts != self._checked:
            self._check(layouts)
        elif self._questions_left:
            self._questions_left -= 1
            if lse is None:
                self.is_same = same_layout((q, k, v, out))
            else:
                self.is_same_with_lse = same_layout((q, k, v, out, lse))
            # The stride of a single token means nothing, and is not kept.
            if lse is None and self.num_tokens > 1:
                self._is_same_but_tokens = same_layout((q, k, v, out), (0, 3))
        return q_owner, k_owner, v_owner, out_owner, lse_owner

    def take_tokens(self, q: Any, k: Any, v: Any, out: Any) -> bool:
        """Whether these, without an lse, differ from what was checked in the number of tokens alone, which is taken.

        It changes from step to step, and the strides need no other look for it.
        """
        is_same = self._is_same_but_tokens
        if is_same is None or not is_same(q, k, v, out):
            return False
        num_tokens = q.size(0)
        if num_tokens != out.size(0) or num_tokens > _INT32_MAX:
            return False
        if num_tokens != self.num_tokens:
            self.num_tokens = num_tokens
            if self._tells_tokens:
                self.tensors.q_tokens = self.tensors.out_tokens = num_tokens
            self._checked = self.is_same = None
        return True

    def set_options(self, scale: Any, softcap: Any, mask: Any) -> None:
        """Sets them; None is 0."""
        values = real(scale, "scale"), real(softcap, "softcap"), int32(mask, "mask")
        self.tensors.scale, self.tensors.softcap, self.tensors.mask = values
        if all(isinstance(value, (int, float, type(None))) for value in (scale, softcap, mask)):
            self.scale, self.softcap, self.mask = scale, softcap, mask
        else:
            self.mask = _NONE_YET  # the next call is looked at

    def set_head_values(self, sinks: Any, alibi_slopes: Any, k_scale: Any, v_scale: Any, stream: int) -> list[Any]:
        """Sets the float32 arrays that have a value per head; returns what keeps them alive."""
        is_alone = sinks is not None and alibi_slopes is k_scale is v_scale is None
        if is_alone and self._is_same_sinks is not None and self._is_same_sinks(sinks):
            self.tensors.sinks = sinks.data_ptr()
            return [sinks]
        self._is_same_sinks = None
        owners: list[Any] = []
        self.has_head_values = True  # also if one of them is refused
        for field, array in (("sinks", sinks), ("alibi_slopes", alibi_slopes)):
            if array is None:
                setattr(self.tensors, field, None)
                continue
            address, layout, owner = self._head_values(array, field, stream)
            self._dense(layout, field, (self._limits.q_heads,), F32, "float32 is needed")
            setattr(self.tensors, field, address)
            owners.append(owner)
        self._set_scales(k_scale, v_scale, stream, owners)
        self.has_head_values = bool(owners)
        # Grad mode may change, so that what requires grad is looked at in each call.
        if is_alone and _arrays.is_torch(sinks) and not sinks.requires_grad:
            self._is_same_sinks = same_layout((sinks,))
        return owners

    def set_tree(self, tree_mask: Any, stream: int) -> Any:
        """Sets the words of a tree mask, or none; returns what keeps them alive."""
        self.tensors.tree_mask = None
        if tree_mask is None:
            return None
        address, layout, owner = _arrays.view(tree_mask, "tree_mask", stream)
        found = _arrays.dense(layout, "tree_mask")
        check_shape(found.shape, "tree_mask", (self.num_tokens,))
        if found.dtype not in ("int64", "uint64"):
            raise ArgumentError(f"tree_mask holds {found.dtype}; int64 or uint64 is needed")
        if found.device != self._device:
            raise ArgumentError(f"tree_mask is on {found.device}; the plan is on {self._device}")
        self.tensors.tree_mask = address
        return owner

    def _head_values(self, array: Any, field: str, stream: int) -> View:
        found = _arrays.view(array, field, stream)
        _arrays.has_grad(found[1], field)
        return found

    def _set_scales(self, k_scale: Any, v_scale: Any, stream: int, owners: list[Any]) -> None:
        if v_scale is not None and self.cache.v is None:
            raise ArgumentError(NO_V_SCALE)
        layouts = {}
        for field, array in (("k_scale", k_scale), ("v_scale", v_scale)):
            if array is None:
                setattr(self.cache, field, None)
                continue
            address, layouts[field], owner = self._head_values(array, field, stream)
            setattr(self.cache, field, address)
            owners.append(owner)
        self.set_scale_layouts(layouts)

    def set_scale_layouts(self, layouts: dict[str, Layout]) -> None:
        """Sets the stride of `k_scale` and `v_scale`, of those that there are."""
        counts = {field: self._num_scales(layout, field) for field, layout in layouts.items()}
        if len(set(counts.values())) > 1:
            raise ArgumentError(
                f"k_scale has {counts['k_scale']} values, v_scale {counts['v_scale']}; both need one, or both one per "
                "KV head"
            )
        self.cache.scale_stride = 1 if max(counts.values(), default=1) > 1 else 0

    def _num_scales(self, layout: Layout, field: str) -> int:
        """1 for one scale of all heads, which may have no dimension; otherwise the KV heads."""
        if len(layout[0]) == 0:
            layout = _arrays.per_row(layout)
        is_one = tuple(layout[0]) == (1,)
        heads = 1 if is_one else self._limits.kv_heads
        return self._dense(layout, field, (heads,), F32, "float32 is needed").shape[0]

    def _check(self, layouts: tuple[Any, ...]) -> None:
        self._forget()
        limits, tensors = self._limits, self.tensors
        q_layout, k_layout, v_layout, out_layout, lse_layout = layouts
        q = self._dense(q_layout, "q", (None, limits.q_heads, limits.head_dim), limits.q_dtype)
        int32(q.shape[0], "the number of tokens in q")
        out = self._dense(out_layout, "out", (q.shape[0], limits.q_heads, limits.v_head_dim), limits.out_dtype)
        tensors.q_token_stride, tensors.q_head_stride = q.strides[:2]
        tensors.out_token_stride, tensors.out_head_stride = out.strides[:2]
        self.set_cache_layouts(k_layout, v_layout)
        if lse_layout is not None:
            check_shape(tuple(lse_layout[0]), "lse", (q.shape[0], limits.q_heads))
            rows = _arrays.per_row(lse_layout)
            lse = self._dense(rows, "lse", (q.shape[0], limits.q_heads, 1), F32, "float32 is needed")
            tensors.lse_token_stride, tensors.lse_head_stride = lse.strides[:2]
        tensors.q_tokens, tensors.out_tokens = (q.shape[0], out.shape[0]) if self._tells_tokens else (0, 0)
        self.num_tokens = q.shape[0]
        # Grad mode may change from call to call, so that what requires grad is looked at in each.
        if not _has_grad(layouts):
            self._checked, self._questions_left = layouts, _MOST_QUESTIONS

    def _dense(self, layout: Layout, field: str, shape: tuple[Optional[int], ...], dtype: int, need: str = "") -> Dense:
        """The layout, if it has that shape (None: any extent), that dtype, and is on the plan's device.

        `need`: what to say of another dtype, where it is not the plan that asks for it.
        """
        found = _arrays.dense(layout, field)
        check_shape(found.shape, field, shape)
        is_bytes = dtype == F8E4M3 and found.dtype == "uint8"  # where nothing knows e4m3
        if found.dtype != canonical_name(dtype) and not is_bytes:
            raise ArgumentError(f"{field} holds {found.dtype}; {need or f'the plan is for {canonical_name(dtype)}'}")
        if found.device != self._device:
            raise ArgumentError(f"{field} is on {found.device}; the plan is on {self._device}")
        return found

    def set_cache_layouts(self, k_layout: Layout, v_layout: Optional[Layout]) -> None:
        """Sets the cache's strides, and `num_cache_pages`. Without a V, values are the first elements of the keys."""
        limits, cache = self._limits, self.cache
        self.num_cache_pages = _INT32_MAX
        cache.k_page_stride, cache.k_token_stride, cache.k_head_stride = self._cache_strides(
            k_layout, "k_cache", limits.head_dim
        )
        if v_layout is None:
            if limits.v_head_dim > limits.head_dim:
                raise ArgumentError(
                    f"v_cache is None, but v_head_dim = {limits.v_head_dim} is more than head_dim = {limits.head_dim}"
                )
            return
        cache.v_page_stride, cache.v_token_stride, cache.v_head_stride = self._cache_strides(
            v_layout, "v_cache", limits.v_head_dim
        )

    def _cache_strides(self, layout: Layout, field: str, dim: int) -> tuple[int, int, int]:
        """Page, token and head stride."""
        limits = self._limits
        page_size, heads = limits.page_size, limits.kv_heads
        if len(layout[0]) == 3 and not self._is_hnd:
            flat = self._dense(layout, field, (None, heads, dim), limits.kv_dtype)
            self._check_num_pages(flat.shape[0] // page_size, field)
            return page_size * flat.strides[0], flat.strides[0], flat.strides[1]
        inner = (heads, page_size) if self._is_hnd else (page_size, heads)
        cache = self._dense(layout, field, (None, *inner, dim), limits.kv_dtype)
        self._check_num_pages(cache.shape[0], field)
        page, first, second, _ = cache.strides
        return (page, second, first) if self._is_hnd else (page, first, second)

    def _check_num_pages(self, num_pages: int, field: str) -> None:
        if num_pages < self._num_pages:
            raise ArgumentError(f"{field} has {num_pages} pages; the plan is for num_pages = {self._num_pages}")
        self.num_cache_pages = min(self.num_cache_pages, num_pages)


def check_shape(found: tuple[int, ...], field: str, shape: tuple[Optional[int], ...]) -> None:
    """Raises ArgumentError unless the extents are those; None is any."""
    fits = len(found) == len(shape) and all(b is None or a == b for a, b in zip(found, shape))
    if not fits:
        wanted = ", ".join("any" if extent is None else str(extent) for extent in shape)
        raise ArgumentError(f"{field} has shape {found}; ({wanted}) is needed")


def _has_grad(layouts: tuple[Any, ...]) -> bool:
    """Whether one requires grad; raises UnsupportedError if autograd would then expect a backward pass."""
    fields = ("q", "k_cache", "v_cache", "out", "lse")
    return any(layout is not None and _arrays.has_grad(layout, field) for field, layout in zip(fields, layouts))
