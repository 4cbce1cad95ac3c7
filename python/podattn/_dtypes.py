# SPDX-License-Identifier: Apache-2.0
"""Element types by whatever name: the library's, NumPy's, PyTorch's, DLPack's."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ._errors import ArgumentError
from ._values import shown

F32, F16, BF16, F8E4M3 = range(4)

_CODES = {
    "f32": F32,
    "float32": F32,
    "f16": F16,
    "float16": F16,
    "bf16": BF16,
    "bfloat16": BF16,
    "f8e4m3": F8E4M3,
    "float8_e4m3fn": F8E4M3,
}
_NAMES = {F32: "float32", F16: "float16", BF16: "bfloat16", F8E4M3: "float8_e4m3fn"}


def dtype_name(dtype: Any, field: str = "dtype") -> str:
    """`"float32"` of `"float32"`, `torch.float32`, `numpy.float32` and `numpy.dtype("float32")`.

    A foreign byte order is part of the name, so that it is none of those that are taken.
    """
    if isinstance(dtype, str):
        return dtype
    if type(dtype).__module__ == "torch" and type(dtype).__name__ == "dtype":
        return str(dtype)[len("torch.") :]
    if not isinstance(dtype, (np.dtype, type)):
        raise ArgumentError(f"{field} = {shown(dtype)} is no dtype")
    try:
        return _numpy_name(dtype)
    except Exception:  # whatever the class makes of being asked
        raise ArgumentError(f"{field} = {shown(dtype)} is no dtype") from None


@cache
def _numpy_name(dtype: Any) -> str:
    """Kept, since NumPy puts the name together each time."""
    found = np.dtype(dtype)
    return found.name if found.isnative else f"{found.name} of foreign byte order"


def dtype_code(dtype: Any, field: str = "dtype") -> int:
    """The pod_dtype; raises ArgumentError."""
    name = dtype_name(dtype, field)
    if name not in _CODES:
        of_caches = ", float8_e4m3fn" if field == "kv_dtype" else ""
        raise ArgumentError(f"{field} {name} is none of float32, float16, bfloat16{of_caches}")
    return _CODES[name]


def numpy_dtype(code: int) -> np.dtype[Any]:
    """NumPy's dtype of a pod_dtype; bfloat16 is from the package ml_dtypes."""
    if code in (F32, F16):
        return np.dtype(_NAMES[code])
    import ml_dtypes

    found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, _NAMES[code]))
    return found


def canonical_name(code: int) -> str:
    """The name that NumPy (with ml_dtypes) and PyTorch share."""
    return _NAMES[code]
