# SPDX-License-Identifier: Apache-2.0
"""The ctypes structs against what a C compiler makes of podattn.h."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import podattn
from podattn import _abi, _dtypes, _errors

HEADER = Path(__file__).parents[2] / "include" / "podattn.h"
STRUCTS = {
    "pod_device_info": _abi.DeviceInfo,
    "pod_limits": _abi.Limits,
    "pod_mask": _abi.Mask,
    "pod_batch": _abi.Batch,
    "pod_workspace": _abi.Workspace,
    "pod_cache": _abi.Cache,
    "pod_tensors": _abi.Tensors,
    "pod_rope": _abi.Rope,
    "pod_append": _abi.Append,
    "pod_parts": _abi.Parts,
    "pod_plan_info": _abi.PlanInfo,
    "pod_work_item": _abi.WorkItem,
    "pod_virtual_config": _abi.VirtualConfig,
    "pod_virtual_info": _abi.VirtualInfo,
    "pod_virtual_stats": _abi.VirtualStats,
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Numbers by the C expressions that have them."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not HEADER.exists():
        pytest.skip("needs a C compiler and the header")
    expressions = [f"sizeof({name})" for name in STRUCTS]
    for name, struct in STRUCTS.items():
        expressions += [f"offsetof({name}, {field})" for field, _ in struct._fields_]
        expressions += [f"sizeof((({name} *)0)->{field})" for field, _ in struct._fields_]
    expressions += ["POD_F32", "POD_F16", "POD_BF16", "POD_F8E4M3", "POD_MEMORY_HOST", "POD_MEMORY_DEVICE"]
    expressions += ["POD_WORKSPACE_ALIGN", "POD_MAX_MASKS", "POD_WORK_PREFILL", "POD_WORK_DECODE", *_statuses()]
    lines = "".join(f'printf("%s=%lld\\n", "{x}", (long long)({x}));\n' for x in expressions)
    folder = tmp_path_factory.mktemp("abi")
    (folder / "abi.c").write_text(
        f"#include <podattn.h>\n#include <stdio.h>\nint main(void) {{\n{lines}return 0;\n}}\n"
    )
    subprocess.run([compiler, "-I", str(HEADER.parent), "abi.c", "-o", "abi"], cwd=folder, check=True)
    output = subprocess.run([folder / "abi"], check=True, capture_output=True, text=True).stdout
    return {name: int(value) for name, value in (line.rsplit("=", 1) for line in output.splitlines())}


def _statuses() -> list[str]:
    return re.findall(r"X\((POD_E_\w+),", HEADER.read_text()) if HEADER.exists() else []


@pytest.mark.parametrize("name", STRUCTS)
def test_struct(name: str, compiled: dict[str, int]) -> None:
    struct = STRUCTS[name]
    assert ctypes.sizeof(struct) == compiled[f"sizeof({name})"]
    for field, _ in struct._fields_:
        place = getattr(struct, field)
        assert place.offset == compiled[f"offsetof({name}, {field})"], field
        assert place.size == compiled[f"sizeof((({name} *)0)->{field})"], field


def test_constants(compiled: dict[str, int]) -> None:
    dtypes = [compiled[f"POD_{name}"] for name in ("F32", "F16", "BF16", "F8E4M3")]
    assert dtypes == [_dtypes.F32, _dtypes.F16, _dtypes.BF16, _dtypes.F8E4M3]
    assert [compiled["POD_MEMORY_HOST"], compiled["POD_MEMORY_DEVICE"]] == [_abi.MEMORY_HOST, _abi.MEMORY_DEVICE]
    assert [compiled["POD_WORK_PREFILL"], compiled["POD_WORK_DECODE"]] == [_abi.WORK_PREFILL, _abi.WORK_DECODE]
    assert compiled["POD_WORKSPACE_ALIGN"] == _abi.WORKSPACE_ALIGN
    assert compiled["POD_MAX_MASKS"] == _abi.MAX_MASKS


def test_every_status_has_its_exception(compiled: dict[str, int]) -> None:
    assert _statuses()
    assert sorted(_errors.BY_STATUS) == sorted(compiled[name] for name in _statuses())


def test_version() -> None:
    version = re.search(r'POD_VERSION_STRING "(.*)"', HEADER.read_text())
    assert version and podattn.__version__ == version[1]
    assert ".".join(map(str, _abi.VERSION)) == version[1].rpartition(".")[0]
