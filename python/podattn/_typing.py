# SPDX-License-Identifier: Apache-2.0
"""What type checkers are told of arguments. Nothing here is looked at while a program runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Optional, Protocol, TypedDict, TypeVar, Union


class _HasDLPack(Protocol):
    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...


class _HasInterface(Protocol):
    @property
    def __array_interface__(self) -> Any: ...


class _HasCudaInterface(Protocol):
    @property
    def __cuda_array_interface__(self) -> Any: ...


Array = Union[_HasDLPack, _HasInterface, _HasCudaInterface]
ArrayT = TypeVar("ArrayT", bound=Array)
IntegerArray = Union[Array, Sequence[int], Sequence[Sequence[int]]]
KvLayout = Literal["NHD", "HND"]
BatchMemory = Literal["host", "device"]


class LayerOptions(TypedDict, total=False):
    """Of `hybrid_attention`, and of `Plan.attention`."""

    scale: Optional[float]
    softcap: Optional[float]
    sinks: Optional[Array]
    alibi_slopes: Optional[Array]
    k_scale: Optional[Array]
    v_scale: Optional[Array]


class PlanLayerOptions(LayerOptions, total=False):
    """Of `Plan.attention`."""

    mask: int
    tree_mask: Optional[Array]
    stream: Any


class BatchOptions(LayerOptions, total=False):
    """Of `hybrid_attention`."""

    causal: bool
    window_tokens: int
    kv_layout: KvLayout
    page_size: int
    v_head_dim: int


class _Needed(TypedDict):
    q_heads: int
    kv_heads: int
    head_dim: int
    page_size: int
    max_requests: int
    max_q_tokens: int
    max_kv_len: int


class LimitOptions(_Needed, total=False):
    """Of `workspace_bytes`."""

    dtype: Any
    kv_dtype: Any
    out_dtype: Any
    v_head_dim: Optional[int]
    max_masks: int
    batch_memory: BatchMemory
    tree_masks: bool
    alibi: bool
    right_windows: bool
