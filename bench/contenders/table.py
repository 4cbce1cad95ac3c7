# SPDX-License-Identifier: Apache-2.0
"""Every contender, by the name that its rows carry."""

from __future__ import annotations

from typing import Callable

from . import flash_attention, flashinfer_calls, podattn_calls, torch_sdpa
from .batch import Inputs
from .timing import Call

FUSED = "fused"

CONTENDERS: dict[str, Callable[[Inputs], Call]] = {
    FUSED: podattn_calls.fused,
    "serial": podattn_calls.serial,
    "streams": podattn_calls.streams,
    "flashinfer_serial": flashinfer_calls.serial,
    "flashinfer_batched": flashinfer_calls.batched_prefill,
    "flashinfer_pod": flashinfer_calls.pod,
    "flashinfer_batch_pod": flashinfer_calls.batch_pod,
    "flashinfer_batch_attention": flashinfer_calls.batch_attention,
    "sdpa_flash": torch_sdpa.flash,
    "sdpa_cudnn": torch_sdpa.cudnn,
    "sdpa_efficient": torch_sdpa.efficient,
    "fa2_serial": flash_attention.version_2_serial,
    "fa3_mixed": flash_attention.version_3,
    "vllm_mixed": flash_attention.vllm,
    "sglang_mixed": flash_attention.sglang,
}

ON_CPU: dict[str, Callable[[Inputs], Call]] = {
    FUSED: podattn_calls.fused,
    "serial": podattn_calls.serial,
    "sdpa_math": torch_sdpa.math,
}
