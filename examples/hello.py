# SPDX-License-Identifier: Apache-2.0
"""The shortest program in Python: a prompt of 3 tokens and a decode over 20 tokens of context, in one call."""

import numpy as np

import podattn

# Every value is its token's position. All scores are 0, so an output is the mean of the positions that it sees.
requests, tokens, heads, kv_heads, dim = 2, 32, 4, 2, 64
q = np.zeros((4, heads, dim), np.float32)
k = np.zeros((requests, tokens, kv_heads, dim), np.float32)
v = np.zeros_like(k) + np.arange(tokens, dtype=np.float32)[:, None, None]

# Once: the shapes that stay, and the largest batch. A contiguous cache is one page per request.
plan = podattn.Plan(
    q_heads=heads,
    kv_heads=kv_heads,
    head_dim=dim,
    page_size=tokens,
    num_pages=requests,
    max_requests=requests,
    max_q_tokens=4,
    max_kv_len=tokens,
    dtype=np.float32,
    device="cpu",
)

# Once per step: request 0 has the query tokens [0, 3), request 1 has [3, 4).
plan.build(q_start=[0, 3, 4], kv_len=[3, 20])

# Once per layer.
out = plan.attention(q, k, v)
for token, mean in enumerate(out[:, 0, 0]):
    print(f"token {token}: {mean:.1f}")
