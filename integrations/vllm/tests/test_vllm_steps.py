# SPDX-License-Identifier: Apache-2.0
"""Random steps of an engine, each layer against attention in float64: every layout and every mode of serving."""

import gc
import random
import weakref
from typing import Any

import pytest
import torch
from fake_engine import FakeEngine, LayerKind, Request, Shape

# Rounding of outputs and weights in 16 bits.
LIMIT = {torch.float16: 2e-3, torch.bfloat16: 1.5e-2}

MODELS = {
    "plain": [LayerKind(), LayerKind()],
    "windows": [LayerKind(window=24), LayerKind(), LayerKind(window=24), LayerKind(window=40)],
    "sinks": [LayerKind(has_sinks=True, window=17), LayerKind(has_sinks=True)],
    "softcap": [LayerKind(softcap=5.0), LayerKind(softcap=5.0, window=33)],
    "shared": [LayerKind(), LayerKind(window=20), LayerKind(shares=0), LayerKind(shares=1, window=20)],
    "draft_heads": [LayerKind(), LayerKind(q_heads=2)],
}


def run_steps(engine: FakeEngine, num_steps: int, most_drafts: int) -> None:
    """Chunks, decodes, drafts of which some are rejected, shared prefixes, preemption, padding: in random order."""
    rng, limit = engine.rng, LIMIT[engine.shape.dtype]
    for _ in range(num_steps):
        while len(engine.requests) < rng.randint(1, engine.max_requests - 1):
            others = [other for other in engine.requests if other.length]
            engine.add(rng.choice(others) if others and rng.random() < 0.4 else None)
        room, counts = engine.max_tokens, []
        for request in rng.sample(engine.requests, len(engine.requests)):
            most = min(room, engine.max_len - request.length)
            is_prompt = request.length < 8 or rng.random() < 0.3
            count = rng.randint(1, 48) if is_prompt else rng.randint(1, 1 + most_drafts)
            if min(count, most) > 0 and rng.random() < 0.9:
                counts.append((request, min(count, most)))
                room -= counts[-1][1]
        if not counts:
            engine.drop(rng.choice(engine.requests))
            continue
        padding = rng.randint(0, engine.max_requests - len(counts)), rng.randint(0, room)
        errors = engine.step(counts, *padding)
        assert max(errors) < limit, errors
        for request, count in counts:
            if 1 < count <= 1 + most_drafts:
                reject(request, rng.randint(0, count - 1))
        for request in list(engine.requests):
            if request.length >= engine.max_len - 1 or rng.random() < 0.1:
                engine.drop(request)


def reject(request: Request, count: int) -> None:
    """Drafts that were not accepted: their slots are written again by the next step."""
    request.length -= count


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("heads_first", [False, True])
def test_random_steps(fake: Any, rng: random.Random, model: str, heads_first: bool) -> None:
    """Every mode that needs no special step."""
    shape = Shape(
        heads_first=heads_first,
        dtype=rng.choice([torch.float16, torch.bfloat16]),
        head_dim=rng.choice([16, 64, 128]),
        page_size=rng.choice([16, 32]),
    )
    drafts = rng.choice([0, 0, 3, 15])
    engine = FakeEngine(fake, rng, MODELS[model], shape, drafts=drafts)
    run_steps(engine, num_steps=4, most_drafts=drafts)


def test_random_steps_with_scales(fake: Any, rng: random.Random) -> None:
    """An fp8 cache."""
    shape = Shape(kv_cache_dtype="fp8", head_dim=64, heads_first=rng.random() < 0.5)
    run_steps(FakeEngine(fake, rng, MODELS["windows"], shape), num_steps=3, most_drafts=3)


def test_not_causal(fake: Any, rng: random.Random) -> None:
    """A whole step, and single requests: as int32, and as bool, which is copied to one place."""
    engine = FakeEngine(fake, rng, MODELS["plain"], Shape())
    requests = [engine.add() for _ in range(3)]
    for causal in (False, torch.tensor([1, 0, 1], dtype=torch.int32), torch.tensor([False, True, False])):
        counts = [(request, rng.randint(1, 20)) for request in requests]
        assert max(engine.step(counts, causal=causal)) < LIMIT[torch.float16]
    assert engine.builder._causal is not None


def test_window_not_causal_is_refused(fake: Any, rng: random.Random) -> None:
    """The engine means a window to both sides then."""
    engine = FakeEngine(fake, rng, MODELS["windows"], Shape())
    request = engine.add()
    for causal in (False, torch.tensor([0], dtype=torch.int32)):
        with pytest.raises(NotImplementedError, match=r"not causal in layers with a sliding window \(40 tokens\)"):
            engine.step([(request, 3)], causal=causal)


def test_cache_bound_anew(fake: Any, rng: random.Random) -> None:
    """After the engine slept: another cache with another number of pages; nothing keeps the old one."""
    engine = FakeEngine(fake, rng, MODELS["plain"], Shape(), num_pages=40)
    for num_pages in (40, 80, 24):
        old = weakref.ref(engine.layers[0].kv_cache)
        engine.bind(num_pages)
        gc.collect()
        assert old() is None
        assert engine.layers[0].impl._k_cache is None
        for _ in range(2):
            counts = [(engine.add(), rng.randint(1, 30))]
            assert max(engine.step(counts)) < LIMIT[torch.float16]


def test_other_build_between(fake: Any, rng: random.Random) -> None:
    """A step's layers follow its own batch although another was planned before they ran."""
    engine = FakeEngine(fake, rng, MODELS["windows"], Shape())
    first, second = engine.add(), engine.add()
    assert max(engine.step([(first, 30), (second, 20)])) < LIMIT[torch.float16]
    built = []

    def another(common: Any) -> None:
        shorter = common.__class__(**vars(common))
        shorter.query_start_loc, shorter.seq_lens = torch.tensor([0, 1]).int(), torch.tensor([5]).int()
        shorter.block_table_tensor, shorter.num_reqs = common.block_table_tensor[:1], 1
        shorter.num_actual_tokens = 1
        built.append(engine.builder.build(0, shorter))

    assert max(engine.step([(first, 1), (second, 40)], before_layers=another)) < LIMIT[torch.float16]
    assert built[0].step != engine.builder.step


def test_capture_build(fake: Any, rng: random.Random) -> None:
    """What vLLM calls before it captures a graph plans like any step."""
    engine = FakeEngine(fake, rng, MODELS["plain"], Shape())
    common = _common(engine, [0, 4, 8], [4, 4], torch.zeros(2, 1, dtype=torch.int32))
    metadata = engine.builder.build_for_cudagraph_capture(common)
    assert metadata.num_q_tokens == 8 and metadata.step == engine.builder.step


def test_longest_draft_fits(newest: Any, rng: random.Random) -> None:
    """Drafts past the model's limit are within the plan's."""
    engine = FakeEngine(newest, rng, MODELS["plain"], Shape(), max_len=64, drafts=5)
    request = engine.add()
    engine.step([(request, 64)])
    request.length = 63
    assert max(engine.step([(request, 6)])) < LIMIT[torch.float16]


def test_wrong_batch_is_named(newest: Any, rng: random.Random) -> None:
    """In the host's memory the build itself says it."""
    engine = FakeEngine(newest, rng, MODELS["plain"], Shape())
    with pytest.raises(ValueError, match=r"kv_len\[0\] = 2 is smaller than q_len\[0\] = 4"):
        engine.builder.build(0, _common(engine, [0, 4], [2], torch.zeros(1, 1, dtype=torch.int32)))


def _common(engine: FakeEngine, starts: list[int], lengths: list[int], table: torch.Tensor) -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(
        query_start_loc=torch.tensor(starts, dtype=torch.int32),
        seq_lens=torch.tensor(lengths, dtype=torch.int32),
        num_reqs=len(lengths),
        num_actual_tokens=starts[-1],
        block_table_tensor=table,
        slot_mapping=torch.full((starts[-1],), -1),
        causal=True,
    )
