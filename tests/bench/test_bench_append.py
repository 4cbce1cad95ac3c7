# SPDX-License-Identifier: Apache-2.0
"""bench/append.py on the CPU: each kind of append is timed beside a copy of as many bytes."""

import csv
import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("podattn")

import append  # noqa: E402


def test_rows(tmp_path, monkeypatch):
    out = tmp_path / "append.csv"
    monkeypatch.setattr(append, "GRAPH_BYTES", 0)
    given = ["append.py", "--device", "cpu", "--tokens", "20", "--repeats", "2", "--commit", "abc", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", given)
    append.main()
    lines = out.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# podattn's append") and "# commit: abc" in lines
    rows = list(csv.DictReader((line for line in lines if not line.startswith("#")), delimiter=";"))
    assert [(row["what"], row["cache"]) for row in rows] == [(work.name, work.cache) for work in append.WORKS]
    for row, work in zip(rows, append.WORKS):
        assert float(row["us"]) > 0 and float(row["copy_us"]) > 0
        assert float(row["mbytes"]) == pytest.approx(20 * work.token_bytes / 1e6, abs=0.01)
