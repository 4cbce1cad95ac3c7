# SPDX-License-Identifier: Apache-2.0
"""Reads the tensor that an object's `__dlpack__` describes, without taking it over."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_int32, c_int64, c_uint8, c_uint16, c_uint64, c_void_p
from typing import Any

from ._errors import ArgumentError

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13
_LEGACY_DEFAULT_STREAM = 1
# (code, bits) -> name
DTYPES = {
    (0, 8): "int8",
    (0, 16): "int16",
    (0, 32): "int32",
    (0, 64): "int64",
    (1, 8): "uint8",
    (1, 16): "uint16",
    (1, 32): "uint32",
    (1, 64): "uint64",
    (2, 16): "float16",
    (2, 32): "float32",
    (2, 64): "float64",
    (4, 16): "bfloat16",
    (10, 8): "float8_e4m3fn",
}


class DLTensor(ctypes.Structure):
    """DLPack's description of a tensor."""

    _fields_ = (
        ("data", c_void_p),
        ("device_type", c_int32),
        ("device_id", c_int32),
        ("ndim", c_int32),
        ("dtype_code", c_uint8),
        ("dtype_bits", c_uint8),
        ("dtype_lanes", c_uint16),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    )


_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype, _capsule_pointer.argtypes = c_void_p, [ctypes.py_object, ctypes.c_char_p]


def packed_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in elements of an array of that shape without gaps."""
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))


def device_of(array: Any, field: str) -> str:
    """"cpu" or "cuda:N"; raises ArgumentError for memory of any other kind."""  # fmt: skip
    kind, index = array.__dlpack_device__()
    if int(kind) in (CPU, CUDA_HOST):
        return "cpu"
    if int(kind) in (CUDA, CUDA_MANAGED):
        return f"cuda:{int(index)}"
    raise ArgumentError(f"{field} is on DLPack's device type {int(kind)}, neither on the CPU nor on a CUDA GPU")


def read(array: Any, field: str, stream: int) -> tuple[int, tuple[int, ...], tuple[int, ...], str, str, Any]:
    """`(address, shape, strides in elements, dtype, device, owner)`; the memory is valid while the owner lives.

    The producer makes what it still computes visible to work that comes later on `stream`.
    """
    device = device_of(array, field)
    capsule = array.__dlpack__() if device == "cpu" else array.__dlpack__(stream=stream or _LEGACY_DEFAULT_STREAM)
    tensor = DLTensor.from_address(_capsule_pointer(capsule, b"dltensor"))
    shape = tuple(tensor.shape[: tensor.ndim])
    strides = tuple(tensor.strides[: tensor.ndim]) if tensor.strides else packed_strides(shape)
    if tensor.dtype_lanes != 1:
        raise ArgumentError(f"{field} holds vectors of {tensor.dtype_lanes} elements; single ones are needed")
    kind = (tensor.dtype_code, tensor.dtype_bits)
    dtype = DTYPES.get(kind, f"DLPack type {kind[0]} of {kind[1]} bits")
    return (tensor.data or 0) + tensor.byte_offset, shape, strides, dtype, device, capsule
