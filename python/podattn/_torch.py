# SPDX-License-Identifier: Apache-2.0
"""PyTorch, once the program uses it. It takes seconds to import, and a program without it does not wait for it here.

`find` is asked at every door of the package. From the first time that it finds PyTorch imported, `torch` in this module
is PyTorch, and the operators are registered.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Callable

torch: Any = None
"""PyTorch, or None until it is found."""

_users: list[Callable[[Any], None]] = []


def when_found(user: Callable[[Any], None]) -> Callable[[Any], None]:
    """Decorates what takes the things of PyTorch that a module keeps at hand."""
    _users.append(user)
    return user


def find() -> Any:
    """PyTorch, if the program has imported it; otherwise None."""
    if torch is None and "torch" in sys.modules:
        _take(sys.modules["torch"])
    return torch


def load() -> Any:
    """PyTorch, imported here if it is installed; otherwise None. For where nothing else allocates on a GPU."""
    try:
        import_module("torch")
    except ImportError:
        return None
    return find()


def _take(module: Any) -> None:
    global torch
    if module is None or getattr(module.__spec__, "_initializing", False):
        return  # kept from being imported, or not whole yet: this is called from within its import
    torch = module
    for user in _users:
        user(module)
    import_module("._torch_ops", __package__)
