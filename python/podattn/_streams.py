# SPDX-License-Identifier: Apache-2.0
"""Which CUDA stream a call belongs to, and memory of a GPU."""

from __future__ import annotations

import sys
from typing import Any, Optional

from . import _arrays, _torch
from ._errors import ArgumentError
from ._values import integer, shown


def torch_stream(ordinal: int) -> int:
    """PyTorch's current stream; the default one until PyTorch is found."""
    return 0


@_torch.when_found
def _use_torch(torch: Any) -> None:
    """By the raw handle where PyTorch offers one: a tenth of the time that a Stream object takes to make."""
    global torch_stream
    raw = getattr(torch._C, "_cuda_getCurrentRawStream", None)
    torch_stream = raw or (lambda ordinal: int(torch.cuda.current_stream(ordinal).cuda_stream))


def _cupy_stream(cupy: Any, ordinal: int) -> int:
    with cupy.cuda.Device(ordinal):
        return int(cupy.cuda.get_current_stream().ptr)


def current_stream(array: Any, ordinal: int) -> int:
    """The current stream, on GPU `ordinal`, of the library that made `array`; the default stream if it has none.

    Of what is in the host's memory without a library of GPUs: PyTorch's, or CuPy's where PyTorch is not installed.
    """
    if _arrays.is_torch(array):
        return torch_stream(ordinal)
    maker = type(array).__module__.partition(".")[0]
    is_host = maker in ("builtins", "numpy")
    if is_host and _torch.find() is not None:
        return torch_stream(ordinal)
    cupy = sys.modules.get("cupy")
    if cupy is not None and (is_host or maker == "cupy"):
        return _cupy_stream(cupy, ordinal)
    return 0


def stream_handle(stream: Any) -> int:
    """The address of a torch.cuda.Stream, a cupy.cuda.Stream or a number."""
    try:
        address = getattr(stream, "cuda_stream", getattr(stream, "ptr", stream))
        return integer(address, "stream", range(1 << 64))
    except Exception:  # whatever it raises when asked
        raise ArgumentError(
            f"stream = {shown(stream)} is neither a stream of PyTorch or CuPy nor the address of one"
        ) from None


def _torch_with_cuda() -> Any:
    """PyTorch, if it can use a GPU. Imported only where CuPy is not in use, which allocates as well."""
    torch = _torch.find() or (None if "cupy" in sys.modules else _torch.load())
    return torch if torch is not None and torch.cuda.is_available() else None


def allocate_cuda_bytes(num_bytes: int, ordinal: int) -> Any:
    """Memory of a GPU, by PyTorch or CuPy; raises ArgumentError where neither can give any."""
    torch = _torch_with_cuda()
    if torch is not None:
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


def allocate_pinned_word(ordinal: int) -> Optional[tuple[int, Any]]:
    """`(address, owner)` of an int32 in host memory that every GPU can write; None where nothing can pin memory.

    It is pinned by that GPU, so that a process which uses no other one starts none.
    """
    torch = _torch_with_cuda()
    if torch is not None:
        with torch.cuda.device(ordinal):
            word = torch.zeros(1, dtype=torch.int32, pin_memory=True)
        return word.data_ptr(), word
    try:
        import cupy
    except ImportError:
        return None
    with cupy.cuda.Device(ordinal):
        memory = cupy.cuda.alloc_pinned_memory(4)
    return memory.ptr, memory
