# SPDX-License-Identifier: Apache-2.0
"""Which CUDA stream a call belongs to, and memory of a GPU."""

from __future__ import annotations

import sys
from typing import Any, Callable, Optional

from ._errors import ArgumentError
from ._torch import torch


def _torch_current_stream() -> Callable[[int], int]:
    """PyTorch's raw handle where it offers one: a tenth of the time that a Stream object takes to make."""
    raw = getattr(getattr(torch, "_C", None), "_cuda_getCurrentRawStream", None)
    if raw is not None:
        return raw  # type: ignore[no-any-return]
    return lambda ordinal: int(torch.cuda.current_stream(ordinal).cuda_stream)


torch_stream = _torch_current_stream() if torch is not None else None


def _cupy_stream(cupy: Any, ordinal: int) -> int:
    with cupy.cuda.Device(ordinal):
        return int(cupy.cuda.get_current_stream().ptr)


def current_stream(array: Any, ordinal: int) -> int:
    """The current stream, on GPU `ordinal`, of the library that made `array`; the default stream if it has none.

    Of what lies in the host's memory without a library of GPUs: PyTorch's, or CuPy's where PyTorch is not installed.
    """
    if torch_stream is not None and isinstance(array, torch.Tensor):
        return torch_stream(ordinal)
    maker = type(array).__module__.partition(".")[0]
    is_host = maker in ("builtins", "numpy")
    if is_host and torch_stream is not None:
        return torch_stream(ordinal)
    cupy = sys.modules.get("cupy")
    if cupy is not None and (is_host or maker == "cupy"):
        return _cupy_stream(cupy, ordinal)
    return 0


def stream_handle(stream: Any) -> int:
    """The address of a torch.cuda.Stream, a cupy.cuda.Stream or a number."""
    for name in ("cuda_stream", "ptr"):
        if hasattr(stream, name):
            return int(getattr(stream, name))
    return int(stream)


def allocate_cuda_bytes(num_bytes: int, ordinal: int) -> Any:
    """Memory of a GPU, by PyTorch or CuPy; raises ArgumentError where neither can give any."""
    if torch is not None and torch.cuda.is_available():
        return torch.empty(num_bytes, dtype=torch.uint8, device=f"cuda:{ordinal}")
    try:
        import cupy
    except ImportError:
        raise ArgumentError(
            f"neither PyTorch with CUDA nor CuPy is installed to allocate {num_bytes} bytes on cuda:{ordinal}; give "
            "them to `Plan.attach`"
        ) from None
    with cupy.cuda.Device(ordinal):
        return cupy.empty(num_bytes, dtype=cupy.uint8)


def allocate_pinned_word() -> Optional[tuple[int, Any]]:
    """`(address, owner)` of an int32 in host memory that every GPU can write; None where nothing can pin memory."""
    if torch is not None and torch.cuda.is_available():
        word = torch.zeros(1, dtype=torch.int32, pin_memory=True)
        return word.data_ptr(), word
    try:
        import cupy
    except ImportError:
        return None
    memory = cupy.cuda.alloc_pinned_memory(4)
    return memory.ptr, memory
