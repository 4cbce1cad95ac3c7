# SPDX-License-Identifier: Apache-2.0
"""A forked child computes with the plans of its parent, whose threads it does not have."""

from __future__ import annotations

import os
import signal

import numpy as np

import podattn


def test_a_forked_child_computes() -> None:
    rng = np.random.default_rng(1)
    q = rng.standard_normal((40, 4, 64), dtype=np.float32)
    k, v = rng.standard_normal((2, 300, 1, 2, 64), dtype=np.float32)
    table = np.arange(300, dtype=np.int32).reshape(2, 150)
    plan = podattn.Plan(
        q_heads=4,
        kv_heads=2,
        head_dim=64,
        page_size=1,
        num_pages=300,
        max_requests=2,
        max_q_tokens=40,
        max_kv_len=150,
        dtype="float32",
        device="cpu:3",
    )
    plan.build([0, 30, 40], [150, 120], table)
    expected = plan.attention(q, k, v)
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # instead of hanging
        plan.build([0, 30, 40], [150, 120], table)
        os._exit(0 if np.array_equal(plan.attention(q, k, v), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(plan.attention(q, k, v), expected)
