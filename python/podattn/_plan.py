# SPDX-License-Identifier: Apache-2.0
"""A plan: how the requests of one step are spread over the device, and the memory for that."""

from __future__ import annotations

import ctypes
import itertools
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Callable, Literal, Optional, overload

from . import _abi, _arrays, _memory, _streams, _torch, _tracing
from ._append import Append, Arrays
from ._batch import Batch, Mask, single_mask
from ._device import Device, open_device
from ._dtypes import F32, canonical_name
from ._errors import ArgumentError, StateError, UnsupportedError
from ._inspect import PlanInfo, WorkItem, read_info, visit_items
from ._layer import Layer, is_heads_first
from ._library import check, lib
from ._limits import ask_workspace_bytes, make_limits
from ._memory import Memory, Scratch, Word
from ._results import empty
from ._rope import Rope, flat
from ._unique import Unique
from ._values import count, flag

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._typing import Array, ArrayT, BatchMemory, IntegerArray, KvLayout, PlanLayerOptions

_next_id = itertools.count(1)
_alive: weakref.WeakValueDictionary[int, Plan] = weakref.WeakValueDictionary()

_attention = lib.pod_attention

# What is given where nothing is: compared by identity, so that the usual call looks at neither.
_NO_WINDOW = 0
_CAUSAL = (Mask(),)


class Plan(Unique):
    """Plans a step once; every layer of the step then calls `attention`.

    A plan is made for shapes that stay fixed while a server runs, and for the largest batch. It and its memory belong
    to one thread and one stream at a time; several plans work side by side. Keep a plan until the work that it started
    has finished.
    """

    def __init__(
        self,
        *,
        q_heads: int,
        kv_heads: int,
        head_dim: int,
        page_size: int,
        num_pages: Optional[int] = None,
        max_requests: int,
        max_q_tokens: int,
        max_kv_len: int,
        dtype: Any = "bfloat16",
        kv_dtype: Any = None,
        out_dtype: Any = None,
        v_head_dim: Optional[int] = None,
        max_masks: int = 1,
        batch_memory: BatchMemory = "host",
        tree_masks: bool = False,
        alibi: bool = False,
        right_windows: bool = False,
        kv_layout: KvLayout = "NHD",
        device: Any = "auto",
        workspace: Any = None,
    ) -> None:
        """Makes an empty plan.

        Args:
            q_heads: query heads, 1 to 1024.
            kv_heads: key and value heads; divides `q_heads`.
            head_dim: elements per head.
            page_size: tokens per page; of a contiguous cache, its tokens per request.
            num_pages: pages of the cache; of a contiguous cache, its requests. None: the first `build` says it.
            max_requests: most requests in one batch.
            max_q_tokens: most query tokens in one batch, over all requests.
            max_kv_len: most context tokens of one request.
            dtype: of the queries: "float32", "float16", "bfloat16", or PyTorch's or NumPy's object for it.
            kv_dtype: of the cache, also "float8_e4m3fn" (or "f8e4m3"); as `dtype` if None.
            out_dtype: of the results; as `dtype` if None.
            v_head_dim: elements per head of values and results; as `head_dim` if None.
            max_masks: most masks of one batch, 1 to 8; see `build`.
            batch_memory: "host" for a plan that takes its batches from the host's memory or from the GPU's; "device"
                for one that takes them from the GPU's alone, and whose memory does not grow with
                `max_requests * max_kv_len`.
            tree_masks: whether `attention` may be given a `tree_mask`. A GPU has kernels of their own for it, and for
                the next two, and refuses what was not said here; a CPU needs none of it said.
            alibi: whether `attention` may be given `alibi_slopes`.
            right_windows: whether a mask may have a window to the right of the query.
            kv_layout: "NHD" for caches `[pages, tokens, heads, dim]`, "HND" for `[pages, heads, tokens, dim]`.
            device: "auto" (the first GPU that works, otherwise the CPU), "cpu", "cuda:0", "cuda" (the current GPU of
                PyTorch or CuPy), a `torch.device`, or any other name that `pod_device_open` takes, such as "cpu:4".
            workspace: one row of bytes of the device for both parts of the plan's memory, at least `workspace_bytes`;
                see `attach`.

        Raises:
            ArgumentError: a value is out of range; the message names it.
            UnsupportedError: the device cannot do that dtype or head_dim.
            NoDeviceError: the device is not there.
        """
        _torch.find()
        is_hnd = is_heads_first(kv_layout)
        self._limits = make_limits(
            q_heads=q_heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            page_size=page_size,
            max_requests=max_requests,
            max_q_tokens=max_q_tokens,
            max_kv_len=max_kv_len,
            dtype=dtype,
            kv_dtype=kv_dtype,
            out_dtype=out_dtype,
            v_head_dim=v_head_dim,
            max_masks=max_masks,
            batch_memory=batch_memory,
            tree_masks=tree_masks,
            alibi=alibi,
            right_windows=right_windows,
        )
        self._handle = ctypes.c_void_p()
        self._device: Device = open_device(device)
        check(lib.pod_plan_create(self._device.handle, ctypes.byref(self._limits), ctypes.byref(self._handle)))
        # Not at exit: a daemon thread may still be in attention().
        weakref.finalize(self, lib.pod_plan_destroy, self._handle).atexit = False
        self._is_cuda = self._device.is_cuda
        self._ordinal = self._device.ordinal
        self._is_built = False
        self._num_pages = None if num_pages is None else count(num_pages, "num_pages")
        self._num_q_tokens = 0
        self._batch = Batch(self._limits, self._device)
        self._batch_owners: tuple[Any, ...] = ()
        self._layer = Layer(self._limits, self._device.array_device, is_hnd)
        self._is_hnd = is_hnd
        self._tells_tokens = False
        self._append: Optional[Append] = None
        self._memory: Optional[tuple[Memory, Memory]] = None
        self._bad_request: Optional[Word] = None
        self._bad_token: Optional[Word] = None
        self.plan_bytes, self.scratch_bytes = ask_workspace_bytes(self._device, self._limits)
        """Bytes of the two parts of the plan's memory: enough for every batch within its limits."""
        self.workspace_bytes = self.plan_bytes + self.scratch_bytes
        """Bytes of both parts together."""
        self.v_head_dim = int(self._limits.v_head_dim)
        """Elements per head of values and results."""
        self._out_code, self._q_code = int(self._limits.out_dtype), int(self._limits.q_dtype)
        self.plan_id = next(_next_id)
        """The number by which `torch.ops.podattn` knows this plan."""
        _alive[self.plan_id] = self
        if workspace is not None:
            self._make_bad_request()
            self._attach_parts(
                *_memory.borrow(workspace, "workspace", self._device, self.workspace_bytes).split(self.plan_bytes)
            )

    def __repr__(self) -> str:
        """Its limits, and what it was built for."""
        limits = self._limits
        names = ("q_heads", "kv_heads", "head_dim", "page_size", "max_requests", "max_q_tokens", "max_kv_len")
        shown = [f"{name}={getattr(limits, name)}" for name in names]
        dtypes = "/".join(dict.fromkeys(canonical_name(code) for code in (limits.q_dtype, limits.kv_dtype)))
        state = f"built for {self._batch.struct.num_requests} requests" if self._is_built else "not built"
        return f"<podattn.Plan {', '.join(shown)}, {dtypes} on {self._device.array_device}, {state}>"

    # ---- memory ----

    def attach(self, plan_memory: Any = None, scratch: Any = None) -> None:
        """Gives the plan its memory, in two parts. It has to be built (again) afterwards.

        A plan that is built without it gets both parts allocated, and keeps them.

        Args:
            plan_memory: a row of bytes on the plan's device for the schedule, of this plan alone: `plan_bytes`, and 256
                more unless it is aligned to as many. None: they are allocated.
            scratch: a `Scratch`, or a row of bytes, for partial results: `scratch_bytes`. Plans whose calls of
                `attention` never overlap in time may share it. None: they are allocated.

        Raises:
            WorkspaceError: one is too small, on another device, or no dense row of bytes; the plan is as before.
            ArgumentError: nothing is installed to allocate on that GPU.
        """
        device = self._device
        if plan_memory is None:
            plan_part = _memory.allocate(device, self.plan_bytes)
        else:
            plan_part = _memory.borrow(plan_memory, "plan_memory", device, self.plan_bytes)
        if scratch is None:
            scratch_part = _memory.allocate(device, self.scratch_bytes)
        elif isinstance(scratch, Scratch):
            scratch_part = scratch.memory_for(device, self.scratch_bytes)
        else:
            scratch_part = _memory.borrow(scratch, "scratch", device, self.scratch_bytes)
        self._make_bad_request()
        self._attach_parts(plan_part, scratch_part)

    def _make_bad_request(self) -> None:
        if self._bad_request is None:
            self._bad_request = _memory.make_word(self._device)

    def _attach_parts(self, plan_part: Memory, scratch_part: Memory) -> None:
        """`attach`, of memory that is known to fit."""
        workspace = _abi.Workspace(
            plan=plan_part.address,
            plan_bytes=plan_part.num_bytes,
            scratch=scratch_part.address,
            scratch_bytes=scratch_part.num_bytes,
            bad_request=None if self._bad_request is None else self._bad_request.address,
        )
        check(lib.pod_plan_attach(self._handle, ctypes.byref(workspace)))
        self._is_built = False
        self._memory = (plan_part, scratch_part)

    # ---- once per step ----

    def build(
        self,
        q_start: IntegerArray,
        kv_len: IntegerArray,
        page_table: Optional[IntegerArray] = None,
        *,
        causal: bool = True,
        window_tokens: int = _NO_WINDOW,
        window: Optional[tuple[int, int]] = None,
        masks: Optional[Sequence[Mask]] = None,
        num_pages: Optional[int] = None,
        num_q_tokens: Optional[int] = None,
        stream: Any = None,
    ) -> None:
        """Plans one step of `n` requests: prefills, decodes and empty ones, in any order.

        The arrays are all in the host's memory or all on the plan's GPU. On the host they are of any integers, or
        sequences of numbers, and copied: they may change once this returns. On the GPU they are int32, are not read by
        the host, and must stay as they are until the step's last `attention` has finished: a captured CUDA graph
        replays with new values, and a request that is wrong yields zeros (see `bad_request` and `check`). If this
        raises, the plan has to be built again before `attention`.

        Args:
            q_start: `[n + 1]`; request r owns the query tokens `[q_start[r], q_start[r + 1])`; `q_start[0]` is 0.
            kv_len: `[n]` context tokens of each request, its new ones included.
            page_table: `[n, pages]` page numbers; None if request r has the one page r.
            causal: token i of q_len sees the keys up to its own position, kv_len - q_len + i; otherwise all.
            window_tokens: if not 0, a query sees only that many keys up to its own position.
            window: instead of `window_tokens`, `(left, right)` as flash-attention has it: a query sees so many keys to
                the left and to the right beside its own; -1 is all. `causal` ends at its own position all the same.
            masks: up to `max_masks` of `Mask`, instead of `causal`, `window_tokens` and `window`, for layers that mask
                differently; each names its own in `attention`.
            num_pages: pages of the cache from now on. None: as before; at first, as the constructor was told.
            num_q_tokens: tokens that `q` and the results will have. `q_start` may not exceed it, and `attention`
                refuses arrays with fewer. None: what `q_start` says in the host's memory. On a GPU it cannot be read,
                so that without this number nothing compares it with the arrays: give it.
            stream: a stream of PyTorch or CuPy, or its address; if None, the current one of the arrays' library.

        Raises:
            ArgumentError: names the field, its index and the values.
            LimitError: the batch exceeds the limits of the plan.
            UnsupportedError: arrays in the host's memory while the stream is being captured, or for a plan with
                `batch_memory="device"`.
            DeviceError: the driver reported an error.
        """
        self._is_built = False
        _torch.find()
        if causal is not True or window_tokens is not _NO_WINDOW or window is not None:
            single = single_mask(causal, window_tokens, window)
            if masks is None:
                masks = (single,)
            elif window is not None or single != Mask():
                raise ArgumentError("causal, window_tokens and window are given beside masks, which say it for each")
        elif masks is None:
            masks = _CAUSAL
        if num_pages is None:
            num_pages = self._num_pages
        if num_pages is None:
            raise ArgumentError("num_pages is None, and the plan was made without it")
        num_pages = count(num_pages, "num_pages")
        tells_tokens = num_q_tokens is not None
        num_q_tokens = count(num_q_tokens, "num_q_tokens") if tells_tokens else 0
        if self._memory is None:
            self.attach()
        handle = self._stream(stream, q_start)
        if self._batch.set_same(q_start, kv_len, page_table, masks):
            owners: tuple[Any, ...] = (q_start, kv_len, page_table)
        else:
            owners = self._batch.set(q_start, kv_len, page_table, masks, handle)
        struct = self._batch.struct
        struct.num_pages, struct.num_q_tokens = num_pages, num_q_tokens
        is_host = struct.memory == _abi.MEMORY_HOST
        if is_host and tells_tokens and num_q_tokens == 0 and owners[0][-1] != 0:  # which C takes for "not told"
            raise ArgumentError(f"q_start[{len(owners[0]) - 1}] = {owners[0][-1]} exceeds num_q_tokens = 0")
        check(lib.pod_plan_build(self._handle, self._batch.address, handle))
        self._batch_owners = owners
        self._num_pages = num_pages
        self._num_q_tokens = int(owners[0][-1]) if is_host else num_q_tokens
        self._tells_tokens = is_host or tells_tokens
        self._layer.set_batch(num_pages, self._tells_tokens)
        self._is_built = True

    def _check_built(self) -> None:
        if not self._is_built:
            raise StateError("Plan.build() has not succeeded on this plan yet, or not since it was last called")

    @property
    def bad_request(self) -> Optional[int]:
        """Whether the GPU has found a request of a batch in its memory to be wrong, read without waiting for it.

        0: none so far; otherwise 1 + r for a request r, until `clear_bad_request`. A build shows when the GPU has
        reached it. None where there is nothing to read: on a CPU, where `build` raises instead; before the plan has its
        memory; and where neither PyTorch nor CuPy is installed to pin memory.
        """
        return None if self._bad_request is None else self._bad_request.value

    def clear_bad_request(self) -> None:
        """Sets `bad_request` to 0 again, which the library never does."""
        if self._bad_request is not None:
            self._bad_request.value = 0

    def check(self, stream: Any = None) -> None:
        """Whether every request of the built plan is in order; waits for the device. For debugging, not for every step.

        Raises ArgumentError, which names the first bad request, or StateError (nothing built).
        """
        self._check_built()
        check(lib.pod_plan_check(self._handle, self._stream(stream, None)))

    def info(self, mask: int = 0) -> PlanInfo:
        """What the built plan decided for one of its masks.

        Raises StateError (nothing built) or ArgumentError (`mask` is none of the batch's).
        """
        self._check_built()
        return read_info(self._handle, mask)

    def visit(self, visitor: Callable[[WorkItem], Any], mask: int = 0) -> None:
        """Calls `visitor` for every item of one mask's schedule: the prefill queue in order, then the decode queue.

        Stops when `visitor` returns something true, and raises what it raises. Waits and errors as `info`.
        """
        self._check_built()
        visit_items(self._handle, visitor, mask)

    # ---- once per layer ----

    @overload
    def attention(
        self,
        q: ArrayT,
        k_cache: Array,
        v_cache: Optional[Array],
        out: None = None,
        lse: None = None,
        *,
        return_lse: Literal[False] = False,
        **options: Unpack[PlanLayerOptions],
    ) -> ArrayT: ...

    @overload
    def attention(
        self,
        q: ArrayT,
        k_cache: Array,
        v_cache: Optional[Array],
        out: None = None,
        lse: None = None,
        *,
        return_lse: Literal[True],
        **options: Unpack[PlanLayerOptions],
    ) -> tuple[ArrayT, ArrayT]: ...

    @overload
    def attention(
        self,
        q: Array,
        k_cache: Array,
        v_cache: Optional[Array],
        out: Optional[Array] = None,
        lse: Optional[Array] = None,
        *,
        return_lse: bool = False,
        **options: Unpack[PlanLayerOptions],
    ) -> Any: ...

    def attention(
        self,
        q: Any,
        k_cache: Any,
        v_cache: Any,
        out: Any = None,
        lse: Any = None,
        *,
        return_lse: bool = False,
        scale: Optional[float] = None,
        softcap: Optional[float] = None,
        sinks: Any = None,
        alibi_slopes: Any = None,
        k_scale: Any = None,
        v_scale: Any = None,
        mask: int = 0,
        tree_mask: Any = None,
        stream: Any = None,
    ) -> Any:
        """`softmax(score(q, k)) v` for every request of the step, in one launch. Nothing is copied: strides are used.

        With `out` (and `lse`) given, nothing is allocated. Arrays are those of PyTorch, NumPy (bfloat16 through
        ml_dtypes) and everything with DLPack or an array interface, all on the plan's device. The last dimension of
        each is dense. There is no backward pass.

        Args:
            q: `[tokens, q_heads, head_dim]` of the plan's `dtype`; may have more tokens than the batch.
            k_cache: `[num_pages, page_size, kv_heads, head_dim]` of `kv_dtype` (uint8 will do for float8_e4m3fn), or
                its heads and tokens swapped if the plan's layout is "HND"; or `[num_pages * page_size, kv_heads,
                head_dim]`, one row per token.
            v_cache: like `k_cache`, of `v_head_dim`, with strides of its own. None: values are the first `v_head_dim`
                elements of the keys, and `k_scale` is theirs too.
            out: like `q`, of `v_head_dim` and `out_dtype`; overlaps no input; made if None.
            lse: float32 `[tokens, q_heads]`: the natural logarithm of each row's sum of exponentials.
            return_lse: makes an `lse` if none is given.
            scale: score = scale * <q, k>; None or 0 means 1 / sqrt(head_dim). Absorbed MLA needs the model's own.
            softcap: if neither None nor 0, score = softcap * tanh(score / softcap).
            sinks: float32 `[q_heads]`: a score that joins each row's softmax without a value.
            alibi_slopes: float32 `[q_heads]`: score += slope * (key position - query position).
            k_scale: float32, one element or `[kv_heads]`, finite and above 0: keys are multiplied by it.
            v_scale: the same for values; as many elements, if both are given.
            mask: which of the masks that `build` was given.
            tree_mask: int64 or uint64 `[tokens]`: which of their request's last q_len keys, the step's own tokens, the
                query tokens see, those of a tree of drafts their ancestors and themselves. Bit b: key kv_len - q_len
                + b. Takes away from what the mask shows, and adds nothing; -1 takes nothing away. Of requests with
                more than 64 query tokens nothing is read. Read when attention runs, also in a CUDA graph's replays.
            stream: a stream of PyTorch or CuPy, or its address; if None, the current one of the library that made `q`.

        Returns:
            `out`, or `(out, lse)` if an `lse` was given or asked for. Rows that see no key are 0, their lse is -inf.
            Rows after the batch's tokens are not written.

        Raises:
            ArgumentError: shape, dtype, device or strides are wrong; names the array and what is needed.
            UnsupportedError: the backend lacks an option, or autograd would need a backward pass.
            StateError: the plan is not built.
            DeviceError: the driver reported an error.
        """
        is_plain = type(q) in _tracing.plain_tensors
        if _tracing.is_compiling() if is_plain else _tracing.needs_operator(q):
            if stream is not None:
                raise UnsupportedError("stream is not supported while PyTorch traces; make it the current one instead")
            return self._attention_operator(
                q, k_cache, v_cache, out, lse, return_lse, scale, softcap, sinks, alibi_slopes, k_scale, v_scale, mask,
                tree_mask,
            )  # fmt: skip
        if not self._is_built:
            self._check_built()
        handle = 0
        if self._is_cuda:
            is_torch = is_plain and stream is None
            handle = _streams.torch_stream(self._ordinal) if is_torch else self._stream(stream, q)
        layer = self._layer
        if out is None:
            out = self._empty_out(q)
        if return_lse is not False and flag(return_lse, "return_lse") and lse is None:
            lse = empty(q, _arrays.shape_of(q, "q")[:2], F32, self._device.array_device)
        owners: Sequence[Any] = ()
        head_owners: Sequence[Any] = ()
        tensors, cache = layer.tensors, layer.cache
        is_same = layer.is_same if lse is None else layer.is_same_with_lse
        if is_same and (is_same(q, k_cache, v_cache, out) if lse is None else is_same(q, k_cache, v_cache, out, lse)):
            tensors.q, cache.k, cache.v = q.data_ptr(), k_cache.data_ptr(), v_cache.data_ptr()
            tensors.out = out.data_ptr()
            if lse is not None:
                tensors.lse = lse.data_ptr()
        elif lse is None and is_plain and layer.take_tokens(q, k_cache, v_cache, out):
            tensors.q, cache.k, cache.v = q.data_ptr(), k_cache.data_ptr(), v_cache.data_ptr()
            tensors.out, tensors.lse = out.data_ptr(), None
        else:
            owners = layer.set_tensors(q, k_cache, v_cache, out, lse, handle)
        if scale is not layer.scale or softcap is not layer.softcap or mask is not layer.mask:
            layer.set_options(scale, softcap, mask)
        if layer.has_head_values or not (sinks is alibi_slopes is k_scale is v_scale is None):
            head_owners = layer.set_head_values(sinks, alibi_slopes, k_scale, v_scale, handle)
        num_tokens = layer.num_tokens
        tree_owner = None
        if tree_mask is not None or tensors.tree_mask is not None:
            tree_owner = layer.set_tree(tree_mask, handle)
        if num_tokens < self._num_q_tokens:
            raise ArgumentError(f"q has {num_tokens} tokens; the plan was built for {self._num_q_tokens}")
        if num_tokens:
            status = _attention(self._handle, layer.tensors_address, layer.cache_address, handle)
            if status:
                check(status)
        del owners, head_owners, tree_owner  # kept until here
        return out if lse is None else (out, lse)

    def append(
        self,
        k: Any,
        v: Any,
        k_cache: Any,
        v_cache: Any,
        q: Any = None,
        q_out: Any = None,
        *,
        slot_mapping: Any = None,
        positions: Any = None,
        left_pad: Any = None,
        rope: Optional[Rope] = None,
        k_scale: Any = None,
        v_scale: Any = None,
        stream: Any = None,
    ) -> Any:
        """Stores a step's keys and values in the cache and rotates its queries, in one launch; before `attention`.

        Arrays as for `attention`; slices of one tensor that holds q, k and v are taken as they are. Without a
        `slot_mapping` tokens go where the planned batch says: token i of q_len to position kv_len - q_len + i. With
        one, and with `positions` if there is a `rope`, the plan need not be built.

        Args:
            k: `[tokens, kv_heads, head_dim]`, float32, float16 or bfloat16, whatever the cache's dtype is. None, like
                `v`, `k_cache` and `v_cache`: queries alone are rotated.
            v: like `k`, of `v_head_dim`. None, like `v_cache`: the cache has no values of its own.
            k_cache: as for `attention`; written.
            v_cache: the same.
            q: `[tokens, q_heads, head_dim]` of the dtype of `k`; None if no query is to be rotated.
            q_out: where it goes, of the plan's `dtype`; may be `q`; made if None.
            slot_mapping: int64 `[tokens]`, page * page_size + place in the page; a negative one stores nothing.
            positions: int64 or int32 `[tokens]`, what the rotation goes by; None: those in the planned batch.
            left_pad: int32 `[requests]`: positions count from there on; places stay.
            rope: how q and k are rotated; None: not at all.
            k_scale: as for `attention`: what is stored is divided by it.
            v_scale: the same.
            stream: as for `attention`.

        Returns:
            `q_out`, None without a `q`. Rows of tokens that belong to no request are not written.

        Raises:
            ArgumentError: an array is wrong; on a CPU also a slot, a position or a pad. On a GPU such a token is left
                out, and `bad_token` tells.
            UnsupportedError: the backend lacks an option, or autograd would need a backward pass.
            StateError: the plan is not built, and the batch is needed.
            DeviceError: the driver reported an error.
        """
        shown_first = q if k is None else k
        if _tracing.needs_operator(shown_first):
            if stream is not None:
                raise UnsupportedError("stream is not supported while PyTorch traces; make it the current one instead")
            return self._append_operator(k, v, k_cache, v_cache, q, q_out, slot_mapping, positions, left_pad, rope,
                                         k_scale, v_scale)  # fmt: skip
        needs_batch = (k is not None and slot_mapping is None) or (rope is not None and positions is None)
        if needs_batch:
            self._check_built()
        handle = self._stream(stream, shown_first)
        if q is not None and q_out is None:
            q_out = empty(q, _arrays.shape_of(q, "q"), self._limits.q_dtype, self._device.array_device)
        if self._append is None:
            self._append = Append(self._limits, self._device.array_device, self._is_hnd)
            self._bad_token = _memory.make_word(self._device)
            self._append.struct.bad_token = None if self._bad_token is None else self._bad_token.address
        append = self._append
        arrays = Arrays(k, v, k_cache, v_cache, q, q_out, slot_mapping, positions, left_pad, k_scale, v_scale)
        owners = append.fill(arrays, rope, handle)
        num_tokens = append.num_tokens
        if needs_batch:
            if num_tokens < self._num_q_tokens:
                first = "q" if k is None else "k"
                raise ArgumentError(f"{first} has {num_tokens} tokens; the plan was built for {self._num_q_tokens}")
            num_requests = self._batch.struct.num_requests
            if left_pad is not None and append.num_pads < num_requests:
                raise ArgumentError(f"left_pad has fewer values than the {num_requests} requests of the batch")
        append.struct.num_tokens = num_tokens if self._tells_tokens or not needs_batch else 0
        if num_tokens:
            check(lib.pod_cache_append(self._handle, append.address, append.cache_address, handle))
        del owners  # kept until here
        return q_out

    @property
    def bad_token(self) -> Optional[int]:
        """Whether the GPU has left a token of an `append` out because its slot, position or pad is wrong.

        0: none so far; otherwise 1 + t for a token t, until `clear_bad_token`. None where there is nothing to read, as
        with `bad_request`.
        """
        return None if self._bad_token is None else self._bad_token.value

    def clear_bad_token(self) -> None:
        """Sets `bad_token` to 0 again, which the library never does."""
        if self._bad_token is not None:
            self._bad_token.value = 0

    def _append_operator(
        self,
        k: Any,
        v: Any,
        k_cache: Any,
        v_cache: Any,
        q: Any,
        q_out: Any,
        slot_mapping: Any,
        positions: Any,
        left_pad: Any,
        rope: Optional[Rope],
        k_scale: Any,
        v_scale: Any,
    ) -> Any:
        """The same call as an operator of PyTorch, for its compiler and its other tracers."""
        if q is not None and q_out is None:
            q_out = q.new_empty(q.shape, dtype=_tracing.torch_dtypes[self._q_code])
        elif q is q_out:
            q = None  # one tensor may not be given twice if it is written
        _torch.torch.ops.podattn.append(k_cache, v_cache, q_out, k, v, q, self.plan_id, slot_mapping, positions,
                                        left_pad, *flat(rope), k_scale, v_scale)  # fmt: skip
        return q_out

    def _stream(self, stream: Any, array: Any) -> int:
        if not self._is_cuda:
            return 0 if stream is None else _streams.stream_handle(stream)
        return _streams.current_stream(array, self._ordinal) if stream is None else _streams.stream_handle(stream)

    def _empty_out(self, q: Any) -> Any:
        limits = self._limits
        shape = _arrays.shape_of(q, "q")
        if limits.v_head_dim != limits.head_dim:
            shape = (*shape[:-1], limits.v_head_dim)
        return empty(q, shape, limits.out_dtype, self._device.array_device)

    def _empty_traced(self, q: Any) -> Any:
        """Room for a result, for PyTorch's tracers."""
        return q.new_empty((*q.shape[:-1], self.v_head_dim), dtype=_tracing.torch_dtypes[self._out_code])

    def _attention_operator(
        self,
        q: Any,
        k_cache: Any,
        v_cache: Any,
        out: Any,
        lse: Any,
        return_lse: bool,
        scale: Optional[float],
        softcap: Optional[float],
        sinks: Any,
        alibi_slopes: Any,
        k_scale: Any,
        v_scale: Any,
        mask: int,
        tree_mask: Any,
    ) -> Any:
        """The same call as an operator of PyTorch, for its compiler and its other tracers."""
        scale, softcap = scale or 0.0, softcap or 0.0  # None is 0
        options = (self.plan_id, scale, softcap, sinks, alibi_slopes, k_scale, v_scale, mask, tree_mask)
        if out is None and lse is None:
            if return_lse:
                return _torch.torch.ops.podattn.attention_lse(q, k_cache, v_cache, *options)
            return _torch.torch.ops.podattn.attention(q, k_cache, v_cache, *options)
        if out is None:
            out = self._empty_traced(q)
        if lse is None and return_lse:
            lse = q.new_empty(q.shape[:2], dtype=_tracing.torch_dtypes[F32])
        _torch.torch.ops.podattn.attention_out(out, lse, q, k_cache, v_cache, *options)
        return out if lse is None else (out, lse)


def plan_of(plan_id: int) -> Plan:
    """The plan with that number; raises ArgumentError if it is gone."""
    plan = _alive.get(plan_id)
    if plan is None:
        raise ArgumentError(f"there is no plan number {plan_id}; it has to be kept while it is used")
    return plan
