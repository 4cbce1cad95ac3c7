# SPDX-License-Identifier: Apache-2.0
"""From the tensors of SGLang's forward batch to the arrays of a plan, on the device, without waiting for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Optional

import torch

import podattn


@dataclass
class Shape:
    """A step: how many new tokens each request has, and how many keys."""

    q_start: torch.Tensor
    kv_len: torch.Tensor
    num_tokens: int
    longest: Optional[int]
    """No request has more keys; None: the host does not know."""


def refuse(condition: bool, what: str) -> None:
    """Raises for what is not served."""
    if condition:
        raise podattn.UnsupportedError(f"podattn in SGLang: {what}")


def shape_of(batch: Any, num_draft_tokens: int) -> Shape:
    """The step that a forward batch describes.

    Raises:
        podattn.UnsupportedError: a mode that is not served; names it.
    """
    mode = batch.forward_mode
    num = batch.batch_size
    lengths = batch.seq_lens[:num]
    on_host = getattr(batch, "seq_lens_cpu", None)
    longest = int(on_host[:num].max()) if on_host is not None and num else None
    refuse(getattr(batch, "encoder_lens", None) is not None, "encoder_lens: encoders and cross attention")
    if mode.is_decode_or_idle():
        refuse(batch.spec_info is not None, "decode steps of a draft model: give it another attention backend")
        q_start = torch.arange(num + 1, dtype=torch.int32, device=lengths.device)
        return Shape(q_start, lengths.to(torch.int32), num, longest)
    if mode.is_target_verify():
        topk = getattr(batch.spec_info, "topk", 1)
        refuse((topk or 1) > 1, f"verification of trees, topk = {topk}")
        refuse(
            getattr(batch.spec_info, "ragged_verify_layout", None) is not None,
            "verification of different numbers of draft tokens per request",
        )
        num_draft_tokens = getattr(batch.spec_info, "draft_token_num", num_draft_tokens)
        q_start = torch.arange(num + 1, dtype=torch.int32, device=lengths.device) * num_draft_tokens
        if longest is not None:
            longest += num_draft_tokens
        return Shape(q_start, (lengths + num_draft_tokens).to(torch.int32), num * num_draft_tokens, longest)
    refuse(not (mode.is_extend() or mode.is_mixed()), f"forward mode {getattr(mode, 'name', mode)}")
    refuse(bool(getattr(mode, "is_dllm_extend", bool)()), f"forward mode {getattr(mode, 'name', mode)}")
    news = batch.extend_seq_lens[:num]
    q_start = torch.nn.functional.pad(news.cumsum(0), (1, 0)).to(torch.int32)
    return Shape(q_start, lengths.to(torch.int32), batch.out_cache_loc.shape[0], longest)


def page_table(
    req_to_token: torch.Tensor,
    requests: torch.Tensor,
    num_columns: int,
    page_size: int,
    translate: Optional[Callable[[torch.Tensor], torch.Tensor]] = None,
) -> torch.Tensor:
    """int32 `[n, num_columns]`: the pages of each request's tokens, from the table that has a slot per token.

    translate: from slots of the full pool to those of the pool that the pages are of.
    """
    rows = req_to_token[:, : num_columns * page_size : page_size]
    slots = rows.index_select(0, requests)
    if translate is not None:
        slots = translate(slots)
    if page_size > 1:
        slots = slots // page_size
    return slots.to(torch.int32)
