# SPDX-License-Identifier: Apache-2.0
"""The attention function that transformers calls, once per layer."""

from __future__ import annotations

from typing import Any, Optional, Union

import torch

import podattn

from . import layer_groups, served_counts, slot_tables
from .group_plans import Plans, Shape, plans_for
from .group_step import Inputs, Request, Step, plan_step

CACHE = "podattn_cache"
"""The keyword by which the cache reaches the attention function where the engine does not pass it."""


class State:
    """What podattn keeps for one engine's cache, as long as that lives."""

    def __init__(self, cache: Any) -> None:
        self.groups = layer_groups.groups_of(cache)
        self.group_of = layer_groups.layers_of(cache, self.groups)
        self.first_layer = min(group.first_layer for group in self.groups)
        self.num_slots = layer_groups.num_slots(cache)
        self.requests: list[Request] = []
        self.stats = served_counts.Stats()
        self.plans: Optional[Plans] = None
        self.steps: dict[int, Step] = {}

    @property
    def has_windows(self) -> bool:
        """Whether some layers keep a window alone."""
        return any(group.window for group in self.groups)

    def list_request(
        self, request: str, past: int, new: int, reads: Optional[list[list[int]]], writes: list[list[int]]
    ) -> None:
        """Does what the engine's `extend_read_and_write_indices` does, with reads by page instead of by token."""
        if not writes[0]:
            self.requests = []
        self.requests.append(Request(past, new))
        for group, group_writes in zip(self.groups, writes):
            group_writes.extend(group.owner.get_write_indices(request, past, new))
        if reads is not None:
            for group, group_reads in zip(self.groups, reads):
                group_reads.extend(slot_tables.listed_reads(group, request, past, new))

    def count(self, inputs: Inputs) -> None:
        """Another forward pass begins."""
        self.stats.steps += 1
        if inputs.block_table is not None:
            self.stats.block_table_steps += 1
        elif 1 in (news := {request.new for request in inputs.requests}) and len(news) > 1:
            self.stats.mixed_steps += 1


def state_of(cache: Any) -> State:
    """The state of a `PagedAttentionCache`; made at the first call."""
    state = getattr(cache, served_counts.ATTRIBUTE, None)
    if state is None:
        state = State(cache)
        setattr(cache, served_counts.ATTRIBUTE, state)
    return state


def _of_type(values: Any, group: layer_groups.Group) -> Any:
    """Where layers are of several types, the engine gives a value for each."""
    return values[group.layer_type] if isinstance(values, dict) else values


def _refuse(condition: bool, what: str) -> None:
    if condition:
        raise podattn.UnsupportedError(f"podattn in transformers: {what}")


def _inputs(state: State, group: layer_groups.Group, num_tokens: int, kwargs: dict[str, Any]) -> Inputs:
    longest = kwargs["max_length_k"] if "max_length_k" in kwargs else kwargs["max_seqlen_k"]
    table = kwargs.get("block_table")
    return Inputs(
        cu_q=kwargs["cu_seq_lens_q"],
        cu_k=_of_type(kwargs["cu_seq_lens_k"], group),
        max_kv_len=int(_of_type(longest, group)),
        reads=kwargs["read_index"][group.index],
        writes=kwargs["write_index"][group.index],
        block_table=None if table is None else table[group.index],
        requests=state.requests,
        num_tokens=num_tokens,
    )


@torch.compiler.disable  # type: ignore[untyped-decorator]
def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Optional[torch.Tensor],
    dropout: float = 0.0,
    scaling: Optional[float] = None,
    softcap: Optional[float] = None,
    s_aux: Optional[torch.Tensor] = None,
    sliding_window: Optional[int] = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """One layer of a step of continuous batching: writes the new keys and values into the paged cache, and attends.

    Args:
        module: the attention layer; has `layer_idx`.
        query: `[1, q_heads, tokens, head_dim]`, the batch's new tokens, packed.
        key: `[1, kv_heads, tokens, head_dim]` of the same tokens.
        value: like `key`.
        attention_mask: None; the cache says which keys are seen.
        dropout: 0.
        scaling: of the scores; None: the module's, or 1 / sqrt(head_dim).
        softcap: if neither None nor 0, score = softcap * tanh(score / softcap).
        s_aux: `[q_heads]`, sinks: a score that joins each row's softmax without a value.
        sliding_window: the layer's window, as the model has it.
        kwargs: the engine's tensors of the step.

    Returns:
        `[1, tokens, q_heads, head_dim]`, and None for the weights.

    Raises:
        podattn.UnsupportedError: names what is not served.
    """
    cache = kwargs.get(CACHE, kwargs.get("cache"))
    _refuse(
        cache is None or kwargs.get("cu_seq_lens_q") is None,
        "there is no paged cache: only continuous batching (generate_batch) is served",
    )
    _refuse(bool(dropout), f"dropout = {dropout}")
    _refuse(kwargs.get("position_bias") is not None, "position_bias")
    _refuse(kwargs.get("is_causal") is False, "is_causal = False")
    _refuse(query.shape[0] != 1, f"query has a batch of {query.shape[0]}; packed tokens are a batch of 1")
    head_dim, value_dim = query.shape[-1], value.shape[-1]
    _refuse(head_dim != value_dim, f"values of {value_dim} elements per head with keys of {head_dim}")
    state = state_of(cache)
    layer: Union[int, Any] = module.layer_idx
    group = state.group_of[layer]
    _refuse(
        sliding_window is not None and sliding_window != group.window,
        f"layer {layer} has sliding_window = {sliding_window}, its cache {group.window or 'no window'}",
    )
    q, k, v = (states[0].transpose(0, 1) for states in (query, key, value))
    if layer == group.first_layer:
        shape = Shape(q.shape[1], k.shape[1], head_dim, q.dtype, q.device)
        if state.plans is None or state.plans.shape != shape:
            state.plans = plans_for(shape, cache, state.num_slots)
        inputs = _inputs(state, group, q.shape[0], kwargs)
        state.steps[group.index] = plan_step(state.plans, group, inputs)
        if layer == state.first_layer:
            state.count(inputs)
    step = state.steps[group.index]
    options: dict[str, Any] = {"scale": scaling if scaling is not None else getattr(module, "scaling", None)}
    if softcap is not None:
        options["softcap"] = softcap
    if s_aux is not None:
        options["sinks"] = s_aux.detach().float()
    out = step.run(group, layer, q, k, v, options)
    state.stats.calls += step.calls
    state.stats.copied_tokens += step.copied_tokens
    return out[None], None
