# SPDX-License-Identifier: Apache-2.0
"""Whatever is given for an argument, the call takes it or raises a podattn.Error, and the next call is as before."""

from __future__ import annotations

import warnings
from typing import Any, Callable

import numpy as np
import pytest
import torch
from hybrid_case import Case
from test_errors import limits
from test_plan import mixed

import podattn


class Bare:
    """Has nothing."""


class Failing:
    """Raises whatever it is asked."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no " + name)

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def _fail(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("not this")

    __index__ = __float__ = __len__ = __iter__ = __bool__ = __eq__ = _fail
    __hash__ = object.__hash__


class Lying:
    """Offers what it does not have."""

    shape, dtype, device = (2, "x"), "float32", "cpu"

    def __dlpack__(self, **_: Any) -> Any:
        return None

    def __dlpack_device__(self) -> Any:
        return 1, 0


class WithInterface:
    """An array interface as it should not be."""

    def __init__(self, **changes: Any) -> None:
        self._array = np.zeros((43, 4, 64), np.float32)
        self.__array_interface__ = {**self._array.__array_interface__, **changes}


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


class Subclass(torch.Tensor):
    """Nothing of its own."""


def odd_values() -> dict[str, Any]:
    """By what is odd about them."""
    tensor = torch.zeros(43, 4, 64)
    return {
        "None": None,
        "a word": "x",
        "digits": "3",
        "a lone surrogate": "\udc80",
        "a NUL": "cpu\0:2",
        "bytes": b"cpu",
        "long text": "x" + "é" * 300,
        "a fraction": 2.5,
        "a whole float": 3.0,
        "nan": float("nan"),
        "infinity": float("inf"),
        "tiny": 1e-60,
        "vast": 1e300,
        "0": 0,
        "-1": -1,
        "32 bits and more": 2**32 + 1,
        "40 bits": 2**40,
        "100 bits": 2**100,
        "no 32 bits": -(2**31) - 1,
        "True": True,
        "complex": 1j,
        "NumPy's float": np.float64(0.5),
        "NumPy's int64": np.int64(2**40),
        "NumPy's bool": np.bool_(True),
        "an object": Bare(),
        "a failing object": Failing(),
        "a lying object": Lying(),
        "a class": Bare,
        "a function": len,
        "a list": [1, 2],
        "no elements": [],
        "words": ["a", "b"],
        "ragged rows": [[1], [2, 3]],
        "a set": {1, 2},
        "a dict": {"a": 1},
        "a generator": (i for i in range(3)),
        "a range": range(3),
        "a pair": (0, 2**40),
        "rows of objects": [[object()]],
        "a Mask": podattn.Mask(),
        "a torch.device": torch.device("cpu"),
        "a torch.device of no kind": torch.device("meta"),
        "a GPU": torch.device("cuda"),
        "a dtype": torch.int8,
        "another shape": torch.zeros(3, 5),
        "no dimension": torch.tensor(2.0),
        "no elements in a tensor": torch.zeros(0),
        "another dtype": tensor.double(),
        "int64": torch.arange(8),
        "bools": torch.ones(7, dtype=torch.bool),
        "sparse": tensor.to_sparse(),
        "mkldnn": tensor.to_mkldnn(),
        "quantized": torch.quantize_per_tensor(tensor, 1.0, 0, torch.quint8),
        "complex numbers": torch.zeros(43, 4, 64, dtype=torch.complex64),
        "conjugate": torch.zeros(43, 4, 64, dtype=torch.complex64).conj(),
        "to be negated": torch._neg_view(tensor),
        "on meta": tensor.to("meta"),
        "requires grad": tensor.clone().requires_grad_(),
        "a parameter": torch.nn.Parameter(tensor.clone()),
        "a subclass": tensor.as_subclass(Subclass),
        "broadcast": torch.zeros(1, 4, 64).expand(43, 4, 64),
        "gaps in the last dimension": torch.zeros(43, 4, 128)[..., ::2],
        "big-endian": np.zeros((43, 4, 64), ">f4"),
        "big-endian integers": np.arange(8, dtype=">i4"),
        "read-only": read_only(np.zeros((43, 4, 64), np.float32)),
        "read-only bytes": read_only(np.zeros(1 << 20, np.uint8)),
        "few bytes": np.zeros(10, np.uint8),
        "masked": np.ma.masked_array(np.zeros((43, 4, 64), np.float32)),
        "of objects": np.array([object(), None]),
        "of words": np.array(["a", "b"]),
        "of records": np.zeros(3, [("a", "i4"), ("b", "f4")]),
        "of nothing": np.zeros(3, "V0"),
        "of times": np.array(["2020-01-01"], "M8[D]"),
        "downwards": np.zeros((43, 4, 64), np.float32)[::-1],
        "one of many": np.zeros((2,) * 20, np.float32),
        "an interface with a mask": WithInterface(mask=np.zeros(3)),
        "an interface without data": WithInterface(data=None),
        "an interface of words": WithInterface(typestr="words"),
        "an interface of nonsense": WithInterface(shape=None),
    }


ODD = list(odd_values())
PLAN_ARGUMENTS = [
    *limits(),
    "kv_dtype",
    "out_dtype",
    "v_head_dim",
    "max_masks",
    "batch_memory",
    "tree_masks",
    "alibi",
    "right_windows",
    "kv_layout",
    "workspace",
]
BATCH_ARGUMENTS = ["q_start", "kv_len", "page_table", "causal", "window_tokens"]
BUILD_ARGUMENTS = [*BATCH_ARGUMENTS, "window", "masks", "num_pages", "num_q_tokens", "stream"]
LAYER_ARGUMENTS = ["q", "k_cache", "v_cache", "out", "lse", "return_lse", "scale", "softcap", "sinks", "alibi_slopes",
                   "k_scale", "v_scale"]  # fmt: skip
MASK_ARGUMENTS = ["causal", "window_tokens", "causal_per_request", "right_window_tokens"]
POD_ARGUMENTS = ["q_p", "k_cache_p", "v_cache_p", "q_d", "k_cache_d", "v_cache_d", "cache_seqlens_p",
                 "cache_seqlens_d", "cache_batch_idx", "block_table_p", "block_table_d", "softmax_scale",
                 "causal", "window_size", "softcap", "alibi_slopes", "return_softmax_lse"]  # fmt: skip


def try_all(call: Callable[..., Any], given: dict[str, Any], name: str, after: Callable[[], None]) -> None:
    """The call with every odd value of one argument."""
    wrong = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for what, value in odd_values().items():
            try:
                call(**{**given, name: value})
            except podattn.Error as error:
                assert str(error) and "\n" not in str(error)
                for word in ("pod_", "POD_", "struct", "ctypes", "NULL"):
                    assert word not in str(error).replace("podattn", ""), error
            except Exception as error:
                wrong.append(f"{what}: {type(error).__name__}: {error}")
            after()
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", PLAN_ARGUMENTS)
def test_plan(name: str) -> None:
    try_all(podattn.Plan, limits(), name, lambda: None)


@pytest.mark.parametrize("name", [name for name in limits() if name != "num_pages"])
def test_workspace_bytes(name: str) -> None:
    given = {key: value for key, value in limits().items() if key != "num_pages"}
    try_all(podattn.workspace_bytes, given, name, lambda: None)


@pytest.mark.parametrize("name", ["num_bytes", "device"])
def test_scratch(name: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "empty", lambda shape, dtype: np.zeros(min(shape, 1 << 12), dtype))  # none of a terabyte
        try_all(podattn.Scratch, {"num_bytes": 64, "device": "cpu"}, name, lambda: None)


@pytest.mark.parametrize("name", ["plan_memory", "scratch"])
def test_attach(name: str) -> None:
    try_all(mixed("cpu").plan().attach, {}, name, lambda: None)


def batch_of(case: Case) -> dict[str, Any]:
    return {"q_start": case.q_start, "kv_len": case.kv_len, "page_table": case.page_table}


def layer_of(case: Case) -> dict[str, Any]:
    return {"q": case.q, "k_cache": case.k, "v_cache": case.v}


@pytest.mark.parametrize("name", BUILD_ARGUMENTS)
def test_build(name: str) -> None:
    case = mixed("cpu")
    plan = case.plan(device="cpu:1")
    plan.build(**batch_of(case))
    expected = plan.attention(**layer_of(case))

    def after() -> None:
        plan.build(**batch_of(case), num_pages=case.num_pages)
        assert torch.equal(plan.attention(**layer_of(case)), expected)

    try_all(plan.build, batch_of(case), name, after)


@pytest.mark.parametrize("name", MASK_ARGUMENTS)
def test_mask(name: str) -> None:
    case = mixed("cpu")
    plan = case.plan(device="cpu:1")
    try_all(lambda **mask: plan.build(**batch_of(case), masks=[podattn.Mask(**mask)]), {}, name, lambda: None)


@pytest.mark.parametrize("name", [*LAYER_ARGUMENTS, "mask", "tree_mask", "stream"])
def test_attention(name: str) -> None:
    case = mixed("cpu")
    plan = case.built(device="cpu:1")
    expected = plan.attention(**layer_of(case))

    def after() -> None:
        assert torch.equal(plan.attention(**layer_of(case)), expected)

    try_all(plan.attention, layer_of(case), name, after)


@pytest.mark.parametrize("name", [*BATCH_ARGUMENTS, "kv_layout", "page_size", *LAYER_ARGUMENTS])
def test_hybrid_attention(name: str) -> None:
    case = mixed("cpu")
    try_all(podattn.hybrid_attention, {**layer_of(case), **batch_of(case)}, name, lambda: None)


@pytest.mark.parametrize("name", POD_ARGUMENTS)
def test_fused_attention_with_kvcache(name: str) -> None:
    k, v = torch.randn(3, 64, 2, 64), torch.randn(3, 64, 2, 64)
    given = {"q_p": torch.randn(1, 30, 8, 64), "k_cache_p": k[:1], "v_cache_p": v[:1],
             "q_d": torch.randn(2, 1, 8, 64), "k_cache_d": k[1:], "v_cache_d": v[1:]}  # fmt: skip
    try_all(podattn.fused_attention_with_kvcache, given, name, lambda: None)


@pytest.mark.parametrize("name", ["outs", "lses", "out", "lse", "stream"])
def test_merge(name: str) -> None:
    given = {"outs": [torch.zeros(43, 4, 64)] * 2, "lses": [torch.zeros(43, 4)] * 2}
    try_all(podattn.merge, given, name, lambda: None)


@pytest.mark.parametrize("name", ["outs", "lses"])
def test_merge_of_one_odd_part(name: str) -> None:
    given = {"outs": [torch.zeros(43, 4, 64)] * 2, "lses": [torch.zeros(43, 4)] * 2}

    def merge(**changes: Any) -> Any:
        return podattn.merge(**{**given, name: [given[name][0], changes[name]]})

    try_all(merge, {}, name, lambda: None)


@pytest.mark.parametrize("call", [podattn.device_info, lambda device: mixed("cpu").built().info(device)])
def test_device_and_info(call: Callable[..., Any]) -> None:
    try_all(lambda value: call(value), {}, "value", lambda: None)
