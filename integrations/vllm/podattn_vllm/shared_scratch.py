# SPDX-License-Identifier: Apache-2.0
"""Memory for partial results, one for all plans of a device.

An engine runs its layers on one stream, one after the other, also those of a draft model and of micro-batches, so that
their plans may share it. It is nearly all of the memory that podattn takes.
"""

import torch

import podattn

_scratches: dict[torch.device, podattn.Scratch] = {}


def shared_scratch(device: torch.device, num_bytes: int) -> podattn.Scratch:
    """At least so many bytes. What was handed out before stays valid when a larger one is made."""
    found = _scratches.get(device)
    if found is None or found.num_bytes < num_bytes:
        found = _scratches[device] = podattn.Scratch(num_bytes, device)
    return found
