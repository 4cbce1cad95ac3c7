# SPDX-License-Identifier: Apache-2.0
"""The same random steps on the classes of a real vLLM, on the CPU, where PODATTN_VLLM_IMPORT=1 says that it can be
imported. Its compiled parts are not needed: a wheel's .py files and the packages that they import suffice.

    PODATTN_VLLM_IMPORT=1 PYTHONPATH=wheels/0.24.0:... VLLM_TARGET_DEVICE=cpu pytest .../test_vllm_imported.py
"""

import os
import pickle
import random
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import fake_vllm_package
import pytest
import torch
from fake_engine import FakeEngine, Shape
from test_vllm_steps import LIMIT, MODELS, run_steps

pytestmark = pytest.mark.skipif(
    os.environ.get("PODATTN_VLLM_IMPORT") != "1", reason="PODATTN_VLLM_IMPORT=1 does not say that vLLM can be imported"
)


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What `fake_vllm_package.installed` yields, of the real package; only its cache kernel is replaced."""
    import vllm._custom_ops

    import podattn_vllm
    from podattn_vllm import kv_layout, layer_impl, metadata_builder

    podattn_vllm.register()
    current = SimpleNamespace(config=None)
    monkeypatch.setattr(vllm._custom_ops, "reshape_and_cache_flash", fake_vllm_package.reshape_and_cache_flash)
    monkeypatch.setattr(layer_impl, "get_current_vllm_config_or_none", lambda: current.config)
    plain_build = metadata_builder.PodMetadataBuilder.build

    def build(builder: Any, common_prefix_len: int, common: Any, fast_build: bool = False) -> Any:
        return plain_build(builder, common_prefix_len, as_real(common), fast_build)

    monkeypatch.setattr(metadata_builder.PodMetadataBuilder, "build", build)
    layouts = {
        kv_layout.KvLayout.KEYS_FIRST: "keys_first",
        kv_layout.KvLayout.PAGES_FIRST: "pages_first",
        kv_layout.KvLayout.PACKED: "packed",
    }
    era = fake_vllm_package.ERAS[layouts[kv_layout.kv_layout()]]
    yield SimpleNamespace(era=era, current=current, plugin=podattn_vllm)


def as_real(common: Any) -> Any:
    """A step's description in vLLM's own class, whose fields differ between versions."""
    from vllm.v1.attention.backend import CommonAttentionMetadata

    if isinstance(common, CommonAttentionMetadata):
        return common
    most = {"max_query_len": common.num_actual_tokens, "max_seq_len": int(common.seq_lens.max())}
    return CommonAttentionMetadata(query_start_loc_cpu=common.query_start_loc, **most, **vars(common))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("heads_first", [False, True])
def test_random_steps(real: Any, rng: random.Random, model: str, heads_first: bool) -> None:
    """Builder and layers are what vLLM would make of them."""
    for _ in range(3):
        engine = FakeEngine(real, rng, MODELS[model], Shape(head_dim=64, heads_first=heads_first), drafts=3)
        run_steps(engine, num_steps=4, most_drafts=3)


def test_registry(real: Any) -> None:
    """Both names, where there are two, are found and survive a pickle."""
    from vllm.v1.attention.backend import AttentionCGSupport
    from vllm.v1.attention.backends.registry import AttentionBackendEnum

    real.plugin.register()
    for name in ("CUSTOM", "PODATTN"):
        if name in AttentionBackendEnum.__members__:
            member = AttentionBackendEnum[name]
            backend = member.get_class()
            assert backend.get_name() == name and pickle.loads(pickle.dumps(member)) is member
            support = backend.get_builder_cls().get_cudagraph_support(None, None)
            assert support is AttentionCGSupport.ALWAYS


def test_fast_prefill(real: Any, rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    """The class that vLLM derives for layers that share a cache copies a step's metadata field by field."""
    from vllm.v1.attention.backends import utils

    from podattn_vllm.backend import PodAttentionBackend

    monkeypatch.setattr(utils, "make_kv_sharing_fast_prefill_common_attn_metadata", lambda common: common)
    backend = utils.create_fast_prefill_custom_backend("Fast", PodAttentionBackend)
    engine = FakeEngine(real, rng, MODELS["plain"], Shape(head_dim=64))
    derived = backend.get_builder_cls()(engine.spec, engine.names, engine.config, torch.device("cpu"))
    request = engine.add()
    assert max(engine.step([(request, 20)])) < LIMIT[torch.float16]
    common = as_real(
        SimpleNamespace(
            query_start_loc=torch.tensor([0, 1], dtype=torch.int32),
            seq_lens=torch.tensor([20], dtype=torch.int32),
            num_reqs=1,
            num_actual_tokens=1,
            block_table_tensor=engine.table[:1],
            slot_mapping=torch.tensor([-1]),
            causal=True,
        )
    )
    layer, q = engine.layers[0], engine.random(1, 4, 64)
    outs = []
    for metadata in (derived.build(0, common), engine.builder.build(0, common)):
        outs.append(torch.zeros_like(q))
        layer.impl.forward(layer, q, q, q, layer.kv_cache, metadata, outs[-1])
    assert torch.equal(*outs) and bool(outs[0].any())
