# SPDX-License-Identifier: Apache-2.0
"""Settings of PyTorch, where the reference is, and a fake of SGLang in the place of the package."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from fake_sglang import install

sys.path.insert(0, str(Path(__file__).parents[2] / "reference"))

# The reference is small, and its threads would wait for the library's on the same cores.
torch.set_num_threads(1)

install()
