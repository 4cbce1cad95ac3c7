# SPDX-License-Identifier: Apache-2.0
"""The structs and functions of podattn.h for ctypes. A test compares them with what a C compiler makes of it."""

from __future__ import annotations

import ctypes
from ctypes import CFUNCTYPE, POINTER, c_char, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_size_t, c_void_p
from typing import Any

VERSION = (0, 2)  # major and minor of the header that this file speaks of
MEMORY_HOST, MEMORY_DEVICE = 0, 1
WORKSPACE_ALIGN = 256
MAX_MASKS = 8
WORK_PREFILL, WORK_DECODE = 0, 1


class Struct(ctypes.Structure):
    """A struct of podattn.h: begins with its own size, everything else is zero until it is set."""

    def __init__(self, **values: object) -> None:
        super().__init__(struct_size=ctypes.sizeof(self), **values)


def as_values(struct: ctypes.Structure, names: tuple[str, ...]) -> list[Any]:
    """Those fields, text as str."""
    values = (getattr(struct, name) for name in names)
    return [value.decode(errors="replace") if isinstance(value, bytes) else value for value in values]


def _fields(*groups: tuple[Any, str]) -> list[tuple[str, Any]]:
    """`(type, "name name ...")` groups, in the order of the header."""
    return [("struct_size", c_size_t), *((name, kind) for kind, names in groups for name in names.split())]


class DeviceInfo(Struct):
    """pod_device_info."""

    _fields_ = _fields(
        (c_char * 16, "backend"),
        (c_char * 128, "name"),
        (c_char * 64, "kernel"),
        (c_char * 256, "note"),
        (c_int32, "num_ctas num_threads"),
        (c_int64, "memory_bytes"),
        (c_char * 64, "families"),
    )


class Limits(Struct):
    """pod_limits."""

    _fields_ = _fields(
        (
            c_int32,
            "q_heads kv_heads head_dim q_dtype kv_dtype out_dtype page_size max_requests max_q_tokens max_kv_len"
            " v_head_dim max_masks batch_memory tree_masks alibi right_windows",
        )
    )


class Mask(Struct):
    """pod_mask."""

    _fields_ = _fields(
        (c_int32, "causal window_tokens"), (c_void_p, "causal_per_request"), (c_int32, "right_window_tokens")
    )


class Batch(Struct):
    """pod_batch."""

    _fields_ = _fields(
        (c_int32, "memory num_requests"),
        (c_void_p, "q_start kv_len page_table"),
        (c_int64, "page_table_stride"),
        (c_int32, "max_pages num_pages num_q_tokens num_masks"),
        (c_void_p, "masks"),
    )


class Workspace(Struct):
    """pod_workspace."""

    _fields_ = _fields(
        (c_void_p, "plan"),
        (c_size_t, "plan_bytes"),
        (c_void_p, "scratch"),
        (c_size_t, "scratch_bytes"),
        (c_void_p, "bad_request"),
    )


class Cache(Struct):
    """pod_cache."""

    _fields_ = _fields(
        (c_void_p, "k"),
        (c_int64, "k_page_stride k_token_stride k_head_stride"),
        (c_void_p, "v"),
        (c_int64, "v_page_stride v_token_stride v_head_stride"),
        (c_void_p, "k_scale v_scale"),
        (c_int64, "scale_stride"),
    )


class Tensors(Struct):
    """pod_tensors."""

    _fields_ = _fields(
        (c_void_p, "q"),
        (c_int64, "q_token_stride q_head_stride"),
        (c_void_p, "out"),
        (c_int64, "out_token_stride out_head_stride"),
        (c_void_p, "lse"),
        (c_int64, "lse_token_stride lse_head_stride"),
        (c_int32, "q_tokens out_tokens mask"),
        (c_float, "scale softcap"),
        (c_void_p, "sinks alibi_slopes tree_mask"),
    )


class Rope(Struct):
    """pod_rope."""

    _fields_ = _fields(
        (c_int32, "style rotary_dim"),
        (c_void_p, "cos sin"),
        (c_int64, "table_stride"),
        (c_int32, "table_positions table_dtype"),
        (c_double, "base"),
        (c_int32, "scaling original_context"),
        (c_double, "factor low_freq_factor high_freq_factor beta_fast beta_slow attention_factor"),
        (c_int32, "yarn_is_exact"),
    )


class Append(Struct):
    """pod_append."""

    _fields_ = _fields(
        (c_int32, "num_tokens num_pages dtype"),
        (c_void_p, "k"),
        (c_int64, "k_token_stride k_head_stride"),
        (c_void_p, "v"),
        (c_int64, "v_token_stride v_head_stride"),
        (c_void_p, "q"),
        (c_int64, "q_token_stride q_head_stride"),
        (c_void_p, "q_out"),
        (c_int64, "q_out_token_stride q_out_head_stride"),
        (c_void_p, "slot_mapping positions"),
        (c_int32, "position_bytes"),
        (c_void_p, "left_pad rope bad_token"),
    )


class Parts(Struct):
    """pod_parts."""

    _fields_ = _fields(
        (c_int32, "num_parts num_tokens q_heads head_dim part_dtype out_dtype"),
        (c_void_p, "part_outs part_lses"),
        (c_int64, "part_token_stride part_head_stride part_lse_token_stride part_lse_head_stride"),
        (c_void_p, "out"),
        (c_int64, "out_token_stride out_head_stride"),
        (c_void_p, "lse"),
        (c_int64, "lse_token_stride lse_head_stride"),
    )


class PlanInfo(Struct):
    """pod_plan_info."""

    _fields_ = _fields(
        (
            c_int32,
            "num_ctas prefill_tile_rows prefill_tile_tokens decode_rows decode_tile_tokens"
            " num_requests num_prefill_requests num_decode_requests",
        ),
        (
            c_int64,
            "num_prefill_items num_prefill_splits num_prefill_tiles"
            " num_decode_slices num_decode_items num_decode_tiles",
        ),
        (c_char * 64, "kernel"),
        (c_char * 256, "kernel_note"),
    )


class WorkItem(ctypes.Structure):
    """pod_work_item, which has no struct_size."""

    _fields_ = _fields(
        (
            c_int32,
            "kind ticket request kv_head row_begin row_end kv_begin kv_end num_tiles part num_parts",
        )
    )[1:]


class VirtualConfig(Struct):
    """pod_virtual_config."""

    _fields_ = _fields(
        (c_int32, "num_layers kv_heads head_dim kv_dtype max_requests max_kv_len layout has_no_thread"),
        (c_int64, "page_bytes max_bytes"),
    )


class VirtualInfo(Struct):
    """pod_virtual_info."""

    _fields_ = _fields(
        (c_int32, "page_size num_pages num_tensors"),
        (c_int64, "token_bytes granularity_bytes page_bytes row_bytes request_bytes reserved_bytes"),
        (c_void_p, "base"),
    )


class VirtualStats(Struct):
    """pod_virtual_stats."""

    _fields_ = _fields(
        (
            c_int64,
            "physical_bytes peak_bytes used_bytes waste_bytes ahead_bytes idle_bytes spare_bytes shared_bytes",
        ),
        (c_int32, "num_open"),
        (c_int64, "num_creates num_releases num_maps num_unmaps num_reused_rows num_steps num_waits"),
        (c_double, "driver_us wait_us longest_wait_us"),
    )


VISIT = CFUNCTYPE(c_int, c_void_p, POINTER(WorkItem))

# name -> (result, arguments)
FUNCTIONS: dict[str, tuple[object, list[object]]] = {
    "pod_version": (c_char_p, []),
    "pod_error_message": (c_char_p, []),
    "pod_device_open": (c_int32, [c_char_p, POINTER(c_void_p)]),
    "pod_device_get_info": (c_int32, [c_void_p, POINTER(DeviceInfo)]),
    "pod_workspace_size": (c_int32, [c_void_p, POINTER(Limits), POINTER(Workspace)]),
    "pod_plan_create": (c_int32, [c_void_p, POINTER(Limits), POINTER(c_void_p)]),
    "pod_plan_destroy": (None, [c_void_p]),
    "pod_plan_attach": (c_int32, [c_void_p, POINTER(Workspace)]),
    "pod_plan_build": (c_int32, [c_void_p, c_void_p, c_void_p]),
    "pod_attention": (c_int32, [c_void_p, c_void_p, c_void_p, c_void_p]),
    "pod_cache_append": (c_int32, [c_void_p, c_void_p, c_void_p, c_void_p]),
    "pod_merge": (c_int32, [c_void_p, POINTER(Parts), c_void_p]),
    "pod_plan_get_info": (c_int32, [c_void_p, c_int32, POINTER(PlanInfo)]),
    "pod_plan_check": (c_int32, [c_void_p, c_void_p]),
    "pod_plan_visit": (c_int32, [c_void_p, c_int32, VISIT, c_void_p]),
    "pod_virtual_cache_create": (c_int32, [c_void_p, POINTER(VirtualConfig), POINTER(c_void_p)]),
    "pod_virtual_cache_destroy": (None, [c_void_p]),
    "pod_virtual_cache_get_info": (c_int32, [c_void_p, POINTER(VirtualInfo)]),
    "pod_virtual_cache_get_layer": (c_int32, [c_void_p, c_int32, POINTER(Cache)]),
    "pod_virtual_cache_open": (c_int32, [c_void_p, POINTER(c_int64)]),
    "pod_virtual_cache_fork": (c_int32, [c_void_p, c_int64, c_int32, c_void_p, POINTER(c_int64)]),
    "pod_virtual_cache_close": (c_int32, [c_void_p, c_int64]),
    "pod_virtual_cache_expect": (c_int32, [c_void_p, c_int32, c_void_p, c_void_p]),
    "pod_virtual_cache_ensure": (c_int32, [c_void_p, c_int64, c_int32, c_void_p, c_void_p]),
    "pod_virtual_cache_finished": (c_int32, [c_void_p, c_int64]),
    "pod_virtual_cache_trim": (c_int32, [c_void_p, c_int64, POINTER(c_int64)]),
    "pod_virtual_cache_get_stats": (c_int32, [c_void_p, POINTER(VirtualStats)]),
}
