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
    page.write_text("before\n<!-- fig11 -->\nstale\n<!-- /fig11 -->\n<!-- balanced -->\n<!-- /balanced -->\nafter\n")
    assert plot.main([str(tmp_path), "--figures", str(tmp_path / "figures"), "--page", str(page)]) == 0
    assert len(list((tmp_path / "figures").glob("*.svg"))) == len(synthetic.MAKERS)
    assert len(list((tmp_path / "figures").glob("*.png"))) == len(synthetic.MAKERS)
    filled = page.read_text()
    assert filled.startswith("before\n<!-- fig11 -->\n![The sweep") and filled.endswith("<!-- /balanced -->\nafter\n")
    assert "](../figures/fig11.svg)" in filled and "stale" not in filled
    assert "| 1024@8192 + 16@4096 | 100 | 1.90 |" in filled
    assert capsys.readouterr().err == ""


def test_every_claim_is_answered_or_said_to_be_open(tmp_path):
    for suite in ("limits", "fig11", "peers"):
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
    synthetic.limits(tmp_path)
    page = tmp_path / "page.md"
    page.write_text("<!-- limits -->\n<!-- /limits -->\n")
    plot.main([str(tmp_path), "--page", str(page)])
    first = page.read_text()
    plot.main([str(tmp_path), "--page", str(page)])
    assert page.read_text() == first


def test_a_suite_without_a_file_is_said_to_be_not_measured(tmp_path):
    synthetic.limits(tmp_path)
    page = tmp_path / "page.md"
    page.write_text("<!-- fig7 -->\n<!-- /fig7 -->\n<!-- balanced -->\n<!-- /balanced -->\n")
    assert plot.main([str(tmp_path), "--page", str(page)]) == 0
    assert page.read_text().count("Not measured: no fig7.csv.") == 1
    assert "Not measured: no peers.csv." in page.read_text()


def test_a_wrong_file_does_not_stop_the_others(tmp_path, capsys):
    synthetic.limits(tmp_path)
    synthetic.write(tmp_path / "fig11.csv", ["case"], [{"case": "x"}])
    assert plot.main([str(tmp_path)]) == 1
    assert (tmp_path / "limits.svg").exists()
    assert "plot: fig11.csv: no column variant" in capsys.readouterr().err


def test_a_suite_of_which_nothing_was_measured_is_said_and_no_error(tmp_path, capsys):
    synthetic.limits(tmp_path)
    synthetic.write(tmp_path / "fig11.csv", synthetic.BATCH_COLUMNS, [], ["# left out: a: the time limit"])
    assert plot.main([str(tmp_path)]) == 0
    assert "fig11: not drawn: fig11.csv: no rows; left out: a: the time limit" in capsys.readouterr().out


def test_a_suite_that_was_asked_for_must_be_there(tmp_path, capsys):
    assert plot.main([str(tmp_path), "fig6"]) == 1
    assert "fig6.csv: No such file" in capsys.readouterr().err


def test_an_empty_folder_is_an_error_that_says_what_to_do(tmp_path, capsys):
    assert plot.main([str(tmp_path)]) == 1
    assert "podattn bench" in capsys.readouterr().err


def test_an_unknown_suite_is_a_usage_error(tmp_path, capsys):
    with pytest.raises(SystemExit):
        plot.main([str(tmp_path), "fig99"])
    assert "no suite fig99" in capsys.readouterr().err


def test_a_block_that_does_not_end_is_refused():
    with pytest.raises(results.ResultError, match="<!-- fig1 --> but no <!-- /fig1 -->"):
        pages.replace("<!-- fig1 -->\ntext", {"fig1": "new"})


def test_named_suites_fill_their_own_blocks_and_no_others(tmp_path):
    synthetic.limits(tmp_path)
    synthetic.fig11(tmp_path)
    page = tmp_path / "page.md"
    kept = ("fig11", "peers", "claims", "balanced")
    page.write_text("".join(f"<!-- {name} -->\nold {name}\n<!-- /{name} -->\n" for name in ("limits", *kept)))
    assert plot.main([str(tmp_path), "limits", "--page", str(page)]) == 0
    filled = page.read_text()
    assert "![Ceilings]" in filled and "old limits" not in filled
    assert all(f"<!-- {name} -->\nold {name}\n<!-- /{name} -->\n" in filled for name in kept)


def test_each_file_s_ratios_are_its_own(tmp_path):
    table = summary.table(results.read(synthetic.peers(tmp_path)), [results.read(synthetic.libraries(tmp_path))])
    row = next(line for line in table.splitlines() if line.startswith("| 1024@8192"))
    # Serial's 195 and POD-Attention's 140 are over the 110 of their file, FlashInfer's 168 and 180 over its 112.
    assert row.split("|")[3:7] == [" 1.77 ", " 1.73 ", " 1.50 ", " 1.61 "]
    assert " 1.27 " in row


def test_flash_attention_3_is_shown_from_the_run_that_measured_it(tmp_path):
    peers = results.read(synthetic.peers(tmp_path))
    runs = [results.read(make(tmp_path)) for make in (synthetic.libraries, synthetic.libraries_contiguous)]
    lines = summary.table(peers, runs).splitlines()
    heading, caches, row = lines[2], lines[4], lines[5]
    assert heading.endswith("| POD-Attention, best | FlashAttention-3, best |")
    # Contiguous: fused 100, its own serial 190, FlashAttention-3's streams 130. POD-Attention's 140 / 110 are of peers.
    assert row == "| 1024@8192 + 16@4096 | 100 | 1.90 | 1.50 | 1.61 | 1.27 | 1.30 |"
    assert caches.count("contiguous") == 4 and caches.count("page size 16") == 2


def test_a_contiguous_run_without_the_sides_leaves_the_batches_to_the_peers(tmp_path):
    peers = results.read(synthetic.peers(tmp_path))
    rows = synthetic.case({"fused": 100, "fa3_serial": 140}, "1024@8192", page_size=0)
    run = results.read(synthetic.write(tmp_path / "run.csv", synthetic.BATCH_COLUMNS, rows))
    lines = summary.table(peers, [run]).splitlines()
    assert lines[5].startswith("| 1024@8192 + 16@4096 | 110 | 1.77 |") and lines[5].endswith("| 1.40 |")


def test_no_file_with_sides_is_no_table(tmp_path):
    assert summary.table(None, [results.read(synthetic.libraries(tmp_path))]) == "Not measured: no peers.csv."
