# SPDX-License-Identifier: Apache-2.0
"""bench/plan_times.py on the CPU: a line for each batch, and more time for more requests."""

import re

import pytest

pytest.importorskip("torch")
pytest.importorskip("podattn")

import plan_times


def test_lines(capsys):
    plan_times.main(["--device", "cpu:1", "--most", "4096"])
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.startswith("podattn ")
    found = [re.fullmatch(r"(\d+) x (\d+)@(\d+)(?:, window of (\d+))? +([\d.]+) us", line) for line in lines]
    wanted = [batch for batch in plan_times.BATCHES if batch[0] <= 4096]
    assert [tuple(int(part or 0) for part in match.groups()[:4]) for match in found] == wanted
    took = {batch: float(match[5]) for batch, match in zip(wanted, found)}
    assert took[4096, 1, 1, 0] > took[256, 1, 1, 0] > 0
