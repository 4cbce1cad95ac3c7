# SPDX-License-Identifier: Apache-2.0
"""Nothing takes the first GPU where another is meant. What stands in for GPUs says which of them it was asked for."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any, Optional

import numpy as np
import pytest
import torch
from test_arrays import OnlyInterface

from podattn import _arrays, _cuda_driver, _device, _results, _streams


class FakeCuPy(ModuleType):
    """CuPy with two GPUs, of which the first is the current one. Its arrays are NumPy's."""

    def __init__(self) -> None:
        super().__init__("cupy")
        self.current = 0
        self.used: list[int] = []
        self.uint8 = np.uint8
        self.cuda = SimpleNamespace(
            Device=self._device,
            is_available=lambda: True,
            alloc_pinned_memory=lambda num_bytes: self._note(SimpleNamespace(ptr=4096, mem=num_bytes)),
        )

    def _note(self, made: Any) -> Any:
        self.used.append(self.current)
        return made

    def _device(self, ordinal: Optional[int] = None) -> Any:
        @contextlib.contextmanager
        def current() -> Iterator[None]:
            before, self.current = self.current, self.current if ordinal is None else ordinal
            yield
            self.current = before

        found: Any = current()
        found.id = self.current if ordinal is None else ordinal
        return found

    def empty(self, shape: Any, dtype: Any) -> Any:
        return self._note(np.empty(shape, dtype))


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> FakeCuPy:
    """In the place of CuPy, with PyTorch that sees no GPU."""
    made = FakeCuPy()
    monkeypatch.setitem(sys.modules, "cupy", made)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return made


def test_results_of_cupy_are_on_the_gpu_of_their_inputs(cupy: FakeCuPy) -> None:
    like = type("ndarray", (), {"__module__": "cupy"})()
    assert _results.empty(like, (2, 3), 0, "cuda:1").shape == (2, 3)
    assert cupy.used == [1] and cupy.current == 0


def test_memory_and_words_are_of_the_gpu_of_the_plan(cupy: FakeCuPy) -> None:
    _streams.allocate_cuda_bytes(100, 1)
    assert _streams.allocate_pinned_word(1) is not None
    assert cupy.used == [1, 1] and cupy.current == 0


def test_a_word_is_pinned_by_the_gpu_of_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []

    @contextlib.contextmanager
    def device(ordinal: int) -> Iterator[None]:
        used.append(ordinal)
        yield

    fake = SimpleNamespace(
        cuda=SimpleNamespace(device=device), int32=torch.int32, zeros=lambda *shape, **_: torch.zeros(*shape)
    )
    monkeypatch.setattr(_streams, "_torch_with_cuda", lambda: fake)
    assert _streams.allocate_pinned_word(1) is not None
    assert used == [1]


def test_cuda_is_the_current_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _device.device_name(torch.device("cuda", 1)) == "cuda:1"
    assert _device.device_name("cuda:1,ctas=2") == "cuda:1,ctas=2"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert _device.device_name("cuda") == _device.device_name(torch.device("cuda")) == "cuda:1"


def test_cuda_is_the_current_gpu_of_cupy(cupy: FakeCuPy) -> None:
    assert _device.device_name("cuda") == "cuda:0"
    with cupy.cuda.Device(1):
        assert _device.device_name("cuda") == "cuda:1"


def test_cuda_without_a_gpu_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert _device.device_name("cuda") == _device.device_name(torch.device("cuda")) == "cuda:0"


class FakeDriver:
    """A driver that knows one address, of GPU 1."""

    def __init__(self, address: int) -> None:
        self._address = address

    def cuPointerGetAttribute(self, value: Any, attribute: int, address: ctypes.c_uint64) -> int:  # noqa: N802
        assert attribute == 9
        if address.value != self._address:
            return 1
        value._obj.value = 1
        return 0


class OnGpu(OnlyInterface):
    """An array that shows no more than the interface of arrays on GPUs, as Numba's do."""

    def __init__(self, array: Any) -> None:
        super().__init__("__array_interface__", array)
        self.__cuda_array_interface__ = self.__array_interface__  # type: ignore[attr-defined]


def device_of(array: Any) -> str:
    return str(_arrays.view(array, "q")[1][3])


def test_arrays_that_do_not_say_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver is asked; one that the array says itself is believed."""
    known, unknown = OnGpu(np.zeros(4, np.float32)), OnGpu(np.zeros(4, np.float32))
    driver = FakeDriver(known.__cuda_array_interface__["data"][0])
    monkeypatch.setattr(_cuda_driver, "_driver", lambda: driver)
    assert device_of(known) == "cuda:1" and device_of(unknown) == "cuda:0"
    known.device = SimpleNamespace(id=3)  # type: ignore[attr-defined]
    assert device_of(known) == "cuda:3"


def test_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cuda_driver, "_driver", lambda: None)
    assert _cuda_driver.ordinal_of(4096) is None
    assert device_of(OnGpu(np.zeros(4, np.float32))) == "cuda:0"
