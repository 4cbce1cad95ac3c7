#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""podattn on JAX arrays: a prompt and two decodes over a paged cache, called directly and inside jax.jit.

JAX arrays are read in place through DLPack. They cannot be written, so the result is made by NumPy on a CPU and by
PyTorch or CuPy on a GPU, and becomes a JAX array without a copy. JAX computes on streams of its own: its arrays have to
be finished before the call, and have to live until the result is.

    python3 examples/jax_attention.py
"""

from __future__ import annotations

import sys
from typing import Optional

import podattn

try:
    import jax
    import jax.numpy as jnp
except ImportError:
    sys.exit("this example needs JAX")

Q_HEADS, KV_HEADS, HEAD_DIM, PAGE_SIZE, NUM_PAGES = 8, 2, 64, 16, 32
Q_START, KV_LEN = [0, 5, 6, 7], [20, 33, 64]
PAGE_TABLE = [[3, 1, 0, 0], [8, 4, 2, 0], [31, 5, 9, 7]]


def attention(plan: podattn.Plan, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Of JAX arrays, to a JAX array."""
    jax.block_until_ready((q, k, v))
    out = jax.dlpack.from_dlpack(plan.attention(q, k, v))
    return jax.block_until_ready(out)


def attention_in_jit(plan: podattn.Plan, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """The same as an operation of a jitted function: a callback to the host."""
    return jax.pure_callback(plan.attention, jax.ShapeDtypeStruct(q.shape, q.dtype), q, k, v)


def expected(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """The same by JAX's own attention, request by request."""
    outs = []
    for r, kv_len in enumerate(KV_LEN):
        rows = q[Q_START[r] : Q_START[r + 1]]
        keys, values = (x[jnp.array(PAGE_TABLE[r])].reshape(-1, KV_HEADS, HEAD_DIM)[:kv_len] for x in (k, v))
        seen = jnp.arange(kv_len) <= jnp.arange(kv_len - len(rows), kv_len)[:, None]
        outs.append(jax.nn.dot_product_attention(rows, keys, values, mask=seen[None]))
    return jnp.concatenate(outs)


def main() -> Optional[str]:
    is_gpu = jax.default_backend() == "gpu"
    dtype = jnp.bfloat16 if is_gpu else jnp.float32
    keys = jax.random.split(jax.random.key(0), 3)
    q = jax.random.normal(keys[0], (Q_START[-1], Q_HEADS, HEAD_DIM), dtype)
    k, v = (jax.random.normal(key, (NUM_PAGES, PAGE_SIZE, KV_HEADS, HEAD_DIM), dtype) for key in keys[1:])
    plan = podattn.Plan(
        q_heads=Q_HEADS, kv_heads=KV_HEADS, head_dim=HEAD_DIM, page_size=PAGE_SIZE, num_pages=NUM_PAGES, max_requests=4,
        max_q_tokens=16, max_kv_len=64, dtype=dtype, device="cuda:0" if is_gpu else "cpu",
    )  # fmt: skip
    plan.build(Q_START, KV_LEN, PAGE_TABLE)
    outs = {"called": attention(plan, q, k, v)}
    if not is_gpu:
        outs["in jax.jit"] = jax.jit(lambda *arrays: attention_in_jit(plan, *arrays))(q, k, v)
    worst = 0.0
    for how, out in outs.items():
        error = float(jnp.abs(out.astype(jnp.float32) - expected(q, k, v).astype(jnp.float32)).max())
        worst = max(worst, error)
        print(f"JAX {jax.__version__} on {jax.default_backend()}, {how}: {out.shape} {out.dtype}, "
              f"largest difference {error:.1e}")  # fmt: skip
    return None if worst < (3e-2 if is_gpu else 1e-5) else "podattn and JAX differ"


if __name__ == "__main__":
    sys.exit(main())
