# SPDX-License-Identifier: Apache-2.0
"""FlashInfer: prefill then decode, everything as one batched prefill, its two POD wrappers, and BatchAttention."""

from __future__ import annotations

import torch

from .inputs import Inputs, LeftOut, Missing
from .timing import Call

WORKSPACE_BYTES = 512 << 20


def _library():
    try:
        import flashinfer
    except ImportError as error:
        raise Missing(f"flashinfer cannot be imported: {error}") from error
    return flashinfer


class _Requests:
    """A range of a batch's requests in FlashInfer's form."""

    def __init__(self, inputs: Inputs, requests: range) -> None:
        _library()
        if inputs.layout.is_contiguous:
            raise Missing("reads pages, and the cache is contiguous")
        b = inputs.batch
        begin, end = requests.start, requests.stop
        layout = inputs.layout

        def starts(counts: list[int]) -> torch.Tensor:
            return torch.tensor([0, *counts]).cumsum(0).to(torch.int32).to(inputs.device)

        self.q_start = starts(b.q_lens[begin:end])
        self.page_start = starts(layout.pages_of[begin:end].tolist())
        self.pages = layout.pages[int(layout.page_start[begin]) : int(layout.page_start[end])].to(inputs.device)
        self.kv_len = inputs.kv_len[begin:end].to(inputs.device)
        self.last_page_len = ((self.kv_len - 1) % b.page_size + 1).to(torch.int32)


def _split(inputs: Inputs) -> tuple[_Requests, _Requests]:
    return _Requests(inputs, inputs.batch.prefill), _Requests(inputs, inputs.batch.decodes)


def _needs_no_drafts(inputs: Inputs) -> None:
    b = inputs.batch
    if any(b.q_lens[i] > 1 for i in b.decodes):
        raise LeftOut("its decodes have one token each")


def _needs_no_window(inputs: Inputs) -> None:
    if inputs.batch.window:
        raise LeftOut("has no window")


def _window_left(inputs: Inputs) -> int:
    return inputs.batch.window - 1  # -1: none


def _workspace(inputs: Inputs) -> torch.Tensor:
    return torch.zeros(WORKSPACE_BYTES, dtype=torch.uint8, device=inputs.device)


def _shape(inputs: Inputs) -> dict[str, int]:
    b = inputs.batch
    return {"num_qo_heads": b.q_heads, "num_kv_heads": b.kv_heads, "page_size": b.page_size}


def _dtypes(inputs: Inputs) -> dict[str, torch.dtype]:
    return {"q_data_type": inputs.dtype, "kv_data_type": inputs.dtype}


def _planned_prefill(inputs: Inputs, requests: _Requests):
    wrapper = _library().BatchPrefillWithPagedKVCacheWrapper(_workspace(inputs), "NHD")
    wrapper.plan(
        requests.q_start,
        requests.page_start,
        requests.pages,
        requests.last_page_len,
        head_dim_qk=inputs.batch.head_dim,
        causal=True,
        window_left=_window_left(inputs),
        **_shape(inputs),
        **_dtypes(inputs),
    )
    return wrapper


def serial(inputs: Inputs) -> Call:
    _needs_no_drafts(inputs)
    prefill_requests, decode_requests = _split(inputs)
    prefill = _planned_prefill(inputs, prefill_requests)
    decode = _library().BatchDecodeWithPagedKVCacheWrapper(_workspace(inputs), "NHD", use_tensor_cores=True)
    decode.plan(
        decode_requests.page_start,
        decode_requests.pages,
        decode_requests.last_page_len,
        head_dim=inputs.batch.head_dim,
        window_left=_window_left(inputs),
        **_shape(inputs),
        **_dtypes(inputs),
    )
    middle = inputs.tokens_of(inputs.batch.prefill).stop

    def call(index: int):
        layer = inputs.layers[index]
        return (prefill.run(layer.q[:middle], (layer.k, layer.v)), decode.run(layer.q[middle:], (layer.k, layer.v)))

    return call


def batched_prefill(inputs: Inputs) -> Call:
    wrapper = _planned_prefill(inputs, _Requests(inputs, inputs.batch.all))

    def call(index: int):
        layer = inputs.layers[index]
        return (wrapper.run(layer.q, (layer.k, layer.v)),)

    return call


def pod(inputs: Inputs) -> Call:
    """Its prefill reads a contiguous cache, its decodes read pages."""
    _needs_no_drafts(inputs)
    _needs_no_window(inputs)
    if inputs.batch.num_prefill != 1:
        raise LeftOut("it takes one prompt")
    decode = _split(inputs)[1]
    wrapper = _library().PODWithPagedKVCacheWrapper(_workspace(inputs), "NHD")
    wrapper.plan(
        decode.page_start,
        decode.pages,
        decode.last_page_len,
        head_dim=inputs.batch.head_dim,
        **_shape(inputs),
        **_dtypes(inputs),
    )
    middle = inputs.tokens_of(inputs.batch.prefill).stop
    caches = [inputs.cache_of(0, index) for index in range(len(inputs.layers))]

    def call(index: int):
        layer = inputs.layers[index]
        k, v = caches[index]
        return wrapper.run(layer.q[:middle], k, v, layer.q[middle:], (layer.k, layer.v), causal_p=True)

    return call


def batch_pod(inputs: Inputs) -> Call:
    _needs_no_window(inputs)
    prefill, decode = _split(inputs)
    wrapper = _library().BatchPODWithPagedKVCacheWrapper(_workspace(inputs), "NHD")
    wrapper.plan(
        prefill.q_start,
        prefill.page_start,
        prefill.pages,
        prefill.last_page_len,
        decode.q_start,
        decode.page_start,
        decode.pages,
        decode.last_page_len,
        head_dim=inputs.batch.head_dim,
        **_shape(inputs),
        **_dtypes(inputs),
    )
    middle = inputs.tokens_of(inputs.batch.prefill).stop

    def call(index: int):
        layer = inputs.layers[index]
        cache = (layer.k, layer.v)
        return wrapper.run(layer.q[:middle], cache, layer.q[middle:], cache, causal_p=True)

    return call


def batch_attention(inputs: Inputs) -> Call:
    _needs_no_window(inputs)
    requests = _Requests(inputs, inputs.batch.all)
    wrapper = _library().BatchAttention("NHD", str(inputs.device))
    wrapper.plan(
        requests.q_start,
        requests.page_start,
        requests.pages,
        requests.kv_len,
        head_dim_qk=inputs.batch.head_dim,
        head_dim_vo=inputs.batch.head_dim,
        causal=True,
        **_shape(inputs),
        **_dtypes(inputs),
    )

    def call(index: int):
        layer = inputs.layers[index]
        return (wrapper.run(layer.q, (layer.k, layer.v))[0],)

    return call
