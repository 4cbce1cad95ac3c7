# SPDX-License-Identifier: Apache-2.0
"""Every contender, by the name that its rows carry."""

from __future__ import annotations

from typing import Callable

from . import flash_attention, flash_attention_3, flashinfer_calls, podattn_calls, torch_sdpa
from .batch import Inputs
from .timing import Call

FUSED = "fused"

CONTENDERS: dict[str, Callable[[Inputs], Call]] = {
    FUSED: podattn_calls.fused,
    "serial": podattn_calls.serial,
    "streams": podattn_calls.streams,
    "prefill": podattn_calls.prefill,
    "decode": podattn_calls.decode,
    "fa3_serial": flash_attention_3.serial,
    "fa3_streams": flash_attention_3.streams,
    "fa3_mixed": flash_attention_3.mixed,
    "fa3_mixed_unsplit": flash_attention_3.mixed_unsplit,
    "fa3_mixed_split": flash_attention_3.mixed_split,
    "fa3_prefill": flash_attention_3.prefill,
    "fa3_decode": flash_attention_3.decode,
    "flashinfer_serial": flashinfer_calls.serial,
    "flashinfer_batched": flashinfer_calls.batched_prefill,
    "flashinfer_pod": flashinfer_calls.pod,
    "flashinfer_batch_pod": flashinfer_calls.batch_pod,
    "flashinfer_batch_attention": flashinfer_calls.batch_attention,
    "sdpa_flash": torch_sdpa.flash,
    "sdpa_cudnn": torch_sdpa.cudnn,
    "sdpa_efficient": torch_sdpa.efficient,
    "fa2_serial": flash_attention.version_2_serial,
    "sglang_mixed": flash_attention.sglang,
}

ON_CPU: dict[str, Callable[[Inputs], Call]] = {
    FUSED: podattn_calls.fused,
    "serial": podattn_calls.serial,
    "prefill": podattn_calls.prefill,
    "decode": podattn_calls.decode,
    "sdpa_math": torch_sdpa.math,
}
