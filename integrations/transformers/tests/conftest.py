# SPDX-License-Identifier: Apache-2.0
"""Settings of PyTorch for these tests, and where the reference is."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "reference"))

# The reference is small, and its threads would wait for the library's on the same cores.
torch.set_num_threads(1)
