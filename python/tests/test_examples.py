# SPDX-License-Identifier: Apache-2.0
"""The examples, as a reader runs them."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, *arguments: str) -> str:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_tiny_llama(device: str) -> None:
    output = run("tiny_llama.py", "--device", device)
    steps = re.search(r"(\d+) steps, (\d+) of them hybrid; (\d+) of (\d+) tokens", output)
    assert steps, output
    assert int(steps[2]) >= 5 and int(steps[3]) == int(steps[4]) == 144


def test_mla() -> None:
    output = run("mla.py")
    assert len(re.findall(r"relative difference \d\.\de-0[67]\n", output)) == 2, output


@pytest.mark.parametrize("name", ["jax", "cupy"])
def test_other_libraries(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    if name == "cupy":
        import cupy

        if not cupy.cuda.is_available():
            pytest.skip("CuPy sees no GPU")
    assert "largest difference" in run(f"{name}_attention.py")
