# SPDX-License-Identifier: Apache-2.0
"""Appending against the definition in float64: every way to a place, rotary embedding of every kind, operators."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from test_plan import dtype_of
from torch._subclasses.fake_tensor import FakeTensorMode

import podattn
from podattn import Rope

Q_HEADS, KV_HEADS, DIM, PAGE_SIZE, NUM_PAGES = 4, 2, 64, 16, 12
Q_START, KV_LEN, TABLE = [0, 5, 6], [20, 3], [[7, 2], [4, 0]]
PLACES = [(2, 0), (2, 1), (2, 2), (2, 3), (7, 15), (4, 2)]
"""(page, place) of each token of the batch, whose first token is at 15 of its context."""
ORDER = [4, 0, 1, 2, 3, 5]
POSITIONS = [15, 16, 17, 18, 19, 2]
HALF_STEP = {torch.float32: 2e-7, torch.float16: 2**-11, torch.bfloat16: 2**-8, torch.float8_e4m3fn: 2**-4}


class Step:
    """A plan, the tensors of a step as slices of one, and an empty cache."""

    def __init__(self, device: str, kv_dtype: Any = None, hnd: bool = False, dtype: Any = None) -> None:
        self.dtype = dtype_of(device)
        self.kv_dtype = kv_dtype or self.dtype
        self.plan = podattn.Plan(
            q_heads=Q_HEADS, kv_heads=KV_HEADS, head_dim=DIM, page_size=PAGE_SIZE, num_pages=NUM_PAGES,
            max_requests=2, max_q_tokens=8, max_kv_len=32, dtype=self.dtype, kv_dtype=self.kv_dtype,
            kv_layout="HND" if hnd else "NHD", device=device,
        )  # fmt: skip
        rng = torch.Generator().manual_seed(1)
        qkv = torch.randn(6, Q_HEADS + 2 * KV_HEADS, DIM, generator=rng).to(dtype or self.dtype).to(device)
        self.q, self.k, self.v = qkv.split([Q_HEADS, KV_HEADS, KV_HEADS], dim=1)
        shape = (NUM_PAGES, 2, KV_HEADS, PAGE_SIZE, DIM) if hnd else (NUM_PAGES, 2, PAGE_SIZE, KV_HEADS, DIM)
        cache = torch.zeros(shape, dtype=self.kv_dtype, device=device)
        self.k_cache, self.v_cache = cache[:, 0], cache[:, 1]
        self.hnd, self.device = hnd, device

    def build(self) -> Step:
        arrays = (torch.tensor(x, dtype=torch.int32, device=self.device) for x in (Q_START, KV_LEN, TABLE))
        self.plan.build(*arrays, num_q_tokens=6)
        return self

    def row(self, cache: torch.Tensor, slot: int) -> torch.Tensor:
        page, place = divmod(slot, PAGE_SIZE)
        return (cache[page, :, place] if self.hnd else cache[page, place]).double().cpu()

    def check(self, slots: list[int], k: torch.Tensor, scale: float = 1.0) -> None:
        """Rows of those slots hold `k` and the step's values; the others zeros."""
        for cache, expected in ((self.k_cache, k), (self.v_cache, self.v.double().cpu())):
            for token, slot in enumerate(slots):
                if slot >= 0:
                    near(self.row(cache, slot), expected[token] / scale, self.kv_dtype)
            written = sum(bool(self.row(cache, slot).any()) for slot in range(NUM_PAGES * PAGE_SIZE))
            assert written == sum(slot >= 0 for slot in slots)


def near(found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    error = (found.double().cpu() - expected).abs()
    smallest = 2**-10 if dtype == torch.float8_e4m3fn else 2e-3 * HALF_STEP[dtype]
    assert bool((error <= HALF_STEP[dtype] * expected.abs() * 1.001 + smallest + 2e-6).all())


def frequencies(rope: Rope) -> torch.Tensor:
    dim = rope.rotary_dim or DIM
    return (rope.base or 10000.0) ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)


def rotated(x: torch.Tensor, positions: list[int], rope: Rope) -> torch.Tensor:
    """In float64."""
    dim, found = rope.rotary_dim or DIM, x.double().cpu().clone()
    angles = torch.tensor(positions, dtype=torch.float64).unsqueeze(1) * frequencies(rope)
    cosine, sine = angles.cos().unsqueeze(1), angles.sin().unsqueeze(1)
    first = slice(0, dim // 2) if rope.style == "halves" else slice(0, dim, 2)
    second = slice(dim // 2, dim) if rope.style == "halves" else slice(1, dim, 2)
    low, high = found[..., first].clone(), found[..., second].clone()
    found[..., first], found[..., second] = low * cosine - high * sine, high * cosine + low * sine
    return found


BATCH_SLOTS = [7 * 16 + 15, 2 * 16, 2 * 16 + 1, 2 * 16 + 2, 2 * 16 + 3, 4 * 16 + 2]


@pytest.mark.parametrize("hnd", [False, True])
@pytest.mark.parametrize("style", ["halves", "pairs"])
def test_the_planned_batch(device: str, hnd: bool, style: Any) -> None:
    step, rope = Step(device, hnd=hnd).build(), Rope(style=style, rotary_dim=32, base=500000.0)
    out = step.plan.append(step.k, step.v, step.k_cache, step.v_cache, step.q, rope=rope)
    step.check(BATCH_SLOTS, rotated(step.k, POSITIONS, rope))
    near(out, rotated(step.q, POSITIONS, rope), step.dtype)


def test_slots_without_a_build(device: str) -> None:
    step, rope = Step(device), Rope()
    slots, positions = [33, -1, 0, 191, 100, -7], [1, 0, 1_000_000, 7, 8, 3]
    where = torch.tensor(slots, device=device), torch.tensor(positions, device=device)
    expected_q, expected_k = (rotated(x, positions, rope) for x in (step.q, step.k))
    for dtype in (torch.int64, torch.int32):
        step.plan.append(step.k, step.v, step.k_cache, step.v_cache, slot_mapping=where[0],
                         positions=where[1].to(dtype), rope=rope)  # fmt: skip
        step.check(slots, expected_k)
    found = step.plan.append(None, None, None, None, step.q, step.q, positions=where[1], rope=rope)  # in place
    assert found is step.q
    near(step.q, expected_q, step.dtype)


def test_pads_shift_positions(device: str) -> None:
    step, rope = Step(device).build(), Rope()
    pads = torch.tensor([16, 0], dtype=torch.int32, device=device)
    step.plan.append(step.k, step.v, step.k_cache, step.v_cache, left_pad=pads, rope=rope)
    step.check(BATCH_SLOTS, rotated(step.k, [0, 0, 1, 2, 3, 2], rope))


def test_tables(device: str) -> None:
    """As engines keep them: cosines and sines side by side."""
    step, rope = Step(device).build(), Rope()
    angles = torch.arange(32, dtype=torch.float64).unsqueeze(1) * frequencies(rope)
    table = torch.cat([angles.cos(), angles.sin()], dim=1).float().to(device)
    tables = Rope(cos=table[:, : DIM // 2], sin=table[:, DIM // 2 :])
    step.plan.append(step.k, step.v, step.k_cache, step.v_cache, rope=tables)
    step.check(BATCH_SLOTS, rotated(step.k, POSITIONS, rope))


def test_e4m3_caches_and_other_inputs() -> None:
    step = Step("cpu", kv_dtype=torch.float8_e4m3fn, dtype=torch.bfloat16).build()
    scale = torch.tensor(0.5)
    step.plan.append(step.k, step.v, step.k_cache, step.v_cache, k_scale=scale, v_scale=scale)
    step.check(BATCH_SLOTS, step.k.double(), 0.5)


def test_attention_after_append(device: str) -> None:
    step = Step(device).build()
    step.k_cache.normal_()
    step.v_cache.normal_()
    k_cache, v_cache = step.k_cache.clone(), step.v_cache.clone()
    for token, slot in enumerate(BATCH_SLOTS):
        k_cache[slot // 16, slot % 16], v_cache[slot // 16, slot % 16] = step.k[token], step.v[token]
    step.plan.append(step.k, step.v, step.k_cache, step.v_cache)
    expected = step.plan.attention(step.q, k_cache, v_cache)
    torch.testing.assert_close(step.plan.attention(step.q, step.k_cache, step.v_cache), expected, rtol=0, atol=0)


def test_numpy() -> None:
    plan = podattn.Plan(q_heads=2, kv_heads=2, head_dim=8, page_size=4, max_requests=1, max_q_tokens=4, max_kv_len=4,
                        dtype="float32", device="cpu")  # fmt: skip
    k = np.arange(48, dtype=np.float32).reshape(3, 2, 8)
    cache = np.zeros((2, 3, 4, 2, 8), np.float32)
    plan.append(k, -k, *cache, slot_mapping=[5, -1, 11])
    assert (cache[0, 1, 1] == k[0]).all() and (cache[1, 2, 3] == -k[2]).all() and np.count_nonzero(cache) == 62
    plan.append(k, -k, *cache, slot_mapping=np.array([0, 1, 2], np.int16))
    assert (cache[0, 0, :3] == k).all()


# ---- refusals ----


def test_errors_name_the_argument() -> None:
    step = Step("cpu")
    given = (step.k, step.v, step.k_cache, step.v_cache)
    rope = Rope()
    with pytest.raises(podattn.StateError, match="build"):
        step.plan.append(*given)
    step.build()
    wrong: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        (r"v is None, of k, v, k_cache and v_cache", (step.k, None, *given[2:]), {}),
        (r"k, v and q are None", (None, None, None, None), {}),
        (r"v has 5 tokens of float32; 6 of float32 are needed, as k has", (step.k, step.v[:5], *given[2:]), {}),
        (r"k has shape \(6, 4, 64\); \(any, 2, 64\) is needed", (step.q, step.v, *given[2:]), {}),
        (r"k holds int32", (step.k.int(), step.v.int(), *given[2:]), {}),
        (r"k has 5 tokens; the plan was built for 6", (step.k[:5], step.v[:5], *given[2:]), {}),
        (r"slot_mapping has shape \(2,\); \(6\) is needed", given, {"slot_mapping": [1, 2]}),
        (r"slot_mapping holds float32; int64 is needed", given, {"slot_mapping": torch.zeros(6)}),
        (r"append.slot_mapping\[2\] = 192 is outside the 12 pages of 16 tokens", given,
         {"slot_mapping": [0, 1, 192, 3, 4, 5]}),
        (r"append.positions\[0\] = -1 is outside", given, {"positions": [-1] * 6, "rope": rope}),
        (r"append.left_pad shifts nothing without append.rope", given, {"left_pad": [0, 0]}),
        (r"left_pad has fewer values than the 2 requests", given, {"left_pad": [0], "rope": rope}),
        (r"append.left_pad\[1\] = -3 is negative", given, {"left_pad": [0, -3], "rope": rope}),
        (r"left_pad has values outside", given, {"left_pad": [0, 1 << 40], "rope": rope}),
        (r"rope = 'neox' is no podattn.Rope", given, {"rope": "neox"}),
        (r"rope.style = 'neox' is none of halves, pairs", given, {"rope": Rope(style="neox")}),  # type: ignore[arg-type]
        (r"rope.rotary_dim = 63 is not even", given, {"rope": Rope(rotary_dim=63)}),
        (r"rope.base = nan is not finite", given, {"rope": Rope(base=math.nan)}),
        (r"rope.factor = 0 is outside", given, {"rope": Rope(scaling="linear")}),
        (r"rope.sin is None, the other is not", given, {"rope": Rope(cos=torch.zeros(9, 32))}),
        (r"rope.table_positions = 9 is too few for token 0, at position 15 of request 0", given,
         {"rope": Rope(cos=torch.zeros(9, 32), sin=torch.zeros(9, 32))}),
        (r"q_out has 6 tokens of float16", (*given, step.q, step.q.half()), {}),
    ]  # fmt: skip
    for message, arrays, options in wrong:
        with pytest.raises(podattn.ArgumentError, match=message):
            step.plan.append(*arrays, **options)
        assert not step.k_cache.any() and not step.v_cache.any()
    with pytest.raises(podattn.UnsupportedError, match="k requires grad"):
        step.plan.append(step.k.clone().requires_grad_(), *given[1:])
    frozen = np.zeros((NUM_PAGES, PAGE_SIZE, KV_HEADS, DIM), np.float32)
    frozen.flags.writeable = False
    with pytest.raises(podattn.ArgumentError, match="k_cache is read-only"):
        step.plan.append(step.k, step.v, frozen, step.v_cache)


def test_a_refusal_leaves_nothing_behind() -> None:
    """Of structs that are kept between calls."""
    step, rope = Step("cpu").build(), Rope()
    given = (step.k, step.v, step.k_cache, step.v_cache)
    step.plan.append(*given, step.q, rope=rope, positions=[5] * 6)
    with pytest.raises(podattn.ArgumentError):
        step.plan.append(*given, rope=Rope(rotary_dim=7), slot_mapping=[0] * 6)
    step.k_cache.zero_()
    step.v_cache.zero_()
    step.plan.append(*given)
    step.check(BATCH_SLOTS, step.k.double())


def test_a_gpu_tells_of_a_bad_token(gpu: str) -> None:
    step = Step(gpu)
    slots = torch.tensor([0, 1, NUM_PAGES * PAGE_SIZE, -1, 3, 4], device=gpu)
    assert step.plan.bad_token in (None, 0)
    step.plan.append(step.k, step.v, step.k_cache, step.v_cache, slot_mapping=slots)
    torch.cuda.synchronize()
    assert step.plan.bad_token == 3
    step.plan.clear_bad_token()
    assert step.plan.bad_token == 0
    step.check([0, 1, -1, -1, 3, 4], step.k.double().cpu())


# ---- operators ----


def test_opcheck(device: str) -> None:
    step = Step(device).build()
    slots = torch.arange(6, device=device)
    layer = (step.k_cache, step.v_cache, None, step.k, step.v, None, step.plan.plan_id)
    torch.library.opcheck(torch.ops.podattn.append.default, (*layer, slots))
    out = torch.zeros_like(step.q)
    torch.library.opcheck(
        torch.ops.podattn.append.default,
        (step.k_cache, step.v_cache, out, step.k, step.v, step.q, step.plan.plan_id),
        {"style": "halves", "numbers": [10000.0]},
    )


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compile_a_layer(device: str, backend: str) -> None:
    torch._dynamo.reset()
    rope = Rope(base=500000.0, rotary_dim=32)

    def layer(step: Step, q: torch.Tensor, k: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor) -> Any:
        turned = step.plan.append(k * 2, step.v, k_cache, v_cache, q * 2, rope=rope)
        return step.plan.attention(turned, k_cache, v_cache) + 1

    results = []
    for run in (layer, torch.compile(layer, fullgraph=True, backend=backend)):
        step = Step(device).build()
        step.k_cache.zero_()
        results.append((run(step, step.q, step.k, step.k_cache, step.v_cache), step.k_cache, step.v_cache))
    for expected, found in zip(*results):
        torch.testing.assert_close(found, expected)


def test_fake_results() -> None:
    step = Step("cpu")
    mode = FakeTensorMode()
    with mode:
        fakes = [mode.from_tensor(x) for x in (step.k, step.v, step.k_cache, step.v_cache, step.q)]
        out = step.plan.append(*fakes, rope=Rope())
    assert (out.shape, out.dtype) == (step.q.shape, step.dtype)


# ---- the models' formulas ----


def from_config(parameters: dict[str, Any]) -> Rope:
    """`rope_parameters` of a configuration of Hugging Face's transformers."""
    names = {"rope_theta": "base", "original_max_position_embeddings": "original_context"}
    kept = ("factor", "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow", "attention_factor", "truncate")
    found = {names.get(name, name): value for name, value in parameters.items() if name in (*kept, *names)}
    kind = parameters["rope_type"]
    return Rope(scaling="none" if kind == "default" else kind, **{k: v for k, v in found.items() if v is not None})


PARAMETERS: list[dict[str, Any]] = [
    {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
    {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
     "original_max_position_embeddings": 8192},
    {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 32768},
    {"rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
     "truncate": False, "original_max_position_embeddings": 4096},
]  # fmt: skip


@pytest.mark.parametrize("parameters", PARAMETERS, ids=lambda x: f"{x['rope_type']}-{x['factor']:g}")
def test_frequencies_are_those_of_transformers(parameters: dict[str, Any]) -> None:
    """A key of ones in its first half shows cosine and sine of its position."""
    transformers = pytest.importorskip("transformers")
    rope_utils = pytest.importorskip("transformers.modeling_rope_utils")
    config = transformers.LlamaConfig(
        hidden_size=Q_HEADS * DIM, num_attention_heads=Q_HEADS, head_dim=DIM, max_position_embeddings=131072,
        rope_parameters=parameters, rope_theta=parameters["rope_theta"], rope_scaling=parameters,
    )  # fmt: skip
    inverse, factor = rope_utils.ROPE_INIT_FUNCTIONS[parameters["rope_type"]](config, torch.device("cpu"))
    step = Step("cpu")
    positions = [0, 1, 10, 100, 1000, 4000]
    k = torch.zeros(6, KV_HEADS, DIM)
    k[..., : DIM // 2] = 1
    step.plan.append(k, k, step.k_cache, step.v_cache, slot_mapping=range(6), positions=positions,
                     rope=from_config(parameters))  # fmt: skip
    angles = torch.tensor(positions, dtype=torch.float64).unsqueeze(1) * inverse.double()
    expected = factor * torch.cat([angles.cos(), angles.sin()], dim=1)
    # Its frequencies are float32, so that its angles are off by 4000 * 2^-24 and more.
    torch.testing.assert_close(step.k_cache[0, :6, 0].double(), expected, rtol=0, atol=1e-3)
