# SPDX-License-Identifier: Apache-2.0
"""Loads libpodattn.so and turns its statuses into exceptions."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from ._abi import FUNCTIONS
from ._errors import BY_STATUS, Error


def _path() -> Path:
    """The library of the wheel, or the one that PODATTN_LIBRARY names."""
    return Path(os.environ.get("PODATTN_LIBRARY") or Path(__file__).with_name("libpodattn.so"))


def _load(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise ImportError(
            f"podattn cannot load its library: {error}. Install the package with pip, or name a built libpodattn.so in "
            "the environment variable PODATTN_LIBRARY"
        ) from error
    for name, (result, arguments) in FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


lib = _load(_path())


def version() -> str:
    """The version of the loaded library."""
    return str(lib.pod_version().decode())


def check(status: int) -> None:
    """Raises what a status other than POD_OK means, with the library's message."""
    if status:
        raise BY_STATUS.get(status, Error)(lib.pod_error_message().decode())
