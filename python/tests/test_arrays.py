# SPDX-License-Identifier: Apache-2.0
"""Arrays of other makers: NumPy, DLPack, the array interfaces."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from hybrid_case import check_lse, check_out
from test_plan import mixed

import podattn
from podattn import _dlpack


class OnlyDLPack:
    """Shows nothing of a tensor but `__dlpack__`."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor
        self.shape = tuple(tensor.shape)
        self.dtype = tensor.dtype
        self.asked_stream: Any = None

    def __dlpack__(self, stream: Any = None) -> Any:
        self.asked_stream = stream
        return self._tensor.__dlpack__() if stream is None else self._tensor.__dlpack__(stream=stream)

    def __dlpack_device__(self) -> Any:
        return self._tensor.__dlpack_device__()


class OnlyInterface:
    """Shows nothing of an array but an array interface."""

    def __init__(self, name: str, array: Any) -> None:
        setattr(self, name, getattr(array, name))
        self.shape = tuple(array.shape)
        self.dtype = array.dtype
        self._array = array


def numpy_of(tensor: torch.Tensor) -> np.ndarray:
    """The same memory; bfloat16 as ml_dtypes has it."""
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_numpy(dtype: torch.dtype) -> None:
    case = mixed("cpu", dtype=dtype)
    arrays = [numpy_of(x) for x in (case.q, case.k, case.v)]
    plan = case.plan(dtype=arrays[0].dtype)
    plan.build(*(x.numpy() for x in (case.q_start, case.kv_len, case.page_table)))
    out, lse = plan.attention(*arrays, return_lse=True)
    assert isinstance(out, np.ndarray) and out.dtype == arrays[0].dtype and lse.dtype == np.float32
    expected_out, expected_lse = case.reference()
    check_out(case, out.astype(np.float32), expected_out)
    check_lse(lse, expected_lse)
    given = np.zeros_like(arrays[0])
    assert plan.attention(*arrays, given) is given
    assert (given == out).all()


def test_numpy_views() -> None:
    case = mixed("cpu", kv_layout="HND")
    both = np.stack([case.k.numpy(), case.v.numpy()])
    fortran = np.asfortranarray(np.moveaxis(case.q.numpy(), 2, 0))
    q = np.moveaxis(fortran, 0, 2)
    assert q.strides[2] == 4
    check_out(case, case.built().attention(q, both[0], both[1]), case.reference()[0])
    with pytest.raises(podattn.ArgumentError, match="q_token_stride = -256 is negative"):
        case.built().attention(case.q.numpy()[::-1], both[0], both[1])


def test_uneven_numpy_strides_are_refused() -> None:
    case = mixed("cpu")
    packed = np.zeros(case.q.shape[0], np.dtype([("values", np.float32, tuple(case.q.shape[1:])), ("byte", np.uint8)]))
    with pytest.raises(podattn.ArgumentError, match="no multiples of its 4 bytes"):
        case.built().attention(packed["values"], case.k.numpy(), case.v.numpy())


def test_dlpack(device: str) -> None:
    case = mixed(device)
    plan = case.plan()
    plan.build(*(OnlyDLPack(x) for x in case.on_device()))
    q = OnlyDLPack(case.q)
    out = torch.empty_like(case.q)
    plan.attention(q, OnlyDLPack(case.k), OnlyDLPack(case.v), OnlyDLPack(out))
    if device != "cpu":
        torch.cuda.synchronize()
    check_out(case, out, case.reference()[0])
    assert q.asked_stream == (None if device == "cpu" else 1)


def test_dlpack_memory_for_a_plan(device: str) -> None:
    case = mixed(device)
    plan = case.plan()
    memory = torch.zeros(plan.plan_bytes + 256, dtype=torch.uint8, device=device)
    plan.attach(OnlyDLPack(memory))
    plan.build(case.q_start, case.kv_len, case.page_table)
    check_out(case, plan.attention(case.q, case.k, case.v), case.reference()[0])
    assert memory.any()


def test_dlpack_strides_and_offsets() -> None:
    case = mixed("cpu")
    both = torch.stack([case.k, case.v], dim=1)
    wide = torch.cat([case.q, case.q], dim=1)
    out = case.built().attention(OnlyDLPack(wide[:, case.q_heads :]), OnlyDLPack(both[:, 0]), OnlyDLPack(both[:, 1]))
    assert isinstance(out, np.ndarray)
    check_out(case, out, case.reference()[0])


def test_dlpack_vectors_are_refused() -> None:
    """Elements of several lanes, which no array library makes, and a description could have."""
    case = mixed("cpu")
    capsule = case.q.__dlpack__()
    described = _dlpack.DLTensor.from_address(_dlpack._capsule_pointer(capsule, b"dltensor"))
    described.dtype_lanes = 2

    class Vectors(OnlyDLPack):
        def __dlpack__(self, **_: object) -> object:
            return capsule

    with pytest.raises(podattn.ArgumentError, match="q holds vectors of 2 elements"):
        case.built().attention(Vectors(case.q), case.k, case.v)


def test_array_interface() -> None:
    case = mixed("cpu")
    wrapped = [OnlyInterface("__array_interface__", x.numpy()) for x in (case.q, case.k, case.v)]
    check_out(case, case.built().attention(*wrapped), case.reference()[0])


@pytest.mark.gpu
def test_cuda_array_interface(gpu: str) -> None:
    case = mixed(gpu, dtype=torch.float16)
    wrapped = [OnlyInterface("__cuda_array_interface__", x) for x in (case.q, case.k, case.v)]
    out = case.built().attention(*wrapped)
    torch.cuda.synchronize()
    check_out(case, out, case.reference()[0])


def test_no_array_at_all() -> None:
    case = mixed("cpu")
    with pytest.raises(podattn.ArgumentError, match="k_cache is a list"):
        case.built().attention(case.q, [1, 2], case.v)
