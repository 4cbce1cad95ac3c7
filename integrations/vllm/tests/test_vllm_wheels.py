# SPDX-License-Identifier: Apache-2.0
"""The plug-in against the sources of real versions of vLLM, which are read and not run.

PODATTN_VLLM_WHEELS names a folder with one folder for each version, into which a wheel was unpacked:

    pip download --no-deps vllm==0.24.0 && unzip -q vllm-0.24.0-*.whl '*.py' -d wheels/0.24.0
"""

import ast
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

PLUGIN = Path(__file__).parents[1] / "podattn_vllm"
WHEELS = os.environ.get("PODATTN_VLLM_WHEELS")
VERSIONS = sorted(path for path in Path(WHEELS).iterdir() if (path / "vllm").is_dir()) if WHEELS else []

pytestmark = pytest.mark.skipif(not WHEELS, reason="PODATTN_VLLM_WHEELS names no folder of unpacked wheels")


def test_there_are_versions() -> None:
    """An empty folder is a mistake, not a success."""
    assert VERSIONS, f"no folder below {WHEELS} has a folder vllm"


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def vllm(request: pytest.FixtureRequest) -> Path:
    """The package's folder in a version."""
    return Path(request.param) / "vllm"


@functools.cache
def tree(path: Path) -> ast.Module:
    """A parsed file."""
    return ast.parse(path.read_text())


def class_of(path: Path, name: str) -> ast.ClassDef:
    """A class of a file."""
    return next(node for node in tree(path).body if isinstance(node, ast.ClassDef) and node.name == name)


def methods(node: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    """By name, those under an `if` of the class body too."""
    found: dict[str, ast.FunctionDef] = {}
    bodies: list[list[Any]] = [node.body]
    while bodies:
        for item in bodies.pop():
            if isinstance(item, ast.FunctionDef):
                found[item.name] = item
            elif isinstance(item, ast.If):
                bodies.append(item.body)
    return found


def fields(node: ast.ClassDef) -> set[str]:
    """Names that a class body declares or assigns."""
    names = {
        item.target.id for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }
    return names | set(methods(node))


def parameters(function: ast.FunctionDef) -> list[str]:
    """Positional ones, without self and cls."""
    return [arg.arg for arg in function.args.args if arg.arg not in ("self", "cls")]


def is_abstract(function: ast.FunctionDef) -> bool:
    """Whether a subclass has to have it."""
    return any(ast.unparse(decorator) == "abstractmethod" for decorator in function.decorator_list)


def top_level(path: Path) -> set[str]:
    """Names that a module defines or imports."""
    names: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.ImportFrom, ast.Import)):
            names |= {alias.asname or alias.name for alias in node.names}
    return names | {node.name for node in tree(path).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


def calls(path: Path, name: str) -> Iterator[ast.Call]:
    """Calls of that function, or of an attribute of anything if it begins with a point."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called == name or (name.startswith(".") and called.endswith(name)):
                yield node


OURS = {
    "AttentionBackend": ("backend.py", "PodAttentionBackend"),
    "AttentionMetadataBuilder": ("metadata_builder.py", "PodMetadataBuilder"),
    "AttentionImpl": ("layer_impl.py", "PodAttentionImpl"),
}


def ours(base: str) -> dict[str, ast.FunctionDef]:
    """Methods of the plug-in's class of that base."""
    file, name = OURS[base]
    return methods(class_of(PLUGIN / file, name))


@pytest.mark.parametrize("base", OURS)
def test_abstract_methods(vllm: Path, base: str) -> None:
    """Each of them is there."""
    file = vllm / "v1/attention/backend.py"
    needed = {name for name, function in methods(class_of(file, base)).items() if is_abstract(function)}
    if base == "AttentionImpl":
        inherited = methods(class_of(file, "AttentionImplBase"))
        needed |= {name for name, function in inherited.items() if is_abstract(function)}
    assert needed - set(ours(base)) == set()
    assert needed


@pytest.mark.parametrize("base", OURS)
def test_signatures(vllm: Path, base: str) -> None:
    """What vLLM may pass is taken, in the same order."""
    theirs = methods(class_of(vllm / "v1/attention/backend.py", base))
    shared = set(theirs) & set(ours(base))
    assert shared >= {"AttentionBackend": {"get_name"}, "AttentionImpl": {"forward"}}.get(base, {"build"})
    for name in shared:
        own = ours(base)[name]
        wanted = parameters(theirs[name])
        if own.args.vararg is not None:
            wanted = wanted[: len(parameters(own))]
        assert parameters(own)[: len(wanted)] == wanted, name


def test_capability_is_the_last(vllm: Path) -> None:
    """supports_combination() takes what differs between versions as the rest."""
    theirs = methods(class_of(vllm / "v1/attention/backend.py", "AttentionBackend"))["supports_combination"]
    assert parameters(theirs)[-1] == "device_capability"


def test_reasons_are_asked_by_keyword(vllm: Path) -> None:
    """Ours looks into the keywords of validate_configuration()."""
    found = list(calls(vllm / "platforms/cuda.py", ".validate_configuration"))
    assert found and all(not call.args for call in found)


def test_batch_fields(vllm: Path) -> None:
    """What the builder reads of a step."""
    names = fields(class_of(vllm / "v1/attention/backend.py", "CommonAttentionMetadata"))
    used = {
        node.attr
        for node in ast.walk(ours("AttentionMetadataBuilder")["build"])
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "common"
    }
    assert used and used <= names


@pytest.mark.parametrize(
    ("file", "name", "needed"),
    [
        ("config/compilation.py", "CompilationConfig", {"static_forward_context", "max_cudagraph_capture_size"}),
        ("config/scheduler.py", "SchedulerConfig", {"max_num_seqs", "max_num_batched_tokens"}),
        ("config/model.py", "ModelConfig", {"max_model_len", "dtype"}),
        ("config/speculative.py", "SpeculativeConfig", {"num_speculative_tokens", "parallel_drafting"}),
        ("config/cache.py", "CacheConfig", {"block_size"}),
        (
            "config/vllm.py",
            "VllmConfig",
            {"scheduler_config", "model_config", "speculative_config", "cache_config", "compilation_config"},
        ),
        ("v1/kv_cache_interface.py", "AttentionSpec", {"num_kv_heads", "head_size", "dtype"}),
        ("v1/kv_cache_interface.py", "KVCacheSpec", {"block_size"}),
    ],
)
def test_configuration_fields(vllm: Path, file: str, name: str, needed: set[str]) -> None:
    """What limits are made of."""
    assert needed <= fields(class_of(vllm / file, name))


def test_imports(vllm: Path) -> None:
    """Each name that the plug-in imports from vLLM is there."""
    seen = 0
    for file in PLUGIN.glob("*.py"):
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").startswith("vllm"):
                path = vllm.joinpath(*str(node.module).split(".")[1:])
                path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
                assert {alias.name for alias in node.names} <= top_level(path), (file.name, node.module)
                seen += 1
    assert seen > 6


def test_layout_is_known(vllm: Path) -> None:
    """The default backend's shape is one of three, where backends declare one; otherwise newer hooks are there."""
    backend = fields(class_of(vllm / "v1/attention/backend.py", "AttentionBackend"))
    default = methods(class_of(vllm / "v1/attention/backends/flash_attn.py", "FlashAttentionBackend"))
    if "get_kv_cache_shape" not in backend:
        assert {"supported_kv_cache_layouts", "customize_spec"} <= backend
        source = (vllm / "v1/attention/backends/flash_attn.py").read_text()
        assert "kv_cache.transpose(1, 2).split(self.head_size, dim=-1)" in source
        return
    shape = default["get_kv_cache_shape"]
    shape.decorator_list = []
    space: dict[str, Any] = {}
    exec(compile(ast.Module([shape], []), "shape", "exec"), space)
    known = {(2, 3, 16, 5, 64), (3, 2, 16, 5, 64), (3, 5, 16, 128)}
    assert space["get_kv_cache_shape"](3, 16, 5, 64) in known
    order = default["get_kv_cache_stride_order"]
    assert parameters(order) == ["include_num_layers_dimension"]


def test_registry(vllm: Path) -> None:
    """CUSTOM is there, and what registers."""
    path = vllm / "v1/attention/backends/registry.py"
    registry = class_of(path, "AttentionBackendEnum")
    members = {ast.unparse(node.targets[0]) for node in registry.body if isinstance(node, ast.Assign)}
    assert "CUSTOM" in members
    found = next(node for node in tree(path).body if getattr(node, "name", "") == "register_backend")
    assert isinstance(found, ast.FunctionDef)
    assert parameters(found)[:2] == ["backend", "class_path"]
    new_name: Optional[ast.FunctionDef] = methods(registry).get("register")
    assert new_name is None or parameters(new_name) == ["name", "value"]


def test_how_layers_are_called(vllm: Path) -> None:
    """The constructor, attention and the cache's update, as the layer calls them."""
    path = vllm / "model_executor/layers/attention/attention.py"
    made = next(iter(calls(path, "impl_cls")))
    own = parameters(ours("AttentionImpl")["__init__"])
    assert [ast.unparse(arg) for arg in made.args] == own[: len(made.args)]
    assert own[len(made.args) :] == ["sinks"]
    forward = [call for call in calls(path, ".impl.forward") if call.keywords]
    own = parameters(ours("AttentionImpl")["forward"])
    assert forward
    for call in forward:
        assert len(call.args) + len(call.keywords) == len(own)
        assert {keyword.arg for keyword in call.keywords} <= set(own[len(call.args) :])
    update = next(iter(calls(path, ".impl.do_kv_cache_update")))
    names = [ast.unparse(arg).removeprefix("attn_").removeprefix("layer_") for arg in update.args]
    assert names == parameters(ours("AttentionImpl")["do_kv_cache_update"])


def test_cache_kernel(vllm: Path) -> None:
    """The engine's own kernel is called with its arguments in its order."""
    path = vllm / "_custom_ops.py"
    theirs = next(node for node in tree(path).body if getattr(node, "name", "") == "reshape_and_cache_flash")
    assert isinstance(theirs, ast.FunctionDef)
    call = next(iter(calls(PLUGIN / "kv_update.py", "reshape_and_cache_flash")))
    names = [ast.unparse(arg).removeprefix("layer._").replace("_cache", "") for arg in call.args]
    wanted = ["key", "value", "key_cache", "value_cache", "slot_mapping", "kv_cache_dtype", "k_scale", "v_scale"]
    assert parameters(theirs) == wanted
    assert names == ["key", "value", "k", "v", "slot_mapping", "kv_dtype", "k_scale", "v_scale"]


def test_metadata_is_copied_field_by_field(vllm: Path) -> None:
    """What the fast prefill path of KV-sharing models does with it."""
    source = (vllm / "v1/attention/backends/utils.py").read_text()
    if "create_fast_prefill_custom_backend" in source:
        assert "fields(metadata.__class__)" in source
    node = class_of(PLUGIN / "metadata_builder.py", "PodMetadata")
    assert [ast.unparse(decorator) for decorator in node.decorator_list] == ["dataclass"]


def test_what_the_bench_calls(vllm: Path) -> None:
    """`bench/engine` drives the engine by hand."""
    bench = PLUGIN.parents[2] / "bench/engine/vllm_engine.py"
    made = next(iter(calls(bench, "vllm.LLM")))
    llm = methods(class_of(vllm / "entrypoints/llm.py", "LLM"))["__init__"]
    known = fields(class_of(vllm / "engine/arg_utils.py", "EngineArgs")) | set(parameters(llm))
    known |= {arg.arg for arg in llm.args.kwonlyargs}
    assert {keyword.arg for keyword in made.keywords} <= known
    params = next(iter(calls(bench, "vllm.SamplingParams")))
    assert {keyword.arg for keyword in params.keywords} <= fields(
        class_of(vllm / "sampling_params.py", "SamplingParams")
    )
    engine = methods(class_of(vllm / "v1/engine/llm_engine.py", "LLMEngine"))
    assert {"add_request", "step", "has_unfinished_requests", "abort_request"} <= set(engine)
    assert parameters(engine["add_request"])[:3] == ["request_id", "prompt", "params"]
    scheduler = (vllm / "v1/core/sched/scheduler.py").read_text()
    assert "token_budget = self.max_num_scheduled_tokens" in scheduler
    assert "num_scheduled_tokens" in fields(class_of(vllm / "v1/core/sched/output.py", "SchedulerOutput"))
    assert "self.engine_core = EngineCore(" in (vllm / "v1/engine/core_client.py").read_text()
