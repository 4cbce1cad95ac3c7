# SPDX-License-Identifier: Apache-2.0
"""What vLLM asks an attention backend before it makes layers: what it takes, and which classes do the work.

What is not taken is refused here, by name, so that vLLM says why and another backend can be chosen. vLLM's own checks
refuse what no method below allows: MLA, sparse attention, encoders, prefix-LM masks, batch invariance, context
parallelism, per-head scales.
"""

from typing import Any, ClassVar, Optional

import torch
from vllm.v1.attention.backend import AttentionBackend, AttentionType, MultipleOf

from . import NAME, kv_layout, what_is_taken


class PodAttentionBackend(AttentionBackend):
    """Chosen by `--attention-backend CUSTOM`."""

    supported_dtypes: ClassVar[list[torch.dtype]] = what_is_taken.DTYPES
    supported_kv_cache_dtypes: ClassVar[list[Any]] = list(what_is_taken.KV_CACHE_DTYPES)
    # vLLM calls do_kv_cache_update() before forward().
    forward_includes_kv_cache_update: bool = False

    @staticmethod
    def get_name() -> str:
        """The registry's member: the layer looks it up again."""
        return "CUSTOM"

    @staticmethod
    def get_impl_cls() -> Any:
        """Of a layer."""
        from .layer_impl import PodAttentionImpl

        return PodAttentionImpl

    @staticmethod
    def get_builder_cls() -> Any:
        """Of a group of layers."""
        from .metadata_builder import PodMetadataBuilder

        return PodMetadataBuilder

    @staticmethod
    def get_supported_kernel_block_sizes(kv_cache_spec: Any = None) -> list[Any]:
        """Tokens per page; the argument is of newer versions."""
        return [MultipleOf(what_is_taken.BLOCK_SIZE_MULTIPLE)]

    # Older versions let each backend declare the shape of its cache.
    if kv_layout.backends_declare_shape():

        @staticmethod
        def get_kv_cache_shape(
            num_blocks: int, block_size: int, num_kv_heads: int, head_size: int, cache_dtype_str: str = "auto"
        ) -> tuple[int, ...]:
            """As vLLM's default backend has it."""
            shape = kv_layout.default_backend().get_kv_cache_shape(
                num_blocks, block_size, num_kv_heads, head_size, cache_dtype_str
            )
            return tuple(shape)

        @staticmethod
        def get_kv_cache_stride_order(include_num_layers_dimension: bool = False) -> tuple[int, ...]:
            """As vLLM's default backend has it."""
            return tuple(kv_layout.default_backend().get_kv_cache_stride_order(include_num_layers_dimension))

    @classmethod
    def supports_head_size(cls, head_size: int) -> bool:
        """Of any GPU; `supports_combination` asks of this one, and has the words."""
        return what_is_taken.takes_head_size(head_size)

    @classmethod
    def supports_sink(cls) -> bool:
        """A score per head that joins each row's softmax."""
        return True

    @classmethod
    def supports_sliding_window(cls) -> bool:
        """Causal ones, of any size, several among the layers."""
        return True

    @classmethod
    def supports_non_causal(cls) -> bool:
        """All requests of a step, or some of them."""
        return True

    @classmethod
    def supports_attn_type(cls, attn_type: str) -> bool:
        """Attention to the paged cache alone."""
        return bool(attn_type == AttentionType.DECODER)

    @classmethod
    def supports_compute_capability(cls, capability: Any) -> bool:
        """Ampere and later."""
        return bool(capability.major >= 8)

    @classmethod
    def supports_combination(
        cls, head_size: int, dtype: torch.dtype, kv_cache_dtype: Optional[str], block_size: Optional[int], *others: Any
    ) -> Optional[str]:
        """The library's own words, if it refuses. `others` differ between versions; the last is the capability."""
        return what_is_taken.refusal(head_size, dtype, kv_cache_dtype, others[-1])

    @classmethod
    def validate_configuration(cls, *args: Any, **config: Any) -> list[str]:
        """All reasons for which this backend cannot serve the configuration."""
        reasons: list[str] = super().validate_configuration(*args, **config)
        if config.get("has_sliding_window") and config.get("use_non_causal"):
            reasons.append("podattn: a sliding window of requests that are not causal is not supported")
        return reasons


class PodAttentionNamedBackend(PodAttentionBackend):
    """Chosen by its own name, where vLLM takes new ones."""

    @staticmethod
    def get_name() -> str:
        """The registry's member."""
        return NAME
