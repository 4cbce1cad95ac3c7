# SPDX-License-Identifier: Apache-2.0
"""Loads libpodattn.so and turns its statuses into exceptions."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path
from typing import Any

from ._abi import FUNCTIONS, VERSION
from ._errors import BY_STATUS, Error, LibraryError

_NAMED = os.environ.get("PODATTN_LIBRARY")
_REMEDY = (
    "Unset PODATTN_LIBRARY, or let it name the libpodattn.so that was built from the sources of this package"
    if _NAMED
    else "Install the package with pip, or name a built libpodattn.so in the environment variable PODATTN_LIBRARY"
)


def _path() -> Path:
    """The library of the wheel, or the one that PODATTN_LIBRARY names."""
    return Path(_NAMED or Path(__file__).with_name("libpodattn.so"))


def _is_of_this_package(version: str) -> bool:
    """Whether a library of that version makes the promise of podattn.h to this package: of the same minor version until
    1.0, then of the same major version. One that is too old is found by the functions that it lacks.
    """
    parts = re.match(r"(\d+)\.(\d+)\.", version)
    if parts is None:
        return False
    major, minor = int(parts[1]), int(parts[2])
    return major == VERSION[0] and (major > 0 or minor == VERSION[1])


def _function(library: ctypes.CDLL, name: str, of: str) -> Any:
    try:
        return getattr(library, name)
    except AttributeError:
        raise LibraryError(f"{of} has no function {name}(). {_REMEDY}") from None


def _load(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise LibraryError(f"podattn cannot load its library: {error}. {_REMEDY}") from error
    pod_version = _function(library, "pod_version", f"{path} is no library of podattn: it")
    pod_version.restype, pod_version.argtypes = FUNCTIONS["pod_version"]
    found = pod_version().decode(errors="replace")
    if not _is_of_this_package(found):
        needed = ".".join(map(str, VERSION))
        raise LibraryError(f"{path} is podattn {found}, and this package needs {needed}. {_REMEDY}")
    for name, (result, arguments) in FUNCTIONS.items():
        function = _function(library, name, f"{path} is podattn {found}, but of an older build: it")
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
