# SPDX-License-Identifier: Apache-2.0
"""What the pages show is what the files in bench/results say: figures by their words, tables to the letter."""

import re
import shutil
from pathlib import Path
from statistics import fmean

import behind
import plot
import pytest
import serve

ROOT = Path(__file__).resolve().parents[2]
RESULTS, FIGURES = ROOT / "bench" / "results", ROOT / "docs" / "figures"
PAGES = ("README.md", "docs/evaluation.md", "docs/engines.md")
WORDS = re.compile(r"<(title|desc)>(.*?)</", re.DOTALL)


@pytest.fixture
def pages(tmp_path):
    (tmp_path / "docs" / "figures").mkdir(parents=True)
    for name in PAGES:
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_figures_and_tables_are_those_of_the_results(pages):
    fill = ["--page", str(pages / "docs" / "evaluation.md"), "--page", str(pages / "README.md")]
    drawn = pages / "docs" / "figures"
    assert plot.main([str(RESULTS / "h200"), "--figures", str(drawn), *fill]) == 0
    assert plot.main([str(RESULTS / "h100"), "batches", "--figures", str(drawn), *fill[:2]]) == 0
    engine = ["--figure", str(RESULTS / "h200" / "engine.jsonl"), "--figures", str(drawn)]
    assert serve.main([*engine, "--page", str(pages / "docs" / "engines.md")]) == 0
    assert behind.main([str(RESULTS / "h200" / "compared.csv"), "--readme", str(pages / "README.md")]) == 0
    for name in PAGES:
        assert (pages / name).read_text() == (ROOT / name).read_text(), f"tools/figures.sh makes {name} anew"
    names = sorted(path.name for path in drawn.glob("*.svg"))
    assert sorted({path.name for path in FIGURES.glob("*.svg")} - {"kv_memory.svg"}) == names
    for name in names:
        assert WORDS.findall((drawn / name).read_text()) == WORDS.findall((FIGURES / name).read_text()), name


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("**/*.svg")), ids=lambda path: path.name)
def test_a_picture_says_in_words_what_it_shows(path):
    assert [name for name, _ in WORDS.findall(path.read_text())][:2] == ["title", "desc"]


def test_the_table_of_absorbed_mla_is_that_of_its_file():
    lines = [line for line in (RESULTS / "h200" / "mla.csv").read_text().splitlines() if not line.startswith("#")]
    rows = []
    for line in lines[1:]:
        row = dict(zip(lines[0].split(";"), line.split(";")))
        requests = row["requests"] + (f" of {row['q']}" if row["q"] != "1" else "")
        batch = f"{requests} @ {int(row['kv']):,}"
        speed = float(row["kv_tb_per_s"])
        us, tflops, share = (f"{float(x):,.0f}" for x in (row["us"], row["tflops"], 100 * speed / 4.8))
        cells = (row["heads"], batch, row["page"], us, f"{speed:.2f}", f"{share} %", tflops)
        rows.append(f"| {' | '.join(cells)} |")
    text = (ROOT / "docs" / "mla.md").read_text()
    assert text[text.index("| heads | requests @ context |") :].split("\n\n")[0].splitlines()[2:] == rows


def test_the_table_of_the_sm80_log_is_that_of_its_file():
    lines = [line for line in (RESULTS / "h100" / "sm80.csv").read_text().splitlines() if not line.startswith("#")]
    heading, *fields = [line.split(";") for line in lines]
    found = [dict(zip(heading, line)) for line in fields]
    rows = {
        (f"{r['prefill_q']} @ {int(r['prefill_kv']):,}", f"{r['decode_n']} @ {int(r['decode_kv']):,}"): r
        for r in found
        if r["page"] == "0"
    }
    assert len(rows) == 84
    text = (ROOT / "docs" / "sm80-log.md").read_text()
    table = text[text.index("| prefill | decode | fused | serial |") :].split("\n\n")[0].splitlines()[2:]
    columns = [f"{name}_us" for name in ("fused", "serial", "streams", "pod_best", "fa3_best")]
    for line in table[:-1]:
        prefill, decode, *us = [cell.strip() for cell in line.strip("|").split("|")]
        assert us == [f"{float(rows[prefill, decode][column]):,.0f}" for column in columns], line
    means = [fmean(float(r[column]) / float(r["fused_us"]) for r in rows.values()) for column in columns]
    assert [cell.strip() for cell in table[-1].strip("|").split("|")][2:] == [f"{value:.2f}" for value in means]
