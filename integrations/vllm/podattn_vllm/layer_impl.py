# SPDX-License-Identifier: Apache-2.0
"""Once per layer and step: the cache's update, and attention by the step's plan."""

import weakref
from typing import Any, Optional

import torch
from vllm.config import get_current_vllm_config_or_none
from vllm.v1.attention.backend import AttentionImpl, AttentionType

import podattn

from . import kv_update
from .kv_layout import kv_layout, split
from .metadata_builder import PodMetadata
from .plan_limits import plan_limits
from .shared_scratch import shared_scratch
from .what_is_taken import BLOCK_SIZE_MULTIPLE, is_quantised, kv_dtype


class PodAttentionImpl(AttentionImpl):
    """One attention layer."""

    # vLLM's context parallelism needs both of these; its versions differ in what they assume.
    can_return_lse_for_decode: bool = False
    supports_dcp: bool = False

    def __init__(
        self,
        num_heads: int,
        head_size: int,
        scale: float,
        num_kv_heads: Optional[int] = None,
        alibi_slopes: Optional[list[float]] = None,
        sliding_window: Optional[int] = None,
        kv_cache_dtype: str = "auto",
        logits_soft_cap: Optional[float] = None,
        attn_type: str = AttentionType.DECODER,
        kv_sharing_target_layer_name: Optional[str] = None,
        sinks: Optional[torch.Tensor] = None,
        **others: Any,
    ) -> None:
        """Raises NotImplementedError, which names what podattn does not take."""
        _refuse("ALiBi (alibi_slopes)", alibi_slopes is not None)
        _refuse(f"attention of type {attn_type}", attn_type != AttentionType.DECODER)
        _refuse(f"{', '.join(others)}", any(value not in (None, False) for value in others.values()))
        self.num_heads = num_heads
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        self.head_size = head_size
        self.scale = float(scale)
        self.softcap = float(logits_soft_cap or 0.0)
        self.window_tokens = sliding_window or 0
        self.kv_cache_dtype = kv_cache_dtype
        self.kv_sharing_target_layer_name = kv_sharing_target_layer_name
        self._given_sinks = sinks
        self._sinks: Optional[torch.Tensor] = None
        self._layout = kv_layout()
        self._cache: Any = _nothing
        self._k_cache: Any = None
        self._v_cache: Any = None
        self._config = get_current_vllm_config_or_none()
        self.dtype: Optional[torch.dtype] = None if self._config is None else self._config.model_config.dtype
        self.cache_dtype = None if self.dtype is None else kv_dtype(kv_cache_dtype, self.dtype)
        self._has_scales = self.cache_dtype is not None and is_quantised(self.cache_dtype)

    def process_weights_after_loading(self, act_dtype: torch.dtype) -> None:
        """Sinks as float32, kept at one address: weights may be loaded anew under a captured graph."""
        if self._given_sinks is None:
            return
        if self._sinks is None:
            self._sinks = self._given_sinks.detach().float().clone()
        else:
            self._sinks.copy_(self._given_sinks.detach())

    def forward(
        self,
        layer: Any,
        query: torch.Tensor,
        key: Optional[torch.Tensor],
        value: Optional[torch.Tensor],
        kv_cache: torch.Tensor,
        attn_metadata: Optional[PodMetadata],
        output: torch.Tensor,
        output_scale: Optional[torch.Tensor] = None,
        output_block_scale: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        """Attention of all requests of the step. Rows of padding tokens keep what was there.

        Args:
            layer: vLLM's layer.
            query: `[tokens, heads, head_size]`; may have more tokens than the batch.
            key: not used: `do_kv_cache_update` has put it into the cache.
            value: as `key`.
            kv_cache: the layer's, in vLLM's layout.
            attn_metadata: the step's; None in vLLM's profiling run.
            output: like `query`.
            output_scale: has to be None.
            output_block_scale: has to be None.
        """
        if attn_metadata is None:
            self._reserve(query.device)
            return output.fill_(0)
        if output_scale is not None or output_block_scale is not None:
            _refuse("quantised output", True)
        builder = attn_metadata.builder
        if builder.step != attn_metadata.step:
            builder.plan(attn_metadata)
        if self._cache() is not kv_cache:
            self._bind(kv_cache)
        if self._given_sinks is not None and self._sinks is None:
            self.process_weights_after_loading(query.dtype)
        attn_metadata.plans[self.num_heads].attention(
            query,
            self._k_cache,
            self._v_cache,
            output,
            scale=self.scale,
            softcap=self.softcap,
            sinks=self._sinks,
            k_scale=layer._k_scale if self._has_scales else None,
            v_scale=layer._v_scale if self._has_scales else None,
            mask=attn_metadata.mask_of_window[self.window_tokens],
        )
        return output

    def do_kv_cache_update(
        self, layer: Any, key: torch.Tensor, value: torch.Tensor, kv_cache: torch.Tensor, slot_mapping: torch.Tensor
    ) -> None:
        """Writes the step's keys and values, unless the layer reads another layer's cache."""
        if self.kv_sharing_target_layer_name is not None:
            return
        if self._cache() is not kv_cache:
            self._bind(kv_cache)
        k_cache, v_cache = self._k_cache, self._v_cache
        if self._has_scales:  # vLLM's kernel goes by the name of the dtype
            k_cache, v_cache = k_cache.view(kv_cache.dtype), v_cache.view(kv_cache.dtype)
        kv_update.append(layer, key, value, k_cache, v_cache, slot_mapping, self.kv_cache_dtype)

    def _bind(self, kv_cache: torch.Tensor) -> None:
        """Views of the cache, until it is gone: they must not keep the memory of a cache that vLLM gave up."""
        self._k_cache, self._v_cache = split(kv_cache, self._layout, self.head_size)
        if self._has_scales and self.cache_dtype is not None:  # vLLM has bytes there
            self._k_cache, self._v_cache = self._k_cache.view(self.cache_dtype), self._v_cache.view(self.cache_dtype)
        own = weakref.ref(self)

        def forget(cache: Any) -> None:
            impl = own()
            if impl is not None and impl._cache is cache:
                impl._cache, impl._k_cache, impl._v_cache = _nothing, None, None

        self._cache = weakref.ref(kv_cache, forget)

    def _reserve(self, device: torch.device) -> None:
        """Allocates what the plans will share, in vLLM's profiling run, so that it is counted there.

        What it does not know yet, masks and the final page size, has nearly no part in the size.
        """
        config = self._config
        if config is None or self.dtype is None or self.cache_dtype is None:
            return
        page_size = config.cache_config.block_size or BLOCK_SIZE_MULTIPLE
        limits = plan_limits(
            config,
            q_heads=self.num_heads,
            kv_heads=self.num_kv_heads,
            head_dim=self.head_size,
            page_size=page_size,
            dtype=self.dtype,
            kv_dtype=self.cache_dtype,
            device=device,
        )
        shared_scratch(device, podattn.workspace_bytes(**limits).scratch_bytes)


def _nothing() -> None:
    """A dead reference."""


def _refuse(what: str, is_asked: bool) -> None:
    if is_asked:
        raise NotImplementedError(f"podattn: {what} is not supported; choose another attention backend")
