# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding, as a layer's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Optional

from . import _abi, _arrays
from ._dtypes import BF16, F16, F32, canonical_name, dtype_code
from ._errors import ArgumentError
from ._values import double, flag, int32, shown

STYLES = ("halves", "pairs")
SCALINGS = ("none", "linear", "llama3", "yarn")

_NUMBERS = ("base", "factor", "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow", "attention_factor")


@dataclass(frozen=True)
class Rope:
    """How `Plan.append` rotates queries and keys: by tables, or by a base. A 0 is the default.

    `docs/kv-cache.md` has the formulas. Angles that are made of a base are as exact at position 10^6 as at 1.
    """

    style: Literal["halves", "pairs"] = "halves"
    """Element j turns with `j + rotary_dim / 2` (GPT-NeoX, Llama), or 2 j with 2 j + 1 (GPT-J, "interleaved")."""
    rotary_dim: int = 0
    """Elements of each head that are rotated, the first ones; 0: all."""
    base: float = 0.0
    """0: 10000, or tables."""
    scaling: Literal["none", "linear", "llama3", "yarn"] = "none"
    """As `rope_type` in the configuration of a model of Hugging Face, whose "default" is "none"."""
    factor: float = 0.0
    original_context: int = 0
    """`original_max_position_embeddings`; llama3 and yarn."""
    low_freq_factor: float = 0.0
    high_freq_factor: float = 0.0
    beta_fast: float = 0.0
    beta_slow: float = 0.0
    attention_factor: float = 0.0
    """What yarn multiplies cosines and sines by; 0: 0.1 ln(factor) + 1."""
    truncate: bool = True
    """Whether yarn rounds the ends of its ramp to whole j."""
    cos: Any = None
    """`[positions, rotary_dim / 2]`, float32, float16 or bfloat16, instead of a base."""
    sin: Any = None
    """Like `cos`, with the same stride; may be the other half of one table."""


def fill(struct: _abi.Rope, rope: Rope, device: str, stream: int) -> list[Any]:
    """Writes it into the struct; returns what keeps its tables alive."""
    if not isinstance(rope, Rope):
        raise ArgumentError(f"rope = {shown(rope)} is no podattn.Rope")
    struct.style = _index(rope.style, STYLES, "rope.style")
    struct.scaling = _index(rope.scaling, SCALINGS, "rope.scaling")
    struct.rotary_dim = int32(rope.rotary_dim, "rope.rotary_dim")
    struct.original_context = int32(rope.original_context, "rope.original_context")
    struct.yarn_is_exact = not flag(rope.truncate, "rope.truncate")
    for name in _NUMBERS:
        setattr(struct, name, double(getattr(rope, name), f"rope.{name}"))
    struct.cos = struct.sin = None
    if rope.cos is None and rope.sin is None:
        return []
    if rope.cos is None or rope.sin is None:
        raise ArgumentError(f"rope.{'cos' if rope.cos is None else 'sin'} is None, the other is not")
    struct.cos, cos, cos_owner = _table(rope.cos, "rope.cos", device, stream)
    struct.sin, sin, sin_owner = _table(rope.sin, "rope.sin", device, stream)
    if cos != sin:
        raise ArgumentError(f"rope.cos and rope.sin differ in shape, strides or dtype: {cos[:3]}, {sin[:3]}")
    if rope.rotary_dim not in (0, 2 * cos.shape[1]):
        raise ArgumentError(
            f"rope.cos has {cos.shape[1]} columns; rope.rotary_dim = {rope.rotary_dim} needs half of it"
        )
    struct.rotary_dim = 2 * cos.shape[1]
    struct.table_dtype = dtype_code(cos.dtype, "rope.cos")
    struct.table_positions = int32(cos.shape[0], "the number of positions in rope.cos")
    struct.table_stride = cos.strides[0]
    return [cos_owner, sin_owner]


def _index(value: Any, names: tuple[str, ...], field: str) -> int:
    if not isinstance(value, str) or value not in names:
        raise ArgumentError(f"{field} = {shown(value)} is none of {', '.join(names)}")
    return names.index(value)


def _table(array: Any, field: str, device: str, stream: int) -> tuple[int, _arrays.Dense, Any]:
    address, layout, owner = _arrays.view(array, field, stream)
    _arrays.has_grad(layout, field)
    found = _arrays.dense(layout, field)
    if len(found.shape) != 2 or 0 in found.shape:
        raise ArgumentError(f"{field} has shape {found.shape}; (positions, rotary_dim / 2) is needed")
    if found.dtype not in [canonical_name(code) for code in (F32, F16, BF16)]:
        raise ArgumentError(f"{field} holds {found.dtype}; float32, float16 or bfloat16 is needed")
    if found.device != device:
        raise ArgumentError(f"{field} is on {found.device}; the plan is on {device}")
    return address, found, owner


def flat(rope: Optional[Rope]) -> tuple[Any, ...]:
    """What an operator takes of it: (style, scaling, rotary_dim, original_context, truncate, numbers, cos, sin).

    Style "" is no rope.
    """
    if rope is None:
        return "", "none", 0, 0, True, [], None, None
    numbers = [float(getattr(rope, name)) for name in _NUMBERS]
    return (rope.style, rope.scaling, rope.rotary_dim, rope.original_context, rope.truncate, numbers, rope.cos,
            rope.sin)  # fmt: skip


def unflatten(style: Any, scaling: Any, rotary_dim: int, original_context: int, truncate: bool, numbers: list[float],
              cos: Any, sin: Any) -> Optional[Rope]:  # fmt: skip
    """The rope again."""
    if style == "":
        return None
    return Rope(style=style, scaling=scaling, rotary_dim=rotary_dim, original_context=original_context,
                truncate=truncate, cos=cos, sin=sin, **dict(zip(_NUMBERS, numbers)))  # fmt: skip
