#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""podattn on CuPy arrays: a prompt and two decodes over a paged cache, on a stream of CuPy's, without PyTorch.

python3 examples/cupy_attention.py
"""

from __future__ import annotations

import sys
from typing import Optional

import podattn

try:
    import cupy as cp
except ImportError:
    sys.exit("this example needs CuPy and a GPU")

Q_HEADS, KV_HEADS, HEAD_DIM, PAGE_SIZE, NUM_PAGES = 8, 2, 64, 16, 32
Q_START, KV_LEN = [0, 5, 6, 7], [20, 33, 64]
PAGE_TABLE = [[3, 1, 0, 0], [8, 4, 2, 0], [31, 5, 9, 7]]


def normal(*shape: int) -> cp.ndarray:
    return cp.random.standard_normal(shape, dtype=cp.float32).astype(cp.float16)


def expected(q: cp.ndarray, k: cp.ndarray, v: cp.ndarray) -> cp.ndarray:
    """The same from the definition, request by request."""
    outs = []
    for r, kv_len in enumerate(KV_LEN):
        rows = q[Q_START[r] : Q_START[r + 1]].astype(cp.float32)
        keys, values = (
            cp.repeat(
                x[cp.asarray(PAGE_TABLE[r])].reshape(-1, KV_HEADS, HEAD_DIM)[:kv_len], Q_HEADS // KV_HEADS, axis=1
            )
            for x in (k, v)
        )
        scores = cp.einsum("qhd,khd->hqk", rows, keys.astype(cp.float32)) / HEAD_DIM**0.5
        hidden = cp.arange(kv_len) > cp.arange(kv_len - len(rows), kv_len)[:, None]
        scores[:, hidden] = -cp.inf
        weights = cp.exp(scores - scores.max(axis=2, keepdims=True))
        weights /= weights.sum(axis=2, keepdims=True)
        outs.append(cp.einsum("hqk,khd->qhd", weights, values.astype(cp.float32)))
    return cp.concatenate(outs)


def main() -> Optional[str]:
    plan = podattn.Plan(
        q_heads=Q_HEADS, kv_heads=KV_HEADS, head_dim=HEAD_DIM, page_size=PAGE_SIZE, num_pages=NUM_PAGES, max_requests=4,
        max_q_tokens=16, max_kv_len=64, dtype=cp.float16, device="cuda:0",
    )  # fmt: skip
    plan.attach(cp.empty(plan.plan_bytes + 256, cp.uint8), cp.empty(plan.scratch_bytes + 256, cp.uint8))
    with cp.cuda.Stream(non_blocking=True) as stream:
        q = normal(Q_START[-1], Q_HEADS, HEAD_DIM)
        k, v = (normal(NUM_PAGES, PAGE_SIZE, KV_HEADS, HEAD_DIM) for _ in range(2))
        requests = (cp.asarray(x, dtype=cp.int32) for x in (Q_START, KV_LEN, PAGE_TABLE))
        plan.build(*requests)
        out = plan.attention(q, k, v)
        error = cp.abs(out.astype(cp.float32) - expected(q, k, v)).max()
        stream.synchronize()
    print(f"CuPy {cp.__version__}: {type(out).__name__} {out.shape} {out.dtype}, largest difference {float(error):.1e}")
    return None if float(error) < 5e-3 else "podattn and CuPy differ"


if __name__ == "__main__":
    sys.exit(main())
