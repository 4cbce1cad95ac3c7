# SPDX-License-Identifier: Apache-2.0
"""The CSV file that bench/compare.py writes, and goes on with: a row for each batch and way."""

from __future__ import annotations

import csv
import datetime
import platform
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import IO

import torch

from .batch_file import Batch, format_requests
from .timing import Times

COLUMNS = (
    "file name q_heads kv_heads head_dim window requests page_size dtype kv_dtype way calls "
    "sustained_us sustained_least_us sustained_most_us paused_us paused_least_us paused_most_us "
    "energy_mj clock_mhz tflops kv_gb_per_s relative_l2"
).split()
PACKAGES = "podattn torch flashinfer-python flash-attn-3 vllm".split()
_WAY = re.compile(r"(.*?) \[(\w+)\]: ")
GPU_FIELDS = "driver_version,clocks.sm,clocks.mem,power.draw,power.limit,temperature.gpu"


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _versions() -> list[str]:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return found


def gpu_state(index: int) -> str:
    """GPU_FIELDS of a GPU; empty where there is none."""
    return _said("nvidia-smi", f"--query-gpu={GPU_FIELDS}", "--format=csv,noheader", f"--id={index}")


def commit_here() -> str:
    """Of the folder in which the program runs."""
    return _said("git", "rev-parse", "--short", "HEAD") or "unknown"


def header(title: str, device: torch.device, commit: str | None, turns: str) -> list[str]:
    """What was measured, where and by which command, as comment lines."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    state = gpu_state(device.index or 0)
    return [
        f"# {title}",
        f"# device: {device}: {name}",
        f"# commit: {commit or commit_here()}",
        f"# command: python3 {shlex.join(sys.argv)}",
        f"# date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
        f"# state: {state or 'unknown'} ({GPU_FIELDS})",
        f"# packages: {', '.join(_versions())}",
        f"# turns: {turns}",
    ]


def _spread(values: Sequence[float]) -> list[str]:
    """Median, least and most."""
    return [f"{x:.2f}" for x in (statistics.median(values), min(values), max(values))] if values else [""] * 3


class ResultFile:
    """Writes rows as they come, so that what is there is valid whenever the program stops."""

    def __init__(self, file: IO[str], dtype: str, kv_dtype: str, kv_element_bytes: int) -> None:
        self.file, self.dtype, self.kv_dtype, self.kv_element_bytes = file, dtype, kv_dtype, kv_element_bytes

    def lines(self, *lines: str) -> None:
        self.file.writelines(line + "\n" for line in lines)
        self.file.flush()

    def begin(self, comments: Sequence[str]) -> None:
        self.lines(*comments, ";".join(COLUMNS))

    def left_out(self, what: str, reason: object, way: str = "") -> None:
        first = str(reason).strip().splitlines() or [type(reason).__name__]
        self.lines(f"# left out: {what}{f' [{way}]' if way else ''}: {first[0][:200]}")

    def batch_done(self, batch: Batch) -> None:
        self.lines(f"# batch: {batch.label}")

    def row(self, batch: Batch, way: str, times: Times, error: float, computed: range) -> None:
        """Of a way that has computed these requests of the batch."""
        part = batch.part(computed)
        us = statistics.median(times.sustained or times.paused)
        values = [
            batch.file,
            batch.name,
            batch.q_heads,
            batch.kv_heads,
            batch.head_dim,
            batch.window,
            format_requests(batch.requests),
            batch.page_size,
            self.dtype,
            self.kv_dtype,
            way,
            times.calls or "",
            *_spread(times.sustained),
            *_spread(times.paused),
            "" if times.energy_mj is None else f"{times.energy_mj:.2f}",
            "" if times.clock_mhz is None else times.clock_mhz,
            f"{part.flops / us / 1e6:.1f}",
            f"{part.seen_elements * self.kv_element_bytes / us / 1e3:.1f}",
            f"{error:.2e}",
        ]
        self.lines(";".join(map(str, values)))


def _whole_lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]


def resume(path: Path) -> tuple[set[str], set[tuple[str, str]]]:
    """What a file has: the labels of its batches, and (label, way) of those that were left out. Rows of a batch that
    was being written when the program stopped are cut off. ValueError if the file is of something else.
    """
    lines = _whole_lines(path)
    heading = next((line for line in lines if not line.startswith("#")), "")
    if heading.strip() != ";".join(COLUMNS):
        raise ValueError(f"{path}: its heading is not {';'.join(COLUMNS)}")
    comments = [line[2:].strip().partition(": ")[::2] for line in lines if line.startswith("# ")]
    done = {value for name, value in comments if name == "batch"}
    left_out = {match.groups() for name, value in comments if name == "left out" and (match := _WAY.match(value))}

    def is_kept(line: str) -> bool:
        if line.startswith("#") or line == heading:
            return line.strip() != "# done" and not line.startswith("# time limit")
        fields = next(csv.reader([line], delimiter=";"))
        return f"{fields[0]}/{fields[1]}" in done

    path.write_text("".join(line for line in lines if is_kept(line)), encoding="utf-8")
    return done, left_out
