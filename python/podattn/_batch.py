# SPDX-License-Identifier: Apache-2.0
"""One step's requests and masks, checked and written into the struct that the library takes."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

from . import _abi, _arrays
from ._arrays import View
from ._device import Device
from ._errors import ArgumentError


class Mask(NamedTuple):
    """Which keys a query token sees. A plan has one or several; each layer names its own."""

    causal: bool = True
    """The keys up to the token's own position, `kv_len - q_len + i` for token i; otherwise all."""
    window_tokens: int = 0
    """If not 0, only that many keys up to the token's own position."""
    causal_per_request: Any = None
    """int32 `[n]` of 1 and 0, where the batch's arrays are: instead of `causal`, for each request."""


class Batch:
    """Kept between steps: what changes are counts and addresses."""

    def __init__(self, limits: _abi.Limits, device: Device) -> None:
        """For a plan with these limits on that device."""
        self._limits = limits
        self._device = device
        self._masks = (_abi.Mask * _abi.MAX_MASKS)(*(_abi.Mask() for _ in range(_abi.MAX_MASKS)))
        self.struct = _abi.Batch(masks=ctypes.addressof(self._masks))
        self.address = ctypes.addressof(self.struct)

    def set(self, q_start: Any, kv_len: Any, page_table: Any, masks: Sequence[Mask], stream: int) -> tuple[Any, ...]:
        """Points the struct at the arrays and returns what keeps them alive."""
        views = [_arrays.int32_view(q_start, "q_start", stream), _arrays.int32_view(kv_len, "kv_len", stream)]
        starts, lengths = _arrays.dense(views[0][1], "q_start"), _arrays.dense(views[1][1], "kv_len")
        if len(lengths.shape) != 1 or starts.shape != (lengths.shape[0] + 1,):
            raise ArgumentError(f"q_start has shape {starts.shape}, kv_len {lengths.shape}; (n + 1,), (n,) are needed")
        struct = self.struct
        struct.num_requests = lengths.shape[0]
        struct.q_start, struct.kv_len = views[0][0], views[1][0]
        self._set_page_table(page_table, stream, views)
        self._set_masks(masks, stream, views)
        struct.memory = self._memory_of(views)
        return tuple(owner for _, _, owner in views)

    def _set_page_table(self, page_table: Any, stream: int, views: list[View]) -> None:
        struct = self.struct
        if page_table is None:
            struct.page_table, struct.page_table_stride, struct.max_pages = None, 0, 0
            return
        views.append(_arrays.int32_view(page_table, "page_table", stream))
        table = _arrays.dense(views[-1][1], "page_table")
        if len(table.shape) != 2 or table.shape[0] != struct.num_requests:
            raise ArgumentError(f"page_table has shape {table.shape}; ({struct.num_requests}, pages) is needed")
        struct.page_table, struct.max_pages = views[-1][0], table.shape[1]
        struct.page_table_stride = table.strides[0] or table.shape[1]

    def _set_masks(self, masks: Sequence[Mask], stream: int, views: list[View]) -> None:
        if not 0 < len(masks) <= self._limits.max_masks:
            raise ArgumentError(f"masks has {len(masks)} entries; 1 to max_masks = {self._limits.max_masks} are needed")
        for m, (mask, struct) in enumerate(zip(masks, self._masks)):
            if not isinstance(mask, Mask):
                raise ArgumentError(f"masks[{m}] is a {type(mask).__name__}; a podattn.Mask is needed")
            struct.causal, struct.window_tokens = bool(mask.causal), mask.window_tokens
            struct.causal_per_request = None
            if mask.causal_per_request is not None:
                struct.causal_per_request = self._causal_address(mask, f"masks[{m}].causal_per_request", stream, views)
        self.struct.num_masks = len(masks)

    def _causal_address(self, mask: Mask, field: str, stream: int, views: list[View]) -> int:
        views.append(_arrays.int32_view(mask.causal_per_request, field, stream))
        found = _arrays.dense(views[-1][1], field)
        if found.shape != (self.struct.num_requests,):
            raise ArgumentError(f"{field} has shape {found.shape}; ({self.struct.num_requests},) is needed")
        return views[-1][0]

    def _memory_of(self, views: list[View]) -> int:
        """Host or device; the arrays must agree."""
        devices = {str(layout[3]) for _, layout, _ in views}
        if devices == {"cpu"}:
            return _abi.MEMORY_HOST
        if devices == {self._device.array_device} and self._device.is_cuda:
            return _abi.MEMORY_DEVICE
        raise ArgumentError(
            f"the arrays of the batch are on {', '.join(sorted(devices))}; all on cpu or all on the plan's "
            f"{self._device.array_device} is needed"
        )
