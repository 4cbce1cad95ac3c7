# SPDX-License-Identifier: Apache-2.0
"""The operators `torch.ops.podattn.*`, for torch.compile, export and all other tracers.

`attention`, `attention_lse` and `attention_out` run a layer of a built plan, which they know by its `plan_id`;
`hybrid_attention` and `hybrid_attention_lse` plan as well; `append` stores keys
and values in the cache of such a plan; `merge` joins partial results. None has a backward pass.
"""

from __future__ import annotations

from typing import Any, Callable

from ._hybrid import hybrid_attention
from ._merge import merge
from ._plan import plan_of
from ._rope import unflatten
from ._torch import torch

_LAYER = (
    "Tensor q, Tensor k_cache, Tensor? v_cache, int plan, float scale=0.0, float softcap=0.0, Tensor? sinks=None, "
    "Tensor? alibi_slopes=None, Tensor? k_scale=None, Tensor? v_scale=None, int mask=0, Tensor? tree_mask=None"
)
_BATCH = (
    "Tensor q, Tensor k_cache, Tensor? v_cache, Tensor q_start, Tensor kv_len, Tensor? page_table=None, "
    'bool causal=True, int window_tokens=0, str kv_layout="NHD", int page_size=0, int v_head_dim=0, float scale=0.0, '
    "float softcap=0.0, Tensor? sinks=None, Tensor? alibi_slopes=None, Tensor? k_scale=None, Tensor? v_scale=None"
)
_BATCH_OPTIONS = (
    "causal", "window_tokens", "kv_layout", "page_size", "v_head_dim",
    "scale", "softcap", "sinks", "alibi_slopes", "k_scale", "v_scale",
)  # fmt: skip
_APPEND = (
    "Tensor(a!)? k_cache, Tensor(b!)? v_cache, Tensor(c!)? q_out, Tensor? k, Tensor? v, Tensor? q, int plan, "
    "Tensor? slot_mapping=None, Tensor? positions=None, Tensor? left_pad=None, "
    'str style="", str scaling="none", int rotary_dim=0, int original_context=0, bool truncate=True, '
    "float[] numbers=[], Tensor? cos=None, Tensor? sin=None, Tensor? k_scale=None, Tensor? v_scale=None"
)
_LAYER_OPTIONS = (*_BATCH_OPTIONS[5:], "mask", "tree_mask")

_library = torch.library.Library("podattn", "DEF")


def _plain(tensor: Any) -> Any:
    """The tensor without the subclass that led here, which would lead here again."""
    return tensor if type(tensor) is torch.Tensor else tensor.as_subclass(torch.Tensor)


def _named(names: tuple[str, ...], values: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(names, values))


def _lse_like(q: Any) -> Any:
    return q.new_empty(q.shape[:2], dtype=torch.float32)


def _attention(q: Any, k_cache: Any, v_cache: Any, plan: int, *options: Any) -> Any:
    return plan_of(plan).attention(_plain(q), k_cache, v_cache, **_named(_LAYER_OPTIONS, options))


def _attention_fake(q: Any, k_cache: Any, v_cache: Any, plan: int, *options: Any) -> Any:
    return plan_of(plan)._empty_traced(q)


def _attention_lse(q: Any, k_cache: Any, v_cache: Any, plan: int, *options: Any) -> Any:
    return plan_of(plan).attention(_plain(q), k_cache, v_cache, return_lse=True, **_named(_LAYER_OPTIONS, options))


def _attention_lse_fake(q: Any, k_cache: Any, v_cache: Any, plan: int, *options: Any) -> Any:
    return _attention_fake(q, k_cache, v_cache, plan), _lse_like(q)


def _attention_out(out: Any, lse: Any, q: Any, k_cache: Any, v_cache: Any, plan: int, *options: Any) -> None:
    plan_of(plan).attention(_plain(q), k_cache, v_cache, out, lse, **_named(_LAYER_OPTIONS, options))


def _attention_out_fake(out: Any, lse: Any, q: Any, k_cache: Any, v_cache: Any, plan: int, *options: Any) -> None:
    return None


def _hybrid(q: Any, k: Any, v: Any, q_start: Any, kv_len: Any, page_table: Any = None, *options: Any) -> Any:
    return hybrid_attention(_plain(q), k, v, q_start, kv_len, page_table, **_named(_BATCH_OPTIONS, options))


def _hybrid_fake(q: Any, k: Any, v: Any, q_start: Any, kv_len: Any, page_table: Any = None, *options: Any) -> Any:
    given = _named(_BATCH_OPTIONS, options).get("v_head_dim", 0) or q.shape[-1]
    return q.new_empty((*q.shape[:-1], given if v is None else v.shape[-1]))


def _hybrid_lse(q: Any, k: Any, v: Any, q_start: Any, kv_len: Any, page_table: Any = None, *options: Any) -> Any:
    return hybrid_attention(
        _plain(q), k, v, q_start, kv_len, page_table, return_lse=True, **_named(_BATCH_OPTIONS, options)
    )


def _hybrid_lse_fake(q: Any, *others: Any) -> Any:
    return _hybrid_fake(q, *others), _lse_like(q)


def _append(k_cache: Any, v_cache: Any, q_out: Any, k: Any, v: Any, q: Any, plan: int, slot_mapping: Any = None,
            positions: Any = None, left_pad: Any = None, style: str = "", scaling: str = "none", rotary_dim: int = 0,
            original_context: int = 0, truncate: bool = True, numbers: Any = (), cos: Any = None, sin: Any = None,
            k_scale: Any = None, v_scale: Any = None) -> None:  # fmt: skip
    rope = unflatten(style, scaling, rotary_dim, original_context, truncate, numbers, cos, sin)
    k, q = (None if x is None else _plain(x) for x in (k, q_out if q is None else q))
    plan_of(plan).append(k, v, k_cache, v_cache, q, q_out, slot_mapping=slot_mapping, positions=positions,
                         left_pad=left_pad, rope=rope, k_scale=k_scale, v_scale=v_scale)  # fmt: skip


def _append_fake(*_: Any) -> None:
    return None


def _merge(outs: list[Any], lses: list[Any]) -> Any:
    return merge([_plain(out) for out in outs], lses)


def _merge_fake(outs: list[Any], lses: list[Any]) -> Any:
    return outs[0].new_empty(outs[0].shape), _lse_like(outs[0])


def _define(name: str, signature: str, compute: Callable[..., Any], fake: Callable[..., Any]) -> None:
    # The strides of a cache are its layout: a compiler that changed them would copy it.
    tag = getattr(torch.Tag, "needs_exact_strides", torch.Tag.needs_fixed_stride_order)
    _library.define(f"{name}{signature}", tags=(tag,))
    _library.impl(name, compute, "CompositeExplicitAutograd")
    torch.library.register_fake(f"podattn::{name}", fake, lib=_library)


_define("attention", f"({_LAYER}) -> Tensor", _attention, _attention_fake)
_define("attention_lse", f"({_LAYER}) -> (Tensor, Tensor)", _attention_lse, _attention_lse_fake)
_define("attention_out", f"(Tensor(a!) out, Tensor(b!)? lse, {_LAYER}) -> ()", _attention_out, _attention_out_fake)
_define("hybrid_attention", f"({_BATCH}) -> Tensor", _hybrid, _hybrid_fake)
_define("hybrid_attention_lse", f"({_BATCH}) -> (Tensor, Tensor)", _hybrid_lse, _hybrid_lse_fake)
_define("append", f"({_APPEND}) -> ()", _append, _append_fake)
_define("merge", "(Tensor[] outs, Tensor[] lses) -> (Tensor, Tensor)", _merge, _merge_fake)
