# SPDX-License-Identifier: Apache-2.0
"""Looking inside a built plan: what it decided in numbers, and its work item by item."""

import ctypes
from typing import Any, Callable, NamedTuple

from . import _abi
from ._library import check, lib
from ._values import int32


class PlanInfo(NamedTuple):
    """What a built plan decided for one mask. One that a GPU made is waited for and copied to the host."""

    num_ctas: int
    prefill_tile_rows: int
    prefill_tile_tokens: int
    decode_rows: int
    decode_tile_tokens: int
    num_requests: int
    num_prefill_requests: int
    num_decode_requests: int
    num_prefill_items: int
    num_prefill_splits: int
    num_prefill_tiles: int
    num_decode_slices: int
    num_decode_items: int
    num_decode_tiles: int
    kernel: str
    """That computes the plan's batches."""
    kernel_note: str
    """Why it is none of the GPU's fastest family; or ""."""


class WorkItem(NamedTuple):
    """Some query rows of one request and KV head against a range of keys. Row = token * group + head."""

    kind: str
    """"prefill" or "decode"."""
    ticket: int
    """Position in its queue: prefill items one each, decode items share their slice's."""
    request: int
    kv_head: int
    row_begin: int
    row_end: int
    """Query rows `[row_begin, row_end)` within the request."""
    kv_begin: int
    kv_end: int
    """Keys `[kv_begin, kv_end)`."""
    num_tiles: int
    part: int
    num_parts: int
    """This part of `num_parts` that are merged; 0 of 1 if whole."""


_KINDS = {_abi.WORK_PREFILL: "prefill", _abi.WORK_DECODE: "decode"}


def read_info(plan: ctypes.c_void_p, mask: int) -> PlanInfo:
    """Of one mask of a built plan."""
    info = _abi.PlanInfo()
    check(lib.pod_plan_get_info(plan, int32(mask, "mask"), ctypes.byref(info)))
    return PlanInfo(*_abi.as_values(info, PlanInfo._fields))


def visit_items(plan: ctypes.c_void_p, visitor: Callable[[WorkItem], Any], mask: int) -> None:
    """Calls `visitor` for each item of one mask's schedule, until it returns something true or raises."""
    raised: list[BaseException] = []

    def visit(_: Any, item: Any) -> int:
        try:
            kind, *numbers = _abi.as_values(item.contents, WorkItem._fields)
            return bool(visitor(WorkItem(_KINDS[kind], *numbers)))
        except BaseException as error:  # nothing can be raised through C
            raised.append(error)
            return 1

    check(lib.pod_plan_visit(plan, int32(mask, "mask"), _abi.VISIT(visit), None))
    if raised:
        raise raised[0]
