# SPDX-License-Identifier: Apache-2.0
"""podattn as an attention backend of SGLang: `--attention-backend podattn`.

SGLang finds `register` by the entry point group `sglang.srt.plugins`. Importing this imports neither SGLang nor
PyTorch. docs/sglang.md says what is served, and what is refused.
"""

from __future__ import annotations

from typing import Any

NAME = "podattn"


def register() -> None:
    """Makes the backend known to SGLang. Any number of calls do what one does.

    Raises:
        ImportError: SGLang is not installed, or lacks its registry of attention backends.
    """
    from sglang.srt import server_args
    from sglang.srt.layers.attention.attention_registry import ATTENTION_BACKENDS, register_attention_backend

    if NAME not in ATTENTION_BACKENDS:
        register_attention_backend(NAME)(_make_backend)
    # The list from which every version of SGLang makes the choices of its command line.
    if NAME not in server_args.ATTENTION_BACKEND_CHOICES:
        server_args.ATTENTION_BACKEND_CHOICES.append(NAME)


def _make_backend(runner: Any) -> Any:
    """What the registry calls with SGLang's model runner."""
    from .sglang_backend import PodattnBackend

    return PodattnBackend(runner)
