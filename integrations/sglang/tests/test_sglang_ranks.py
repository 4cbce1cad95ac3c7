# SPDX-License-Identifier: Apache-2.0
"""Tensor parallel: a rank's heads, and its GPU, of which SGLang's own name has no number."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_sglang import TokenPool, make_runner
from torch._subclasses.fake_tensor import FakeTensorMode

import podattn


@pytest.mark.parametrize("rank", [0, 1])
def test_every_rank_has_its_heads_and_its_gpu(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from podattn_sglang import sglang_backend

    asked: list[tuple[str, Any]] = []
    plan, scratch = podattn.Plan, podattn.Scratch

    def make_plan(*, device: Any, batch_memory: str, **limits: Any) -> podattn.Plan:
        asked.append(("plan", device))
        assert batch_memory == "device" and (limits["q_heads"], limits["kv_heads"]) == (4, 2)
        return plan(**limits, device="cpu")

    def make_scratch(num_bytes: int, device: Any) -> podattn.Scratch:
        asked.append(("scratch", device))
        return scratch(num_bytes, "cpu")

    monkeypatch.setattr(podattn, "Plan", make_plan)
    monkeypatch.setattr(podattn, "Scratch", make_scratch)
    monkeypatch.setattr(sglang_backend, "get_parallel", lambda: SimpleNamespace(attn_tp_size=2))
    own = torch.device("cuda", rank)
    runner = make_runner(TokenPool([0], 60, 4, 2, 16, torch.float32), 4, (8, 4), 16, torch.float32, None)
    runner.device = "cuda"
    with FakeTensorMode():
        runner.req_to_token_pool.req_to_token = torch.zeros(16, 516, dtype=torch.int32, device=own)
        backend = sglang_backend.PodattnBackend(runner)
        backend.init_cuda_graph_state(8, 8)
    assert backend.device == own
    assert asked == [("plan", own), ("scratch", own)]
