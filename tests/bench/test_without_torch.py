# SPDX-License-Identifier: Apache-2.0
"""Scripts of bench/ where PyTorch is not installed: those that need it say so, the others do without."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
SCRIPTS = sorted(path.name for path in BENCH.glob("*.py"))
NEED_IT = {"append.py", "compare.py", "plan_times.py", "python_overhead.py"}
# As `python3 bench/SCRIPT --help`, on a machine without it.
PROGRAM = """
import runpy, sys
sys.modules["torch"] = None
folder, script = sys.argv[1:]
sys.path.insert(0, folder)
sys.argv[:] = [script, "--help"]
runpy.run_path(f"{folder}/{script}", run_name="__main__")
"""


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script):
    if script.startswith("plot"):
        pytest.importorskip("matplotlib")
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(BENCH), script], capture_output=True, text=True)
    if script in NEED_IT:
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"bench/{script} needs PyTorch: pip install torch\n"
    else:
        assert (done.returncode, done.stderr) == (0, "")
        assert "usage: " in done.stdout
