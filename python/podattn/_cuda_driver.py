# SPDX-License-Identifier: Apache-2.0
"""What only the CUDA driver knows: on which GPU an address is."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Optional

_DEVICE_ORDINAL = 9  # CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL


@cache
def _driver() -> Optional[ctypes.CDLL]:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def ordinal_of(address: int) -> Optional[int]:
    """The GPU whose memory the address is; None if it is none's, or if there is no driver."""
    driver, ordinal = _driver(), ctypes.c_int(-1)
    if driver is None:
        return None
    failed = driver.cuPointerGetAttribute(ctypes.byref(ordinal), _DEVICE_ORDINAL, ctypes.c_uint64(address))
    return None if failed or ordinal.value < 0 else ordinal.value
