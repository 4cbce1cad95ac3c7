# SPDX-License-Identifier: Apache-2.0
"""The few classes of vLLM that the plug-in touches, in the forms that they have had. Written for these tests.

Each era is a set of features, with the versions of vLLM that have it in the comment.
"""

import contextlib
import enum
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

import torch


class Era(NamedTuple):
    """What differs among the supported versions."""

    shape: Optional[str]
    """Which cache shape vLLM's default backend declares; None: backends declare none."""
    takes_new_names: bool
    """Whether the registry makes new members."""
    combination_has_prefix: bool
    """Whether supports_combination() has the argument use_mm_prefix."""
    checks_windows: bool
    """Whether a backend has to say that it supports windows."""


ERAS = {
    "keys_first": Era("keys_first", False, False, False),  # 0.20, 0.22
    "pages_first": Era("pages_first", False, True, False),  # 0.24
    "packed_declared": Era("packed", False, True, True),  # 0.27
    "packed": Era(None, True, True, True),  # 0.33
}


class AttentionType(str, enum.Enum):
    """Kinds of attention."""

    DECODER = "decoder"
    ENCODER_ONLY = "encoder_only"


@dataclass(frozen=True)
class MultipleOf:
    """A block size's rule."""

    base: int


class AttentionCGSupport(enum.Enum):
    """Of CUDA graphs."""

    ALWAYS = 3
    NEVER = 0


class Capability(NamedTuple):
    """Of a GPU."""

    major: int
    minor: int


def _reasons(backend: Any, era: Era, asked: dict[str, Any]) -> list[str]:
    """What vLLM says of a configuration that a backend does not take."""
    block_size = asked["block_size"]
    sizes = [size.base for size in backend.get_supported_kernel_block_sizes()]
    checks = {
        "head_size not supported": backend.supports_head_size(asked["head_size"]),
        "dtype not supported": asked["dtype"] in backend.supported_dtypes,
        "kv_cache_dtype not supported": asked["kv_cache_dtype"] in backend.supported_kv_cache_dtypes,
        "block_size not supported": block_size is None or any(block_size % size == 0 for size in sizes),
        "attention sinks not supported": not asked["has_sink"] or backend.supports_sink(),
        "compute capability not supported": backend.supports_compute_capability(asked["device_capability"]),
        f"attention type {asked['attn_type']} not supported": backend.supports_attn_type(asked["attn_type"]),
        "non-causal attention not supported": not asked.get("use_non_causal") or backend.supports_non_causal(),
        "MLA not supported": not asked["use_mla"],
        "batch invariance not supported": not asked.get("use_batch_invariant"),
    }
    if era.checks_windows:
        checks["sliding window not supported"] = (
            not asked.get("has_sliding_window") or backend.supports_sliding_window()
        )
    found = [reason for reason, is_taken in checks.items() if not is_taken]
    names = ["head_size", "dtype", "kv_cache_dtype", "block_size", "use_mla", "has_sink", "use_sparse"]
    names += ["use_mm_prefix"] if era.combination_has_prefix else []
    other = backend.supports_combination(*(asked[name] for name in [*names, "device_capability"]))
    return found if other is None else [*found, other]


def _backend_class(era: Era) -> type:
    class AttentionBackend:
        forward_includes_kv_cache_update = True

        @classmethod
        def full_cls_name(cls) -> tuple[str, str]:
            return cls.__module__, cls.__qualname__

        @classmethod
        def validate_configuration(cls, **asked: Any) -> list[str]:
            return _reasons(cls, era, asked)

        @classmethod
        def supports_sliding_window(cls) -> bool:
            return False

    if era.shape is not None:
        AttentionBackend.get_kv_cache_shape = None  # type: ignore[attr-defined]  # backends give it
    return AttentionBackend


class AttentionMetadataBuilder:
    """The base of builders."""

    def __init__(self, kv_cache_spec: Any, layer_names: list[str], vllm_config: Any, device: torch.device) -> None:
        """Keeps what it is given."""
        self.kv_cache_spec, self.layer_names = kv_cache_spec, layer_names
        self.vllm_config, self.device = vllm_config, device

    def __class_getitem__(cls, item: Any) -> type:
        """The real one is generic."""
        return cls

    def build_for_cudagraph_capture(self, common_attn_metadata: Any) -> Any:
        """As vLLM's does."""
        return self.build(common_prefix_len=0, common_attn_metadata=common_attn_metadata)  # type: ignore[attr-defined]


class AttentionImpl:
    """The base of layers."""

    def process_weights_after_loading(self, act_dtype: torch.dtype) -> None:
        """Nothing."""


class _Registry:
    """One registry for each import of the package."""

    def __init__(self, era: Era) -> None:
        self.overrides: dict[Any, str] = {}
        overrides = self.overrides

        class AttentionBackendEnum(enum.Enum):
            FLASH_ATTN = "vllm.v1.attention.backends.flash_attn.FlashAttentionBackend"
            CUSTOM = None

        if era.takes_new_names:

            def register(name: str, value: str) -> Any:
                if name in AttentionBackendEnum.__members__:
                    raise ValueError(f"{name} exists")
                member = object.__new__(AttentionBackendEnum)
                member._name_, member._value_ = name, value
                AttentionBackendEnum._member_map_[name] = member
                AttentionBackendEnum._value2member_map_[value] = member
                return member

            AttentionBackendEnum.register = staticmethod(register)  # type: ignore[attr-defined]

        def register_backend(backend: Any, class_path: Optional[str] = None, is_mamba: bool = False) -> Any:
            assert backend in AttentionBackendEnum
            overrides[backend] = class_path or ""

        self.enum, self.register_backend = AttentionBackendEnum, register_backend


def _default_backend(era: Era) -> type:
    class FlashAttentionBackend:
        @staticmethod
        def get_kv_cache_shape(
            num_blocks: int, block_size: int, num_kv_heads: int, head_size: int, cache_dtype_str: str = "auto"
        ) -> tuple[int, ...]:
            inner = (block_size, num_kv_heads, head_size)
            if era.shape == "keys_first":
                return (2, num_blocks, *inner)
            if era.shape == "pages_first":
                return (num_blocks, 2, *inner)
            return (num_blocks, num_kv_heads, block_size, 2 * head_size)

        @staticmethod
        def get_kv_cache_stride_order(include_num_layers_dimension: bool = False) -> tuple[int, ...]:
            return (0, 2, 1, 3) if era.shape == "packed" else (0, 1, 2, 3, 4)

    return FlashAttentionBackend


def reshape_and_cache_flash(
    key: torch.Tensor,
    value: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
    kv_cache_dtype: str,
    k_scale: torch.Tensor,
    v_scale: torch.Tensor,
) -> None:
    """What vLLM's kernel does, on a CPU."""
    page_size = key_cache.shape[1]
    tokens = torch.nonzero(slot_mapping >= 0)[:, 0]
    slots = slot_mapping[tokens]
    for cache, new, scale in ((key_cache, key, k_scale), (value_cache, value, v_scale)):
        rows = new[tokens]
        if kv_cache_dtype == "fp8":
            assert cache.dtype == torch.uint8
            rows = (rows.float() / scale).to(torch.float8_e4m3fn).view(torch.uint8)
        cache[slots // page_size, slots % page_size] = rows


class Log:
    """Keeps what was said."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        self.lines: list[str] = []

    def info(self, text: str, *values: Any) -> None:
        """Formats as logging does."""
        self.lines.append(text % values)

    error = warning = info


@contextlib.contextmanager
def installed(era_name: str, config: Any = None) -> Iterator[types.SimpleNamespace]:
    """The fake package in place of vLLM, and the plug-in imported anew: its classes derive from it."""
    era = ERAS[era_name]
    registry, log = _Registry(era), Log()
    current = types.SimpleNamespace(config=config)
    contents: dict[str, dict[str, Any]] = {
        "vllm": {},
        "vllm.config": {"get_current_vllm_config_or_none": lambda: current.config},
        "vllm.logger": {"init_logger": lambda name: log},
        "vllm._custom_ops": {"reshape_and_cache_flash": reshape_and_cache_flash},
        "vllm.v1": {},
        "vllm.v1.attention": {},
        "vllm.v1.attention.backend": {
            "AttentionBackend": _backend_class(era),
            "AttentionCGSupport": AttentionCGSupport,
            "AttentionImpl": AttentionImpl,
            "AttentionMetadataBuilder": AttentionMetadataBuilder,
            "AttentionType": AttentionType,
            "MultipleOf": MultipleOf,
        },
        "vllm.v1.attention.backends": {},
        "vllm.v1.attention.backends.flash_attn": {"FlashAttentionBackend": _default_backend(era)},
        "vllm.v1.attention.backends.registry": {
            "AttentionBackendEnum": registry.enum,
            "register_backend": registry.register_backend,
        },
    }

    def is_ours(name: str) -> bool:
        return name.partition(".")[0] in ("vllm", "podattn_vllm")

    before = {name: module for name, module in sys.modules.items() if is_ours(name)}
    for name in before:
        del sys.modules[name]
    for name, values in contents.items():
        module = types.ModuleType(name)
        module.__dict__.update(values)
        sys.modules[name] = module
    try:
        import podattn_vllm

        yield types.SimpleNamespace(
            era=era, plugin=podattn_vllm, registry=registry, log=log, current=current, Capability=Capability
        )
    finally:
        for name in [name for name in sys.modules if is_ours(name)]:
            del sys.modules[name]
        sys.modules.update(before)
