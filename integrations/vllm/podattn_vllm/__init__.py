# SPDX-License-Identifier: Apache-2.0
"""podattn as an attention backend of vLLM.

vLLM finds `register` by the entry point group `vllm.general_plugins` and calls it in each of its processes, several
times in some. It imports neither podattn nor PyTorch: that happens when the backend was chosen.
"""

from typing import Any

BACKEND = "podattn_vllm.backend.PodAttentionBackend"
NAMED_BACKEND = "podattn_vllm.backend.PodAttentionNamedBackend"
NAME = "PODATTN"


def register() -> None:
    """Makes the backend known: as `CUSTOM`, and as `PODATTN` where this version of vLLM takes new names."""
    from vllm.v1.attention.backends.registry import AttentionBackendEnum, register_backend

    register_backend(AttentionBackendEnum.CUSTOM, BACKEND)
    if hasattr(AttentionBackendEnum, "register"):
        _register_name(AttentionBackendEnum)


def _register_name(registry: Any) -> None:
    if NAME in registry.__members__:
        return
    member = registry.register(NAME, NAMED_BACKEND)
    # A process that was spawned unpickles the engine's configuration before it loads plug-ins. An enum is pickled by
    # its value, which is not a member there yet.
    member.__reduce_ex__ = lambda protocol: (_named_member, ())


def _named_member() -> Any:
    from vllm.v1.attention.backends.registry import AttentionBackendEnum

    register()
    return AttentionBackendEnum[NAME]
