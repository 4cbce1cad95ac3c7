# SPDX-License-Identifier: Apache-2.0
"""What the library needs to know of an array: its address and its layout, whichever library made it.

A *view* is `(address, layout, owner)`; a *layout* is the plain tuple `(shape, strides, dtype, device, in_bytes,
requires_grad)`, cheap to make and to compare, so that a call can tell quickly whether it was checked before. `owner`
keeps the memory alive.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import _cuda_driver, _dlpack, _torch
from ._dtypes import dtype_name
from ._errors import ArgumentError, Error, UnsupportedError

Layout = tuple[Any, Any, Any, Any, bool, bool]
View = tuple[int, Layout, Any]


def is_torch(array: Any) -> bool:
    """Whether PyTorch made it."""
    torch = _torch.torch or _torch.find()
    return torch is not None and isinstance(array, torch.Tensor)


def shape_of(array: Any, field: str) -> tuple[int, ...]:
    """Its shape, before a view of it is made."""
    try:
        return array.shape  # type: ignore[no-any-return]
    except Exception:  # whatever the array's maker raises: PyTorch has tensors that have no shape
        raise ArgumentError(f"{field} is {_kind_of(array)}, which has no shape") from None


def _kind_of(array: Any) -> str:
    """Its type, and what is special about a tensor of PyTorch."""
    name = f"a {type(array).__name__}"
    if not is_torch(array):
        return name
    if array.is_nested:
        return f"{name} that is nested"
    return name if array.layout is _torch.torch.strided else f"{name} of layout {array.layout}"


def _torch_view(tensor: Any, field: str) -> View:
    try:
        layout = (tensor.shape, tensor.stride(), tensor.dtype, tensor.device, False, tensor.requires_grad)
        address = tensor.data_ptr()
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise ArgumentError(f"{field} is {_kind_of(tensor)}, which has no strided memory: {reason}") from None
    if tensor.is_neg():
        raise ArgumentError(f"{field} is to be negated yet, which its memory does not show; call resolve_neg()")
    return address, layout, tensor


def _numpy_view(array: Any, field: str) -> View:
    if isinstance(array, np.ma.MaskedArray):
        raise ArgumentError(f"{field} is a masked array; what is masked cannot be left out")
    address = array.__array_interface__["data"][0]
    return address, (array.shape, array.strides, array.dtype, "cpu", True, False), array


def _interface_view(interface: Any, owner: Any, field: str, device: str) -> View:
    if interface.get("mask") is not None:
        raise ArgumentError(f"{field} has a mask; what is masked cannot be left out")
    if interface.get("data") is None:
        raise ArgumentError(f"{field} has an array interface without an address")
    dtype = np.dtype(interface["typestr"])
    shape = tuple(interface["shape"])
    strides = interface.get("strides")
    if strides is None:
        strides = tuple(step * dtype.itemsize for step in _dlpack.packed_strides(shape))
    # A NumPy scalar's memory belongs to the interface that was asked for.
    return interface["data"][0], (shape, tuple(strides), dtype, device, True, False), (owner, interface)


def _cuda_ordinal_of(array: Any, interface: Any) -> int:
    """The GPU that an array is on. The interface has no word for it: the array says, as CuPy's do, or the driver."""
    number = getattr(getattr(array, "device", None), "id", None)
    if number is None:
        number = _cuda_driver.ordinal_of(interface["data"][0])
    return int(number or 0)


def view(array: Any, field: str, stream: int = 0) -> View:
    """The view of any array; raises ArgumentError if `array` is none.

    Takes torch.Tensor, numpy.ndarray, and whatever has `__dlpack__`, `__cuda_array_interface__` or
    `__array_interface__`.
    """
    if is_torch(array):
        return _torch_view(array, field)
    if isinstance(array, np.ndarray):
        return _numpy_view(array, field)
    if isinstance(array, Borrowed):
        return array.address, (array.shape, array.strides, array.dtype, array.device, False, False), array.owner
    try:
        return _protocol_view(array, field, stream)
    except Error:
        raise
    except Exception as error:  # whatever the array's maker raises
        raise ArgumentError(f"{field} is a {type(array).__name__} that does not show its memory: {error}") from error


def _protocol_view(array: Any, field: str, stream: int) -> View:
    if hasattr(array, "__dlpack__"):
        address, shape, strides, dtype, device, owner = _dlpack.read(array, field, stream)
        return address, (shape, strides, dtype, device, False, False), owner
    if hasattr(array, "__cuda_array_interface__"):
        interface = array.__cuda_array_interface__
        return _interface_view(interface, array, field, f"cuda:{_cuda_ordinal_of(array, interface)}")
    if hasattr(array, "__array_interface__"):
        return _interface_view(array.__array_interface__, array, field, "cpu")
    raise ArgumentError(f"{field} is a {type(array).__name__}, none of PyTorch, NumPy, DLPack or an array interface")


class Borrowed(NamedTuple):
    """Memory described by hand, for layouts that no array of its library could have."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: Any
    device: Any
    owner: Any


class Dense(NamedTuple):
    """A checked layout: strides count elements; those of dimensions of extent 1, which mean nothing, are 0."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    device: str


def _element_strides(layout: Layout, field: str) -> tuple[int, ...]:
    shape, strides, dtype, _, in_bytes, _ = layout
    if not in_bytes:
        return tuple(strides)
    itemsize = max(np.dtype(dtype).itemsize, 1)
    if any(extent > 1 and step % itemsize for extent, step in zip(shape, strides)):
        raise ArgumentError(f"{field} has strides {tuple(strides)} in bytes, no multiples of its {itemsize} bytes")
    return tuple(step // itemsize for step in strides)


def dense(layout: Layout, field: str) -> Dense:
    """Checks what the library cannot see: no broadcast dimension, and a last one without gaps."""
    shape = tuple(layout[0])
    if 0 in shape:  # nothing is stored, so that strides mean nothing
        return Dense(shape, _dlpack.packed_strides(shape), dtype_name(layout[2], field), str(layout[3]))
    strides = _element_strides(layout, field)
    for axis, (extent, step) in enumerate(zip(shape, strides)):
        if extent > 1 and step == 0:
            raise ArgumentError(f"{field} is broadcast along dimension {axis}, which has to be stored")
    if shape and shape[-1] > 1 and strides[-1] != 1:
        raise ArgumentError(f"{field} has stride {strides[-1]} in its last dimension, which has to be dense")
    kept = tuple(step if extent > 1 else 0 for extent, step in zip(shape, strides))
    return Dense(shape, kept, dtype_name(layout[2], field), str(layout[3]))


def per_row(layout: Layout) -> Layout:
    """The layout with one more dimension, of extent 1: its last one need not be dense then."""
    shape, strides, dtype, device, in_bytes, grad = layout
    step = np.dtype(dtype).itemsize if in_bytes else 1
    return (*shape, 1), (*strides, step), dtype, device, in_bytes, grad


def has_grad(layout: Layout, field: str) -> bool:
    """Whether it requires grad; raises UnsupportedError if autograd would then expect a backward pass."""
    if layout[5] and _torch.torch.is_grad_enabled():
        raise UnsupportedError(f"{field} requires grad, and there is no backward pass; call under torch.no_grad()")
    return layout[5]


def is_writable(array: Any) -> bool:
    """Whether results may be written into it. DLPack's plain form does not say."""
    if array is None or is_torch(array):
        return True
    if isinstance(array, np.ndarray):
        return bool(array.flags.writeable)
    try:
        interface = getattr(array, "__cuda_array_interface__", None) or getattr(array, "__array_interface__", None)
        return not (interface and interface["data"][1])
    except Exception:  # whatever the array's maker raises; its view says what is wrong
        return True


def check_writable(array: Any, field: str) -> None:
    """Raises ArgumentError for an array that results cannot be written into."""
    if not is_writable(array):
        raise ArgumentError(f"{field} is read-only")
