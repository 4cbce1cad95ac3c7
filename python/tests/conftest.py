# SPDX-License-Identifier: Apache-2.0
"""Devices under test: the CPU always; the GPU where PyTorch sees one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile(
    "podattn",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("podattn")

# The reference is small, and its threads would wait for the library's on the same cores.
torch.set_num_threads(1)

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU")


@pytest.fixture(params=["cpu", pytest.param("cuda:0", marks=[pytest.mark.gpu, needs_gpu])])
def device(request: pytest.FixtureRequest) -> str:
    """A device that computes."""
    return request.param


@pytest.fixture(params=[pytest.param("cuda:0", marks=[pytest.mark.gpu, needs_gpu])])
def gpu(request: pytest.FixtureRequest) -> str:
    """A GPU; the test is skipped without one."""
    return request.param
