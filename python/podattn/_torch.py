# SPDX-License-Identifier: Apache-2.0
"""PyTorch if it is installed, else None. It is imported at once, because the operators are registered with it."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def _import() -> Any:
    try:
        return import_module("torch")
    except ImportError:
        return None


torch = _import()
