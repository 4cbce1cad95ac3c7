# SPDX-License-Identifier: Apache-2.0
"""What the pages show is what the files in bench/results say: figures by their words, tables to the letter."""

import csv
import json
import re
import shutil
from pathlib import Path
from statistics import fmean

import behind
import plot
import pytest
import serve
from engine import frontier

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


def rows_of(name):
    lines = [line for line in (RESULTS / name).read_text().splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines, delimiter=";"))


def between(ratios):
    return f"{min(ratios):.2f} to {max(ratios):.2f} times"


def readme_says(text):
    return text in " ".join((ROOT / "README.md").read_text().split())


def test_the_readme_says_what_was_measured_in_an_engine():
    lines = (RESULTS / "h200" / "engine.jsonl").read_text().splitlines()
    faster, shorter = [], []
    for backends in frontier.points([json.loads(line) for line in lines]).values():
        theirs = {budget: (p99, speed) for budget, p99, speed in backends["FlashAttention"]}
        for budget, p99, speed in backends["podattn"]:
            shorter.append(theirs[budget][0] / p99)
            faster.append(speed / theirs[budget][1])
    assert readme_says(f"podattn's throughput is {between(faster)} that of FlashAttention-3")
    assert readme_says(f"the waits for a token is {between(shorter)} shorter")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("libraries_contiguous", "ahead of FlashAttention-3 at its best on every one: {} as fast on contiguous caches"),
        ("libraries_page16", "contiguous caches, {} with pages of 16 tokens"),
    ],
)
def test_the_readme_says_how_far_ahead_fused_is(name, sentence):
    best, fused = {}, {}
    for row in rows_of(f"h200/{name}.csv"):
        us, batch, way = float(row["paused_us"] or "inf"), row["name"], row["way"]
        if way == "fused":
            fused[batch] = us
        elif way in ("fa3_serial", "fa3_streams", "fa3_mixed", "fa3_mixed_unsplit", "fa3_mixed_split"):
            best[batch] = min(us, best.get(batch, us))
    assert len(fused) == len(best) == 84
    ratios = between([best[batch] / fused[batch] for batch in fused])
    assert readme_says(sentence.format(ratios if "contiguous" in name else ratios.removesuffix(" times")))


def test_the_readme_says_how_the_original_compares():
    ratios = [float(r["pod_best_us"]) / float(r["fused_us"]) for r in rows_of("h200/sm80_pod.csv") if r["page"] == "0"]
    ahead = [ratio for ratio in ratios if ratio < 1]
    assert readme_says(f"the original POD-Attention takes {fmean(ratios):.2f} times as long on average")
    most = 100 * (1 / min(ahead) - 1)
    assert readme_says(f"ahead on {len(ahead)} of the {len(ratios)} batches, by {most:.1f} % at most")


def table_after(page, heading):
    """The cells of the lines of a table, by its first line."""
    text = (ROOT / page).read_text()
    lines = text[text.index(heading) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_transformers_throughput_is_that_of_its_file():
    lines = (RESULTS / "h200" / "transformers.jsonl").read_text().splitlines()[1:]
    sdpa, first, flash, second = map(json.loads, lines)  # in pairs, the other attention before podattn
    assert [run["implementation"] for run in (first, second)] == ["podattn_flash_3"] * 2
    gains = [other["seconds"] / own["seconds"] for other, own in ((sdpa, first), (flash, second))]
    own = [f"{first['seconds']:.2f} and {second['seconds']:.2f}"]
    own += [f"{first['tokens_per_s']:,.0f} and {second['tokens_per_s']:,.0f}"]
    others = [
        [name, f"{run['seconds']:.2f}", f"{run['tokens_per_s']:,.0f}", f"{gain:.2f}"]
        for name, run, gain in (("FlashAttention-3", flash, gains[1]), ("`sdpa`", sdpa, gains[0]))
    ]
    assert table_after("docs/transformers.md", "| attention | seconds |") == [["podattn", *own, ""], *others]
    assert round(gains[0]) == 6
    assert readme_says(f"took a sixth of the time of `sdpa` and {1 / gains[1]:.2f} of that of FlashAttention-3")


def test_the_table_of_the_append_is_that_of_its_file():
    found = {(row["tokens"], row["cache"], row["what"]): row for row in rows_of("h200/append.csv")}
    for tokens, cache, *cells in table_after("docs/kv-cache.md", "| tokens | cache | K and V, us |"):
        for number, what in enumerate(("kv", "kv, rope", "q and kv, rope")):
            row, shown = found.get((tokens.replace(",", ""), cache, what)), cells[2 * number : 2 * number + 2]
            if shown == ["", ""]:
                assert (cache, what) == ("f8e4m3", "kv, rope"), (tokens, cache, what)
            else:
                assert [float(cell) for cell in shown] == [
                    pytest.approx(float(row["us"]), abs=0.051),
                    pytest.approx(float(row["share"]), abs=0.0051),
                ], (tokens, cache, what)
