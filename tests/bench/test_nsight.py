# SPDX-License-Identifier: Apache-2.0
"""bench/nsight.py with a script in the place of Nsight Compute."""

import csv
from pathlib import Path

import nsight
import pytest

RECORDED = Path(__file__).parent / "recorded" / "ncu_raw.csv"
HEADING = "case;variant;median_us;sm_percent;tensor_percent;dram_percent;source"
TIMES_US = {"fused": 400, "serial": 500, "streams": 480, "prefill": 100, "decode": 300}


@pytest.fixture
def ncu(tmp_path, monkeypatch):
    """Makes a program `ncu` that keeps its arguments and does what the lines say; returns the arguments' file."""

    def make(*lines):
        script = tmp_path / "ncu"
        script.write_text("\n".join(["#!/bin/sh", f'echo "$*" >>{tmp_path}/arguments', *lines]) + "\n")
        script.chmod(0o700)
        return tmp_path / "arguments"

    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return make


def results(tmp_path, variants=tuple(TIMES_US), cases=("a,b",)):
    path = tmp_path / "utilisation.csv"
    lines = ["# podattn", "# command: podattn bench utilisation --device cuda:0 --short --repeat 50", HEADING]
    lines += [f"{case};{v};{TIMES_US[v]};1.00;;2.00;peak" for case in cases for v in variants]
    path.write_text("\n".join([*lines, "# done"]) + "\n")
    return path


def rows(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return {row["variant"]: row for row in csv.DictReader(lines, delimiter=";")}


def percents(row):
    return row["sm_percent"], row["tensor_percent"], row["dram_percent"], row["source"]


def test_counters_take_the_place_of_what_was_achieved(tmp_path, ncu):
    arguments, path = ncu(f"cat {RECORDED}"), results(tmp_path)
    assert nsight.main(["podattn", str(path)]) == 0
    found = rows(path)
    assert percents(found["fused"]) == ("62.75", "55.50", "81.25", "ncu")
    assert percents(found["prefill"]) == ("92.00", "", "11.00", "ncu")
    assert percents(found["decode"]) == ("27.52", "3.50", "1089.71", "ncu")
    assert percents(found["streams"]) == ("1.00", "", "2.00", "peak")
    assert percents(found["serial"]) == ("43.64", "", "820.03", "ncu")  # weights 100 and 300
    assert path.read_text().splitlines()[-1] == "# done" and path.read_text().startswith("# podattn\n")
    asked = arguments.read_text()
    assert asked.endswith("podattn bench utilisation --device cuda:0 --launch a,b/fused/prefill/decode\n")
    assert "--clock-control none" in asked and "--launch-skip 6 --launch-count 3 " in asked


def test_a_side_that_is_empty_is_not_counted(tmp_path, ncu):
    arguments, path = ncu(f"cat {RECORDED}"), results(tmp_path, ("fused", "serial", "decode"))
    assert nsight.main(["podattn", str(path)]) == 0
    assert "a,b/fused/decode\n" in arguments.read_text()
    assert percents(rows(path)["decode"]) == ("92.00", "", "11.00", "ncu")
    assert percents(rows(path)["serial"]) == ("1.00", "", "2.00", "peak")


def test_hundreds_of_columns_some_of_them_empty_or_without_a_name():
    names = [f"a{i}" for i in range(300)] + [nsight.COUNTERS["dram_percent"], "", nsight.COUNTERS["sm_percent"]]
    values = [f"1,0{i}" for i in range(300)] + ["89.71", "", "27.52"]
    lines = ['"ID",' + ",".join(f'"{name}"' for name in names), '""', '"0",' + ",".join(f'"{v}"' for v in values)]
    assert nsight.parse("\n".join(lines), 1) == [{"sm_percent": 27.52, "tensor_percent": None, "dram_percent": 89.71}]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["exit 9"], "ncu ended with exit code 9"),
        (["echo '==PROF== Connected'", "echo '==ERROR== ERR_NVGPUCTRPERM: no permission'", "exit 1"],
         "ncu ended with exit code 1: ERR_NVGPUCTRPERM: no permission"),
        (["echo '==ERROR== ERR_NVGPUCTRPERM'"],
         "ncu counted nothing; it may need permission to read the GPU's counters: ERR_NVGPUCTRPERM"),
        (["echo '\"ID\",\"dram__throughput.avg.pct_of_peak_sustained_elapsed\"'", "echo '\"\",\"%\"'",
          "echo '\"0\",\"50\"'"], "ncu counted nothing; it may need permission to read the GPU's counters"),
        ([f"head -4 {RECORDED}"], "ncu counted nothing; it may need permission to read the GPU's counters"),
    ],
)  # fmt: skip
def test_a_failure_leaves_the_file_and_is_named(tmp_path, ncu, capsys, lines, reason):
    ncu(*lines)
    path = results(tmp_path)
    before = path.read_text()
    assert nsight.main(["podattn", str(path)]) == 1
    assert path.read_text() == before
    assert capsys.readouterr().err == f"a,b: {reason}\n"


def test_without_nsight_compute(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nsight.main(["podattn", str(results(tmp_path))]) == 1
    assert capsys.readouterr().err == "a,b: ncu: No such file or directory\n"
