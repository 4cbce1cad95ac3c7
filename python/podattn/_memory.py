# SPDX-License-Identifier: Apache-2.0
"""The memory that a plan works in: the caller's arrays, or bytes that are allocated here."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple, Optional

import numpy as np

from . import _abi, _arrays, _streams
from ._device import Device, open_device
from ._errors import OutOfMemoryError, WorkspaceError
from ._unique import Unique
from ._values import integer


class Memory(NamedTuple):
    """Bytes on a device, from a multiple of WORKSPACE_ALIGN on. `owner` keeps them alive."""

    address: int
    num_bytes: int
    owner: Any

    def split(self, num_bytes: int) -> tuple[Memory, Memory]:
        """The first bytes, and the rest; `num_bytes` is a multiple of WORKSPACE_ALIGN, as all sizes are."""
        rest = self.num_bytes - num_bytes
        return Memory(self.address, num_bytes, self.owner), Memory(self.address + num_bytes, rest, self.owner)


def borrow(array: Any, field: str, device: Device, num_bytes: int) -> Memory:
    """At least that many aligned bytes of a caller's array; raises WorkspaceError."""
    address, layout, owner = _arrays.view(array, field)
    if not _arrays.is_writable(array):
        raise WorkspaceError(f"{field} is read-only")
    found = _arrays.dense(layout, field)
    if found.device != device.array_device:
        raise WorkspaceError(f"{field} is on {found.device}; the plan is on {device.array_device}")
    if len(found.shape) != 1 or found.dtype not in ("uint8", "int8"):
        raise WorkspaceError(f"{field} has shape {found.shape} of {found.dtype}; a row of bytes is needed")
    skipped = -address % _abi.WORKSPACE_ALIGN
    usable = max(found.shape[0] - skipped, 0)
    if usable < num_bytes:
        raise WorkspaceError(
            f"{field} has {usable} bytes from its first multiple of {_abi.WORKSPACE_ALIGN} on; {num_bytes} are needed"
        )
    return Memory(address + skipped, usable, owner)


def allocate(device: Device, num_bytes: int) -> Memory:
    """New bytes: by PyTorch or CuPy on a GPU, by NumPy in the host's memory."""
    wanted = num_bytes + _abi.WORKSPACE_ALIGN
    if device.is_cuda:
        return borrow(_streams.allocate_cuda_bytes(wanted, device.ordinal), "workspace", device, num_bytes)
    try:
        array = np.empty(wanted, dtype=np.uint8)
    except (MemoryError, ValueError):
        raise OutOfMemoryError(f"a workspace of {num_bytes} bytes is more than there is memory for") from None
    return borrow(array, "workspace", device, num_bytes)


class Scratch(Unique):
    """Memory for partial results that several plans share.

    Plans may share it if their calls of `attention` never overlap in time: on a GPU, because all are on one stream; on
    a CPU, because one thread makes them.
    """

    def __init__(self, num_bytes: int, device: Any = "auto") -> None:
        """Allocates it.

        Args:
            num_bytes: the largest `scratch_bytes` of the plans.
            device: as of `Plan`.

        Raises:
            ArgumentError: `num_bytes` is negative, or nothing is installed to allocate on that GPU.
            NoDeviceError: the device is not there.
        """
        num_bytes = integer(num_bytes, "num_bytes", range(1 << 63))
        opened = open_device(device)
        self.num_bytes = num_bytes
        """Bytes that a plan may use."""
        self._array_device = opened.array_device
        self._memory = allocate(opened, num_bytes)

    def memory_for(self, device: Device, num_bytes: int) -> Memory:
        """Its bytes, if they are on that device and enough; raises WorkspaceError."""
        if self._array_device != device.array_device:
            raise WorkspaceError(f"scratch is on {self._array_device}; the plan is on {device.array_device}")
        if self.num_bytes < num_bytes:
            raise WorkspaceError(f"scratch has {self.num_bytes} bytes; {num_bytes} are needed")
        return self._memory


class Word:
    """An int32 in the host's memory that a GPU can write, so that it is read without waiting."""

    def __init__(self, address: int, owner: Any) -> None:
        """Sets it to 0. `owner` keeps it alive."""
        self.address = address
        self._owner = owner
        self._value = ctypes.c_int32.from_address(address)
        self.value = 0

    @property
    def value(self) -> int:
        """What is there now."""
        return self._value.value

    @value.setter
    def value(self, value: int) -> None:
        self._value.value = value


def make_word(device: Device) -> Optional[Word]:
    """A word for that GPU; None on a CPU, and where neither PyTorch nor CuPy can pin memory."""
    pinned = _streams.allocate_pinned_word(device.ordinal) if device.is_cuda else None
    return None if pinned is None else Word(*pinned)
