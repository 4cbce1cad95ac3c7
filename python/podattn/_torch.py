# SPDX-License-Identifier: Apache-2.0
"""PyTorch if it is installed, else None. It is imported at once, because the operators are registered with it."""

from __future__ import annotations

from typing import Any

torch: Any
try:
    import torch
except ImportError:
    torch = None
