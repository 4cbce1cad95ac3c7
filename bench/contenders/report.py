# SPDX-License-Identifier: Apache-2.0
"""The CSV file: the columns of `podattn bench peers`, and the error of each contender's outputs."""

from __future__ import annotations

import datetime
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import IO

import torch

from .batch import Batch

COLUMNS = (
    "case param variant kernel model q_heads kv_heads head_dim dtype page_size prefill_q prefill_kv decode_n "
    "decode_kv repeats median_us p10_us p90_us to_fused to_fused_p10 to_fused_p90 tflops kv_gb_per_s "
    "relative_l2"
).split()
LIBRARIES = "podattn torch flashinfer-python flash-attn flash-attn-3 vllm sgl-kernel".split()
GPU_FIELDS = "driver_version,clocks.sm,clocks.mem,power.draw,power.limit,temperature.gpu"


def quantiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, 10 % and 90 % quantile."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return statistics.median(ordered), ordered[round(0.1 * last)], ordered[round(0.9 * last)]


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _versions() -> list[str]:
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return found


def header(device: torch.device, dtype: str, commit: str | None) -> list[str]:
    """What was measured, where and by which command, as comment lines."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    index = device.index or 0
    state = _said("nvidia-smi", f"--query-gpu={GPU_FIELDS}", "--format=csv,noheader", f"--id={index}")
    return [
        "# other libraries and podattn, by bench/peers.py",
        f"# device: {device}: {name}",
        f"# commit: {commit or _said('git', 'rev-parse', '--short', 'HEAD') or 'unknown'}",
        f"# command: python3 {shlex.join(sys.argv)}",
        f"# date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
        f"# state: {state or 'unknown'} ({GPU_FIELDS})",
        f"# libraries: {', '.join(_versions())}",
        f"# turns: {dtype}, causal; contenders take turns; times of one layer in microseconds, without planning",
    ]


class Report:
    """Writes rows as they come, so that what is there is valid whenever the program stops."""

    def __init__(self, file: IO[str], comments: Sequence[str], dtype: str) -> None:
        self.file, self.dtype = file, dtype
        self._line(*comments)
        self._line(";".join(COLUMNS))

    def _line(self, *lines: str) -> None:
        self.file.writelines(line + "\n" for line in lines)
        self.file.flush()

    def left_out(self, what: str, reason: object) -> None:
        first = str(reason).strip().splitlines() or [type(reason).__name__]
        self._line(f"# left out: {what}: {first[0][:200]}")

    def row(
        self,
        batch: Batch,
        variant: str,
        times: Sequence[float],
        ratios: Sequence[float],
        error: float,
        computed: range,
    ) -> None:
        """Of a variant that has computed these requests of the batch."""
        median, p10, p90 = quantiles(times)
        part = batch.part(computed)
        values: dict[str, object] = {
            "case": batch.case,
            "variant": variant,
            "q_heads": batch.q_heads,
            "kv_heads": batch.kv_heads,
            "head_dim": batch.head_dim,
            "dtype": self.dtype,
            "page_size": batch.page_size,
            "prefill_q": batch.prefill_q,
            "prefill_kv": batch.prefill_kv,
            "decode_n": batch.decode_n,
            "decode_kv": batch.decode_kv,
            "repeats": len(times),
            "median_us": f"{median:.2f}",
            "p10_us": f"{p10:.2f}",
            "p90_us": f"{p90:.2f}",
            "tflops": f"{part.flops / median / 1e6:.1f}",
            "kv_gb_per_s": f"{part.kv_bytes / median / 1e3:.1f}",
            "relative_l2": f"{error:.2e}",
        }
        if ratios:
            values.update(zip(("to_fused", "to_fused_p10", "to_fused_p90"), (f"{x:.3f}" for x in quantiles(ratios))))
        self._line(";".join(str(values.get(column, "")) for column in COLUMNS))

    def done(self) -> None:
        self._line("# done")
