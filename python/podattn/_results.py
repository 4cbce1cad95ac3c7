# SPDX-License-Identifier: Apache-2.0
"""Room for results, where the caller gives none."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _arrays
from ._dtypes import canonical_name, numpy_dtype
from ._errors import ArgumentError
from ._torch import torch


def empty(like: Any, shape: tuple[int, ...], code: int, device: str) -> Any:
    """An array made by the library that made `like`; where that makes no writable arrays, by another.

    `device` as arrays name theirs.
    """
    if _arrays.is_torch(like):
        dtype = getattr(torch, canonical_name(code))
        if shape == like.shape:  # what is made after another takes half the time
            return torch.empty_like(like, dtype=dtype, memory_format=torch.contiguous_format)
        return like.new_empty(shape, dtype=dtype)
    if device == "cpu":
        return np.empty(shape, numpy_dtype(code))
    if type(like).__module__.partition(".")[0] == "cupy":
        import cupy

        return cupy.empty(shape, numpy_dtype(code))
    if torch is not None and torch.cuda.is_available():
        return torch.empty(shape, dtype=getattr(torch, canonical_name(code)), device=device)
    raise ArgumentError(f"out is None, and nothing is installed to make an array on {device}")
