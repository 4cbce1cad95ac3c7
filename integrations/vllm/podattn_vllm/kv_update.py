# SPDX-License-Identifier: Apache-2.0
"""New keys and values into a layer's cache, by vLLM's own kernel."""

from typing import Any

import torch


def append(
    layer: Any,
    key: torch.Tensor,
    value: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
    kv_cache_dtype: str,
) -> None:
    """Writes token i of `key` and `value` to slot `slot_mapping[i]`; a slot of -1 is left out.

    `slot_mapping` says how many tokens there are: `key` and `value` may be padded.
    """
    from vllm._custom_ops import reshape_and_cache_flash

    reshape_and_cache_flash(key, value, k_cache, v_cache, slot_mapping, kv_cache_dtype, layer._k_scale, layer._v_scale)
