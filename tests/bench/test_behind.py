# SPDX-License-Identifier: Apache-2.0
"""bench/behind.py: the numbers of its tables follow the files."""

import behind
import pytest
import synthetic

FA3 = {"fa3_mixed": 130, "fa3_mixed_split": 120, "fa3_serial": 125}


@pytest.fixture()
def compared(tmp_path):
    """Two batches of one file and one of another, of which podattn is behind on one, and slower than before on one."""
    rows = synthetic.compared({"fused": 100, "before": 110, **FA3}, "512@4096 16x1@4096")
    rows += synthetic.compared({"fused": 100, "before": 101, "fa3_mixed": 80}, "1024@8192 16x1@4096", paused=1.5)
    rows += synthetic.compared(
        {"fused": 100, "before": 90, "fa3_mixed": 99}, "64x1@4096", file="decodes", heads=(64, 8, 64), window=128
    )
    return synthetic.write(tmp_path / "compared.csv", synthetic.COMPARED_COLUMNS, rows)


def tables_of(text):
    """Row by row: the first column to the others, of every table in turn."""
    tables, rows = [], None
    for line in text.splitlines():
        if not line.startswith("|"):
            rows = None
        elif rows is None:
            tables.append(rows := {})
        elif not line.startswith("|---"):
            first, *others = (field.strip() for field in line.strip("|").split("|"))
            rows[first] = others
    return tables


def test_every_number_follows_the_file(compared, capsys):
    assert behind.main([str(compared)]) == 0
    files, heads, worst, _, changes, slower, faster, *_ = tables_of(capsys.readouterr().out)
    # The best way of each batch: 120, 80 and 99 over 100.
    assert files["heads"] == ["2", "0.98", "0.80", "1", "0.98", "0.80", "1"]
    assert files["decodes"] == ["1", "0.99", "0.99", "0", "0.99", "0.99", "0"]
    assert files["all"][:4] == ["3", "0.98", "0.80", "1"]
    assert heads["decodes, 64/8 d64"][:2] == ["1", "0.99"]
    assert worst == {"heads: 32/8: 1024@8192 16x1@4096": ["100.0", "80.0", "fa3_mixed", "0.80"]}
    assert changes["all"] == ["3", "1.000", "0.900", "1.100", "1", "1"]
    assert slower == {"decodes: 64/8 d64, window 128: 64x1@4096": ["100.0", "90.0", "before", "0.90"]}
    assert faster == {"heads: 32/8: 512@4096 16x1@4096": ["100.0", "110.0", "before", "1.10"]}


def test_a_change_within_the_noise_is_none(tmp_path, capsys):
    rows = synthetic.compared({"fused": 100, "before": 101}, "64x1@4096")
    path = synthetic.write(tmp_path / "a.csv", synthetic.COMPARED_COLUMNS, rows)
    assert behind.main([str(path)]) == 0
    said = capsys.readouterr().out
    assert "No batch is slower by more than 2 %." in said and "None is faster by more than 2 %." in said
    assert "FlashAttention" not in said


def test_energy_is_compared_where_it_was_measured(tmp_path, capsys):
    rows = synthetic.compared({"fused": 100, **FA3}, "64x1@4096", energy=0.7)
    path = synthetic.write(tmp_path / "a.csv", synthetic.COMPARED_COLUMNS, rows)
    behind.main([str(path)])
    assert "| heads | 1 | 1.20 | 1.20 |" in capsys.readouterr().out


def test_the_readme_s_block_is_filled_and_nothing_else(compared, tmp_path):
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- behind -->\nstale\n<!-- /behind -->\nafter\n")
    assert behind.main([str(compared), "--readme", str(page)]) == 0
    filled = page.read_text()
    assert filled.startswith("before\n<!-- behind -->\nNVIDIA H100, kernel sm90a. FlashAttention-3's best way")
    assert filled.endswith("<!-- /behind -->\nafter\n") and "stale" not in filled
    assert "| heads | 2 | 0.98 | 0.80 | 1 |" in filled and "1024@8192" in filled


def test_ragged_batches_are_shortened():
    requests = " ".join(f"1@{1000 + i}" for i in range(40))
    assert behind.compared.shortened(requests) == "1@1000 1@1001 ... 1@1038 1@1039 (40 different)"
    assert behind.compared.shortened("64x1@4096") == "64x1@4096"


def test_a_file_of_something_else_is_refused_by_name(tmp_path, capsys):
    path = synthetic.write(tmp_path / "a.csv", ["colour"], [{"colour": "blue"}])
    assert behind.main([str(path)]) == 1
    assert "behind: a.csv: no column file" in capsys.readouterr().err
    assert behind.main([str(tmp_path / "absent.csv")]) == 1
