# SPDX-License-Identifier: Apache-2.0
"""Attention of a hybrid batch (prefill chunks and decode tokens of different requests) in one fused call.

    plan = podattn.Plan(q_heads=32, kv_heads=8, head_dim=128, page_size=16, num_pages=4096,
                        max_requests=256, max_q_tokens=2048, max_kv_len=32768, device="cuda:0")
    plan.build(q_start, kv_len, page_table)       # once per step
    plan.attention(q, k_cache, v_cache, out)      # once per layer

Takes arrays of PyTorch, of NumPy, and of whatever has DLPack or an array interface. The C API below it is
`include/podattn.h`; nothing is computed in Python.
"""

from __future__ import annotations

from ._batch import Mask
from ._device import DeviceInfo, device_info
from ._errors import (
    ArgumentError,
    DeviceError,
    Error,
    LibraryError,
    LimitError,
    NoDeviceError,
    OutOfMemoryError,
    StateError,
    UnsupportedError,
    WorkspaceError,
)
from ._hybrid import hybrid_attention
from ._inspect import PlanInfo, WorkItem
from ._library import version as _version
from ._limits import WorkspaceBytes, workspace_bytes
from ._memory import Scratch
from ._merge import merge
from ._plan import Plan
from ._pod_form import fused_attention_with_kvcache
from ._rope import Rope
from ._torch import find as _find_torch
from ._virtual import VirtualCache, VirtualStats, VirtualTensor

__version__ = _version()
__all__ = [
    "ArgumentError",
    "DeviceError",
    "DeviceInfo",
    "Error",
    "LibraryError",
    "LimitError",
    "Mask",
    "NoDeviceError",
    "OutOfMemoryError",
    "Plan",
    "PlanInfo",
    "Rope",
    "Scratch",
    "StateError",
    "UnsupportedError",
    "VirtualCache",
    "VirtualStats",
    "VirtualTensor",
    "WorkItem",
    "WorkspaceBytes",
    "WorkspaceError",
    "__version__",
    "device_info",
    "fused_attention_with_kvcache",
    "hybrid_attention",
    "merge",
    "workspace_bytes",
]

# Users know them by these names: in tracebacks, in help(), in pickles.
for _name in __all__:
    if hasattr(globals()[_name], "__module__"):
        globals()[_name].__module__ = __name__
_find_torch()
