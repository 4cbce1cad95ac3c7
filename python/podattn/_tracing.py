# SPDX-License-Identifier: Apache-2.0
"""When a call has to be one of PyTorch's operators, and what of PyTorch a call needs at hand for that."""

from __future__ import annotations

from typing import Any

from . import _arrays, _torch
from ._dtypes import BF16, F16, F32, canonical_name

torch_dtypes: dict[int, Any] = {}
"""By pod_dtype; empty until PyTorch is found."""
plain_tensors: tuple[type, ...] = ()
"""The types of tensors that are no other one's stand-in; none until PyTorch is found."""


def is_compiling() -> bool:
    """Whether torch.compile is at work; PyTorch's own function once it is found."""
    return False


@_torch.when_found
def _use_torch(torch: Any) -> None:
    global is_compiling, plain_tensors
    is_compiling = torch.compiler.is_compiling
    plain_tensors = (torch.Tensor, torch.nn.Parameter)
    torch_dtypes.update((code, getattr(torch, canonical_name(code))) for code in (F32, F16, BF16))


def needs_operator(q: Any) -> bool:
    """While PyTorch traces or compiles, the call has to be one of its operators."""
    return is_compiling() or (type(q) not in plain_tensors and _arrays.is_torch(q) and _is_traced(q))


def _is_traced(tensor: Any) -> bool:
    """Whether a subclass of torch.Tensor stands for one, as fake tensors do, or is one by another name."""
    return type(tensor).__torch_dispatch__ is not _torch.torch.Tensor.__torch_dispatch__
