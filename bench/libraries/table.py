# SPDX-License-Identifier: Apache-2.0
"""Every library's ways to compute a batch, by the name that its rows carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from . import flash_attention_3, flashinfer_calls, podattn_calls, torch_sdpa
from .inputs import Inputs
from .timing import Call

FUSED, BEFORE = "fused", "before"


@dataclass(frozen=True)
class Way:
    """`needs_both_sides`: on other batches it would compute what another way does, or nothing. `reads_f8`: with queries
    of the other type, and scales.
    """

    prepare: Callable[[Inputs], Call]
    needs_both_sides: bool = False
    on_cpu: bool = False
    reads_f8: bool = False


WAYS: dict[str, Way] = {
    FUSED: Way(podattn_calls.fused, on_cpu=True, reads_f8=True),
    BEFORE: Way(podattn_calls.before, on_cpu=True, reads_f8=True),
    "serial": Way(podattn_calls.serial, True, on_cpu=True, reads_f8=True),
    "streams": Way(podattn_calls.streams, True, reads_f8=True),
    "prefill": Way(podattn_calls.prefill, True, on_cpu=True, reads_f8=True),
    "decode": Way(podattn_calls.decode, True, on_cpu=True, reads_f8=True),
    "fa3_serial": Way(flash_attention_3.serial, True),
    "fa3_streams": Way(flash_attention_3.streams, True),
    "fa3_mixed": Way(flash_attention_3.mixed),
    "fa3_mixed_unsplit": Way(flash_attention_3.mixed_unsplit),
    "fa3_mixed_split": Way(flash_attention_3.mixed_split),
    "fa3_prefill": Way(flash_attention_3.prefill, True),
    "fa3_decode": Way(flash_attention_3.decode, True),
    "flashinfer_serial": Way(flashinfer_calls.serial, True),
    "flashinfer_batched": Way(flashinfer_calls.batched_prefill),
    "flashinfer_pod": Way(flashinfer_calls.pod, True),
    "flashinfer_batch_pod": Way(flashinfer_calls.batch_pod, True),
    "flashinfer_batch_attention": Way(flashinfer_calls.batch_attention),
    "sdpa": Way(torch_sdpa.best, on_cpu=True),
}

# Names for several of them.
GROUPS: dict[str, tuple[str, ...]] = {
    "fa3": ("fa3_mixed", "fa3_mixed_split", "fa3_mixed_unsplit", "fa3_serial"),
    "sides": ("prefill", "decode", "fa3_prefill", "fa3_decode"),
    "flashinfer": tuple(name for name in WAYS if name.startswith("flashinfer_")),
}


def chosen(only: list[str], is_gpu: bool, has_before: bool, is_f8: bool = False) -> dict[str, Way]:
    """The ways that were asked for, or all; on a CPU, and for caches of e4m3, those that know them. ValueError names
    what there is not.
    """
    there = {
        name: way
        for name, way in WAYS.items()
        if (name != BEFORE or has_before) and (way.on_cpu or is_gpu) and (name != "sdpa" or not is_gpu)
        if way.reads_f8 or not is_f8
    }
    names = [name for wanted in only for name in GROUPS.get(wanted, (wanted,))]
    for name in names:
        if name not in WAYS:
            raise ValueError(f"--only: no way {name}; there are {', '.join([*there, *GROUPS])}")
    if not names:
        return there
    if has_before:
        names.append(BEFORE)
    return {name: way for name, way in there.items() if name in names}
