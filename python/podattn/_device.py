# SPDX-License-Identifier: Apache-2.0
"""Devices: opened once by name, shared by all plans and threads, kept until the process ends."""

import ctypes
import sys
from functools import cache
from typing import Any, NamedTuple

from . import _abi, _torch
from ._errors import ArgumentError
from ._library import check, lib
from ._values import shown


class DeviceInfo(NamedTuple):
    """What a device is."""

    backend: str
    """"cpu", "cuda" or "sim"."""
    name: str
    """The processor's or the GPU's own name."""
    kernel: str
    """The instruction set or kernel family in use, for example "avx512-bf16"."""
    note: str
    """Why "auto" chose this device, or ""."""
    num_ctas: int
    """Workers that a schedule is made for."""
    num_threads: int
    """Host threads that compute; 0 on a GPU."""
    memory_bytes: int
    """The device's own memory; 0 where that is the host's."""
    families: str
    """Kernel families that run on a GPU, the fastest first; "" elsewhere."""


class Device:
    """An open device. `handle` is the pod_device."""

    def __init__(self, name: str) -> None:
        """Raises ArgumentError (unknown name or option) or NoDeviceError."""
        handle = ctypes.c_void_p()
        check(lib.pod_device_open(_encoded(name), ctypes.byref(handle)))
        self.handle = handle
        self.info = self._read_info()
        self.is_cuda = self.info.backend == "cuda"
        self.ordinal = _ordinal(name) if self.is_cuda else -1
        self.array_device = f"cuda:{self.ordinal}" if self.is_cuda else "cpu"
        """Where its arrays say that they are."""

    def _read_info(self) -> DeviceInfo:
        info = _abi.DeviceInfo()
        check(lib.pod_device_get_info(self.handle, ctypes.byref(info)))
        return DeviceInfo(*_abi.as_values(info, DeviceInfo._fields))


def _ordinal(name: str) -> int:
    """`1` of `"cuda:1,ctas=2"`; "auto" is the first GPU."""
    digits = name.partition(":")[2].partition(",")[0]
    return int(digits) if digits.isdigit() else 0


def _encoded(name: str) -> bytes:
    """As C takes it; raises ArgumentError for what C could not tell from another name."""
    if "\0" in name:
        raise ArgumentError(f"device = {name!r} holds a NUL")
    return name.encode(errors="backslashreplace")


def _current_gpu() -> int:
    """Of PyTorch, otherwise of CuPy; 0 where neither is in use."""
    torch = _torch.find()
    if torch is not None and torch.cuda.is_available():
        return int(torch.cuda.current_device())
    cupy = sys.modules.get("cupy")
    return int(cupy.cuda.Device().id) if cupy is not None and cupy.cuda.is_available() else 0


def device_name(device: Any) -> str:
    """The library's name of a device: strings pass, a torch.device gets its index; "cuda" is the current GPU."""
    torch = _torch.find()
    if torch is not None and isinstance(device, torch.device):
        device = str(device) if device.type == "cuda" else str(device.type)
    if not isinstance(device, str):
        raise ArgumentError(f"device = {shown(device)} is neither a string nor a torch.device")
    return f"cuda:{_current_gpu()}" if device == "cuda" else device


@cache
def _open(name: str) -> Device:
    return Device(name)


def open_device(device: Any) -> Device:
    """The device of that name, opened at its first use."""
    return _open(device_name(device))


def device_info(device: Any = "auto") -> DeviceInfo:
    """Describes a device: `"auto"`, `"cpu"`, `"cpu:4"`, `"cuda:0"`, a `torch.device`.

    Raises ArgumentError (unknown name or option) or NoDeviceError (it is not there or cannot be used).
    """
    return open_device(device).info
