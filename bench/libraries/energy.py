# SPDX-License-Identifier: Apache-2.0
"""Energy and clock of a GPU, by NVIDIA's management library, which every driver brings."""

from __future__ import annotations

import ctypes
import time

import torch

from .timing import Times, _Graph

SM_CLOCK = 1  # NVML_CLOCK_SM
# The counter moves every few tens of milliseconds; shorter runs would count whole steps of it.
LEAST_S = 0.2
CHUNK_US = 20_000  # is enqueued at a time


class NotThere(Exception):  # noqa: N818
    """There is no such counter; the message says why."""


class Counter:
    """Of one device of PyTorch."""

    def __init__(self, device: torch.device) -> None:
        try:
            self.nvml = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError as error:
            raise NotThere(str(error)) from error
        self.handle = ctypes.c_void_p()
        self._check("nvmlInit_v2")
        uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
        if uuid is None:
            index = torch.cuda.current_device() if device.index is None else device.index
            self._check("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(self.handle))
        else:
            self._check("nvmlDeviceGetHandleByUUID", f"GPU-{uuid}".encode(), ctypes.byref(self.handle))
        self.millijoules()

    def _check(self, function: str, *arguments: object) -> None:
        status = getattr(self.nvml, function)(*arguments)
        if status != 0:
            raise NotThere(f"{function} returns {status}")

    def millijoules(self) -> int:
        """Since the driver was loaded."""
        value = ctypes.c_ulonglong()
        self._check("nvmlDeviceGetTotalEnergyConsumption", self.handle, ctypes.byref(value))
        return value.value

    def clock_mhz(self) -> int:
        value = ctypes.c_uint()
        self._check("nvmlDeviceGetClockInfo", self.handle, SM_CLOCK, ctypes.byref(value))
        return value.value


def measure_energy(counter: Counter, graph: _Graph, times: Times, seconds: float) -> None:
    """Replays a graph without a pause, and divides what the counter says by the number of calls."""
    per_replay_us = max(1.0, min(times.sustained) * graph.calls)
    chunk = max(1, int(CHUNK_US / per_replay_us))
    torch.cuda.synchronize()
    begin_mj, begin, calls = counter.millijoules(), time.monotonic(), 0
    event = None
    while time.monotonic() - begin < max(seconds, LEAST_S):
        for _ in range(chunk):
            graph.replay()
        calls += chunk * graph.calls
        enqueued = torch.cuda.Event()
        enqueued.record()
        if event is not None:
            event.synchronize()  # one chunk ahead of the GPU, no more
        event = enqueued
    times.clock_mhz = counter.clock_mhz()
    torch.cuda.synchronize()
    times.energy_mj = (counter.millijoules() - begin_mj) / calls
