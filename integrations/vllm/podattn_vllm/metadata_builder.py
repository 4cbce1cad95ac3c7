# SPDX-License-Identifier: Apache-2.0
"""Once per step: the batch of a group of layers, planned by one launch for all of their windows."""

from dataclasses import dataclass
from typing import Any, ClassVar, Optional

import torch
from vllm.logger import init_logger
from vllm.v1.attention.backend import AttentionCGSupport, AttentionMetadataBuilder

import podattn

from .kv_layout import kv_layout, num_pages
from .plan_limits import plan_limits
from .shared_scratch import shared_scratch

logger = init_logger("vllm.plugins.podattn")


@dataclass
class PodMetadata:
    """What the layers of a group need of a step. vLLM may copy it field by field."""

    plans: dict[int, podattn.Plan]
    """By the query heads of a layer."""
    mask_of_window: dict[int, int]
    """The plan's mask of a layer's window; 0 is no window."""
    builder: Any
    step: int
    """The build of `builder` that these plans have to be at."""
    arrays: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    """q_start, kv_len and page table."""
    causal: Any
    """A bool, or int32 `[n]`."""
    num_q_tokens: int
    slot_mapping: torch.Tensor


class PodMetadataBuilder(AttentionMetadataBuilder[PodMetadata]):
    """Has the plans of its layers. All lengths are read on the GPU: nothing here waits for it."""

    # A captured launch serves every batch up to the captured number of tokens: it reads lengths, pages and the schedule
    # from memory, which `build` fills before each replay.
    _cudagraph_support: ClassVar[AttentionCGSupport] = AttentionCGSupport.ALWAYS

    def __init__(self, kv_cache_spec: Any, layer_names: list[str], vllm_config: Any, device: torch.device) -> None:
        """Raises NotImplementedError if podattn cannot serve these layers."""
        super().__init__(kv_cache_spec, layer_names, vllm_config, device)
        dim, v_dim = kv_cache_spec.head_size, getattr(kv_cache_spec, "head_size_v", None)
        if v_dim not in (None, dim):
            raise NotImplementedError(f"podattn: values of head size {v_dim} beside keys of {dim} are not supported")
        context = vllm_config.compilation_config.static_forward_context
        self._layers = [context[name] for name in layer_names]
        self._layout = kv_layout()
        impls = [layer.impl for layer in self._layers]
        windows = sorted({impl.window_tokens for impl in impls})
        self._mask_of_window = {window: mask for mask, window in enumerate(windows)}
        self._windows = tuple(windows)
        self._masks: dict[bool, tuple[podattn.Mask, ...]] = {
            causal: tuple(podattn.Mask(causal=causal, window_tokens=window) for window in windows)
            for causal in (True, False)
        }
        self._plans = {
            q_heads: self._make_plan(kv_cache_spec, q_heads, impls[0], vllm_config, device)
            for q_heads in sorted({impl.num_heads for impl in impls})
        }
        self._causal: Optional[torch.Tensor] = None
        self._has_logged = False
        self.step = 0

    def _make_plan(self, spec: Any, q_heads: int, impl: Any, vllm_config: Any, device: torch.device) -> podattn.Plan:
        limits = plan_limits(
            vllm_config,
            q_heads=q_heads,
            kv_heads=spec.num_kv_heads,
            head_dim=spec.head_size,
            page_size=spec.block_size,
            dtype=impl.dtype or spec.dtype,
            kv_dtype=impl.cache_dtype or spec.dtype,
            num_masks=len(self._windows),
            chunk_tokens=getattr(spec, "attention_chunk_size", None) or 0,
            device=device,
        )
        try:
            plan = podattn.Plan(**limits)
        except podattn.UnsupportedError as error:
            raise NotImplementedError(f"podattn: {error}") from error
        plan.attach(scratch=shared_scratch(device, plan.scratch_bytes))
        logger.info(
            "podattn %s: %d/%d heads of %d, pages of %d, windows %s, %.1f KiB for the plan, %.1f MiB of shared scratch",
            podattn.__version__,
            q_heads,
            spec.num_kv_heads,
            spec.head_size,
            spec.block_size,
            self._windows,
            plan.plan_bytes / 2**10,
            plan.scratch_bytes / 2**20,
        )
        return plan

    def build(self, common_prefix_len: int, common_attn_metadata: Any, fast_build: bool = False) -> PodMetadata:
        """Plans a step. Padding requests have no query tokens; their rows of the block table are not read."""
        common = common_attn_metadata
        n = common.num_reqs
        arrays = (
            _first(common.query_start_loc, n + 1),
            _first(common.seq_lens, n),
            _first(common.block_table_tensor, n),
        )
        causal = getattr(common, "causal", True)
        if isinstance(causal, torch.Tensor):
            causal = self._per_request(_first(causal, n))
        elif not causal:
            self._refuse_windows()
        metadata = PodMetadata(
            self._plans,
            self._mask_of_window,
            self,
            0,
            arrays,
            causal,
            common.num_actual_tokens,
            common.slot_mapping,
        )
        self.plan(metadata)
        return metadata

    def plan(self, metadata: PodMetadata) -> None:
        """Makes the plans follow `metadata`: at first, and when another step was planned since."""
        causal = metadata.causal
        if isinstance(causal, torch.Tensor):
            masks = tuple(podattn.Mask(causal_per_request=causal) for _ in self._windows)
        else:
            masks = self._masks[bool(causal)]
        # The cache is bound after the builders are made, and may be bound anew.
        pages = max(num_pages(layer.kv_cache, self._layout) for layer in self._layers)
        for plan in self._plans.values():
            if plan.bad_request and not self._has_logged:
                self._log_bad_request(plan.bad_request)
            plan.build(*metadata.arrays, masks=masks, num_pages=pages, num_q_tokens=metadata.num_q_tokens)
        self.step += 1
        metadata.step = self.step

    def _per_request(self, causal: torch.Tensor) -> torch.Tensor:
        """int32, always at the same address: a captured graph reads it there."""
        self._refuse_windows()
        if causal.dtype == torch.int32:
            return causal
        if self._causal is None:
            most = max(self.vllm_config.scheduler_config.max_num_seqs, causal.shape[0])
            self._causal = torch.ones(most, dtype=torch.int32, device=self.device)
        own = self._causal[: causal.shape[0]]
        own.copy_(causal)
        return own

    def _refuse_windows(self) -> None:
        """For a query that is not causal vLLM means a window to both sides."""
        if self._windows != (0,):
            raise NotImplementedError(
                f"podattn: requests that are not causal in layers with a sliding window ({self._windows[-1]} tokens) "
                "are not supported; choose another attention backend"
            )

    def _log_bad_request(self, number: int) -> None:
        self._has_logged = True
        logger.error(
            "podattn: request %d of a step had lengths or pages that cannot be right; its attention output was 0. "
            "This is logged once. Layers: %s, ...",
            number - 1,
            self.layer_names[0],
        )


def _first(tensor: torch.Tensor, count: int) -> torch.Tensor:
    """The first so many entries; a slice is only made where it is one."""
    return tensor if tensor.shape[0] == count else tensor[:count]
