# SPDX-License-Identifier: Apache-2.0
"""What podattn takes on a GPU: the library is asked, so that a newer one takes more without a change here."""

import functools
from typing import Any, Optional

import torch

import podattn

# The names by which vLLM knows a KV cache's dtype, and what they are; None: the model's. A name that is missing here is
# refused. Quantised caches need no more than their rows: layers pass scales.
KV_CACHE_DTYPES: dict[str, Optional[torch.dtype]] = {
    "auto": None,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "fp8": torch.float8_e4m3fn,
    "fp8_e4m3": torch.float8_e4m3fn,
}

DTYPES = [torch.float16, torch.bfloat16]

# vLLM's default backend has the same rule. podattn itself takes every page size.
BLOCK_SIZE_MULTIPLE = 16


def kv_dtype(kv_cache_dtype: Optional[str], dtype: torch.dtype) -> torch.dtype:
    """The dtype of the cache's elements; raises NotImplementedError for a name that is not taken."""
    name = kv_cache_dtype or "auto"
    if name not in KV_CACHE_DTYPES:
        raise NotImplementedError(
            f"podattn: kv_cache_dtype {name!r} is not supported; {', '.join(KV_CACHE_DTYPES)} are"
        )
    return KV_CACHE_DTYPES[name] or dtype


def refusal(head_size: int, dtype: torch.dtype, kv_cache_dtype: Optional[str], capability: Any) -> Optional[str]:
    """Why the library does not take that on a GPU of this compute capability, in its own words; None if it does."""
    try:
        kv_cache = kv_dtype(kv_cache_dtype, dtype)
    except NotImplementedError as error:
        return str(error)
    return _reason(head_size, dtype, kv_cache, _simulated(capability))


def is_quantised(dtype: torch.dtype) -> bool:
    """Whether a cache of it has scales."""
    return dtype.itemsize < 2


def takes_head_size(head_size: int) -> bool:
    """Whether the library takes it on some GPU."""
    return any(_reason(head_size, DTYPES[0], DTYPES[0], device) is None for device in ("sim:h100", "sim:a100"))


def _simulated(capability: Any) -> str:
    """The library's stand-in for that GPU. The GPU itself must not be opened: the engine may fork after this."""
    return "sim:h100" if capability is not None and capability.major == 9 else "sim:a100"


@functools.cache
def _reason(head_size: int, dtype: torch.dtype, kv_cache: torch.dtype, device: str) -> Optional[str]:
    try:
        podattn.workspace_bytes(
            q_heads=1,
            kv_heads=1,
            head_dim=head_size,
            page_size=BLOCK_SIZE_MULTIPLE,
            max_requests=1,
            max_q_tokens=1,
            max_kv_len=1,
            dtype=dtype,
            kv_dtype=kv_cache,
            batch_memory="device",
            device=device,
        )
    except podattn.Error as error:
        return f"podattn: {error}"
    return None
