# SPDX-License-Identifier: Apache-2.0
"""Several masks of one plan, and masks that differ from request to request."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hybrid_case import Case, check_lse, check_out
from hypothesis import given, settings
from hypothesis import strategies as st
from test_plan import dtype_of, mixed, requests

import podattn
from podattn import Mask


def check_mask(case: Case, plan: podattn.Plan, m: int, mask: Mask, causal: list[bool]) -> None:
    """One layer of that mask, of whose requests `causal` are."""
    case.causal_each, case.window_tokens = causal, mask.window_tokens
    out = torch.full_like(case.q, float("nan"))
    lse = torch.full(case.q.shape[:2], float("nan"), device=case.device)
    plan.attention(case.q, case.k, case.v, out, lse, mask=m)
    expected_out, expected_lse = case.reference()
    check_out(case, out, expected_out)
    check_lse(lse, expected_lse)


@settings(max_examples=25)
@given(data=st.data())
def test_any_masks(data: st.DataObject, device: str) -> None:
    case = Case(data.draw(requests()), device=device, dtype=dtype_of(device), seed=data.draw(st.integers(0, 1000)))
    n = len(case.requests)
    flags = st.lists(st.booleans(), min_size=n, max_size=n)
    masks, causal = [], []
    for _ in range(data.draw(st.integers(1, 8))):
        each = data.draw(st.one_of(st.none(), flags))
        mask = Mask(data.draw(st.booleans()), data.draw(st.sampled_from([0, 0, 1, 20])), each)
        masks.append(mask)
        causal.append([mask.causal] * n if each is None else each)
    plan = case.plan(max_masks=8)
    plan.build(case.q_start, case.kv_len, case.page_table, masks=masks)
    for m, mask in enumerate(masks):
        check_mask(case, plan, m, mask, causal[m])


def test_layers_of_two_masks(device: str) -> None:
    case = mixed(device)
    masks = (Mask(), Mask(window_tokens=7))
    plan = case.plan(max_masks=2)
    plan.build(case.q_start, case.kv_len, case.page_table, masks=masks)
    for m in (0, 1, 1, 0):
        check_mask(case, plan, m, masks[m], [True] * len(case.requests))
    assert plan.info(0).num_requests == plan.info(mask=1).num_requests == len(case.requests)
    tiles = [plan.info(m).num_decode_tiles for m in range(2)]
    assert tiles[1] <= tiles[0]


@pytest.mark.parametrize("on_device", [False, True])
def test_causal_for_some_requests(device: str, on_device: bool) -> None:
    case = mixed(device)
    causal = [r % 2 == 0 for r in range(len(case.requests))]
    array = torch.tensor(causal, dtype=torch.int32, device=device if on_device else "cpu")
    arrays = case.on_device() if on_device else (case.q_start, case.kv_len, case.page_table)
    mask = Mask(causal_per_request=array)
    plan = case.plan()
    plan.build(*arrays, masks=[mask])
    check_mask(case, plan, 0, mask, causal)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masks": []}, "masks has 0 entries; 1 to max_masks = 2 are needed"),
        ({"masks": [Mask()] * 3}, "masks has 3 entries; 1 to max_masks = 2 are needed"),
        ({"masks": [Mask(), (True, 4)]}, r"masks\[1\] is a tuple; a podattn.Mask is needed"),
        ({"masks": [Mask()], "window_tokens": 4}, "beside masks"),
        ({"masks": [Mask()], "causal": False}, "beside masks"),
        ({"masks": [Mask(), Mask(window_tokens=-1)]}, r"masks\[1\].window_tokens = -1 is negative"),
        (
            {"masks": [Mask(causal_per_request=[1])]},
            r"masks\[0\].causal_per_request has shape \(1,\); \(7,\) is needed",
        ),
        (
            {"masks": [Mask(causal_per_request=[0, 1, 2, 0, 0, 0, 0])]},
            r"causal_per_request\[2\] = 2 is neither 0 nor 1",
        ),
        ({"masks": [Mask(causal_per_request=torch.ones(7))]}, "causal_per_request holds float32; integers are needed"),
    ],
)
def test_wrong_masks(changes: dict[str, Any], message: str) -> None:
    case = mixed("cpu")
    plan = case.plan(max_masks=2)
    with pytest.raises(podattn.ArgumentError, match=message):
        plan.build(case.q_start, case.kv_len, case.page_table, **changes)


def test_a_mask_that_the_batch_has_not() -> None:
    case = mixed("cpu")
    plan = case.built(max_masks=2)
    for call in (lambda: plan.attention(case.q, case.k, case.v, mask=1), lambda: plan.info(1)):
        with pytest.raises(podattn.ArgumentError, match=r"mask = 1 is outside \[0, 1\), the masks of the batch"):
            call()
