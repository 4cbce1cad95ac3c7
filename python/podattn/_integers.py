# SPDX-License-Identifier: Apache-2.0
"""The integers that a batch consists of."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import numpy as np

from . import _arrays
from ._arrays import View
from ._dtypes import dtype_name
from ._errors import ArgumentError

_INT32 = np.iinfo(np.int32)
_INTEGERS = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


class _Memory:
    """Memory as NumPy asks for it."""

    def __init__(self, address: int, shape: Any, strides: Any, dtype: np.dtype[Any]) -> None:
        self.__array_interface__ = {"data": (address, True), "shape": tuple(shape), "strides": strides,
                                    "typestr": dtype.str, "version": 3}  # fmt: skip


class Integers(NamedTuple):
    """A dense array of int32. `owner` keeps it alive, and is one of NumPy if it is in the host's memory."""

    address: int
    shape: tuple[int, ...]
    device: str
    owner: Any
    row_stride: int
    """Of two dimensions, in elements."""


def read(array: Any, field: str, stream: int, columns: Optional[int] = None) -> Integers:
    """Integers: of int32 on a GPU as it is, of any in the host's memory as an int32 copy.

    The copy lets the caller write the next step's values where this step's are: a CPU reads them in each layer, and a
    GPU may fetch them from pinned memory long after it was asked to. `columns`: the first ones of each row suffice.
    """
    if isinstance(array, (list, tuple, range)):
        array = _of_sequence(array, field)
    found = _arrays.view(array, field, stream)
    _, layout, _ = found
    if str(layout[3]) == "cpu":
        values = _as_numpy(array, found, field)
        copy = _as_int32(values[:, :columns] if values.ndim == 2 else values, field)
        shape = copy.shape
        return Integers(copy.__array_interface__["data"][0], shape, "cpu", copy, shape[1] if len(shape) == 2 else 1)
    name = dtype_name(layout[2], field)
    if name != "int32":
        raise ArgumentError(f"{field} holds {name} on {layout[3]}; int32 is needed there")
    checked = _arrays.dense(layout, field)
    row_stride = checked.strides[0] or checked.shape[1] if len(checked.shape) == 2 else 1
    return Integers(found[0], checked.shape, checked.device, found[2], row_stride)


def _of_sequence(sequence: Any, field: str) -> Any:
    try:
        array = np.array(sequence)
    except Exception as error:  # rows of different lengths, and whatever an element raises
        raise ArgumentError(f"{field} does not become an array of integers: {error}") from None
    return array if array.size else array.astype(np.int32)


def _as_numpy(array: Any, found: View, field: str) -> Any:
    """The same memory as an array of NumPy, which holds integers."""
    address, (shape, strides, dtype, _, in_bytes, _), _ = found
    if isinstance(array, np.ndarray):
        if array.dtype.kind in "iub":
            return array
        raise ArgumentError(f"{field} holds {array.dtype}; integers are needed")
    name = dtype_name(dtype, field)
    if name not in _INTEGERS:
        raise ArgumentError(f"{field} holds {name}; integers are needed")
    if _arrays.is_torch(array):
        return array.numpy()
    if 0 in shape:
        return np.empty(tuple(shape), np.int32)
    kind = np.dtype(name)
    return np.asarray(
        _Memory(address, shape, strides if in_bytes else tuple(step * kind.itemsize for step in strides), kind)
    )


def _as_int32(values: Any, field: str) -> Any:
    """A copy; raises ArgumentError for the first value that does not fit."""
    kind, size = values.dtype.kind, values.dtype.itemsize
    if size > 4 or (size == 4 and kind == "u"):
        wrong = np.argwhere((values < _INT32.min) | (values > _INT32.max))
        if len(wrong):
            index = "".join(f"[{i}]" for i in wrong[0])
            raise ArgumentError(f"{field}{index} = {values[tuple(wrong[0])]} is outside [{_INT32.min}, {_INT32.max}]")
    return np.array(values, np.int32, order="C")
