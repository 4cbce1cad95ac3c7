# SPDX-License-Identifier: Apache-2.0
"""Seeds, and the fake package of each era."""

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

import fake_vllm_package

# Its tensors here are small, and threads that wait for each other take longer than all the work.
torch.set_num_threads(1)


@pytest.fixture(params=fake_vllm_package.ERAS)
def fake(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The fake vLLM of an era, with the plug-in imported on it."""
    with fake_vllm_package.installed(request.param) as found:
        yield found


@pytest.fixture
def newest() -> Iterator[Any]:
    """The newest era alone, for what does not depend on it."""
    with fake_vllm_package.installed("packed") as found:
        yield found


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Seeded; PODATTN_SEED=S gives the case that failed again."""
    seed = int(os.environ.get("PODATTN_SEED") or random.randrange(1 << 31))
    print(f"PODATTN_SEED={seed}")
    return random.Random(seed)
