# SPDX-License-Identifier: Apache-2.0
"""One exception for each status of the library, carrying its message."""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "DeviceError",
    "Error",
    "LibraryError",
    "LimitError",
    "NoDeviceError",
    "OutOfMemoryError",
    "StateError",
    "UnsupportedError",
    "WorkspaceError",
]


class Error(Exception):
    """Whatever podattn raises. Its text names the field that is wrong, its index and the values."""

    status = 0
    """The pod_status that the library returned."""


class ArgumentError(Error, ValueError):
    """An argument is invalid (POD_E_ARGUMENT)."""

    status = 1


class UnsupportedError(Error, NotImplementedError):
    """The backend cannot do that (POD_E_UNSUPPORTED)."""

    status = 2


class LimitError(Error, ValueError):
    """The batch exceeds the limits of its plan (POD_E_LIMIT)."""

    status = 3


class WorkspaceError(Error, ValueError):
    """The workspace is too small, misaligned or was overwritten (POD_E_WORKSPACE)."""

    status = 4


class StateError(Error, RuntimeError):
    """The call came out of order (POD_E_STATE)."""

    status = 5


class OutOfMemoryError(Error, MemoryError):
    """The host's memory is used up (POD_E_NO_MEMORY)."""

    status = 6


class NoDeviceError(Error, RuntimeError):
    """There is no such device, or it cannot be used (POD_E_NO_DEVICE)."""

    status = 7


class DeviceError(Error, RuntimeError):
    """The device or its driver reported an error (POD_E_DEVICE)."""

    status = 8


BY_STATUS: dict[int, type[Error]] = {kind.status: kind for kind in Error.__subclasses__()}


class LibraryError(Error, ImportError):
    """`libpodattn.so` is not there, cannot be loaded, or is another version's: raised by `import podattn`."""
