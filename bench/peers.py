#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lets podattn and other libraries compute the same hybrid batches in turns, checks them all, and writes a CSV file.

Needs PyTorch; every other library is used if it can be imported and named if it cannot.

    python3 bench/peers.py bench/batches/llama_3_8b.csv --out libraries.csv
    python3 bench/peers.py bench/batches/llama_3_8b.csv --page-size 0 --out libraries_contiguous.csv
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Callable

import torch
from contenders.batch import Batch, Inputs, LeftOut, Missing, read_batches
from contenders.oracle import Oracle
from contenders.report import Report, header
from contenders.sides import requests_of
from contenders.table import CONTENDERS, FUSED, ON_CPU
from contenders.timing import Call, measure

DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def prepare(inputs: Inputs, oracle: Oracle, contender: Callable[[Inputs], Call]) -> tuple[Call, float]:
    """A contender's call for this batch and its relative error; LeftOut if it computes something else."""
    call = contender(inputs)
    error = oracle.error(call(0), inputs.tokens_of(requests_of(call, inputs.batch)))
    if not oracle.passes(error):
        raise LeftOut(f"its outputs are wrong: relative L2 {error[0]:.1e}, worst row {error[1]:.1e}")
    return call, error[0]


def run_batch(
    batch: Batch, contenders: dict[str, Callable[[Inputs], Call]], arguments: argparse.Namespace, report: Report
) -> dict[str, float]:
    """Writes the rows of one batch; returns the median of every contender in microseconds. Contenders that can compute
    no batch of this run are dropped.
    """
    inputs = Inputs(batch, arguments.device, DTYPES[arguments.dtype])
    oracle = Oracle(inputs)
    calls: dict[str, Call] = {}
    errors: dict[str, float] = {}
    for name, contender in list(contenders.items()):
        try:
            calls[name], errors[name] = prepare(inputs, oracle, contender)
        except Missing as error:
            report.left_out(name, error)
            del contenders[name]
        except Exception as error:  # whatever a library does, the others go on
            report.left_out(f"{batch.case} {name}", error)
            if not isinstance(error, LeftOut):
                say(f"  {name} failed: {type(error).__name__}: {error}")
    times = measure(calls, len(inputs.layers), arguments.repeats, inputs.device)
    ours = times.get(FUSED)
    medians = {}
    for name, turns in times.items():
        ratios = [turn / own for turn, own in zip(turns, ours)] if ours else []
        report.row(batch, name, turns, ratios, errors[name], requests_of(calls[name], batch))
        medians[name] = sorted(turns)[len(turns) // 2]
    return medians


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return int(text)

    return number


def parse(argv: list | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("batches", type=Path, help="CSV with the columns q_heads to decode_kv")
    parser.add_argument("--out", type=Path, help="CSV to write (standard output)")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument(
        "--page-size", type=_at_least(0), default=16, metavar="N", help="tokens per page; 0: contiguous caches (16)"
    )
    parser.add_argument("--every", type=_at_least(1), default=1, metavar="N", help="only every N-th batch (1)")
    parser.add_argument("--repeats", type=int, default=30, help="timed turns (30)")
    parser.add_argument("--only", action="append", metavar="NAME", help="this contender; repeatable (all)")
    parser.add_argument("--time-limit", type=float, metavar="S", help="begin no batch after this many seconds")
    parser.add_argument("--commit", help="what the header says, where there is no git")
    return parser.parse_args(argv)


def main(argv: list | None = None) -> None:
    arguments = parse(argv)
    batches = read_batches(arguments.batches, arguments.page_size)[:: arguments.every]
    contenders = dict(CONTENDERS if arguments.device.startswith("cuda") else ON_CPU)
    unknown = [name for name in arguments.only or [] if name not in contenders]
    if unknown:
        raise SystemExit(f"--only: no contender {unknown[0]}; there are {', '.join(contenders)}")
    if arguments.only:
        contenders = {name: contenders[name] for name in arguments.only}
    begin = time.monotonic()
    file = arguments.out.open("w") if arguments.out else sys.stdout
    report = Report(file, header(torch.device(arguments.device), arguments.dtype, arguments.commit), arguments.dtype)
    for number, batch in enumerate(batches, 1):
        if arguments.time_limit and time.monotonic() - begin > arguments.time_limit:
            report.left_out(batch.case, "the time limit was reached")
            continue
        with torch.no_grad():
            medians = run_batch(batch, contenders, arguments, report)
        own = medians.get(FUSED)
        shown = (f"{name} {us:.0f}" + (f" ({us / own:.2f})" if own else "") for name, us in medians.items())
        say(f"[{number}/{len(batches)}] {batch.case}: {', '.join(shown)}")
    report.done()


if __name__ == "__main__":
    main()
