# SPDX-License-Identifier: Apache-2.0
"""What stays fixed while a server runs, and how much memory follows from it."""

import ctypes
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from . import _abi
from ._device import Device, open_device
from ._dtypes import dtype_code
from ._errors import ArgumentError
from ._library import check, lib
from ._values import flag, int32, shown

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._typing import LimitOptions

_MEMORIES = {"host": _abi.MEMORY_HOST, "device": _abi.MEMORY_DEVICE}


class WorkspaceBytes(NamedTuple):
    """Bytes of a plan's memory: enough for every batch within its limits."""

    plan_bytes: int
    """Of the schedule, which each plan has for itself."""
    scratch_bytes: int
    """Of the partial results, which plans may share whose calls never overlap in time."""


def make_limits(
    *,
    q_heads: int,
    kv_heads: int,
    head_dim: int,
    page_size: int,
    max_requests: int,
    max_q_tokens: int,
    max_kv_len: int,
    dtype: Any = "bfloat16",
    kv_dtype: Any = None,
    out_dtype: Any = None,
    v_head_dim: Optional[int] = None,
    max_masks: int = 1,
    batch_memory: str = "host",
    tree_masks: bool = False,
    alibi: bool = False,
    right_windows: bool = False,
) -> _abi.Limits:
    """The struct of these arguments of `Plan`, which says what each means."""
    if not isinstance(batch_memory, str) or batch_memory not in _MEMORIES:
        raise ArgumentError(f"batch_memory {shown(batch_memory)} is neither 'host' nor 'device'")
    q_code = dtype_code(dtype)
    numbers = {
        "q_heads": q_heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "page_size": page_size,
        "max_requests": max_requests,
        "max_q_tokens": max_q_tokens,
        "max_kv_len": max_kv_len,
        "v_head_dim": head_dim if v_head_dim is None else v_head_dim,
        "max_masks": max_masks,
    }
    return _abi.Limits(
        q_dtype=q_code,
        kv_dtype=q_code if kv_dtype is None else dtype_code(kv_dtype, "kv_dtype"),
        out_dtype=q_code if out_dtype is None else dtype_code(out_dtype, "out_dtype"),
        batch_memory=_MEMORIES[batch_memory],
        tree_masks=flag(tree_masks, "tree_masks"),
        alibi=flag(alibi, "alibi"),
        right_windows=flag(right_windows, "right_windows"),
        **{name: int32(value, name) for name, value in numbers.items()},
    )


def ask_workspace_bytes(device: Device, limits: _abi.Limits) -> WorkspaceBytes:
    """What the library needs for them."""
    sizes = _abi.Workspace()
    check(lib.pod_workspace_size(device.handle, ctypes.byref(limits), ctypes.byref(sizes)))
    return WorkspaceBytes(sizes.plan_bytes, sizes.scratch_bytes)


def workspace_bytes(*, device: Any = "auto", **limits: "Unpack[LimitOptions]") -> WorkspaceBytes:
    """The bytes that a plan with these limits needs, before anything is allocated.

    Args:
        device: as of `Plan`.
        limits: the arguments of `Plan` that bound a batch: `q_heads`, `kv_heads`, `head_dim`, `page_size`,
            `max_requests`, `max_q_tokens`, `max_kv_len`; and, if they are not the defaults, `dtype`, `kv_dtype`,
            `out_dtype`, `v_head_dim`, `max_masks`, `batch_memory`, `tree_masks`, `alibi`, `right_windows`.

    Raises:
        ArgumentError: a value is out of range; the message names it.
        UnsupportedError: the device cannot do that.
        NoDeviceError: the device is not there.
    """
    return ask_workspace_bytes(open_device(device), make_limits(**limits))
