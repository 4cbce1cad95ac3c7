# SPDX-License-Identifier: Apache-2.0
"""One layer's tensors, checked and written into the struct that the library takes."""

from __future__ import annotations

import ctypes
from typing import Any, Optional

from . import _abi, _arrays
from ._arrays import Dense, Layout
from ._dtypes import F32, canonical_name
from ._errors import ArgumentError, UnsupportedError
from ._same_layout import Question, same_layout
from ._torch import torch

_HEAD_VALUES = ("sinks", "alibi_slopes", "k_scale", "v_scale")
# A layout is asked for in one call from its second time on, and no more often than this made ready to be.
_MOST_QUESTIONS = 4


class Layer:
    """Kept between calls: what changes from layer to layer are addresses, and strides are checked when they change.

    Tensors of PyTorch whose layout is that of the last call take a short way: `is_same` says so, and the struct gets
    their addresses and nothing else.
    """

    def __init__(self, limits: _abi.Limits, device: str, is_hnd: bool, num_pages: int) -> None:
        """`device` as arrays name theirs."""
        self._limits = limits
        self._device = device
        self._is_hnd = is_hnd
        self._num_pages = num_pages
        self._checked: Optional[tuple[Any, ...]] = None
        self._questions_left = 0
        self.struct = _abi.Tensors()
        self.address = ctypes.addressof(self.struct)
        self.num_tokens = 0
        """Of the checked `q`."""
        self.is_same: Optional[Question] = None
        """Whether (q, k, v, out) are laid out as those that the struct's strides are of, which came without an lse."""
        self.is_same_with_lse: Optional[Question] = None
        """Whether (q, k, v, out, lse) are. At most one of the two can be asked."""
        self.has_head_values = False
        """Whether the struct holds one."""

    @property
    def num_pages(self) -> int:
        """Pages that a cache has at least."""
        return self._num_pages

    @num_pages.setter
    def num_pages(self, value: int) -> None:
        if value != self._num_pages:
            self._num_pages = value
            self._forget()

    def _forget(self) -> None:
        self._checked = self.is_same = self.is_same_with_lse = None

    def set_tensors(self, q: Any, k: Any, v: Any, out: Any, lse: Any, stream: int) -> tuple[Any, ...]:
        """Points the struct at the arrays and returns what keeps them alive."""
        view = _arrays.view
        if not (_arrays.is_writable(out) and _arrays.is_writable(lse)):
            raise ArgumentError("out or lse is read-only")
        struct = self.struct
        struct.q, q_layout, q_owner = view(q, "q", stream)
        struct.k, k_layout, k_owner = view(k, "k_cache", stream)
        struct.v, v_layout, v_owner = view(v, "v_cache", stream)
        struct.out, out_layout, out_owner = view(out, "out", stream)
        struct.lse, lse_layout, lse_owner = (None, None, None) if lse is None else view(lse, "lse", stream)
        layouts = (q_layout, k_layout, v_layout, out_layout, lse_layout)
        if layouts != self._checked:
            self._check(layouts)
        elif self._questions_left:
            self._questions_left -= 1
            if lse is None:
                self.is_same = same_layout((q, k, v, out))
            else:
                self.is_same_with_lse = same_layout((q, k, v, out, lse))
        return q_owner, k_owner, v_owner, out_owner, lse_owner

    def set_head_values(self, head_values: tuple[Any, ...], stream: int) -> tuple[Any, ...]:
        """Sets the float32 arrays that have one value per head; returns what keeps them alive."""
        limits = self._limits
        owners = []
        self.has_head_values = True  # also if one of them is refused
        for field, array, heads in zip(_HEAD_VALUES, head_values, 2 * [limits.q_heads] + 2 * [limits.kv_heads]):
            if array is None:
                setattr(self.struct, field, None)
                continue
            address, layout, owner = _arrays.view(array, field, stream)
            self._dense(layout, field, (heads,), F32)
            setattr(self.struct, field, address)
            owners.append(owner)
        self.has_head_values = bool(owners)
        return tuple(owners)

    def _check(self, layouts: tuple[Any, ...]) -> None:
        self._forget()
        limits, struct = self._limits, self.struct
        q_layout, k_layout, v_layout, out_layout, lse_layout = layouts
        heads = (limits.q_heads, limits.head_dim)
        q = self._dense(q_layout, "q", (None, *heads), limits.q_dtype)
        out = self._dense(out_layout, "out", (q.shape[0], *heads), limits.out_dtype)
        struct.q_token_stride, struct.q_head_stride = q.strides[:2]
        struct.out_token_stride, struct.out_head_stride = out.strides[:2]
        struct.k_page_stride, struct.k_token_stride, struct.k_head_stride = self._cache_strides(k_layout, "k_cache")
        struct.v_page_stride, struct.v_token_stride, struct.v_head_stride = self._cache_strides(v_layout, "v_cache")
        if lse_layout is not None:
            struct.lse_token_stride, struct.lse_head_stride = self._lse_strides(lse_layout, q.shape[0])
        self.num_tokens = q.shape[0]
        # Grad mode may change from call to call, so that what requires grad is looked at in each.
        if not _has_grad(layouts):
            self._checked, self._questions_left = layouts, _MOST_QUESTIONS

    def _dense(self, layout: Layout, field: str, shape: tuple[Optional[int], ...], dtype: int) -> Dense:
        """The layout, if it has that shape (None: any extent), that dtype, and is on the plan's device."""
        found = _arrays.dense(layout, field)
        fits = len(found.shape) == len(shape) and all(b is None or a == b for a, b in zip(found.shape, shape))
        if not fits:
            wanted = ", ".join("any" if extent is None else str(extent) for extent in shape)
            raise ArgumentError(f"{field} has shape {found.shape}; ({wanted}) is needed")
        if found.dtype != canonical_name(dtype):
            raise ArgumentError(f"{field} holds {found.dtype}; the plan is for {canonical_name(dtype)}")
        if found.device != self._device:
            raise ArgumentError(f"{field} is on {found.device}; the plan is on {self._device}")
        return found

    def _cache_strides(self, layout: Layout, field: str) -> tuple[int, int, int]:
        """Page, token and head stride."""
        limits = self._limits
        page_size, heads, dim = limits.page_size, limits.kv_heads, limits.head_dim
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

    def _lse_strides(self, layout: Layout, num_tokens: int) -> tuple[int, int]:
        """Token and head stride; here the last dimension need not be dense."""
        shape, strides, dtype, device, in_bytes, grad = layout
        widened = ((*shape, 1), (*strides, 4 if in_bytes else 1), dtype, device, in_bytes, grad)
        return self._dense(widened, "lse", (num_tokens, self._limits.q_heads, 1), F32).strides[:2]  # type: ignore[return-value]


def _has_grad(layouts: tuple[Any, ...]) -> bool:
    """Whether one requires grad; raises UnsupportedError if autograd would then expect a backward pass."""
    for field, layout in zip(("q", "k_cache", "v_cache", "out", "lse"), layouts):
        if layout is None or not layout[5]:
            continue
        if torch.is_grad_enabled():
            raise UnsupportedError(f"{field} requires grad, and there is no backward pass; call under torch.no_grad()")
        return True
    return False
