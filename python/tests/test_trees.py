# SPDX-License-Identifier: Apache-2.0
"""Tree masks of drafts, and windows on both sides, against scaled_dot_product_attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hybrid_case import Case, check_lse, check_out
from hypothesis import given, settings
from hypothesis import strategies as st
from test_plan import dtype_of, mixed, requests

import podattn
from podattn import Mask

MASKS_OF_ALL_KINDS: Any = {"tree_masks": True, "alibi": True, "right_windows": True}


def words_of(tokens: int, seed: int) -> torch.Tensor:
    """Any words at all."""
    return torch.from_numpy(np.random.default_rng(seed).integers(-(2**63), 2**63, tokens, dtype=np.int64))


def draft_tree(q_len: int, children: int) -> list[int]:
    """Words of a tree whose nodes have so many children each, parents first."""
    words: list[int] = []
    for token in range(q_len):
        words.append((words[(token - 1) // children] if token else 0) | 1 << token)
    return words


def signed(words: list[int]) -> torch.Tensor:
    return torch.from_numpy(np.array(words, np.uint64).view(np.int64))


@settings(max_examples=30)
@given(data=st.data())
def test_any_words_and_windows(data: st.DataObject, device: str) -> None:
    case = Case(data.draw(requests()), device=device, dtype=dtype_of(device), seed=data.draw(st.integers(0, 1000)))
    case.causal = data.draw(st.booleans())
    case.window_tokens = data.draw(st.sampled_from([0, 0, 1, 20]))
    case.right_window_tokens = data.draw(st.sampled_from([0, 0, 1, 2, 20]))
    words = words_of(case.q.shape[0], data.draw(st.integers(0, 1000)))
    slopes = torch.linspace(-0.1, 0.1, case.q_heads, device=device) if data.draw(st.booleans()) else None
    case.tree = [word % 2**64 for word in words.tolist()]
    plan = case.plan(**MASKS_OF_ALL_KINDS)
    window = (case.window_tokens - 1, case.right_window_tokens - 1)
    plan.build(case.q_start, case.kv_len, case.page_table, causal=case.causal, window=window)
    results = plan.attention(case.q, case.k, case.v, return_lse=True, tree_mask=words.to(device), alibi_slopes=slopes)
    expected_out, expected_lse = case.reference(slopes)
    check_out(case, results[0], expected_out)
    check_lse(results[1], expected_lse)


@pytest.mark.parametrize("children", [1, 2, 4])
def test_a_draft_tree_beside_prefill(device: str, children: int) -> None:
    """Its words, all ones for the decode, and anything for the prompt, which is too long to have a tree."""
    case = Case([(70, 70), (13, 60), (1, 40), (64, 64)], device=device, dtype=dtype_of(device))
    case.tree = [0] * 70 + draft_tree(13, children) + [2**64 - 1] + draft_tree(64, children)
    words = signed(case.tree).to(device)
    plan = case.built(**MASKS_OF_ALL_KINDS)
    expected, _ = case.reference()
    check_out(case, plan.attention(case.q, case.k, case.v, tree_mask=words), expected)
    if children == 1:  # a chain is what a causal mask shows anyway
        without = plan.attention(case.q, case.k, case.v)
        assert torch.equal(plan.attention(case.q, case.k, case.v, tree_mask=words), without)


def test_words_are_read_when_attention_runs(device: str) -> None:
    case = Case([(4, 20)], device=device, dtype=dtype_of(device))
    plan, words = case.built(**MASKS_OF_ALL_KINDS), signed(draft_tree(4, 1)).to(device)
    chain = plan.attention(case.q, case.k, case.v, tree_mask=words)
    words.copy_(signed(draft_tree(4, 3)))
    tree = plan.attention(case.q, case.k, case.v, tree_mask=words)
    assert torch.equal(chain[:2], tree[:2]) and not torch.equal(chain[3], tree[3])
    assert torch.equal(plan.attention(case.q, case.k, case.v), chain)


def test_in_a_traced_graph() -> None:
    case = Case([(4, 20)])
    plan, words = case.built(), signed(draft_tree(4, 3))
    expected = plan.attention(case.q, case.k, case.v, tree_mask=words)
    names = torch.ops.podattn.attention(case.q, case.k, case.v, plan.plan_id, tree_mask=words)
    assert torch.equal(names, expected)


def test_numpy_words() -> None:
    case = Case([(3, 9)])
    plan = case.built()
    words = np.array(draft_tree(3, 2), np.uint64)
    q, k, v = case.q.numpy(), case.k.numpy(), case.v.numpy()
    expected = plan.attention(case.q, case.k, case.v, tree_mask=torch.from_numpy(words.view(np.int64)))
    assert np.array_equal(plan.attention(q, k, v, tree_mask=words), expected.numpy())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (torch.zeros(3, dtype=torch.int64), r"tree_mask has shape \(3,\); \(4\) is needed"),
        (torch.zeros(4, dtype=torch.int32), "tree_mask holds int32; int64 or uint64 is needed"),
        (torch.zeros(4, 1, dtype=torch.int64), "tree_mask has shape"),
    ],
)
def test_wrong_words(words: torch.Tensor, message: str) -> None:
    case = Case([(4, 20)])
    plan = case.built()
    expected = plan.attention(case.q, case.k, case.v)
    with pytest.raises(podattn.ArgumentError, match=message):
        plan.attention(case.q, case.k, case.v, tree_mask=words)
    assert torch.equal(plan.attention(case.q, case.k, case.v), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 3}, "window = 3 is no pair of integers"),
        ({"window": (1, -2)}, r"window\[1\] = -2 is outside"),
        ({"window": (1, 2), "window_tokens": 1}, "window_tokens is given beside window"),
        ({"window": (-1, -1), "masks": (Mask(),)}, "given beside masks"),
        ({"masks": (Mask(right_window_tokens=-1),)}, r"masks\[0\].right_window_tokens = -1 is outside"),
    ],
)
def test_wrong_windows(arguments: dict[str, Any], message: str) -> None:
    case = mixed("cpu")
    with pytest.raises(podattn.ArgumentError, match=message):
        case.plan().build(case.q_start, case.kv_len, case.page_table, **arguments)


def test_a_gpu_has_to_be_told() -> None:
    """What the limits do not say, the kernel that they choose lacks."""
    case = Case([(2, 20)], head_dim=128, dtype=torch.bfloat16)
    plan = case.plan(device="sim:h100")
    with pytest.raises(podattn.UnsupportedError, match=r"right_window_tokens = 2 .* right_windows = 1"):
        plan.build(case.q_start, case.kv_len, case.page_table, causal=False, window=(-1, 1))
