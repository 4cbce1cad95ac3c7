# SPDX-License-Identifier: Apache-2.0
"""Single values from Python, checked before C would wrap, round or truncate them."""

from __future__ import annotations

import ctypes
import math
import operator
from typing import Any

from ._errors import ArgumentError

_INT32 = range(-(1 << 31), 1 << 31)


def integer(value: Any, field: str, allowed: range) -> int:
    """An integer of whatever type within that range; raises ArgumentError."""
    try:
        number = operator.index(value)
    except Exception:  # whatever the type's own __index__ raises
        raise ArgumentError(f"{field} = {shown(value)} is no integer") from None
    if number not in allowed:
        raise ArgumentError(f"{field} = {number} is outside [{allowed.start}, {allowed.stop - 1}]")
    return number


def count(value: Any, field: str) -> int:
    """An int32 from 0 up; raises ArgumentError."""
    number = int32(value, field)
    if number < 0:
        raise ArgumentError(f"{field} = {number} is negative")
    return number


def int32(value: Any, field: str) -> int:
    """An integer that an int32 of C holds; raises ArgumentError."""
    return integer(value, field, _INT32)


def real(value: Any, field: str) -> float:
    """A finite number that a float32 holds, 0 only if it is 0; None is 0. Raises ArgumentError."""
    if value is None:
        return 0.0
    number = double(value, field)
    single = ctypes.c_float(number).value
    if not math.isfinite(single) or (single == 0) != (number == 0):
        raise ArgumentError(f"{field} = {number:g} is outside what a float32 holds")
    return number


def double(value: Any, field: str) -> float:
    """A finite number that a float64 holds; raises ArgumentError."""
    try:
        number = None if isinstance(value, (str, bytes, bytearray)) else float(value)
    except Exception:  # whatever the type's own __float__ raises
        number = None
    if number is None:
        raise ArgumentError(f"{field} = {shown(value)} is no number")
    if not math.isfinite(number):
        raise ArgumentError(f"{field} = {number} is not finite")
    return number


def flag(value: Any, field: str) -> bool:
    """True or False, also as 1 or 0; raises ArgumentError."""
    if isinstance(value, bool):
        return value
    try:
        number = operator.index(value)
    except Exception:  # NumPy's bool is no index
        number = int(value) if type(value).__name__ in ("bool", "bool_") else -1
    if number not in (0, 1):
        raise ArgumentError(f"{field} = {shown(value)} is neither True nor False")
    return bool(number)


def shown(value: Any) -> str:
    """A value in a message: short, on one line. Of what may have much in it, or fail, only its type."""
    text = repr(value) if value is None or type(value) in (str, bytes, bool, int, float, complex) else ""
    return text if 0 < len(text) <= 60 else f"a {type(value).__name__}"
