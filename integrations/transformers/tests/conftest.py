# SPDX-License-Identifier: Apache-2.0
"""Settings of PyTorch for these tests."""

from __future__ import annotations

import torch

# The reference is small, and its threads would wait for the library's on the same cores.
torch.set_num_threads(1)
