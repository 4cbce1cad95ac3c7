# SPDX-License-Identifier: Apache-2.0
"""PyTorch if it is installed, otherwise None. Imported with the package, which registers operators with it."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def _import() -> Any:
    try:
        return import_module("torch")
    except ImportError:
        return None


torch = _import()
