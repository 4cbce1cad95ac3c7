# SPDX-License-Identifier: Apache-2.0
"""Appending a step's keys and values to a cache: arrays checked and written into the structs that the library takes."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple, Optional

import numpy as np

from . import _abi, _arrays, _rope
from ._arrays import Dense, Layout
from ._dtypes import BF16, F16, F32, canonical_name, dtype_code
from ._errors import ArgumentError
from ._layer import NO_V_SCALE, Layer, check_shape
from ._rope import Rope
from ._values import int32

_COMPUTED = tuple(canonical_name(code) for code in (F32, F16, BF16))
_INTEGER_BYTES = {"int32": 4, "int64": 8}
# Of arrays of integers, the dtypes that C takes; the first is what others on the host become.
_INTEGERS = {"slot_mapping": ("int64",), "positions": ("int64", "int32"), "left_pad": ("int32",)}


class Arrays(NamedTuple):
    """What a call of `Plan.append` is given."""

    k: Any
    v: Any
    k_cache: Any
    v_cache: Any
    q: Any
    q_out: Any
    slot_mapping: Any
    positions: Any
    left_pad: Any
    k_scale: Any
    v_scale: Any


class Append:
    """The structs of a call, kept for the next one: while layouts stay, it gets addresses and nothing else."""

    def __init__(self, limits: _abi.Limits, device: str, is_hnd: bool) -> None:
        """`device` as arrays name theirs."""
        self._limits = limits
        self._device = device
        self._layer = Layer(limits, device, is_hnd)
        self.struct, self._rope_struct = _abi.Append(), _abi.Rope()
        self._rope: Optional[Rope] = None
        self._checked: Any = None
        self.num_tokens = 0
        """Of the arrays."""
        self.num_pads = 0
        """Values of `left_pad`."""
        self.address, self.cache_address = ctypes.addressof(self.struct), self._layer.cache_address

    def fill(self, arrays: Arrays, rope: Optional[Rope], stream: int) -> list[Any]:
        """Points the structs at the arrays and returns what keeps them alive."""
        for field in ("k_cache", "v_cache", "q_out"):
            _arrays.check_writable(getattr(arrays, field), field)
        given = {
            field: _arrays.view(self._converted(array, field), field, stream)
            for field, array in zip(Arrays._fields, arrays)
            if array is not None
        }
        if rope is not self._rope or rope is None:
            self._set_rope(rope, stream)
        layouts = {field: view[1] for field, view in given.items()}
        if layouts != self._checked:
            self._check(layouts)
        struct, cache = self.struct, self._layer.cache
        for field in Arrays._fields:
            address = given[field][0] if field in given else None
            if field in ("k_cache", "v_cache"):
                setattr(cache, field[0], address)
            else:
                setattr(cache if field in ("k_scale", "v_scale") else struct, field, address)
        return [view[2] for view in given.values()]

    def _converted(self, array: Any, field: str) -> Any:
        """Integers of the host as the library takes them."""
        if field not in _INTEGERS:
            return array
        if isinstance(array, (list, tuple, range)):
            array = np.array(array)
            array = array if array.size else array.astype(np.int64)
        wanted = _INTEGERS[field]
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu" or array.dtype.name in wanted:
            return array
        limits = np.iinfo(wanted[0])
        if array.size and (array.max() > limits.max or array.min() < limits.min):
            raise ArgumentError(f"{field} has values outside [{limits.min}, {limits.max}]")
        return array.astype(wanted[0])

    def _set_rope(self, rope: Optional[Rope], stream: int) -> None:
        self._rope = None  # if it is refused
        if rope is not None:
            _rope.fill(self._rope_struct, rope, self._device, stream)
        self.struct.rope = None if rope is None else ctypes.addressof(self._rope_struct)
        self._rope = rope

    def _check(self, layouts: dict[str, Layout]) -> None:
        self._checked = None
        limits, struct = self._limits, self.struct
        missing = [field for field in ("k", "v", "k_cache", "v_cache") if field not in layouts]
        if len(missing) == 4 and "q" not in layouts:
            raise ArgumentError("k, v and q are None: nothing is given")
        if missing not in ([], ["v", "v_cache"], ["k", "v", "k_cache", "v_cache"]):
            raise ArgumentError(f"{missing[0]} is None, of k, v, k_cache and v_cache")
        if "v_cache" in missing and "v_scale" in layouts and "k_cache" in layouts:
            raise ArgumentError(NO_V_SCALE)
        heads = {"k": (limits.kv_heads, limits.head_dim), "v": (limits.kv_heads, limits.v_head_dim)}
        rows = {
            field: self._rows(layouts[field], field, heads.get(field, (limits.q_heads, limits.head_dim)))
            for field in ("k", "v", "q", "q_out")
            if field in layouts
        }
        first, like = next(iter(rows.items()))
        for name, found in rows.items():
            field = str(name)
            dtype = canonical_name(limits.q_dtype) if field == "q_out" else like.dtype
            if (found.shape[0], found.dtype) != (like.shape[0], dtype):
                raise ArgumentError(
                    f"{field} has {found.shape[0]} tokens of {found.dtype}; {like.shape[0]} of {dtype} are needed, as "
                    f"{'the plan' if field == 'q_out' and found.dtype != dtype else first} has"
                )
        self.num_tokens = int32(like.shape[0], f"the number of tokens in {first}")
        struct.dtype = dtype_code(like.dtype, first)
        if "k_cache" in layouts:
            self._layer.set_cache_layouts(layouts["k_cache"], layouts.get("v_cache"))
        self._layer.set_scale_layouts({name: layouts[name] for name in ("k_scale", "v_scale") if name in layouts})
        for field, dtypes in _INTEGERS.items():
            if field in layouts:
                self._check_integers(layouts[field], field, dtypes)
        self.struct.num_pages = self._layer.num_cache_pages if "slot_mapping" in layouts else 0
        if not any(_arrays.has_grad(layout, field) for field, layout in layouts.items()):
            self._checked = layouts

    def _rows(self, layout: Layout, field: str, heads: tuple[int, int]) -> Dense:
        """`[tokens, heads, dim]` of any dtype that is computed with."""
        found = self._dense(layout, field, (None, *heads))
        if found.dtype not in _COMPUTED:
            raise ArgumentError(f"{field} holds {found.dtype}; float32, float16 or bfloat16 is needed")
        setattr(self.struct, f"{field}_token_stride", found.strides[0])
        setattr(self.struct, f"{field}_head_stride", found.strides[1])
        return found

    def _check_integers(self, layout: Layout, field: str, dtypes: tuple[str, ...]) -> None:
        found = self._dense(layout, field, (None if field == "left_pad" else self.num_tokens,))
        if field == "left_pad":
            self.num_pads = found.shape[0]
        if found.dtype not in dtypes:
            raise ArgumentError(f"{field} holds {found.dtype}; {' or '.join(dtypes)} is needed")
        if field == "positions":
            self.struct.position_bytes = _INTEGER_BYTES[found.dtype]

    def _dense(self, layout: Layout, field: str, shape: tuple[Optional[int], ...]) -> Dense:
        found = _arrays.dense(layout, field)
        check_shape(found.shape, field, shape)
        if found.device != self._device:
            raise ArgumentError(f"{field} is on {found.device}; the plan is on {self._device}")
        return found
