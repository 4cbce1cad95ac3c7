# SPDX-License-Identifier: Apache-2.0
"""Loads libpodattn.so and turns its statuses into exceptions."""

from __future__ import annotations

import ctypes
import os
import re
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


# The library speaks to C programs: their names for what has another name here.
_NAMES = {
    "POD_MEMORY_HOST": "'host'",
    "POD_MEMORY_DEVICE": "'device'",
    "pod_plan_build()": "Plan.build()",
    "workspace.plan": "plan_memory",
    "workspace.scratch": "scratch",
    "q_dtype": "dtype",
    "k is": "k_cache is",
    "v is": "v_cache is",
    "is NULL": "has no memory",
}


def _in_python(message: str) -> str:
    for name, here in _NAMES.items():
        message = re.sub(rf"\b{re.escape(name)}(?!\w)", here, message)
    return message


def check(status: int) -> None:
    """Raises what a status other than POD_OK means, with the library's message."""
    if status:
        # A message that was cut off may end within a character.
        raise BY_STATUS.get(status, Error)(_in_python(lib.pod_error_message().decode(errors="replace")))
