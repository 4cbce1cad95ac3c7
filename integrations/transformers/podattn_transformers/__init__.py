# SPDX-License-Identifier: Apache-2.0
"""podattn as the attention of transformers' continuous batching.

    import podattn_transformers

    podattn_transformers.enable(model)
    model.generate_batch(inputs=[[...], ...], generation_config=...)

One call per layer serves prefill chunks and decode tokens together, straight from the engine's paged cache: nothing is
gathered. docs/transformers.md says what is served, and what is refused.
"""

from __future__ import annotations

from typing import Any

from .engine_hooks import NAME, install
from .served_counts import Stats, stats_of

__all__ = ["NAME", "Stats", "enable", "register", "stats_of"]


def register() -> str:
    """Makes `attn_implementation=NAME` known to transformers. Any number of calls do what one does.

    Returns:
        The name.

    Raises:
        ImportError: transformers is not installed, or lacks what this needs; names it.
    """
    install()
    return NAME


def enable(model: Any) -> None:
    """Registers, and lets a loaded model use podattn from its next `generate_batch` on.

    It also serves models that list the flash implementations that they take (gpt-oss): the engine would silently put
    the first of that list in the place of any other name.

    Args:
        model: a `PreTrainedModel`; afterwards, its `config._attn_implementation` is `NAME`.

    Raises:
        ImportError: as `register`.
        ValueError: the model does not choose its attention by name, and would go on with the one that it has.
    """
    register()
    for module in model.modules():
        known = getattr(module, "_compatible_flash_implementations", None)
        if known is not None and NAME not in known:
            module._compatible_flash_implementations = [*known, NAME]
    model.set_attn_implementation(NAME)
    used = model.config._attn_implementation
    if used != NAME:
        raise ValueError(f"{type(model).__name__} does not take attn_implementation={NAME!r}: it keeps {used!r}")
