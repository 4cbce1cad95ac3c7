# SPDX-License-Identifier: Apache-2.0
"""Reads a CSV file of `podattn bench`: comment lines, a heading, rows; semicolons between fields."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


class ResultError(Exception):
    """A file is not what a figure needs; the message names the file and what is missing."""


class NothingMeasuredError(ResultError):
    """A file without rows."""


@dataclass
class Results:
    """One file. `comments` are its `# name: value` lines, `left_out` the cases that it says are missing."""

    name: str
    columns: Sequence[str]
    rows: list[dict[str, str]]
    comments: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def need(self, *columns: str) -> None:
        """ResultError unless there are rows, and these columns."""
        missing = [column for column in columns if column not in self.columns]
        if missing:
            raise ResultError(f"{self.name}: no column {', '.join(missing)}; it has {', '.join(self.columns)}")
        if not self.rows:
            why = f"; left out: {self.left_out[0]}" if self.left_out else ""
            raise NothingMeasuredError(f"{self.name}: no rows{why}")

    def number(self, row: dict[str, str], column: str) -> float:
        """A field as a number; ResultError names the case."""
        try:
            return float(row[column])
        except ValueError:
            case = row.get("case", "")
            raise ResultError(f"{self.name}: {column} of {case} is {row[column]!r}, not a number") from None

    @property
    def machine(self) -> str:
        """What computed: `NVIDIA ..., kernel sm90a` of `device: cuda:0: NVIDIA ..., kernel sm90a, CTAs: 132`."""
        described = self.comments.get("device", "").partition(", CTAs")[0]
        return described.rpartition(": ")[2]

    @property
    def is_gpu(self) -> bool:
        return self.comments.get("device", "").startswith("cuda")

    @property
    def commit(self) -> str:
        return self.comments.get("commit", "")

    @property
    def command(self) -> str:
        return self.comments.get("command", "")


def _comments(lines: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    comments: dict[str, str] = {}
    left_out = []
    for line in lines:
        name, separator, value = line[1:].strip().partition(": ")
        if name == "left out":
            left_out.append(value)
        elif separator:
            comments.setdefault(name, value)
    return comments, left_out


def read(path: Path) -> Results:
    """ResultError if there is no such file, no heading, or a row of another length."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ResultError(f"{path}: {error.strerror}") from None
    comments, left_out = _comments(line for line in lines if line.startswith("#"))
    table = list(csv.reader((line for line in lines if line and not line.startswith("#")), delimiter=";"))
    if not table:
        raise ResultError(f"{path.name}: no heading line")
    heading, *rows = table
    for number, row in enumerate(rows, 1):
        if len(row) != len(heading):
            raise ResultError(f"{path.name}: row {number} has {len(row)} fields, the heading {len(heading)}")
    return Results(path.name, heading, [dict(zip(heading, row)) for row in rows], comments, left_out)
