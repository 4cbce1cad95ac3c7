# SPDX-License-Identifier: Apache-2.0
"""Memory of the library as tensors of other libraries, by DLPack: they keep it alive."""

from __future__ import annotations

import ctypes
from ctypes import CFUNCTYPE, PYFUNCTYPE, c_char_p, c_int, c_int64, c_uint32, c_uint64, c_void_p, py_object
from typing import Any

from ._dlpack import DLTensor

_READS_VERSIONS_FROM = (1, 0)


class _Managed(ctypes.Structure):
    """DLManagedTensor."""

    _fields_ = (("tensor", DLTensor), ("context", c_void_p), ("deleter", c_void_p))


class _ManagedVersioned(ctypes.Structure):
    """DLManagedTensorVersioned."""

    _fields_ = (
        ("major", c_uint32),
        ("minor", c_uint32),
        ("context", c_void_p),
        ("deleter", c_void_p),
        ("flags", c_uint64),
        ("tensor", DLTensor),
    )


# What has been handed out and not been given back, by address: the struct, its arrays, and the memory's owner.
_handed_out: dict[int, Any] = {}


def _delete(address: int) -> None:
    _handed_out.pop(address, None)


def _drop_unused(capsule: int) -> None:
    """Of a capsule whose tensor no one took: taking it renames the capsule."""
    for name in (b"dltensor", b"dltensor_versioned"):
        if _is_valid(capsule, name):
            _delete(_pointer_of(capsule, name))


_api = ctypes.pythonapi
_is_valid = PYFUNCTYPE(c_int, c_void_p, c_char_p)(("PyCapsule_IsValid", _api))
_pointer_of = PYFUNCTYPE(c_void_p, c_void_p, c_char_p)(("PyCapsule_GetPointer", _api))
_new_capsule = PYFUNCTYPE(py_object, c_void_p, c_char_p, c_void_p)(("PyCapsule_New", _api))
_deleter = CFUNCTYPE(None, c_void_p)(_delete)
_destructor = PYFUNCTYPE(None, c_void_p)(_drop_unused)
# Tensors may outlive this module while Python ends.
for _callback in (_deleter, _destructor):
    _api.Py_IncRef(py_object(_callback))


def capsule_of(tensor: DLTensor, owner: object, max_version: tuple[int, int] | None) -> Any:
    """A capsule for `__dlpack__`, in the newest form that the consumer says it reads."""
    is_versioned = max_version is not None and tuple(max_version) >= _READS_VERSIONS_FROM
    managed = _ManagedVersioned(major=1, minor=0) if is_versioned else _Managed()
    managed.tensor = tensor
    managed.deleter = ctypes.cast(_deleter, c_void_p)
    address = ctypes.addressof(managed)
    _handed_out[address] = (managed, tensor, owner)
    name = b"dltensor_versioned" if is_versioned else b"dltensor"
    return _new_capsule(address, name, ctypes.cast(_destructor, c_void_p))


def int64_array(values: tuple[int, ...]) -> ctypes.Array[c_int64]:
    return (c_int64 * len(values))(*values)
