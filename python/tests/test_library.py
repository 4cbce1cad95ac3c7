# SPDX-License-Identifier: Apache-2.0
"""What `import podattn` says of a libpodattn.so that is not its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import podattn
from podattn import _abi, _library

NAMED = "PODATTN_LIBRARY"
PROGRAM = """
try:
    import podattn
except ImportError as error:
    assert [kind.__name__ for kind in type(error).__mro__][:2] == ["LibraryError", "Error"], type(error).__mro__
    print(error)
else:
    print("podattn", podattn.__version__)
"""
MINOR = ".".join(map(str, _abi.VERSION))


def said(library: str) -> str:
    """By a program that imports the package beside this library."""
    environment = {**os.environ, NAMED: library}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


def compiled(folder: Path, *lines: str) -> str:
    """The path of a library of these lines of C."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    (folder / "other.c").write_text("\n".join(lines))
    subprocess.run([compiler, "-shared", "-fPIC", "other.c", "-o", "other.so"], cwd=folder, check=True)
    return str(folder / "other.so")


def library(folder: Path, version: str, names: list[str]) -> str:
    """A library that says it is this version, and has functions of these names."""
    others = [f"int {name}(void) {{ return 0; }}" for name in names if name != "pod_version"]
    return compiled(folder, f'const char *pod_version(void) {{ return "{version}"; }}', *others)


def test_its_own_library() -> None:
    path = os.environ.get(NAMED) or str(Path(podattn.__file__).with_name("libpodattn.so"))
    assert said(path) == f"podattn {podattn.__version__}"


def test_a_library_that_is_not_there(tmp_path: Path) -> None:
    path = str(tmp_path / "libpodattn.so")
    assert path in said(path) and "cannot load" in said(path) and NAMED in said(path)


def test_a_file_that_is_no_library(tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("no library")
    assert said(str(tmp_path / "text.so")).startswith(f"podattn cannot load its library: {tmp_path}/text.so")


def test_a_library_of_something_else(tmp_path: Path) -> None:
    path = compiled(tmp_path, "int pod_attention(void) { return 0; }")
    assert said(path).startswith(f"{path} is no library of podattn: it has no function pod_version(). Unset {NAMED}")


@pytest.mark.parametrize("version", ["0.1.9", "0.3.0", "1.2.0", "2.0.0", "", "0.2"])
def test_another_version(tmp_path: Path, version: str) -> None:
    path = library(tmp_path, version, list(_abi.FUNCTIONS))
    assert said(path).startswith(f"{path} is podattn {version}, and this package needs {MINOR}. Unset {NAMED}")


def test_an_older_build_of_this_version(tmp_path: Path) -> None:
    lacking = list(_abi.FUNCTIONS)[-1]
    path = library(tmp_path, f"{MINOR}.0", [name for name in _abi.FUNCTIONS if name != lacking])
    expected = f"{path} is podattn {MINOR}.0, but of an older build: it has no function {lacking}()."
    assert said(path).startswith(expected)


def test_a_newer_build_of_this_version(tmp_path: Path) -> None:
    path = library(tmp_path, f"{MINOR}.77", [*_abi.FUNCTIONS, "pod_more"])
    assert said(path) == f"podattn {MINOR}.77"


@pytest.mark.parametrize(
    ("package", "found", "fits"),
    [
        ((0, 2), "0.2.5", True),
        ((0, 2), "0.3.0", False),
        ((1, 2), "1.0.0", True),
        ((1, 2), "1.9.0", True),
        ((1, 2), "2.2.0", False),
    ],
)
def test_which_versions_fit(monkeypatch: pytest.MonkeyPatch, package: tuple[int, int], found: str, fits: bool) -> None:
    """Until 1.0 the minor version counts, then the major one."""
    monkeypatch.setattr(_library, "VERSION", package)
    assert _library._is_of_this_package(found) is fits
