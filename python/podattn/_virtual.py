# SPDX-License-Identifier: Apache-2.0
"""A KV cache whose requests are contiguous in virtual memory and grow by physical pages."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from ctypes import byref, c_int32, c_int64
from typing import Any, NamedTuple, Optional

from . import _abi, _dlpack, _streams
from ._device import open_device
from ._dlpack_export import capsule_of, int64_array
from ._dtypes import canonical_name, dtype_code
from ._errors import ArgumentError
from ._library import check, lib
from ._values import count, flag, integer, shown

_INT64 = range(-(1 << 63), 1 << 63)
_FROM_0 = range(1 << 63)
_LAYOUTS = {"per_layer": 0, "mega": 1}
_CODES = {name: code for code, name in _dlpack.DTYPES.items()}
_PAGE_MASK = 0x7FFFFFFF


class VirtualStats(NamedTuple):
    """Bytes of physical memory now, and what was done since the cache was made. Shared pages count once."""

    physical_bytes: int
    """Taken from the system."""
    peak_bytes: int
    """Most that it was."""
    used_bytes: int
    """Keys and values of open requests."""
    waste_bytes: int
    """After their last tokens, in pages that they need."""
    ahead_bytes: int
    """Mapped to open requests that do not need it yet."""
    idle_bytes: int
    """Still mapped to closed requests."""
    spare_bytes: int
    """Mapped nowhere."""
    shared_bytes: int
    """That sharing saves."""
    num_open: int
    """Requests."""
    num_creates: int
    num_releases: int
    num_maps: int
    num_unmaps: int
    num_reused_rows: int
    """Rows that a request found mapped when it was opened."""
    num_steps: int
    num_waits: int
    """Calls that waited for the thread, or called the driver themselves."""
    driver_us: float
    wait_us: float
    longest_wait_us: float


class VirtualTensor:
    """K or V of a layer, `[num_pages, page_size, kv_heads, head_dim]`: for `Plan.attention`, and for
    `torch.from_dlpack` and `numpy.from_dlpack`, whose tensors keep the cache. Only what `ensure` has promised may be
    read or written: the rest has no memory, and a touch ends the process.
    """

    def __init__(self, cache: VirtualCache, address: int, strides: tuple[int, ...]) -> None:
        self._cache, self._address = cache, address
        self.shape = (cache.num_pages, cache.page_size, cache.kv_heads, cache.head_dim)
        self.strides = strides
        """In elements."""
        self.dtype = canonical_name(cache.dtype_code)

    def __dlpack_device__(self) -> tuple[int, int]:
        device = self._cache.array_device
        return (_dlpack.CPU, 0) if device == "cpu" else (_dlpack.CUDA, int(device.partition(":")[2]))

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: Optional[tuple[int, int]] = None,
        dl_device: Optional[tuple[int, int]] = None,
        copy: Optional[bool] = None,
    ) -> Any:
        """Nothing is waited for: what is written on other streams is the caller's to order."""
        device = self.__dlpack_device__()
        if copy:
            raise BufferError("a virtual cache is not copied")
        if dl_device is not None and tuple(dl_device) != device:
            raise BufferError(f"a virtual cache on DLPack's device {device} is not moved to {tuple(dl_device)}")
        code, bits = _CODES[self.dtype]
        tensor = _dlpack.DLTensor(
            data=self._address,
            device_type=device[0],
            device_id=device[1],
            ndim=len(self.shape),
            dtype_code=code,
            dtype_bits=bits,
            dtype_lanes=1,
            shape=int64_array(self.shape),
            strides=int64_array(self.strides),
        )
        return capsule_of(tensor, self._cache, max_version)


class VirtualCache:
    """The KV cache of a model, in which each request is contiguous in virtual memory (vAttention, arXiv 2405.04437).

        cache = podattn.VirtualCache(num_layers=32, kv_heads=8, head_dim=128, max_requests=64, max_kv_len=32768,
                                     layout="mega", max_bytes=40 << 30, device="cuda:0")
        plan = podattn.Plan(..., page_size=cache.page_size, num_pages=cache.num_pages)
        request = cache.open()
        cache.ensure(step, [request], [kv_len])                  # before each step
        plan.build(q_start, kv_len, [[cache.page(request)]])
        plan.attention(q, *cache.layer(0))
        cache.expect([request], [kv_len + 1])                    # pages of the next step, meanwhile
        cache.finished(step)                                     # it has left the device
        cache.close(request)

    One thread at a time. docs/kv-cache.md has the rules of steps and pages.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        kv_heads: int,
        head_dim: int,
        max_requests: int,
        max_kv_len: int,
        dtype: Any = "bfloat16",
        layout: str = "per_layer",
        page_bytes: int = 0,
        max_bytes: int = 0,
        thread: bool = True,
        device: Any = "auto",
    ) -> None:
        """Reserves addresses; physical memory is taken as requests grow.

        Args:
            num_layers: 1 to 1,024.
            kv_heads: 1 to 1,024.
            head_dim: of keys and values; a multiple of 8, up to 256.
            max_requests: open at the same time.
            max_kv_len: tokens of one request.
            dtype: of keys and values.
            layout: "per_layer": a K and a V tensor per layer; "mega": all layers of a token together, so that a
                physical page serves them all.
            page_bytes: of a physical page, a multiple of the device's granularity; 0: 2 MiB.
            max_bytes: most physical memory; 0: all that is there.
            thread: maps pages ahead of need; without it `expect` does nothing and `ensure` calls the driver.
            device: as for `Plan`.

        Raises:
            ArgumentError: names the argument.
            UnsupportedError: a device without memory of its own, or a driver without such calls.
            LimitError: more addresses than there are.
            OutOfMemoryError: no memory for the books, or no thread.
        """
        if layout not in _LAYOUTS:
            raise ArgumentError(f"layout = {shown(layout)} is neither 'per_layer' nor 'mega'")
        self._device = open_device(device)
        self.array_device = self._device.array_device
        self.dtype_code = dtype_code(dtype, "kv_dtype")
        self.kv_heads, self.head_dim = count(kv_heads, "kv_heads"), count(head_dim, "head_dim")
        config = _abi.VirtualConfig(
            num_layers=count(num_layers, "num_layers"),
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            kv_dtype=self.dtype_code,
            max_requests=count(max_requests, "max_requests"),
            max_kv_len=count(max_kv_len, "max_kv_len"),
            layout=_LAYOUTS[layout],
            has_no_thread=not flag(thread, "thread"),
            page_bytes=integer(page_bytes, "page_bytes", _FROM_0),
            max_bytes=integer(max_bytes, "max_bytes", _FROM_0),
        )
        handle = ctypes.c_void_p()
        check(lib.pod_virtual_cache_create(self._device.handle, byref(config), byref(handle)))
        self._handle = handle
        # Not when Python ends: tensors may still be looked at then.
        weakref.finalize(self, lib.pod_virtual_cache_destroy, handle).atexit = False
        info = _abi.VirtualInfo()
        check(lib.pod_virtual_cache_get_info(handle, byref(info)))
        self.page_size: int = info.page_size
        """For the plan: max_kv_len, rounded up to a multiple of 8 tokens."""
        self.num_pages: int = info.num_pages
        """For the plan: max_requests."""
        self.page_bytes: int = info.page_bytes
        """Of a physical page."""
        self.row_bytes: int = info.row_bytes
        """By which a request grows: a page in each tensor."""

    def layer(self, layer: int) -> tuple[VirtualTensor, VirtualTensor]:
        """K and V of a layer, at addresses that never change. Raises ArgumentError."""
        cache = _abi.Cache()
        check(lib.pod_virtual_cache_get_layer(self._handle, count(layer, "layer"), byref(cache)))
        k_strides = (cache.k_page_stride, cache.k_token_stride, cache.k_head_stride, 1)
        v_strides = (cache.v_page_stride, cache.v_token_stride, cache.v_head_stride, 1)
        return VirtualTensor(self, cache.k, k_strides), VirtualTensor(self, cache.v, v_strides)

    # ---- requests ----

    @staticmethod
    def page(request: int) -> int:
        """The request's page in every layer: what its row of the page table holds."""
        return integer(request, "request", _FROM_0) & _PAGE_MASK

    def open(self) -> int:
        """Begins a request, without tokens.

        Raises LimitError (max_requests are open) or StateError (all closed ones share pages that a step may read).
        """
        request = c_int64()
        check(lib.pod_virtual_cache_open(self._handle, byref(request)))
        return request.value

    def fork(self, parent: int, num_tokens: int, stream: Any = None) -> int:
        """Begins a request with the first `num_tokens` of another one.

        Whole pages are shared; the end is copied on `stream`, by default the current one of PyTorch or CuPy. Raises as
        `open`; ArgumentError; OutOfMemoryError.
        """
        request = c_int64()
        handle = 0
        if self._device.is_cuda:
            array = self.layer(0)[0]
            handle = (
                _streams.current_stream(array, self._device.ordinal)
                if stream is None
                else _streams.stream_handle(stream)
            )
        parent, num_tokens = integer(parent, "parent", _INT64), count(num_tokens, "num_tokens")
        check(lib.pod_virtual_cache_fork(self._handle, parent, num_tokens, handle, byref(request)))
        return request.value

    def close(self, request: int) -> None:
        """Ends a request. Raises ArgumentError if it was closed, or never opened."""
        check(lib.pod_virtual_cache_close(self._handle, integer(request, "request", _INT64)))

    # ---- steps ----

    def ensure(self, step: int, requests: Sequence[int], kv_len: Sequence[int]) -> None:
        """Before step `step`: the requests have memory for these lengths, new tokens included. Waits only if the thread
        has not mapped it yet.

        Raises:
            ArgumentError: names index and values.
            LimitError: a length is more than max_kv_len.
            OutOfMemoryError: says how much is missing, and who has it. No length has changed.
            DeviceError: the driver refused; no length has changed.
        """
        number = integer(step, "step", _INT64)
        check(lib.pod_virtual_cache_ensure(self._handle, number, *_lists(requests, kv_len)))

    def expect(self, requests: Sequence[int], kv_len: Sequence[int]) -> None:
        """These requests will have these lengths: maps what they lack, without waiting. Raises ArgumentError."""
        check(lib.pod_virtual_cache_expect(self._handle, *_lists(requests, kv_len)))

    def finished(self, step: int) -> None:
        """Steps up to this one have left the device: what closed requests had is free. Raises ArgumentError."""
        check(lib.pod_virtual_cache_finished(self._handle, integer(step, "step", _INT64)))

    def trim(self, num_bytes: int) -> int:
        """Gives up to so many bytes back to the system, in whole rows; returns how many. Waits for the driver."""
        freed = c_int64()
        check(lib.pod_virtual_cache_trim(self._handle, integer(num_bytes, "num_bytes", _FROM_0), byref(freed)))
        return freed.value

    def stats(self) -> VirtualStats:
        """Counts."""
        stats = _abi.VirtualStats()
        check(lib.pod_virtual_cache_get_stats(self._handle, byref(stats)))
        return VirtualStats(*_abi.as_values(stats, VirtualStats._fields))


def _lists(requests: Sequence[int], kv_len: Sequence[int]) -> tuple[int, Any, Any]:
    """As C takes them."""
    handles = [integer(request, f"requests[{i}]", _INT64) for i, request in enumerate(requests)]
    lengths = [count(length, f"kv_len[{i}]") for i, length in enumerate(kv_len)]
    if len(handles) != len(lengths):
        raise ArgumentError(f"requests has {len(handles)} entries, kv_len {len(lengths)}")
    return len(handles), (c_int64 * len(handles))(*handles), (c_int32 * len(lengths))(*lengths)
