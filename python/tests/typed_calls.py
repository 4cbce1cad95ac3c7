# SPDX-License-Identifier: Apache-2.0
"""For mypy, not to be run: calls that type checkers accept, and mistakes that they find.

mypy complains of an `ignore` that it does not need: each is a mistake that has to be found.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import podattn

Floats = npt.NDArray[np.float32]


class Tensor:
    """As PyTorch's shows itself."""

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None) -> Any:
        return None


def right(plan: podattn.Plan, q: Floats, k: Floats, tensor: Tensor, table: npt.NDArray[np.int64]) -> None:
    plan.build([0, 1], (5,), [[0, 1]], window_tokens=3, masks=[podattn.Mask()])
    plan.build(table[0], table[1], table, num_pages=None)
    out: Floats = plan.attention(q, k, k)
    given: Floats = plan.attention(tensor, tensor, tensor, q)
    latent: Floats = plan.attention(q, k, None)
    both: tuple[Tensor, Tensor] = plan.attention(tensor, tensor, tensor, return_lse=True, mask=1)
    with_lse: tuple[Any, Any] = plan.attention(q, k, k, None, out, scale=None, sinks=out)
    once: Floats = podattn.hybrid_attention(q, k, k, [0, 1], [5], kv_layout="HND", softcap=3)
    pair: tuple[Floats, Floats] = podattn.hybrid_attention(q, k, k, [0, 1], [5], return_lse=True)
    rope = podattn.Rope(style="pairs", base=1e6, scaling="yarn", factor=4)
    plan.append(q, q, k, k, q, rope=rope, slot_mapping=[1, 2])
    podattn.merge([given, once, latent], [with_lse[0], pair[0]], both[0])
    podattn.workspace_bytes(
        q_heads=1, kv_heads=1, head_dim=64, page_size=1, max_requests=1, max_q_tokens=1, max_kv_len=1
    )


def wrong(plan: podattn.Plan, q: Floats, k: Floats, flag: bool) -> None:
    plan.build("a", None)  # type: ignore[arg-type]
    plan.build([0, 1.5], [5])  # type: ignore[arg-type]
    plan.build([0, 1], [5], masks=[True])  # type: ignore[list-item]
    plan.attention(1, 2, 3)  # type: ignore[call-overload]
    plan.attention(q, k, k, scale="2")  # type: ignore[call-overload]
    plan.attention(q, k, k, softmax_scale=2.0)  # type: ignore[call-overload]
    plan.attention(q, k)  # type: ignore[call-overload]
    out: tuple[Floats, Floats] = plan.attention(q, k, k)  # type: ignore[assignment]
    podattn.hybrid_attention(q, k, k, [0, 1], [5], kv_layout="nhd")  # type: ignore[call-overload]
    podattn.Rope(style="neox")  # type: ignore[arg-type]
    podattn.merge(out, 3)  # type: ignore[arg-type]
    podattn.workspace_bytes(q_heads=1)  # type: ignore[call-arg]
    podattn.Plan(
        q_heads="1",  # type: ignore[arg-type]
        kv_heads=1,
        head_dim=64,
        page_size=1,
        max_requests=1,
        max_q_tokens=1,
        max_kv_len=1,
        kv_layout="nhd",  # type: ignore[arg-type]
        batch_memory="gpu",  # type: ignore[arg-type]
    )
