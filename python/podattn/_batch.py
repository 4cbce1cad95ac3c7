# SPDX-License-Identifier: Apache-2.0
"""One step's requests and masks, checked and written into the struct that the library takes."""

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

from . import _abi, _integers, _tracing
from ._device import Device
from ._errors import ArgumentError
from ._integers import Integers
from ._same_layout import Question, same_layout
from ._values import count, flag, int32, integer, shown

_WINDOW = range(-1, 1 << 30)


class Mask(NamedTuple):
    """Which keys a query token sees. A plan has one or several; each layer names its own."""

    causal: bool = True
    """The keys up to the token's own position, `kv_len - q_len + i` for token i; otherwise all."""
    window_tokens: int = 0
    """If not 0, only that many keys up to the token's own position."""
    causal_per_request: Any = None
    """int32 `[n]` of 1 and 0, where the batch's arrays are: instead of `causal`, for each request."""
    right_window_tokens: int = 0
    """If not 0, only that many keys from the token's own position on; of no effect on what is causal."""


def single_mask(causal: Any, window_tokens: Any, window: Any) -> Mask:
    """The one of all layers, of these arguments of `Plan.build`."""
    left_tokens, right_tokens = count(window_tokens, "window_tokens"), 0
    if window is not None:
        if left_tokens:
            raise ArgumentError("window_tokens is given beside window, which says it too")
        left_tokens, right_tokens = window_pair(window, "window")
    return Mask(flag(causal, "causal"), left_tokens, None, right_tokens)


def window_pair(window: Any, field: str) -> tuple[int, int]:
    """`(window_tokens, right_window_tokens)` of flash-attention's `(left, right)`, where -1 is all."""
    try:
        left, right = window
    except Exception:  # whatever it raises
        raise ArgumentError(f"{field} = {shown(window)} is no pair of integers") from None
    sides = [integer(side, f"{field}[{i}]", _WINDOW) for i, side in enumerate((left, right))]
    return sides[0] + 1, sides[1] + 1


class Batch:
    """Kept between steps: what changes are counts and addresses."""

    def __init__(self, limits: _abi.Limits, device: Device) -> None:
        """For a plan with these limits on that device."""
        self._limits = limits
        self._device = device
        self._masks = (_abi.Mask * _abi.MAX_MASKS)(*(_abi.Mask() for _ in range(_abi.MAX_MASKS)))
        self.struct = _abi.Batch(masks=ctypes.addressof(self._masks))
        self.address = ctypes.addressof(self.struct)
        self._is_same: Optional[Question] = None
        self._same_masks: Any = None

    def set(self, q_start: Any, kv_len: Any, page_table: Any, masks: Sequence[Mask], stream: int) -> tuple[Any, ...]:
        """Points the struct at the arrays and returns what keeps them alive."""
        self._is_same = None  # this may stop halfway
        starts, lengths = _integers.read(q_start, "q_start", stream), _integers.read(kv_len, "kv_len", stream)
        if len(lengths.shape) != 1 or starts.shape != (lengths.shape[0] + 1,):
            raise ArgumentError(f"q_start has shape {starts.shape}, kv_len {lengths.shape}; (n + 1,), (n,) are needed")
        struct = self.struct
        struct.num_requests = int32(lengths.shape[0], "the number of requests")
        struct.q_start, struct.kv_len = starts.address, lengths.address
        arrays = [starts, lengths]
        self._set_page_table(page_table, stream, arrays)
        self._set_masks(masks, stream, arrays)
        struct.memory = self._memory_of(arrays)
        self._remember(q_start, kv_len, page_table, masks, arrays)
        return tuple(array.owner for array in arrays)

    def set_same(self, q_start: Any, kv_len: Any, page_table: Any, masks: Any) -> bool:
        """`set` in a short way, if it suffices; otherwise nothing is changed.

        It does for tensors of PyTorch on a GPU that differ from the last ones in addresses and the number of requests
        alone, with the same tuple of masks.
        """
        is_same = self._is_same
        if is_same is None or masks is not self._same_masks or not is_same(q_start, kv_len, page_table):
            return False
        num_requests = kv_len.size(0)
        if q_start.size(0) != num_requests + 1 or page_table.size(0) != num_requests:
            return False
        struct = self.struct
        struct.num_requests = num_requests
        struct.q_start, struct.kv_len = q_start.data_ptr(), kv_len.data_ptr()
        struct.page_table = page_table.data_ptr()
        return True

    def _remember(self, q_start: Any, kv_len: Any, page_table: Any, masks: Any, arrays: list[Integers]) -> None:
        """For `set_same`. Arrays in the host's memory are copied, and those of a mask are no part of its question."""
        given = (q_start, kv_len, page_table)
        is_plain = all(type(array) in _tracing.plain_tensors for array in given)
        # With a single request the strides that were kept mean nothing.
        is_fit = is_plain and len(arrays) == 3 and type(masks) is tuple and self.struct.num_requests > 1
        if is_fit and self.struct.memory == _abi.MEMORY_DEVICE:
            self._is_same, self._same_masks = same_layout(given, (0, 1, 2)), masks

    def _set_page_table(self, page_table: Any, stream: int, arrays: list[Integers]) -> None:
        struct = self.struct
        if page_table is None:
            struct.page_table, struct.page_table_stride, struct.max_pages = None, 0, 0
            return
        table = _integers.read(page_table, "page_table", stream, self._most_pages(arrays[1]))
        if len(table.shape) != 2:
            raise ArgumentError(f"page_table has shape {table.shape}; ({struct.num_requests}, pages) is needed")
        if table.shape[0] != struct.num_requests:
            raise ArgumentError(f"page_table has {table.shape[0]} rows for {struct.num_requests} requests")
        struct.page_table, struct.max_pages = table.address, int32(table.shape[1], "the columns of page_table")
        struct.page_table_stride = table.row_stride
        arrays.append(table)

    def _most_pages(self, kv_len: Integers) -> Optional[int]:
        """That any request needs; None where the host cannot read it."""
        if kv_len.device != "cpu":
            return None
        longest = int(kv_len.owner.max(initial=0))
        return -(-longest // int(self._limits.page_size))

    def _set_masks(self, masks: Sequence[Mask], stream: int, arrays: list[Integers]) -> None:
        if not isinstance(masks, Sequence):
            raise ArgumentError(f"masks = {shown(masks)} is no sequence of podattn.Mask")
        if not 0 < len(masks) <= self._limits.max_masks:
            raise ArgumentError(f"masks has {len(masks)} entries; 1 to max_masks = {self._limits.max_masks} are needed")
        for m, (mask, struct) in enumerate(zip(masks, self._masks)):
            if not isinstance(mask, Mask):
                raise ArgumentError(f"masks[{m}] is a {type(mask).__name__}; a podattn.Mask is needed")
            name = f"masks[{m}]."
            struct.causal = flag(mask.causal, f"{name}causal")
            struct.window_tokens = int32(mask.window_tokens, f"{name}window_tokens")
            struct.right_window_tokens = int32(mask.right_window_tokens, f"{name}right_window_tokens")
            struct.causal_per_request = None
            if mask.causal_per_request is not None:
                struct.causal_per_request = self._causal_address(mask, f"{name}causal_per_request", stream, arrays)
        self.struct.num_masks = len(masks)

    def _causal_address(self, mask: Mask, field: str, stream: int, arrays: list[Integers]) -> int:
        found = _integers.read(mask.causal_per_request, field, stream)
        if found.shape != (self.struct.num_requests,):
            raise ArgumentError(f"{field} has shape {found.shape}; ({self.struct.num_requests},) is needed")
        arrays.append(found)
        return found.address

    def _memory_of(self, arrays: list[Integers]) -> int:
        """Host or device; the arrays must agree."""
        devices = {array.device for array in arrays}
        if devices == {"cpu"}:
            return _abi.MEMORY_HOST
        if devices == {self._device.array_device} and self._device.is_cuda:
            return _abi.MEMORY_DEVICE
        raise ArgumentError(
            f"the arrays of the batch are on {', '.join(sorted(devices))}; all on cpu or all on the plan's "
            f"{self._device.array_device} is needed"
        )
