# SPDX-License-Identifier: Apache-2.0
"""Whether tensors of PyTorch are laid out as others were, asked in one call instead of five attributes of each tensor.

The answer is that of the guards by which torch.compile knows its own inputs again: type, dispatch keys, dtype, device,
shape, strides, and whether a gradient is required. They are no public part of PyTorch. So they are tried at
first, and where they are missing or do not see every change, there are none and the attributes are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Callable, Optional

from . import _arrays, _torch

Question = Callable[..., bool]


def _make(tensors: tuple[Any, ...], free: Sequence[int] = ()) -> Question:
    sizes: list[list[Optional[int]]] = [list(tensor.shape) for tensor in tensors]
    for which in free:
        sizes[which][0] = None
    guards = _torch.torch._C._dynamo.guards.TensorGuards(
        *tensors,
        dynamic_dims_sizes=sizes,
        dynamic_dims_strides=[list(tensor.stride()) for tensor in tensors],
    )
    return guards.check  # type: ignore[no-any-return]


def _others(tensor: Any) -> list[Any]:
    """Tensors that differ from a float32 tensor [2, 4, 8] in one thing each, the first in its first extent."""
    torch = _torch.torch
    return [
        tensor.new_empty(3, 4, 8),
        tensor.new_empty(2, 5, 8),
        tensor.new_empty(2, 4, 8, 1),
        tensor.new_empty(2, 4, 16)[..., :8],
        tensor.new_empty(4, 2, 8).transpose(0, 1),
        tensor.to(torch.bfloat16),
        tensor.to("meta"),
        tensor.clone().requires_grad_(),
        torch.nn.Parameter(tensor, requires_grad=False),
        tensor.numpy(),
        None,
    ]


@cache
def _sees_every_change() -> bool:
    torch = _torch.torch
    try:
        first, second = torch.zeros(2, 4, 8), torch.zeros(2, 4, 8)
        is_same, is_same_but_for_extent = _make((first, second)), _make((first, second), [0])
        others = _others(first)
        return (
            is_same(first, second)
            and is_same(torch.ones(2, 4, 8), torch.ones(64 + 1)[1:].view(2, 4, 8))
            and not any(is_same(other, second) or is_same(first, other) for other in others)
            and is_same_but_for_extent(first, second)
            and is_same_but_for_extent(others[0], second)
            and not any(is_same_but_for_extent(other, second) for other in others[1:])
            and not any(is_same_but_for_extent(first, other) for other in others)
        )
    except Exception:  # whatever another version of PyTorch makes of it
        return False


def same_layout(tensors: tuple[Any, ...], free: Sequence[int] = ()) -> Optional[Question]:
    """A function that says whether as many arguments are tensors like these; None if that cannot be asked.

    It says no to a tensor that is given twice. `free`: those whose first extent may be any; the caller compares it.
    """
    if not all(_arrays.is_torch(tensor) for tensor in tensors) or not _sees_every_change():
        return None
    is_same = _make(tensors, free)
    return is_same if is_same(*tensors) else None
