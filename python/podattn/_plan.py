# SPDX-License-Identifier: Apache-2.0
"""A plan: how the requests of one step are spread over the device, and the memory for that."""

from __future__ import annotations

import ctypes
import itertools
import weakref
from typing import Any, NamedTuple, Optional

import numpy as np

from . import _abi, _arrays, _streams
from ._arrays import View
from ._device import Device, open_device
from ._dtypes import F32, canonical_name, dtype_code, numpy_dtype
from ._errors import ArgumentError, UnsupportedError, WorkspaceError
from ._layer import Layer
from ._library import check, lib
from ._torch import torch

_next_id = itertools.count(1)
_alive: weakref.WeakValueDictionary[int, Plan] = weakref.WeakValueDictionary()

_attention = lib.pod_attention
_is_compiling = torch.compiler.is_compiling if torch is not None else (lambda: False)
_plain_tensors = (torch.Tensor, torch.nn.Parameter) if torch is not None else ()
_torch_stream = _streams.torch_stream or (lambda ordinal: 0)


class PlanInfo(NamedTuple):
    """What a built plan decided. One that a GPU made is waited for and copied to the host."""

    num_ctas: int
    prefill_tile_rows: int
    prefill_tile_tokens: int
    decode_rows: int
    decode_tile_tokens: int
    num_requests: int
    num_prefill_requests: int
    num_decode_requests: int
    num_prefill_items: int
    num_prefill_splits: int
    num_prefill_tiles: int
    num_decode_slices: int
    num_decode_items: int
    num_decode_tiles: int
    kernel: str
    """That computes the plan's batches."""
    kernel_note: str
    """Why it is none of the GPU's fastest family; or ""."""


def _needs_operator(q: Any) -> bool:
    """While PyTorch traces or compiles, the call has to be one of its operators."""
    return _is_compiling() or (type(q) not in _plain_tensors and _arrays.is_torch(q))


class Plan:
    """Plans a step once; every layer of the step then calls `attention`.

    A plan is made for shapes that stay fixed while a server runs, and for the largest batch. It and its memory belong
    to one thread at a time; several plans work side by side. Keep a plan until the work that it started has finished.
    """

    def __init__(
        self,
        *,
        q_heads: int,
        kv_heads: int,
        head_dim: int,
        page_size: int,
        num_pages: int,
        max_requests: int,
        max_q_tokens: int,
        max_kv_len: int,
        dtype: Any = "bfloat16",
        kv_dtype: Any = None,
        out_dtype: Any = None,
        kv_layout: str = "NHD",
        device: Any = "auto",
        workspace: Any = None,
    ) -> None:
        """Makes an empty plan.

        Args:
            q_heads: query heads, 1 to 1024.
            kv_heads: key and value heads; divides `q_heads`.
            head_dim: elements per head.
            page_size: tokens per page; of a contiguous cache, its tokens per request.
            num_pages: pages of the cache; of a contiguous cache, its requests.
            max_requests: most requests in one batch.
            max_q_tokens: most query tokens in one batch, over all requests.
            max_kv_len: most context tokens of one request.
            dtype: of the queries: "float32", "float16", "bfloat16", or PyTorch's or NumPy's object for it.
            kv_dtype: of the cache; as `dtype` if None.
            out_dtype: of the results; as `dtype` if None.
            kv_layout: "NHD" for caches `[pages, tokens, heads, dim]`, "HND" for `[pages, heads, tokens, dim]`.
            device: "auto" (the first GPU that works, else the CPU), "cpu", "cuda:0", a `torch.device`, or any other
                name that `pod_device_open` takes, such as "cpu:4".
            workspace: bytes of the device that the plan works in, at least `workspace_bytes`; if None, they are
                allocated at the first `build` and then kept.

        Raises:
            ArgumentError: a value is out of range; the message names it.
            UnsupportedError: the device cannot do that dtype or head_dim.
            NoDeviceError: the device is not there.
        """
        if kv_layout not in ("NHD", "HND"):
            raise ArgumentError(f"kv_layout {kv_layout!r} is neither 'NHD' nor 'HND'")
        q_code = dtype_code(dtype)
        self._limits = _abi.Limits(
            q_heads=q_heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            q_dtype=q_code,
            kv_dtype=q_code if kv_dtype is None else dtype_code(kv_dtype, "kv_dtype"),
            out_dtype=q_code if out_dtype is None else dtype_code(out_dtype, "out_dtype"),
            page_size=page_size,
            max_requests=max_requests,
            max_q_tokens=max_q_tokens,
            max_kv_len=max_kv_len,
        )
        self._handle = ctypes.c_void_p()
        self._device: Device = open_device(device)
        check(lib.pod_plan_create(self._device.handle, ctypes.byref(self._limits), ctypes.byref(self._handle)))
        weakref.finalize(self, lib.pod_plan_destroy, self._handle)
        self._is_cuda = self._device.is_cuda
        self._ordinal = self._device.ordinal
        self._device_name = f"cuda:{self._ordinal}" if self._is_cuda else "cpu"
        self._num_q_tokens = 0
        self._batch = _abi.Batch()
        self._batch_owners: tuple[Any, ...] = ()
        self._layer = Layer(self._limits, self._device_name, kv_layout == "HND", num_pages)
        self._workspace: Any = None
        self._workspace_address = 0
        self._workspace_size = ctypes.c_size_t(0)  # an object, because ctypes takes longer to make one of a number
        self.workspace_bytes = self._ask_workspace_bytes()
        """Bytes that the plan works in: enough for every batch within its limits."""
        self.out_torch_dtype = torch and getattr(torch, canonical_name(self._limits.out_dtype))
        """PyTorch's dtype of the results; None without PyTorch."""
        self.plan_id = next(_next_id)
        """The number by which `torch.ops.podattn` knows this plan."""
        _alive[self.plan_id] = self
        if workspace is not None:
            self.set_workspace(workspace)

    # ---- memory ----

    def _ask_workspace_bytes(self) -> int:
        size = ctypes.c_size_t()
        check(lib.pod_workspace_size(self._device.handle, ctypes.byref(self._limits), ctypes.byref(size)))
        return size.value

    def set_workspace(self, workspace: Any) -> None:
        """Gives the plan other memory: a dense array on its device. The plan has to be built again.

        Raises WorkspaceError if it is too small, on another device, or not dense.
        """
        address, layout, owner = _arrays.view(workspace, "workspace")
        found = _arrays.dense(layout, "workspace")
        if found.device != self._device_name:
            raise WorkspaceError(f"workspace is on {found.device}; the plan is on {self._device_name}")
        if len(found.shape) != 1 or found.dtype not in ("uint8", "int8"):
            raise WorkspaceError(f"workspace has shape {found.shape} of {found.dtype}; a row of bytes is needed")
        skipped = -address % _abi.WORKSPACE_ALIGN
        if found.shape[0] - skipped < self.workspace_bytes:
            raise WorkspaceError(
                f"workspace has {found.shape[0] - skipped} bytes from its first multiple of {_abi.WORKSPACE_ALIGN} on; "
                f"{self.workspace_bytes} are needed"
            )
        self._workspace = owner
        self._workspace_address = address + skipped
        self._workspace_size = ctypes.c_size_t(self.workspace_bytes)
        self._num_q_tokens = 0

    def _allocate_workspace(self) -> None:
        num_bytes = self.workspace_bytes + _abi.WORKSPACE_ALIGN
        if self._is_cuda:
            self.set_workspace(_streams.allocate_cuda_bytes(num_bytes, self._ordinal))
        else:
            self.set_workspace(np.empty(num_bytes, np.uint8))

    # ---- once per step ----

    def build(
        self,
        q_start: Any,
        kv_len: Any,
        page_table: Any = None,
        *,
        causal: bool = True,
        window_tokens: int = 0,
        num_pages: Optional[int] = None,
        stream: Any = None,
    ) -> None:
        """Plans one step of `n` requests: prefills, decodes and empty ones, in any order.

        The arrays are int32, all three in the host's memory (sequences of numbers too) or all three on the plan's GPU.
        On the GPU they are not read by the host: a captured CUDA graph replays with new values, and a request that is
        wrong yields zeros (see `check`). They must stay as they are until the step's last `attention` has finished.

        Args:
            q_start: `[n + 1]`; request r owns the query tokens `[q_start[r], q_start[r + 1])`; `q_start[0]` is 0.
            kv_len: `[n]` context tokens of each request, its new ones included.
            page_table: `[n, pages]` page numbers; None if request r has the one page r.
            causal: token i of q_len sees the keys up to its own position, kv_len - q_len + i; else all.
            window_tokens: if not 0, a query sees only that many keys up to its own position.
            num_pages: pages of the cache from now on, if not those given to the constructor.
            stream: a stream of PyTorch or CuPy, or its address; if None, the current one of the arrays' library.

        Raises:
            ArgumentError: names the field, its index and the values.
            LimitError: the batch exceeds the limits of the plan.
            UnsupportedError: arrays in the host's memory while the stream is being captured.
            DeviceError: the driver reported an error.
        """
        if self._workspace is None:
            self._allocate_workspace()
        handle = self._stream(stream, q_start)
        self._num_q_tokens = 0
        self._set_requests(q_start, kv_len, page_table, handle)
        batch = self._batch
        batch.causal, batch.window_tokens = bool(causal), window_tokens
        if num_pages is not None:
            self._layer.num_pages = num_pages
        batch.num_pages = self._layer.num_pages
        check(
            lib.pod_plan_build(
                self._handle, ctypes.addressof(batch), self._workspace_address, self._workspace_size, handle
            )
        )
        if batch.memory == _abi.MEMORY_HOST:
            self._num_q_tokens = _arrays.read_int32(batch.q_start, batch.num_requests)

    def _set_requests(self, q_start: Any, kv_len: Any, page_table: Any, stream: int) -> None:
        views = [_arrays.int32_view(q_start, "q_start", stream), _arrays.int32_view(kv_len, "kv_len", stream)]
        starts, lengths = _arrays.dense(views[0][1], "q_start"), _arrays.dense(views[1][1], "kv_len")
        if len(lengths.shape) != 1 or starts.shape != (lengths.shape[0] + 1,):
            raise ArgumentError(f"q_start has shape {starts.shape}, kv_len {lengths.shape}; (n + 1,), (n,) are needed")
        self._set_page_table(page_table, lengths.shape[0], stream, views)
        batch = self._batch
        batch.memory = self._memory_of(views)
        batch.num_requests = lengths.shape[0]
        batch.q_start, batch.kv_len = views[0][0], views[1][0]
        self._batch_owners = tuple(owner for _, _, owner in views)

    def _set_page_table(self, page_table: Any, num_requests: int, stream: int, views: list[View]) -> None:
        batch = self._batch
        if page_table is None:
            batch.page_table, batch.page_table_stride, batch.max_pages = None, 0, 0
            return
        views.append(_arrays.int32_view(page_table, "page_table", stream))
        table = _arrays.dense(views[-1][1], "page_table")
        if len(table.shape) != 2 or table.shape[0] != num_requests:
            raise ArgumentError(f"page_table has shape {table.shape}; ({num_requests}, pages) is needed")
        batch.page_table, batch.max_pages = views[-1][0], table.shape[1]
        batch.page_table_stride = table.strides[0] or table.shape[1]

    def _memory_of(self, views: list[View]) -> int:
        """Host or device; the arrays must agree."""
        devices = {str(layout[3]) for _, layout, _ in views}
        if devices == {"cpu"}:
            return _abi.MEMORY_HOST
        if devices == {self._device_name} and self._is_cuda:
            return _abi.MEMORY_DEVICE
        raise ArgumentError(
            f"q_start, kv_len and page_table are on {', '.join(sorted(devices))}; all on cpu or all on the plan's "
            f"{self._device_name} is needed"
        )

    def check(self, stream: Any = None) -> None:
        """Whether every request of the built plan is in order; waits for the device. For debugging, not for every step.

        Raises ArgumentError, which names the first bad request, or StateError (nothing built).
        """
        check(lib.pod_plan_status(self._handle, self._stream(stream, None)))

    @property
    def info(self) -> PlanInfo:
        """What the built plan decided. Raises StateError before the first `build`."""
        info = _abi.PlanInfo()
        check(lib.pod_plan_get_info(self._handle, ctypes.byref(info)))
        return PlanInfo(*_abi.as_values(info, PlanInfo._fields))

    # ---- once per layer ----

    def attention(
        self,
        q: Any,
        k_cache: Any,
        v_cache: Any,
        out: Any = None,
        lse: Any = None,
        *,
        return_lse: bool = False,
        scale: float = 0.0,
        softcap: float = 0.0,
        sinks: Any = None,
        alibi_slopes: Any = None,
        k_scale: Any = None,
        v_scale: Any = None,
        stream: Any = None,
    ) -> Any:
        """`softmax(score(q, k)) v` for every request of the step, in one launch. Nothing is copied: strides are used.

        With `out` (and `lse`) given, nothing is allocated. Arrays are those of PyTorch, NumPy (bfloat16 through
        ml_dtypes) and everything with DLPack or an array interface, all on the plan's device. The last dimension of
        each is dense. There is no backward pass.

        Args:
            q: `[tokens, q_heads, head_dim]` of the plan's `dtype`.
            k_cache: `[num_pages, page_size, kv_heads, head_dim]` of `kv_dtype`, or its heads and tokens swapped if the
                plan's layout is "HND"; or `[num_pages * page_size, kv_heads, head_dim]`, one row per token.
            v_cache: like `k_cache`, with strides of its own.
            out: like `q`, of `out_dtype`; overlaps no input; made if None.
            lse: float32 `[tokens, q_heads]`: the natural logarithm of each row's sum of exponentials.
            return_lse: makes an `lse` if none is given.
            scale: score = scale * <q, k>; 0 means 1 / sqrt(head_dim).
            softcap: if not 0, score = softcap * tanh(score / softcap).
            sinks: float32 `[q_heads]`: a score that joins each row's softmax without a value.
            alibi_slopes: float32 `[q_heads]`: score += slope * (key position - query position).
            k_scale: float32 `[kv_heads]`: keys are multiplied by it.
            v_scale: float32 `[kv_heads]`: values are multiplied by it.
            stream: a stream of PyTorch or CuPy, or its address; if None, the current one of the library that made `q`.

        Returns:
            `out`, or `(out, lse)` if an `lse` was given or asked for. Rows that see no key are 0, their lse is -inf.

        Raises:
            ArgumentError: shape, dtype, device or strides are wrong; names the array and what is needed.
            UnsupportedError: the backend lacks an option, or autograd would need a backward pass.
            StateError: the plan is not built.
            DeviceError: the driver reported an error.
        """
        is_plain = type(q) in _plain_tensors
        if _is_compiling() or (not is_plain and _arrays.is_torch(q)):
            if stream is not None:
                raise UnsupportedError("stream is not supported while PyTorch traces; make it the current one instead")
            return self._attention_operator(
                q, k_cache, v_cache, out, lse, return_lse, scale, softcap, sinks, alibi_slopes, k_scale, v_scale
            )
        handle = 0
        if self._is_cuda:
            handle = _torch_stream(self._ordinal) if is_plain and stream is None else self._stream(stream, q)
        layer = self._layer
        if out is None:
            out = self._empty(q, _arrays.shape_of(q, "q"), self._limits.out_dtype)
        if return_lse and lse is None:
            lse = self._empty(q, _arrays.shape_of(q, "q")[:2], F32)
        owners: tuple[Any, ...] = ()
        struct = layer.struct
        is_same = layer.is_same if lse is None else layer.is_same_with_lse
        if is_same and (is_same(q, k_cache, v_cache, out) if lse is None else is_same(q, k_cache, v_cache, out, lse)):
            struct.q, struct.k, struct.v = q.data_ptr(), k_cache.data_ptr(), v_cache.data_ptr()
            struct.out = out.data_ptr()
            if lse is not None:
                struct.lse = lse.data_ptr()
        else:
            owners = layer.set_tensors(q, k_cache, v_cache, out, lse, handle)
        struct.scale, struct.softcap = scale, softcap
        if layer.has_head_values or not (sinks is alibi_slopes is k_scale is v_scale is None):
            owners += layer.set_head_values((sinks, alibi_slopes, k_scale, v_scale), handle)
        num_tokens = layer.num_tokens
        if num_tokens < self._num_q_tokens:
            raise ArgumentError(f"q has {num_tokens} tokens; the plan was built for {self._num_q_tokens}")
        if num_tokens:
            status = _attention(self._handle, layer.address, self._workspace_address, self._workspace_size, handle)
            if status:
                check(status)
        del owners  # kept until here
        return out if lse is None else (out, lse)

    def _stream(self, stream: Any, array: Any) -> int:
        if not self._is_cuda:
            return 0
        return _streams.current_stream(array, self._ordinal) if stream is None else _streams.stream_handle(stream)

    def _empty(self, q: Any, shape: tuple[int, ...], code: int) -> Any:
        """Room for a result, made by the library that made `q`; where it makes no writable arrays, by another."""
        if _arrays.is_torch(q):
            dtype = getattr(torch, canonical_name(code))
            if len(shape) == q.dim():  # what is made after another takes half the time
                return torch.empty_like(q, dtype=dtype, memory_format=torch.contiguous_format)
            return q.new_empty(shape, dtype=dtype)
        if not self._is_cuda:
            return np.empty(shape, numpy_dtype(code))
        if type(q).__module__.partition(".")[0] == "cupy":
            import cupy

            return cupy.empty(shape, numpy_dtype(code))
        if torch is not None and torch.cuda.is_available():
            return torch.empty(shape, dtype=getattr(torch, canonical_name(code)), device=self._device_name)
        raise ArgumentError(f"out is None, and nothing is installed to make an array on {self._device_name}")

    def _attention_operator(
        self,
        q: Any,
        k_cache: Any,
        v_cache: Any,
        out: Any,
        lse: Any,
        return_lse: bool,
        scale: float,
        softcap: float,
        sinks: Any,
        alibi_slopes: Any,
        k_scale: Any,
        v_scale: Any,
    ) -> Any:
        """The same call as an operator of PyTorch, for its compiler and its other tracers."""
        options = (self.plan_id, scale, softcap, sinks, alibi_slopes, k_scale, v_scale)
        if out is None and lse is None:
            if return_lse:
                return torch.ops.podattn.attention_lse(q, k_cache, v_cache, *options)
            return torch.ops.podattn.attention(q, k_cache, v_cache, *options)
        if out is None:
            out = q.new_empty(q.shape, dtype=self.out_torch_dtype)
        if lse is None and return_lse:
            lse = q.new_empty(q.shape[:2], dtype=torch.float32)
        torch.ops.podattn.attention_out(out, lse, q, k_cache, v_cache, *options)
        return out if lse is None else (out, lse)


def plan_of(plan_id: int) -> Plan:
    """The plan with that number; raises ArgumentError if it is gone."""
    plan = _alive.get(plan_id)
    if plan is None:
        raise ArgumentError(f"there is no plan number {plan_id}; it has to be kept while it is used")
    return plan
