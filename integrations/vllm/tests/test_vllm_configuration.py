# SPDX-License-Identifier: Apache-2.0
"""How vLLM finds the backend, what it is told of it, and how the memory comes about."""

import pickle
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tomllib
import torch
from fake_engine import FakeEngine, LayerKind, Shape

import podattn

PROJECT = Path(__file__).parents[1]
ROOT = PROJECT.parents[1]


def asked(fake: Any, **changed: Any) -> list[str]:
    """Why the backend refuses a configuration: Llama's on Hopper but for what is changed."""
    from podattn_vllm.backend import PodAttentionBackend

    config: dict[str, Any] = {
        "head_size": 128,
        "dtype": torch.bfloat16,
        "kv_cache_dtype": "auto",
        "block_size": 16,
        "use_mla": False,
        "has_sink": False,
        "use_sparse": False,
        "use_mm_prefix": False,
        "use_per_head_quant_scales": False,
        "device_capability": fake.Capability(9, 0),
        "attn_type": "decoder",
    }
    return PodAttentionBackend.validate_configuration(**{**config, **changed})


# ---- registration ----


def test_registered(fake: Any) -> None:
    """Under CUSTOM, and under its own name where there are new ones; several times."""
    for _ in range(3):
        fake.plugin.register()
    members = fake.registry.enum.__members__
    assert fake.registry.overrides == {members["CUSTOM"]: "podattn_vllm.backend.PodAttentionBackend"}
    assert ("PODATTN" in members) == fake.era.takes_new_names


def test_names_are_members(fake: Any) -> None:
    """A layer looks its backend up by what it says it is called."""
    from podattn_vllm import backend

    fake.plugin.register()
    assert fake.registry.enum[backend.PodAttentionBackend.get_name()] is fake.registry.enum["CUSTOM"]
    if fake.era.takes_new_names:
        member = fake.registry.enum[backend.PodAttentionNamedBackend.get_name()]
        module, _, name = member.value.rpartition(".")
        assert getattr(sys.modules[module], name) is backend.PodAttentionNamedBackend
        assert pickle.loads(pickle.dumps(member)) is member


def test_register_is_light() -> None:
    """It runs in every process of the engine, the ones that serve HTTP too."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import podattn_vllm;"
        "assert not {'torch', 'podattn', 'vllm', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(PROJECT)], check=True)


def test_project_file() -> None:
    """The entry point names the function, and the version is the library's."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["vllm.general_plugins"] == {"podattn": "podattn_vllm:register"}
    header = (ROOT / "include/podattn.h").read_text()
    assert f'POD_VERSION_STRING "{project["version"]}"' in header
    major, minor, _ = project["version"].split(".")
    assert project["dependencies"] == [f"podattn>={major}.{minor},<{major}.{int(minor) + 1}"]


# ---- what is taken ----


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"dtype": torch.float16, "head_size": 64},
        {"head_size": 96},
        {"head_size": 256},
        {"kv_cache_dtype": "bfloat16"},
        {"block_size": None},
        {"block_size": 64},
        {"has_sink": True},
        {"has_sliding_window": True},
        {"use_non_causal": True},
        {"kv_cache_dtype": "fp8"},
        {"kv_cache_dtype": "fp8_e4m3", "head_size": 64, "dtype": torch.float16},
    ],
)
def test_taken(fake: Any, changed: dict[str, Any]) -> None:
    """What the library's kernels do, on Hopper and on others."""
    assert asked(fake, **changed) == []
    assert asked(fake, device_capability=fake.Capability(8, 0), **changed) == []


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"head_size": 264}, "podattn: head_dim = 264 is not supported by the sm80 kernels; those up to 256 are"),
        ({"head_size": 100}, "podattn: head_dim = 100"),
        ({"dtype": torch.float32}, "dtype not supported"),
        (
            {"kv_cache_dtype": "fp8_e5m2"},
            "podattn: kv_cache_dtype 'fp8_e5m2' is not supported; auto, float16, bfloat16, f",
        ),
        ({"kv_cache_dtype": "float16"}, "podattn: kv_dtype f16 with dtype bf16 is not supported"),
        ({"block_size": 24}, "block_size not supported"),
        ({"use_mla": True}, "MLA not supported"),
        ({"attn_type": "encoder_only"}, "attention type encoder_only not supported"),
        ({"use_batch_invariant": True}, "batch invariance not supported"),
        ({"use_non_causal": True, "has_sliding_window": True}, "podattn: a sliding window of requests that are not"),
    ],
)
def test_refused(fake: Any, changed: dict[str, Any], reason: str) -> None:
    """By name, so that vLLM says it."""
    assert any(found.startswith(reason) for found in asked(fake, **changed)), asked(fake, **changed)


def test_old_gpu_is_refused(newest: Any) -> None:
    """Before Ampere there are no kernels."""
    assert "compute capability not supported" in asked(newest, device_capability=newest.Capability(7, 5))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"alibi_slopes": [0.5] * 4}, r"podattn: ALiBi \(alibi_slopes\) is not supported"),
        ({"attn_type": "encoder_only"}, "podattn: attention of type encoder_only is not supported"),
        ({"kv_cache_dtype": "fp8_e5m2"}, "podattn: kv_cache_dtype 'fp8_e5m2' is not supported"),
        ({"use_alibi_sqrt": True}, "podattn: use_alibi_sqrt is not supported"),
    ],
)
def test_layer_is_refused(newest: Any, changed: dict[str, Any], reason: str) -> None:
    """What vLLM does not ask about beforehand."""
    from fake_engine import make_config

    from podattn_vllm.layer_impl import PodAttentionImpl

    newest.current.config = make_config(Shape(), 4, 64, 64)
    with pytest.raises(NotImplementedError, match=reason):
        PodAttentionImpl(4, 16, 0.25, 2, **changed)


def test_values_of_another_size_are_refused(newest: Any, rng: random.Random) -> None:
    """As DeepSeek's without MLA would be."""
    engine = FakeEngine(newest, rng, [LayerKind()], Shape())
    engine.spec.head_size_v = 8
    with pytest.raises(NotImplementedError, match="values of head size 8 beside keys of 16"):
        type(engine.builder)(engine.spec, engine.names, engine.config, torch.device("cpu"))


def test_too_many_windows(newest: Any, rng: random.Random) -> None:
    """A plan has 8 masks; the message says which number was asked for."""
    with pytest.raises(podattn.ArgumentError, match="max_masks = 9"):
        FakeEngine(newest, rng, [LayerKind(window=8 + i) for i in range(9)], Shape())


def test_unknown_layout(newest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shape of a version to come is named, not guessed."""
    from podattn_vllm import kv_layout

    default = SimpleNamespace(get_kv_cache_shape=lambda pages, tokens, heads, dim: (pages, tokens, 2 * heads, dim))
    monkeypatch.setattr(kv_layout, "backends_declare_shape", lambda: True)
    monkeypatch.setattr(kv_layout, "default_backend", lambda: default)
    kv_layout.kv_layout.cache_clear()
    with pytest.raises(RuntimeError, match=r"KV cache shape \(3, 16, 10, 64\)"):
        kv_layout.kv_layout()


def test_wrong_cache_shape(fake: Any) -> None:
    """The shape that came and the one that is needed."""
    from podattn_vllm.kv_layout import kv_layout, split

    with pytest.raises(ValueError, match=r"shape \(3, 16, 2, 16, 1\); \["):
        split(torch.zeros(3, 16, 2, 16, 1), kv_layout(), 16)


def test_declared_shape_is_the_default_backend(fake: Any) -> None:
    """Where backends declare one, it is the one that other parts of the engine expect."""
    from podattn_vllm import kv_layout
    from podattn_vllm.backend import PodAttentionBackend

    if fake.era.shape is None:
        assert not hasattr(PodAttentionBackend, "get_kv_cache_shape")
        return
    default = kv_layout.default_backend()
    assert PodAttentionBackend.get_kv_cache_shape(7, 32, 4, 64) == default.get_kv_cache_shape(7, 32, 4, 64)
    assert PodAttentionBackend.get_kv_cache_stride_order() == default.get_kv_cache_stride_order()


# ---- limits and memory ----


def test_limits_have_room_for_drafts(newest: Any) -> None:
    """Tokens, lengths and, with chunked attention, requests."""
    from fake_engine import make_config

    from podattn_vllm.plan_limits import plan_limits

    def limits(drafts: int = 0, chunk: int = 0, **speculative: Any) -> dict[str, Any]:
        config = make_config(Shape(), 8, 100, 1000, drafts)
        if drafts:
            vars(config.speculative_config).update(speculative)
        shape = {"q_heads": 4, "kv_heads": 2, "head_dim": 64, "page_size": 16}
        dtypes = {"dtype": torch.float16, "kv_dtype": torch.float16}
        return plan_limits(config, **shape, **dtypes, chunk_tokens=chunk, device=torch.device("cuda", 1))

    assert limits() | {"max_requests": 8, "max_q_tokens": 100, "max_kv_len": 1008} == limits()
    assert limits()["batch_memory"] == "device"
    assert limits(drafts=15) | {"max_q_tokens": 100 + 8 * 15, "max_kv_len": 1024} == limits(drafts=15)
    assert limits(drafts=4, parallel_drafting=True)["max_q_tokens"] == 100 + 8 * 8
    # Each of 8 requests begins and ends within chunks of 10 tokens.
    assert limits(chunk=10)["max_requests"] == 16 + 100 // 10


def test_profiling_run_allocates_what_plans_share(fake: Any, rng: random.Random) -> None:
    """The engine measures that run; plans that are made later take what is there."""
    from podattn_vllm import shared_scratch

    engine = FakeEngine(fake, rng, [LayerKind(), LayerKind(window=20)], Shape())
    shared_scratch._scratches.clear()
    out = torch.full((3, 4, 16), 7.0, dtype=torch.float16)
    q = torch.zeros_like(out)
    for layer in engine.layers:
        assert layer.impl.forward(layer, q, q, q, torch.tensor([]), None, out) is out
    assert not out.any()
    reserved = shared_scratch._scratches[torch.device("cpu")]
    again = type(engine.builder)(engine.spec, engine.names, engine.config, torch.device("cpu"))
    assert shared_scratch._scratches == {torch.device("cpu"): reserved}
    plan = again._plans[4]
    assert plan._memory[1].address == reserved.memory_for(plan._device, plan.scratch_bytes).address


def test_one_plan_for_all_windows(newest: Any, rng: random.Random) -> None:
    """Layers of one shape share a plan and its launch, whatever their windows."""
    kinds = [LayerKind(window=20), LayerKind(), LayerKind(window=20), LayerKind(window=31)]
    engine = FakeEngine(newest, rng, kinds, Shape())
    assert list(engine.builder._plans) == [4]
    assert engine.builder._mask_of_window == {0: 0, 20: 1, 31: 2}


# ---- what is looked at ----


def test_bad_request_is_logged_once(newest: Any, rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    """The word that a GPU writes is looked at in each build, without waiting."""
    engine = FakeEngine(newest, rng, [LayerKind()], Shape())
    monkeypatch.setattr(podattn.Plan, "bad_request", property(lambda plan: 3))
    newest.log.lines.clear()
    for _ in range(3):
        engine.step([(engine.add(), 2)])
    assert len(newest.log.lines) == 1
    assert "request 2 of a step had lengths or pages that cannot be right" in newest.log.lines[0]


def test_sinks_stay_where_they_are(newest: Any, rng: random.Random) -> None:
    """Weights may be loaded again while a captured graph has the address."""
    engine = FakeEngine(newest, rng, [LayerKind(has_sinks=True)], Shape(dtype=torch.bfloat16))
    impl, given = engine.layers[0].impl, engine.sinks[0]
    address = impl._sinks.data_ptr()
    given.fill_(2.5)
    impl.process_weights_after_loading(torch.bfloat16)
    assert impl._sinks.data_ptr() == address and impl._sinks.dtype == torch.float32
    assert impl._sinks.tolist() == [2.5] * 4


def test_quantised_output_is_refused(newest: Any, rng: random.Random) -> None:
    """The engine asks first; if it does not, nothing wrong is returned."""
    engine = FakeEngine(newest, rng, [LayerKind()], Shape())
    request = engine.add()
    engine.step([(request, 2)])
    metadata = SimpleNamespace(builder=engine.builder, step=engine.builder.step)
    q = torch.zeros(2, 4, 16, dtype=torch.float16)
    with pytest.raises(NotImplementedError, match="quantised output is not supported"):
        engine.layers[0].impl.forward(None, q, q, q, engine.layers[0].kv_cache, metadata, q, torch.ones(1))


def test_quantised_cache_comes_with_scales(fake: Any, rng: random.Random) -> None:
    """VLLM's bytes as elements, and the layer's scales."""

    class Recorder:
        def attention(self, *arrays: torch.Tensor, **options: Any) -> None:
            self.arrays, self.options = arrays, options

    engine = FakeEngine(fake, rng, [LayerKind()], Shape())
    impl = type(engine.layers[0].impl)(4, 16, 0.25, 2, kv_cache_dtype="fp8")
    scale = torch.ones(1)
    layer = SimpleNamespace(_k_scale=scale, _v_scale=torch.ones(1))
    plan, builder = Recorder(), SimpleNamespace(step=1)
    metadata = SimpleNamespace(builder=builder, step=1, plans={4: plan}, mask_of_window={0: 0})
    q = torch.zeros(2, 4, 16, dtype=torch.float16)
    cache = torch.zeros_like(engine.layers[0].kv_cache, dtype=torch.uint8)
    impl.forward(layer, q, q, q, cache, metadata, torch.zeros_like(q))
    assert plan.arrays[1].dtype == plan.arrays[2].dtype == torch.float8_e4m3fn
    assert plan.options["k_scale"] is scale and plan.options["v_scale"] is layer._v_scale


def test_shared_layer_does_not_write(newest: Any, rng: random.Random) -> None:
    """The cache belongs to the other layer."""
    engine = FakeEngine(newest, rng, [LayerKind(), LayerKind(shares=0)], Shape())
    cache = engine.layers[0].kv_cache
    k = torch.ones(1, 2, 16, dtype=torch.float16)
    engine.layers[1].impl.do_kv_cache_update(engine.layers[1], k, k, cache, torch.tensor([0]))
    assert bool(cache.isnan().all())
    engine.layers[0].impl.do_kv_cache_update(engine.layers[0], k, k, cache, torch.tensor([0]))
    assert int((~cache.isnan()).sum()) == 2 * 2 * 16
