# SPDX-License-Identifier: Apache-2.0
"""Tensor parallel: what the worker of each rank gives the plug-in, heads and device. No GPU is needed, and no group."""

import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_engine import FakeEngine, LayerKind, Shape, make_config
from torch._subclasses.fake_tensor import FakeTensorMode

import podattn

RANKS = 2

MODELS = {
    "plain": (8, 4, [LayerKind(), LayerKind(window=24)]),
    "sinks": (8, 2, [LayerKind(has_sinks=True)]),
    "one KV head, which both have": (4, 1, [LayerKind(), LayerKind(softcap=5.0)]),
}


class RankEngine(FakeEngine):
    """An engine with the share of a rank: it draws what one process would, and keeps its heads."""

    def __init__(
        self, fake: Any, seed: int, rank: int, ranks: int, q_heads: int, kv_heads: int, kinds: list[LayerKind]
    ):
        self.rank, self.ranks, self.q_heads, self.kv_heads = rank, ranks, q_heads, kv_heads
        own = [LayerKind(**{**vars(kind), "q_heads": q_heads // ranks}) for kind in kinds]
        super().__init__(fake, random.Random(seed), own, Shape(kv_heads=max(kv_heads // ranks, 1), head_dim=64))

    def random(self, *extents: int) -> torch.Tensor:
        """Sinks: those of the rank's heads."""
        if len(extents) > 1:
            return super().random(*extents)
        return super().random(self.q_heads)[self.rank * extents[0] :][: extents[0]]

    def random_qkv(self, rows: int, kind: LayerKind) -> torch.Tensor:
        qkv = super().random(rows, self.q_heads + 2 * self.kv_heads, self.shape.head_dim)
        q, k, v = qkv.split([self.q_heads, self.kv_heads, self.kv_heads], dim=1)
        first_q, first_kv = self.rank * kind.q_heads, self.rank * self.kv_heads // self.ranks
        return torch.cat([
            q[:, first_q : first_q + kind.q_heads],
            k[:, first_kv : first_kv + self.shape.kv_heads],
            v[:, first_kv : first_kv + self.shape.kv_heads],
        ], dim=1)  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_ranks_together_are_one_process(fake: Any, rng: random.Random, model: str) -> None:
    """Their outputs side by side; each is compared with the definition as well."""
    seed, (q_heads, kv_heads, kinds) = rng.randrange(1 << 31), MODELS[model]
    alone = RankEngine(fake, seed, 0, 1, q_heads, kv_heads, kinds)
    ranks = [RankEngine(fake, seed, rank, RANKS, q_heads, kv_heads, kinds) for rank in range(RANKS)]
    assert all(list(engine.builder._plans) == [q_heads // RANKS] for engine in ranks)
    for engine in (alone, *ranks):
        for _ in range(3):
            engine.add()
    for counts in ([40, 7, 1], [1, 1, 9], [20, 1, 1]):
        padding = rng.randint(0, 3), rng.randint(0, 5)
        for engine in (alone, *ranks):
            assert max(engine.step(list(zip(engine.requests, counts)), *padding)) < 2e-3
        together = torch.cat([engine.last_out for engine in ranks], dim=1)
        torch.testing.assert_close(together, alone.last_out, atol=2e-3, rtol=2e-3)


class Asked(list[torch.device]):
    """The devices that podattn was asked for; it computes on the CPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        plan, scratch, sizes = podattn.Plan, podattn.Scratch, podattn.workspace_bytes

        def note(device: Any) -> None:
            self.append(torch.device(device))

        def make_plan(*, device: Any, batch_memory: str, **limits: Any) -> podattn.Plan:
            note(device)
            assert batch_memory == "device"
            return plan(**limits, device="cpu")

        def make_scratch(num_bytes: int, device: Any) -> podattn.Scratch:
            note(device)
            return scratch(num_bytes, "cpu")

        def ask_sizes(*, device: Any, batch_memory: str, **limits: Any) -> Any:
            note(device)
            assert batch_memory == "device"
            return sizes(**limits, device="cpu")

        monkeypatch.setattr(podattn, "Plan", make_plan)
        monkeypatch.setattr(podattn, "Scratch", make_scratch)
        monkeypatch.setattr(podattn, "workspace_bytes", ask_sizes)


@pytest.mark.parametrize("rank", range(RANKS))
def test_every_rank_has_its_gpu(fake: Any, rng: random.Random, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes, scratch and plans are of the rank's GPU: of the tensors', and of the one that vLLM names."""
    from podattn_vllm import shared_scratch
    from podattn_vllm.backend import PodAttentionBackend

    own = torch.device("cuda", rank)
    asked = Asked(monkeypatch)
    monkeypatch.setattr(shared_scratch, "_scratches", {})
    shape = Shape()
    config = make_config(shape, 8, 96, 160)
    fake.current.config = config
    impl = PodAttentionBackend.get_impl_cls()(4, shape.head_dim, 0.25, shape.kv_heads)

    # The profiling run, on tensors of that GPU; then the builder, by the worker's device.
    with FakeTensorMode():
        q = torch.empty(3, 4, shape.head_dim, dtype=shape.dtype, device=own)
        impl.forward(None, q, q, q, q, None, torch.empty_like(q))
    assert asked == [own, own] and list(shared_scratch._scratches) == [own]
    config.compilation_config.static_forward_context["layer.0"] = SimpleNamespace(impl=impl)
    spec = SimpleNamespace(block_size=16, num_kv_heads=2, head_size=shape.head_dim, dtype=shape.dtype)
    PodAttentionBackend.get_builder_cls()(spec, ["layer.0"], config, own)
    assert set(asked) == {own} and len(asked) == 3 and list(shared_scratch._scratches) == [own]
