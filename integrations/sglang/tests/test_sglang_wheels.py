# SPDX-License-Identifier: Apache-2.0
"""What the backend and the fake assume of SGLang, against the sources of real versions, which are read and not run.

PODATTN_SGLANG_WHEELS names a folder with one folder for each version, into which a wheel was unpacked:

    pip download --no-deps sglang==0.5.23 && unzip -q sglang-0.5.23-*.whl '*.py' -d wheels/0.5.23
"""

from __future__ import annotations

import ast
import functools
import inspect
import os
from pathlib import Path
from typing import Union

import fake_sglang
import pytest

WHEELS = os.environ.get("PODATTN_SGLANG_WHEELS")
VERSIONS = sorted(path for path in Path(WHEELS).iterdir() if (path / "sglang").is_dir()) if WHEELS else []

pytestmark = pytest.mark.skipif(not WHEELS, reason="PODATTN_SGLANG_WHEELS names no folder of unpacked wheels")

Function = Union[ast.FunctionDef, ast.AsyncFunctionDef]


def test_there_are_versions() -> None:
    assert VERSIONS, f"no folder below {WHEELS} has a folder sglang"


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def srt(request: pytest.FixtureRequest) -> Path:
    """The folder sglang/srt of a version."""
    return Path(request.param) / "sglang" / "srt"


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def class_of(path: Path, name: str) -> ast.ClassDef:
    return next(node for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef) and node.name == name)


def methods(node: ast.ClassDef) -> dict[str, Function]:
    return {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}


def fields(node: ast.ClassDef) -> list[str]:
    return [
        item.target.id for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    ]


def parameters(function: Function) -> list[str]:
    return [argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)]


def names_assigned(path: Path) -> set[str]:
    """At the top of a file, and those that it imports."""
    found: set[str] = set()
    for node in tree(path).body:
        if isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return found


def attributes_set(node: ast.AST) -> set[str]:
    """Of self."""
    return {
        target.attr
        for statement in ast.walk(node)
        if isinstance(statement, (ast.Assign, ast.AnnAssign))
        for target in (statement.targets if isinstance(statement, ast.Assign) else [statement.target])
        if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self"
    }


def test_registration(srt: Path) -> None:
    registry = names_assigned(srt / "layers/attention/attention_registry.py")
    assert {"ATTENTION_BACKENDS", "register_attention_backend"} <= registry
    assert "ATTENTION_BACKEND_CHOICES" in names_assigned(srt / "server_args.py")
    assert "get_parallel" in names_assigned(srt / "runtime_context.py")
    assert '"sglang.srt.plugins"' in (srt / "plugins/__init__.py").read_text()


def test_the_base_class(srt: Path) -> None:
    from podattn_sglang.sglang_backend import PodattnBackend

    real = methods(class_of(srt / "layers/attention/base_attn_backend.py", "AttentionBackend"))
    for name, function in vars(PodattnBackend).items():
        if not inspect.isfunction(function) or (name.startswith("_") and name != "__init__"):
            continue
        if name == "__init__":
            continue
        assert name in real, f"{name}() is nothing that SGLang calls"
        wanted = [name for name in parameters(real[name]) if name != "self"]
        taken = [name for name in inspect.signature(function).parameters if name not in ("self", "kwargs")]
        assert taken == wanted, name
    base = ast.unparse(real["init_forward_metadata"])
    assert "init_forward_metadata_out_graph" in base
    assert "init_forward_metadata_in_graph" in base


def test_the_forward_batch(srt: Path) -> None:
    path = srt / "model_executor/forward_batch_info.py"
    real = fields(class_of(path, "ForwardBatch"))
    assert set(fields_of_fake()) <= set(real)
    mode = methods(class_of(path, "ForwardMode"))
    used = ["is_decode_or_idle", "is_target_verify", "is_extend", "is_mixed", "is_dllm_extend", "is_idle", "is_decode"]
    assert set(used) <= set(mode)
    # A verification and a mixed batch are extends, a draft's are not unless one asks.
    extend = ast.unparse(mode["is_extend"])
    assert "TARGET_VERIFY" in extend
    assert "MIXED" in extend


def fields_of_fake() -> list[str]:
    return list(fake_sglang.ForwardBatch.__dataclass_fields__)


def test_the_pools(srt: Path) -> None:
    path = srt / "mem_cache/memory_pool.py"
    assert fields(class_of(path, "KVWriteLoc"))[:2] == list(fake_sglang.KVWriteLoc.__dataclass_fields__)
    pool = methods(class_of(path, "MHATokenToKVPool"))
    assert {"get_key_buffer", "get_value_buffer", "set_kv_buffer"} <= set(pool)
    assert parameters(pool["set_kv_buffer"])[1:5] == ["layer", "loc_info", "cache_k", "cache_v"]
    assert "self.size + self.page_size" in path.read_text()
    windowed = class_of(srt / "mem_cache/swa_memory_pool.py", "SWAKVPool")
    assert {"translate_loc_from_full_to_swa", "set_kv_buffer", "get_key_buffer"} <= set(methods(windowed))
    assert {"full_kv_pool", "swa_kv_pool", "swa_layer_nums"} <= attributes_set(windowed)


def test_the_layer(srt: Path) -> None:
    path = srt / "layers/radix_attention.py"
    set_by_layer = attributes_set(class_of(path, "RadixAttention"))
    assert {*fake_sglang.Layer.__dataclass_fields__} <= set_by_layer
    assert 'DECODER = "decoder"' in path.read_text()


def test_the_model_runner(srt: Path) -> None:
    runner = class_of(srt / "model_executor/model_runner.py", "ModelRunner")
    used = {"model_config", "server_args", "device", "page_size", "is_draft_worker", "use_mla_backend"}
    assert used <= attributes_set(runner)
    text = ast.unparse(runner)
    for name in ("sliding_window_size", "kv_cache_dtype", "dtype", "req_to_token_pool", "token_to_kv_pool"):
        assert f"self.{name}" in text, name


def test_what_verification_tells(srt: Path) -> None:
    verify = class_of(srt / "speculative/eagle_info.py", "EagleVerifyInput")
    assert {"topk", "draft_token_num"} <= set(fields(verify))
