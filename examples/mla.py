# SPDX-License-Identifier: Apache-2.0
"""Multi-head latent attention (DeepSeek-V3, Kimi K2): one step with a prompt chunk and decodes, both forms checked.

A token's cache row is its latent vector of 512 elements and a rotated key part of 64, shared by all heads. Decodes are
computed absorbed: queries go into the latent space, the row is the key, and its first 512 elements are the value. The
prompt chunk is computed expanded: keys of 192 elements and values of 128 are made for its request. Then every request
is computed in the other form too, and the results are compared. docs/mla.md says when to take which.
"""

from __future__ import annotations

import numpy as np

import podattn

HEADS, LATENT, ROTATED, PLAIN, VALUE = 16, 512, 64, 128, 128
PAGE_SIZE, PAGES = 16, 24
SCALE = (PLAIN + ROTATED) ** -0.5  # of both forms: the model's keys have 192 elements
Q_LEN, KV_LEN = [40, 1, 1], [100, 77, 120]
DECODES, PREFILLS = [1, 2], [0]

rng = np.random.default_rng(1)


def normal(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape, np.float32)


# One layer's weights: from a latent vector to each head's key part that is not rotated, and to its value.
key_weights = normal(HEADS, PLAIN, LATENT) / np.float32(LATENT**0.5)
value_weights = normal(HEADS, VALUE, LATENT) / np.float32(LATENT**0.5)

# The cache of one layer; each request has pages of its own.
cache = np.full((PAGES, PAGE_SIZE, 1, LATENT + ROTATED), np.nan, np.float32)
table = rng.permutation(PAGES).reshape(3, PAGES // 3).astype(np.int32)
q_start = np.cumsum([0, *Q_LEN])
queries = normal(q_start[-1], HEADS, PLAIN + ROTATED)  # the last 64 elements are rotated already


def rows_of(request: int) -> np.ndarray:
    """The request's rows of the cache, in order: `[kv_len, 576]`."""
    return cache[table[request]].reshape(-1, LATENT + ROTATED)[: KV_LEN[request]]


def fill_cache() -> None:
    """The tokens before this step, and then the step's own, which podattn stores through the page table."""
    for r in range(3):
        for position in range(KV_LEN[r] - Q_LEN[r]):
            cache[table[r, position // PAGE_SIZE], position % PAGE_SIZE, 0] = normal(LATENT + ROTATED)
    plan = absorbed_plan(len(Q_LEN), int(q_start[-1]))
    plan.build(q_start, KV_LEN, table)
    plan.append(normal(int(q_start[-1]), 1, LATENT + ROTATED), None, cache, None)


def absorbed_plan(requests: int, tokens: int) -> podattn.Plan:
    return podattn.Plan(
        q_heads=HEADS,
        kv_heads=1,
        head_dim=LATENT + ROTATED,
        v_head_dim=LATENT,
        page_size=PAGE_SIZE,
        num_pages=PAGES,
        max_requests=requests,
        max_q_tokens=tokens,
        max_kv_len=max(KV_LEN),
        dtype=np.float32,
        device="cpu",
    )


def query_tokens(requests: list[int]) -> np.ndarray:
    return np.concatenate([queries[q_start[r] : q_start[r + 1]] for r in requests])


def attend_absorbed(requests: list[int]) -> np.ndarray:
    """Against the cache itself: `[tokens, heads, 128]`."""
    q = query_tokens(requests)
    in_latent_space = np.einsum("thp,hpl->thl", q[..., :PLAIN], key_weights)
    plan = absorbed_plan(len(requests), len(q))
    plan.build(np.cumsum([0] + [Q_LEN[r] for r in requests]), [KV_LEN[r] for r in requests], table[requests])
    # No V: values are the first 512 elements of the keys. The default scale, 1 / sqrt(576), would be wrong.
    latent = plan.attention(np.concatenate([in_latent_space, q[..., PLAIN:]], 2), cache, None, scale=SCALE)
    return np.einsum("thl,hvl->thv", latent, value_weights)


def attend_expanded(requests: list[int]) -> np.ndarray:
    """Against keys and values that are made for this layer and step, one page per request: `[tokens, heads, 128]`."""
    longest = max(KV_LEN[r] for r in requests)
    k = np.zeros((len(requests), longest, HEADS, PLAIN + ROTATED), np.float32)
    v = np.zeros((len(requests), longest, HEADS, VALUE), np.float32)
    for i, r in enumerate(requests):
        latent, rotated = np.split(rows_of(r), [LATENT], 1)
        k[i, : KV_LEN[r], :, :PLAIN] = np.einsum("kl,hpl->khp", latent, key_weights)
        k[i, : KV_LEN[r], :, PLAIN:] = rotated[:, None]
        v[i, : KV_LEN[r]] = np.einsum("kl,hvl->khv", latent, value_weights)
    q = query_tokens(requests)
    starts = np.cumsum([0] + [Q_LEN[r] for r in requests])
    return podattn.hybrid_attention(q, k, v, starts, [KV_LEN[r] for r in requests], scale=SCALE)


fill_cache()
step = {
    "decodes": (DECODES, attend_absorbed, attend_expanded),
    "prompt chunk": (PREFILLS, attend_expanded, attend_absorbed),
}
for name, (requests, attend, attend_otherwise) in step.items():
    out, other = attend(requests), attend_otherwise(requests)
    error = np.linalg.norm(out - other) / np.linalg.norm(other)
    print(f"{name}: {attend.__name__[7:]} against {attend_otherwise.__name__[7:]}: relative difference {error:.1e}")
    assert out.shape == other.shape and error < 1e-5
