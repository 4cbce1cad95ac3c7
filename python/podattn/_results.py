# SPDX-License-Identifier: Apache-2.0
"""Room for results, where the caller gives none."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _arrays, _torch
from ._dtypes import canonical_name, numpy_dtype
from ._errors import ArgumentError


def empty(like: Any, shape: tuple[int, ...], code: int, device: str) -> Any:
    """An array made by the library that made `like`; where that makes no writable arrays, by another.

    `device` as arrays name theirs.
    """
    if _arrays.is_torch(like):
        return _empty_tensor(like, shape, code)
    if device == "cpu":
        return _empty_array(shape, code)
    if type(like).__module__.partition(".")[0] == "cupy":
        import cupy

        with cupy.cuda.Device(int(device.partition(":")[2])):
            return cupy.empty(shape, numpy_dtype(code))
    torch = _torch.find() or _torch.load()
    if torch is not None and torch.cuda.is_available():
        return torch.empty(shape, dtype=getattr(torch, canonical_name(code)), device=device)
    raise ArgumentError(f"out is None, and nothing is installed to make an array on {device}")


def _empty_array(shape: tuple[int, ...], code: int) -> Any:
    try:
        return np.empty(shape, numpy_dtype(code))
    except (TypeError, ValueError) as error:  # of what an array of unknown make says is its shape
        raise ArgumentError(f"no out can be made for q: {error}") from None


def _empty_tensor(like: Any, shape: tuple[int, ...], code: int) -> Any:
    dtype = getattr(_torch.torch, canonical_name(code))
    try:
        if shape == like.shape:  # what is made after another takes half the time
            return _torch.torch.empty_like(like, dtype=dtype, memory_format=_torch.torch.contiguous_format)
        return like.new_empty(shape, dtype=dtype)
    except RuntimeError as error:
        _arrays.view(like, "q")  # says what is special about it
        raise ArgumentError(f"no out can be made for q: {error}") from None
