# SPDX-License-Identifier: Apache-2.0
"""Reading result files: what is understood, and what is said of files that are wrong."""

import pytest
import synthetic
from figures import cases, results


def test_comments_columns_and_rows_are_told_apart(tmp_path):
    path = synthetic.write(tmp_path / "a.csv", ["case", "us"], [{"case": "x", "us": 5}], ["# left out: y: no memory"])
    found = results.read(path)
    assert found.columns == ["case", "us"]
    assert found.rows == [{"case": "x", "us": "5"}]
    assert found.left_out == ["y: no memory"]
    assert found.machine == "NVIDIA H100, kernel sm90a"
    assert found.commit == "0123abc"
    assert found.command == "podattn bench suite"


def test_a_missing_column_is_named(tmp_path):
    found = results.read(synthetic.write(tmp_path / "a.csv", ["case", "us"], [{"case": "x", "us": 5}]))
    with pytest.raises(results.ResultError, match=r"a\.csv: no column median_us; it has case, us"):
        found.need("case", "median_us")


def test_a_file_without_rows_says_what_it_left_out(tmp_path):
    found = results.read(synthetic.write(tmp_path / "a.csv", ["case"], [], ["# left out: utilisation: no counters"]))
    with pytest.raises(results.ResultError, match=r"a\.csv: no rows; left out: utilisation: no counters"):
        found.need("case")


@pytest.mark.parametrize(
    ("text", "said"),
    [("# only comments\n", "no heading line"), ("a;b\n1;2;3\n", "row 1 has 3 fields, the heading 2")],
)
def test_a_malformed_file_is_refused(tmp_path, text, said):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(results.ResultError, match=said):
        results.read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(results.ResultError, match=r"absent\.csv: No such file"):
        results.read(tmp_path / "absent.csv")


def test_a_field_that_is_no_number_is_named_with_its_case(tmp_path):
    rows = synthetic.case({"fused": 100})
    rows[0]["median_us"] = "fast"
    found = results.read(synthetic.write(tmp_path / "a.csv", synthetic.BATCH_COLUMNS, rows))
    with pytest.raises(results.ResultError, match=r"median_us of m,512@4096.* is 'fast', not a number"):
        cases.cases_of(found)


def test_cases_without_a_needed_variant_are_dropped_and_none_is_an_error(tmp_path):
    rows = synthetic.case({"fused": 100, "serial": 140}) + synthetic.case({"fused": 90}, "2048@8192")
    found = results.read(synthetic.write(tmp_path / "a.csv", synthetic.BATCH_COLUMNS, rows))
    assert [case.us for case in cases.cases_of(found, "fused", "serial")] == [{"fused": 100.0, "serial": 140.0}]
    with pytest.raises(results.ResultError, match="no case has hfuse; its variants are fused, serial"):
        cases.cases_of(found, "hfuse")


def test_the_co_run_limit_lies_between_the_longer_side_and_serial():
    assert cases.co_run_us(100, 0) == 100
    assert 100 < cases.co_run_us(100, 60) < 160
    assert cases.co_run_us(60, 100) == cases.co_run_us(100, 60)


def test_the_mean_of_ratios_is_geometric():
    assert cases.mean([2, 0.5]) == pytest.approx(1)
    assert cases.mean([4, 1]) == pytest.approx(2)


def test_balance_is_of_the_shorter_side():
    assert cases.is_balanced(20, 80)
    assert cases.is_balanced(80, 20)
    assert not cases.is_balanced(19, 81)
