#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Where podattn is behind FlashAttention-3's best way, and what changed since an older build: Markdown tables of the
files that bench/compare.py wrote.

    python3 bench/behind.py bench/results/h200/batches.csv
    python3 bench/behind.py bench/results/h200/batches.csv --readme README.md     # fills its block `behind`
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

from figures import compared, pages
from figures.cases import mean
from figures.compared import TIMINGS, Compared
from figures.results import ResultError, read

# A ratio nearer to 1 than this is noise.
NOISE = 0.02
MOST_ROWS = 10


@dataclass(frozen=True)
class Ratio:
    """Of one batch: another's time over podattn's; above 1, podattn is faster."""

    batch: Compared
    other: str
    timing: str

    @property
    def value(self) -> float:
        return self.batch.us[self.timing][self.other] / self.batch.us[self.timing]["fused"]

    @property
    def is_behind(self) -> bool:
        return self.value < 1 - NOISE

    @property
    def is_ahead(self) -> bool:
        return self.value > 1 + NOISE


Others = Callable[[Compared, str], Optional[str]]


def fa3_best(batch: Compared, timing: str) -> str | None:
    return batch.fastest(compared.FA3_WAYS, timing)


def before(batch: Compared, timing: str) -> str | None:
    return batch.fastest(("before",), timing)


def ratios(batches: Iterable[Compared], timing: str, other: Others) -> list[Ratio]:
    return [
        Ratio(batch, name, timing)
        for batch in batches
        if "fused" in batch.us[timing] and (name := other(batch, timing)) is not None
    ]


def grouped(batches: Iterable[Compared], key: Callable[[Compared], str]) -> dict[str, list[Compared]]:
    groups: dict[str, list[Compared]] = {}
    for batch in batches:
        groups.setdefault(key(batch), []).append(batch)
    return groups


def by_file(batch: Compared) -> str:
    return batch.file


def by_heads(batch: Compared) -> str:
    return f"{batch.file}, {batch.heads}"


def line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def table(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    return "\n".join([line(*heading), "|---" * len(heading) + "|", *(line(*row) for row in rows)])


def _numbers(found: list[Ratio]) -> list[object]:
    if not found:
        return ["-"] * 3
    values = [ratio.value for ratio in found]
    return [f"{mean(values):.2f}", f"{min(values):.2f}", sum(ratio.is_behind for ratio in found)]


def summary(batches: list[Compared], key: Callable[[Compared], str]) -> str:
    """FlashAttention-3's best time over podattn's, a row a group."""
    rows = []
    timings = [timing for timing in TIMINGS if ratios(batches, timing, fa3_best)]
    for name, group in [*grouped(batches, key).items(), ("all", batches)]:
        found = [ratios(group, timing, fa3_best) for timing in timings]
        if any(found):
            rows.append([name, max(map(len, found)), *(number for each in found for number in _numbers(each))])
    heading = ["batches of", "batches"]
    for timing in timings:
        heading += [f"{timing}: mean", "least", "behind by more than 2 %"]
    return table(heading, rows)


def _where(ratio: Ratio) -> str:
    batch = ratio.batch
    window = f", window {batch.window}" if batch.window else ""
    return f"{batch.file}: {batch.heads}{window}: {compared.shortened(batch.requests)}"


def _listed(found: Iterable[Ratio]) -> str:
    rows = []
    for ratio in found:
        us = ratio.batch.us[ratio.timing]
        rows.append(
            [_where(ratio), f"{us['fused']:,.1f}", f"{us[ratio.other]:,.1f}", ratio.other, f"{ratio.value:.2f}"]
        )
    return table(["batch", "podattn, us", "other, us", "which", "ratio"], rows)


def worst(batches: list[Compared], timing: str) -> str:
    found = sorted((r for r in ratios(batches, timing, fa3_best) if r.is_behind), key=lambda r: r.value)
    return _listed(found[:MOST_ROWS]) if found else "Behind on no batch by more than 2 %."


def changes(batches: list[Compared], timing: str) -> str:
    """The time before over the time now: a row a group, and then every batch that is slower, and the most gained."""
    rows = []
    for name, group in [*grouped(batches, by_file).items(), ("all", batches)]:
        found = ratios(group, timing, before)
        if found:
            values = [ratio.value for ratio in found]
            slower, faster = sum(r.is_behind for r in found), sum(r.is_ahead for r in found)
            rows.append(
                [name, len(found), *(f"{x:.3f}" for x in (mean(values), min(values), max(values))), slower, faster]
            )
    heading = ["batches of", "batches", "before / now, mean", "least", "most", "slower by more than 2 %", "faster"]
    found = sorted(ratios(batches, timing, before), key=lambda r: r.value)
    slower = [ratio for ratio in found if ratio.is_behind]
    faster = [ratio for ratio in reversed(found) if ratio.is_ahead][:MOST_ROWS]
    parts = [table(heading, rows)]
    parts += ["Slower now:", _listed(slower)] if slower else ["No batch is slower by more than 2 %."]
    parts += ["Faster now, the most first:", _listed(faster)] if faster else ["None is faster by more than 2 %."]
    return "\n\n".join(parts)


def energy(batches: list[Compared]) -> str | None:
    """Of FlashAttention-3's best way over podattn's."""
    rows = []
    for name, group in [*grouped(batches, by_file).items(), ("all", batches)]:
        found = []
        for batch in group:
            other = min(
                (way for way in compared.FA3_WAYS if way in batch.energy_mj), key=batch.energy_mj.get, default=None
            )
            if other and "fused" in batch.energy_mj:
                found.append(batch.energy_mj[other] / batch.energy_mj["fused"])
        if found:
            rows.append([name, len(found), f"{mean(found):.2f}", f"{min(found):.2f}"])
    return (
        table(["batches of", "batches", "FlashAttention-3's energy / podattn's, mean", "least"], rows) if rows else None
    )


def report(batches: list[Compared]) -> str:
    parts = []
    if any(ratios(batches, timing, fa3_best) for timing in TIMINGS):
        parts += ["FlashAttention-3's best time over podattn's: below 1, podattn is behind."]
        parts += [summary(batches, by_file), summary(batches, by_heads)]
    for timing in TIMINGS:
        if ratios(batches, timing, fa3_best):
            parts += [f"The furthest behind, {timing}:", worst(batches, timing)]
    for timing in TIMINGS:
        if ratios(batches, timing, before):
            parts += [f"The time before over that now, {timing}.", changes(batches, timing)]
    used = energy(batches)
    return "\n\n".join(parts + ([used] if used else [])) or "Nothing was compared."


def readme_block(batches: list[Compared], machine: str) -> str:
    timing = next((timing for timing in TIMINGS if ratios(batches, timing, fa3_best)), None)
    if timing is None:
        return "Not measured."
    introduction = (
        f"{machine}. FlashAttention-3's best way over podattn's fused call: above 1, podattn is faster. Layers back to "
        "back as one CUDA graph; *paused*: a call after a pause."
    )
    return "\n\n".join([introduction, summary(batches, by_file), "The furthest behind:", worst(batches, timing)])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--readme", type=Path, metavar="PAGE", help="fill the block `behind` of this page")
    arguments = parser.parse_args(argv)
    try:
        files = [read(path) for path in arguments.files]
        batches = [batch for results in files for batch in compared.batches_of(results)]
        if arguments.readme:
            page = arguments.readme.read_text(encoding="utf-8")
            block = readme_block(batches, files[0].machine)
            arguments.readme.write_text(pages.replace(page, {"behind": block}), encoding="utf-8")
            print(f"filled {arguments.readme}")
        else:
            print(report(batches))
    except (OSError, ResultError) as error:
        print(f"behind: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
