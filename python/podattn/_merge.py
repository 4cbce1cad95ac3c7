# SPDX-License-Identifier: Apache-2.0
"""Merging partial results: attention over several sets of keys as if it had been over all."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

from . import _abi, _arrays, _streams, _torch
from ._arrays import Dense
from ._device import open_device
from ._dtypes import F32, dtype_code
from ._errors import ArgumentError
from ._library import check, lib
from ._results import empty
from ._tracing import needs_operator
from ._typing import Array
from ._values import int32, shown


def merge(
    outs: Sequence[Array],
    lses: Sequence[Array],
    out: Optional[Array] = None,
    lse: Optional[Array] = None,
    *,
    stream: Any = None,
) -> tuple[Any, Any]:
    """Merges partial results of the same query rows over disjoint sets of keys, by their LSEs.

    For contexts that are spread over several caches or devices, and for prefixes that requests share. A part whose lse
    is -inf weighs nothing; a row without any other part is 0, its lse -inf. Sinks must be counted in one part only.
    There is no backward pass.

    Args:
        outs: 1 to 16 arrays `[tokens, heads, head_dim]`, alike in shape, dtype, strides and device.
        lses: as many arrays, float32 `[tokens, heads]`, alike in strides, as `attention` returns them.
        out: like the parts, of any dtype; may be one of them. Made, with the parts' dtype, if None.
        lse: like the parts'; may be one of them. Made if None.
        stream: a stream of PyTorch or CuPy, or its address; if None, the current one of the library that made the
            parts.

    Returns:
        `(out, lse)`.

    Raises:
        ArgumentError: shape, dtype, device or strides are wrong; names the array.
        UnsupportedError: autograd would need a backward pass.
        DeviceError: the driver reported an error.
    """
    outs, lses = _listed(outs, "outs"), _listed(lses, "lses")
    if not outs or len(outs) != len(lses):
        raise ArgumentError(f"outs has {len(outs)} arrays, lses {len(lses)}; as many are needed, and at least one")
    if needs_operator(outs[0]):
        return _merge_by_operator(outs, lses, out, lse)
    layout = _arrays.view(outs[0], "outs[0]")[1]
    shape, place = tuple(layout[0]), str(layout[3])
    if len(shape) != 3:
        raise ArgumentError(f"outs[0] has shape {shape}; three dimensions are needed")
    dtype = dtype_code(layout[2], "outs[0]")
    device = open_device(place)
    handle = 0 if stream is None else _streams.stream_handle(stream)
    if device.is_cuda and stream is None:
        handle = _streams.current_stream(outs[0], device.ordinal)
    if out is None:
        out = empty(outs[0], shape, dtype, place)
    if lse is None:
        lse = empty(outs[0], shape[:2], F32, place)
    _arrays.check_writable(out, "out")
    _arrays.check_writable(lse, "lse")
    part_outs, part, out_owners = _read_all(outs, "outs", shape, place, handle)
    part_lses, part_lse, lse_owners = _read_all(lses, "lses", shape[:2], place, handle)
    found = _read(out, "out", shape, place, handle)
    found_lse = _read(lse, "lse", shape[:2], place, handle)
    parts = _abi.Parts(
        num_parts=len(outs),
        num_tokens=int32(shape[0], "the number of tokens"),
        q_heads=int32(shape[1], "the number of heads"),
        head_dim=int32(shape[2], "head_dim"),
        part_dtype=dtype,
        out_dtype=dtype_code(found.layout.dtype, "out"),
        part_outs=ctypes.addressof(part_outs),
        part_lses=ctypes.addressof(part_lses),
        out=found.address,
        lse=found_lse.address,
    )
    parts.part_token_stride, parts.part_head_stride = part.strides[:2]
    parts.part_lse_token_stride, parts.part_lse_head_stride = part_lse.strides[:2]
    parts.out_token_stride, parts.out_head_stride = found.layout.strides[:2]
    parts.lse_token_stride, parts.lse_head_stride = found_lse.layout.strides[:2]
    if shape[0]:  # PyTorch's arrays without elements have no address
        check(lib.pod_merge(device.handle, ctypes.byref(parts), handle))
    del found, found_lse, out_owners, lse_owners  # kept until here
    return out, lse


def _listed(arrays: Any, field: str) -> list[Any]:
    try:
        return list(arrays)
    except Exception:  # whatever an array's maker raises of one that cannot be taken apart
        raise ArgumentError(f"{field} = {shown(arrays)} is no sequence of arrays") from None


def _merge_by_operator(outs: Sequence[Any], lses: Sequence[Any], out: Any, lse: Any) -> tuple[Any, Any]:
    """The same call as an operator of PyTorch, for its compiler and its other tracers."""
    merged, merged_lse = _torch.torch.ops.podattn.merge(list(outs), list(lses))
    return merged if out is None else out.copy_(merged), merged_lse if lse is None else lse.copy_(merged_lse)


class _Read(NamedTuple):
    """A checked array."""

    address: int
    layout: Dense
    owner: Any


def _read(array: Any, field: str, shape: tuple[int, ...], device: str, stream: int) -> _Read:
    """An array of that shape on that device: of two dimensions an lse, whose last one need not be dense."""
    address, layout, owner = _arrays.view(array, field, stream)
    _arrays.has_grad(layout, field)
    if tuple(layout[0]) != shape:
        raise ArgumentError(f"{field} has shape {tuple(layout[0])}; {shape} is needed")
    is_lse = len(shape) == 2
    found = _arrays.dense(_arrays.per_row(layout) if is_lse else layout, field)
    if found.device != device:
        raise ArgumentError(f"{field} is on {found.device}; outs[0] is on {device}")
    if is_lse and found.dtype != "float32":
        raise ArgumentError(f"{field} holds {found.dtype}; float32 is needed")
    return _Read(address, found, owner)


def _read_all(
    arrays: Sequence[Any], name: str, shape: tuple[int, ...], device: str, stream: int
) -> tuple[ctypes.Array[ctypes.c_void_p], Dense, list[Any]]:
    """`(addresses, layout, owners)` of arrays that are laid out alike."""
    read = [_read(array, f"{name}[{i}]", shape, device, stream) for i, array in enumerate(arrays)]
    first = read[0].layout
    for i, (_, layout, _) in enumerate(read):
        if layout != first:
            raise ArgumentError(
                f"{name}[{i}] has strides {layout.strides} of {layout.dtype}, {name}[0] {first.strides} of "
                f"{first.dtype}; all parts need the same"
            )
    addresses = (ctypes.c_void_p * len(read))(*(entry.address for entry in read))
    return addresses, first, [entry.owner for entry in read]
