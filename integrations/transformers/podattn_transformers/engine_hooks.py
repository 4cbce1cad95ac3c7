# SPDX-License-Identifier: Apache-2.0
"""Where podattn meets transformers: a name in its registry, and the few functions of its engine that have to act
otherwise for that name. For models with another attention they do what they did.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any, Callable, Optional

import torch

from . import flash_kernel
from .attention_function import CACHE, attention, state_of

NAME = "podattn_flash_3"
"""The `attn_implementation`. The engine plans for an attention that needs no mask only if its name has "flash", and
hands over block tables for decode tokens only if a 2 or a 3 follows."""

_NAMES = (NAME, f"paged|{NAME}")
_installed = False


def _is_ours(config: Any) -> bool:
    return config._attn_implementation in _NAMES


def _method(owner: Any, name: str, parameters: set[str]) -> Callable[..., Any]:
    """A function of the engine, which has to have these parameters."""
    found: Optional[Callable[..., Any]] = getattr(owner, name, None)
    if found is None:
        raise ImportError(f"podattn does not know this version of transformers: {owner.__name__} has no {name}()")
    missing = parameters - set(inspect.signature(found).parameters)
    if missing:
        raise ImportError(
            f"podattn does not know this version of transformers: {owner.__name__}.{name}() has no parameter "
            f"{sorted(missing)[0]}"
        )
    return found


def install() -> None:
    """Registers the name and puts the functions in place, once. If it raises, nothing has changed."""
    global _installed
    if _installed:
        return
    from transformers import AttentionInterface
    from transformers.generation.continuous_batching import PagedAttentionCache, model_runner
    from transformers.integrations import hub_kernels

    runner = model_runner.ModelRunner
    replacements = [
        (
            PagedAttentionCache,
            "extend_read_and_write_indices",
            _extend_indices(
                _method(
                    PagedAttentionCache,
                    "extend_read_and_write_indices",
                    {"request_id", "past_length", "query_length", "read_index", "write_index"},
                )
            ),
        ),
        (runner, "_get_forward_fn", _forward_function(_method(runner, "_get_forward_fn", {"use_block_table"}))),
        (
            hub_kernels,
            "load_and_register_attn_kernel",
            _load_kernel(_method(hub_kernels, "load_and_register_attn_kernel", {"attn_implementation"})),
        ),
    ]
    update = _method(PagedAttentionCache, "update", {"key_states", "value_states", "layer_idx"})
    if "kwargs" in inspect.signature(update).parameters:
        replacements.append((PagedAttentionCache, "update", _update(update)))
    for owner, name, replacement in replacements:
        setattr(owner, name, replacement)
    for name in _NAMES:
        AttentionInterface.register(name, attention)
    _installed = True


def _extend_indices(original: Callable[..., None]) -> Callable[..., None]:
    """What a request reads of the cache: by page, not by token, which takes a host long at long contexts."""

    @functools.wraps(original)
    def extend_read_and_write_indices(
        self: Any, request_id: str, past_length: int, query_length: int, read_index: Any, write_index: Any
    ) -> None:
        if not _is_ours(self.config):
            original(self, request_id, past_length, query_length, read_index, write_index)
        else:
            state_of(self).list_request(request_id, past_length, query_length, read_index, write_index)

    return extend_read_and_write_indices


def _update(original: Callable[..., Any]) -> Callable[..., Any]:
    """Newer engines write the cache, and gather it, before they call the attention function. That does both here."""

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    @functools.wraps(original)
    def update(self: Any, key_states: Any, value_states: Any, layer_idx: int, kwargs: dict[str, Any]) -> Any:
        if not _is_ours(self.config):
            return original(self, key_states, value_states, layer_idx, kwargs)
        kwargs[CACHE] = self
        return key_states, value_states

    replacement: Callable[..., Any] = update
    return replacement


def _forward_function(original: Callable[..., Any]) -> Callable[..., Any]:
    """No CUDA graph of batches that may copy keys: how many differs from replay to replay, and shapes may not."""

    @functools.wraps(original)
    def _get_forward_fn(self: Any, use_block_table: bool) -> Any:
        forward, use_graph = original(self, use_block_table)
        if use_graph and _is_ours(self.cache.config) and state_of(self.cache).has_windows:
            use_graph = False
        return forward, use_graph

    return _get_forward_fn


def _load_kernel(original: Callable[..., Any]) -> Callable[..., Any]:
    """A name with "flash" makes the engine look for a module with flash functions."""

    @functools.wraps(original)
    def load_and_register_attn_kernel(attn_implementation: str, *args: Any, **kwargs: Any) -> Any:
        if attn_implementation in _NAMES:
            return flash_kernel
        return original(attn_implementation, *args, **kwargs)

    return load_and_register_attn_kernel
