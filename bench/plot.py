#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws what `podattn bench` and bench/compare.py measured: a figure a suite, as SVG and PNG, and pages that show them.

    "$(bench/venv.sh)" bench/plot.py bench/out                        every file in bench/out, figures beside it
    "$(bench/venv.sh)" bench/plot.py bench/results/h100 --figures docs/figures --page docs/evaluation.md

A page's text between <!-- SUITE --> and <!-- /SUITE --> is replaced by the figure and its findings, between
<!-- claims --> and <!-- /claims --> by a table of all claims and what was found, between <!-- balanced --> and
<!-- /balanced --> by the table of balanced batches. Where suites are named, only their blocks are filled.
"""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

if find_spec("matplotlib") is None:
    sys.exit('bench/plot.py needs matplotlib: run it with "$(bench/venv.sh)"')

from figures import pages, results, summary
from figures.look import save
from figures.suites import SUITES


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the CSV files are")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"{', '.join(SUITES)} (all that are there)")
    parser.add_argument(
        "--figures", type=Path, metavar="DIR", help="where the figures go (the folder of the CSV files)"
    )
    parser.add_argument(
        "--page", type=Path, action="append", default=[], metavar="FILE", help="a Markdown page to fill; repeatable"
    )
    arguments = parser.parse_args(argv)
    for suite in arguments.suites:
        if suite not in SUITES:
            parser.error(f"no suite {suite}; there are {', '.join(SUITES)}")
    arguments.figures = arguments.figures or arguments.folder
    return arguments


def read_all(folder: Path, suites: list[str]) -> tuple[dict[str, results.Results], list[str]]:
    """The files that are there, by suite, and what is wrong with the others that were asked for."""
    found, problems = {}, []
    for suite in suites or SUITES:
        path = folder / f"{suite}.csv"
        if not suites and not path.exists():
            continue
        try:
            found[suite] = results.read(path)
        except results.ResultError as error:
            problems.append(str(error))
    return found, problems


def draw_all(found: dict[str, results.Results], folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The SVG of every suite that could be drawn, and what is wrong with others. A suite of which nothing was measured
    is said, and not wrong: its file says why.
    """
    drawn, problems = {}, []
    folder.mkdir(parents=True, exist_ok=True)
    for suite, data in found.items():
        try:
            drawn[suite] = save(SUITES[suite].draw(data), folder, suite)[0]
            print(f"{suite}: {drawn[suite]}")
        except results.NothingMeasuredError as error:
            print(f"{suite}: not drawn: {error}")
        except results.ResultError as error:
            problems.append(str(error))
    return drawn, problems


def fill(page: Path, suites: list[str], found: dict[str, results.Results], drawn: dict[str, Path]) -> None:
    """Fills the blocks of the suites that were asked for, and no others; of all, also what sums them up."""
    blocks, answers = {}, []
    for suite, module in SUITES.items():
        if suites and suite not in suites:
            continue
        answer = pages.verdict(module.findings(found[suite])) if suite in drawn else ""
        answers.append((module.TITLE, module.PAPER, answer))
        if suite in drawn:
            blocks[suite] = pages.block(module, found[suite], pages.relative(drawn[suite], page))
        else:
            blocks[suite] = pages.missing(
                module, f"{suite}.csv says too little" if suite in found else f"no {suite}.csv"
            )
    if not suites:
        blocks["claims"] = pages.claims(answers)
        runs = [found[suite] for suite in ("libraries_contiguous", "libraries") if suite in drawn]
        blocks["balanced"] = summary.table(runs)
    page.write_text(pages.replace(page.read_text(encoding="utf-8"), blocks), encoding="utf-8")
    print(f"filled {page}")


def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    found, problems = read_all(arguments.folder, arguments.suites)
    drawn, undrawn = draw_all(found, arguments.figures)
    problems += undrawn
    try:
        for page in arguments.page:
            fill(page, arguments.suites, found, drawn)
    except (OSError, results.ResultError) as error:
        problems.append(str(error))
    if not found and not problems:
        problems.append(
            f"{arguments.folder}: no CSV file of a suite; `podattn bench --out {arguments.folder}` makes them"
        )
    for problem in problems:
        print(f"plot: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
