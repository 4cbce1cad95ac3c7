# SPDX-License-Identifier: Apache-2.0
"""The door: bench/plot.py draws what is there, fills pages, and says what is wrong."""

import plot
import pytest
import synthetic
from figures import pages, results, summary
from figures.suites import SUITES


def test_all_suites_are_drawn_and_a_page_is_filled(tmp_path, capsys):
    for make in synthetic.MAKERS.values():
        make(tmp_path)
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text("before\n<!-- sweep -->\nstale\n<!-- /sweep -->\n<!-- balanced -->\n<!-- /balanced -->\nafter\n")
    assert plot.main([str(tmp_path), "--figures", str(tmp_path / "figures"), "--page", str(page)]) == 0
    assert len(list((tmp_path / "figures").glob("*.svg"))) == len(synthetic.MAKERS)
    assert len(list((tmp_path / "figures").glob("*.png"))) == len(synthetic.MAKERS)
    filled = page.read_text()
    assert filled.startswith("before\n<!-- sweep -->\n![The sweep") and filled.endswith("<!-- /balanced -->\nafter\n")
    assert "](../figures/sweep.svg)" in filled and "stale" not in filled
    assert "| 1024@8192 + 16@4096 | 100 | 1.90 |" in filled
    assert capsys.readouterr().err == ""


def test_every_claim_is_answered_or_said_to_be_open(tmp_path):
    for suite in ("peak", "sweep", "batches"):
        synthetic.MAKERS[suite](tmp_path)
    page = tmp_path / "page.md"
    page.write_text("<!-- claims -->\n<!-- /claims -->\n")
    assert plot.main([str(tmp_path), "--page", str(page)]) == 0
    rows = [line for line in page.read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(synthetic.MAKERS)
    assert sum("| not measured |" in row for row in rows) == len(synthetic.MAKERS) - 3
    assert any("28 % on average. | **Holds.** Serial / fused: 1.40" in row for row in rows)
    assert any("| Fused is 1.36× faster than FlashAttention-3" in row for row in rows)


def test_every_suite_has_a_verdict(tmp_path):
    for suite, module in SUITES.items():
        assert pages.verdict(module.findings(results.read(synthetic.MAKERS[suite](tmp_path)))), suite


def test_filling_twice_changes_nothing(tmp_path):
    synthetic.peak(tmp_path)
    page = tmp_path / "page.md"
    page.write_text("<!-- peak -->\n<!-- /peak -->\n")
    plot.main([str(tmp_path), "--page", str(page)])
    first = page.read_text()
    plot.main([str(tmp_path), "--page", str(page)])
    assert page.read_text() == first


def test_a_suite_without_a_file_is_said_to_be_not_measured(tmp_path):
    synthetic.peak(tmp_path)
    page = tmp_path / "page.md"
    page.write_text("<!-- fusion_ways -->\n<!-- /fusion_ways -->\n<!-- balanced -->\n<!-- /balanced -->\n")
    assert plot.main([str(tmp_path), "--page", str(page)]) == 0
    assert page.read_text().count("Not measured: no fusion_ways.csv.") == 1
    assert "Not measured: no run has the sides alone." in page.read_text()


def test_a_wrong_file_does_not_stop_the_others(tmp_path, capsys):
    synthetic.peak(tmp_path)
    synthetic.write(tmp_path / "sweep.csv", ["case"], [{"case": "x"}])
    assert plot.main([str(tmp_path)]) == 1
    assert (tmp_path / "peak.svg").exists()
    assert "plot: sweep.csv: no column variant" in capsys.readouterr().err


def test_a_suite_of_which_nothing_was_measured_is_said_and_no_error(tmp_path, capsys):
    synthetic.peak(tmp_path)
    synthetic.write(tmp_path / "sweep.csv", synthetic.BATCH_COLUMNS, [], ["# left out: a: the time limit"])
    assert plot.main([str(tmp_path)]) == 0
    assert "sweep: not drawn: sweep.csv: no rows; left out: a: the time limit" in capsys.readouterr().out


def test_a_suite_that_was_asked_for_must_be_there(tmp_path, capsys):
    assert plot.main([str(tmp_path), "chunk_waves"]) == 1
    assert "chunk_waves.csv: No such file" in capsys.readouterr().err


def test_an_empty_folder_is_an_error_that_says_what_to_do(tmp_path, capsys):
    assert plot.main([str(tmp_path)]) == 1
    assert "podattn bench" in capsys.readouterr().err


def test_an_unknown_suite_is_a_usage_error(tmp_path, capsys):
    with pytest.raises(SystemExit):
        plot.main([str(tmp_path), "fig99"])
    assert "no suite fig99" in capsys.readouterr().err


def test_a_block_that_does_not_end_is_refused():
    with pytest.raises(results.ResultError, match="<!-- utilisation --> but no <!-- /utilisation -->"):
        pages.replace("<!-- utilisation -->\ntext", {"utilisation": "new"})


def test_named_suites_fill_their_own_blocks_and_no_others(tmp_path):
    synthetic.peak(tmp_path)
    synthetic.sweep(tmp_path)
    page = tmp_path / "page.md"
    kept = ("sweep", "batches", "claims", "balanced")
    page.write_text("".join(f"<!-- {name} -->\nold {name}\n<!-- /{name} -->\n" for name in ("peak", *kept)))
    assert plot.main([str(tmp_path), "peak", "--page", str(page)]) == 0
    filled = page.read_text()
    assert "![Ceilings]" in filled and "old peak" not in filled
    assert all(f"<!-- {name} -->\nold {name}\n<!-- /{name} -->\n" in filled for name in kept)


def runs(tmp_path, *makers):
    return [results.read(make(tmp_path)) for make in makers]


def test_each_file_s_ratios_are_its_own(tmp_path):
    lines = summary.table(runs(tmp_path, synthetic.libraries, synthetic.libraries_contiguous)).splitlines()
    heading, caches, row = lines[2], lines[4], lines[5]
    assert heading.endswith("| FlashInfer BatchAttention | FlashAttention-3, best |")
    # Contiguous: fused 100, its own serial 190, FlashAttention-3's streams 130. FlashInfer's 168 and 180 are over the
    # 112 of its own file.
    assert row == "| 1024@8192 + 16@4096 | 100 | 1.90 | 1.50 | 1.61 | 1.30 |"
    assert caches.count("contiguous") == 3 and caches.count("page size 16") == 2
    assert "32 query and 8 KV heads, head_dim 128, bf16, layers back to back." in lines[0]


def test_a_table_of_several_head_counts_names_them(tmp_path):
    us = {"fused": 100, "serial": 150, "prefill": 70, "decode": 80}
    rows = synthetic.compared(us, "512@512 8x1@512") + synthetic.compared(us, "512@512 8x1@512", heads=(8, 1, 64))
    run = results.read(synthetic.write(tmp_path / "run.csv", synthetic.COMPARED_COLUMNS, rows))
    said = summary.table([run])
    assert "; several head counts, bf16" in said
    assert "| 32/8: 512@512 + 8@512 | 100 | 1.50 |" in said and "| 8/1 d64: 512@512 + 8@512 | 100 | 1.50 |" in said


def test_no_file_with_sides_is_no_table(tmp_path):
    assert summary.table(runs(tmp_path, synthetic.libraries)) == "Not measured: no run has the sides alone."
    assert summary.table([]) == "Not measured: no run has the sides alone."
