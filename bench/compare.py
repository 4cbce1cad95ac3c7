#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lets podattn and other libraries compute the batches of some files in turns, checks them all, and writes a CSV file.

Needs PyTorch; every other library is used if it can be imported and named if it cannot. bench/behind.py makes tables of
the file.

    python3 bench/compare.py bench/batches/*.csv --out bench/out/h200.csv --only fused --only fa3 --time-limit 540
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import statistics
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

try:
    import torch
except ImportError:
    sys.exit("bench/compare.py needs PyTorch: pip install torch")

from libraries import energy, flash_attention_3, podattn_calls, result_file
from libraries.batch_file import Batch, BatchFileError, read_batches
from libraries.inputs import F8, Inputs, LeftOut, Memory, Missing
from libraries.oracle import Oracle
from libraries.result_file import ResultFile
from libraries.sides import requests_of
from libraries.table import FUSED, Way, chosen
from libraries.timing import Call, Times, machine_of, measure

DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
F8_NAME = "f8e4m3"
TITLE = "podattn beside other libraries, by bench/compare.py"
TURNS = (
    "causal; the ways take turns; medians of one layer in microseconds, without planning; "
    "sustained: layers back to back as one CUDA graph; paused: a call after a pause"
)
# Of the GPU's memory, for keys and values.
CACHE_SHARE = 0.3


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class BrokenError(Exception):
    """After what a way did the GPU answers nothing any more in this process."""


@dataclass
class Run:
    """What stays from batch to batch."""

    arguments: argparse.Namespace
    ways: dict[str, Way]
    memory: Memory
    file: ResultFile
    counter: energy.Counter | None = None
    known: set[tuple[str, str]] = field(default_factory=set)  # (batch, way) that were left out before
    current: tuple[Batch, str] | None = None  # for the watchdog: the way may be ""

    def __post_init__(self) -> None:
        self.machine = machine_of(self.memory.device)

    def leave_out(self, batch: Batch, way: str, reason: BaseException | str) -> None:
        """BrokenError if the GPU is of no more use."""
        self.file.left_out(batch.label, reason, way)
        if not isinstance(reason, LeftOut):
            say(f"  {batch.label} {way}: {type(reason).__name__}: {str(reason).splitlines()[:1]}")
        try:
            self.machine.synchronize()
        except Exception as error:
            raise BrokenError(str(error)) from error


def prepare(way: Way, inputs: Inputs, oracle: Oracle) -> tuple[Call, float]:
    """A way's call for this batch and its relative error; LeftOut if it computes something else."""
    call = way.prepare(inputs)
    error = oracle.error(call(0), inputs.tokens_of(requests_of(call, inputs.batch)))
    if not oracle.passes(error):
        raise LeftOut(f"its outputs are wrong: relative L2 {error[0]:.1e}, worst row {error[1]:.1e}")
    return call, error[0]


def prepare_all(run: Run, inputs: Inputs) -> tuple[dict[str, Call], dict[str, float]]:
    """The calls and errors of all that can; ways that can compute no batch of this run are dropped."""
    batch, oracle = inputs.batch, Oracle(inputs)
    calls: dict[str, Call] = {}
    errors: dict[str, float] = {}
    for name, way in list(run.ways.items()):
        if (batch.label, name) in run.known or (way.needs_both_sides and not batch.has_both_sides):
            continue
        run.current = batch, name
        try:
            calls[name], errors[name] = prepare(way, inputs, oracle)
        except Missing as error:
            run.file.left_out(name, error)
            say(f"{name} is not there: {error}")
            del run.ways[name]
        except Exception as error:  # whatever a library does, the others go on
            run.leave_out(batch, name, error)
    run.current = batch, ""
    return calls, errors


def run_batch(run: Run, batch: Batch) -> dict[str, Times]:
    """Writes the rows of one batch."""
    arguments = run.arguments
    inputs = Inputs(batch, run.memory)
    calls, errors = prepare_all(run, inputs)
    num_layers = len(inputs.layers)
    times, graphs = measure(
        run.machine, calls, num_layers, arguments.repeats, arguments.paused_repeats, arguments.calls
    )
    for name, its in times.items():
        if its.error:
            run.current = batch, name
            run.leave_out(batch, name, its.error)
        elif run.counter and name in graphs:
            energy.measure_energy(run.counter, graphs[name], its, arguments.energy)
        if its.sustained or its.paused:
            run.file.row(batch, name, its, errors[name], requests_of(calls[name], batch))
    return times


def _shown(times: dict[str, Times]) -> str:
    medians = {name: statistics.median(its.sustained or its.paused) for name, its in times.items()}
    own = medians.pop(FUSED, None)
    ratios = [f"{name} {us / own:.2f}" if own else f"{name} {us:.1f} us" for name, us in medians.items()]
    return ", ".join(([f"fused {own:.1f} us"] if own else []) + ratios) or "nobody"


def free_memory(run: Run) -> None:
    """Of the batch's graphs. After a capture that failed PyTorch may be unable to: BrokenError."""
    if run.memory.device.type == "cuda":
        try:
            torch.cuda.empty_cache()
        except Exception as error:
            raise BrokenError(str(error)) from error


def run_all(run: Run, batches: list[Batch], deadline: float) -> None:
    """BrokenError if the process has to begin anew."""
    for number, batch in enumerate(batches, 1):
        begin = time.monotonic()
        if begin > deadline:
            run.file.lines(f"# time limit: {len(batches) - number + 1} of {len(batches)} batches were not begun")
            say("the time limit was reached; --resume goes on")
            return
        watchdog = threading.Timer(run.arguments.batch_limit, give_up, (run, deadline))
        watchdog.daemon = True
        watchdog.start()
        run.current = batch, ""
        try:
            shown = _shown(run_batch(run, batch))
        except BrokenError:
            raise
        except Exception as error:  # such as no memory
            run.leave_out(batch, "", error)
            shown = "left out"
        finally:
            watchdog.cancel()
            watchdog.join()
        run.file.batch_done(batch)
        free_memory(run)
        say(f"[{number}/{len(batches)}] {batch.label}: {shown} ({time.monotonic() - begin:.1f} s)")
    run.file.lines("# done")


def give_up(run: Run, deadline: float) -> None:
    """Of the watchdog: a way hangs."""
    if run.current is not None:
        batch, way = run.current
        run.file.left_out(batch.label, f"it takes longer than {run.arguments.batch_limit:g} s", way)
        begin_anew(run, deadline)


def begin_anew(run: Run, deadline: float) -> None:
    """Replaces this process by one that goes on where this one ended, without the way that broke it."""
    if run.arguments.out is None:
        say("the GPU answers nothing any more; with --out a new process would go on")
        os._exit(1)
    batch, way = run.current
    if not way:  # nobody knows who it was
        run.file.batch_done(batch)
    say(f"{batch.label} {way}: beginning anew")
    options = [option for option in run.arguments.argv if option not in ("--overwrite", "--resume")]
    options.append("--resume")
    if run.arguments.time_limit is not None:
        options += ["--time-limit", f"{max(0.0, deadline - time.monotonic()):.1f}"]
    sys.stderr.flush()
    for descriptor in os.listdir("/proc/self/fd"):  # the driver's, with which all memory would stay allocated
        with contextlib.suppress(OSError):
            os.set_inheritable(int(descriptor), int(descriptor) <= 2)
    os.execv(sys.executable, [sys.executable, str(Path(__file__).resolve()), *options])


def in_strides(batches: list[Batch]) -> list[Batch]:
    """In an order whose every beginning is spread over all files and each of them from end to end."""
    places: dict[str, int] = {}

    def key(batch: Batch) -> float:
        place = places[batch.file] = places.get(batch.file, -1) + 1
        return int(f"{place:016b}"[::-1], 2)

    keyed = [(key(batch), index) for index, batch in enumerate(batches)]
    return [batches[index] for _, index in sorted(keyed)]


def _at_least(least: int):
    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return int(text)

    return number


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="BATCHES", help="batch files")
    parser.add_argument("--out", type=Path, help="CSV to write (standard output)")
    parser.add_argument("--resume", action="store_true", help="go on with --out")
    parser.add_argument("--overwrite", action="store_true", help="write --out anew")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--kv-dtype", choices=[F8_NAME], help="of the caches (--dtype); podattn alone computes these")
    parser.add_argument("--page-size", type=_at_least(0), default=16, metavar="N", help="0: contiguous caches (16)")
    parser.add_argument("--every", type=_at_least(1), default=1, metavar="N", help="every N-th batch of each file (1)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="this way, or fa3, flashinfer, sides; repeatable"
    )
    parser.add_argument("--repeats", type=_at_least(0), metavar="N", help="sustained turns (5; on a CPU 0)")
    parser.add_argument("--calls", type=_at_least(1), default=12, metavar="N", help="calls in one graph, at most (12)")
    parser.add_argument("--paused-repeats", type=_at_least(0), default=7, metavar="N", help="turns with pauses (7)")
    parser.add_argument("--energy", type=float, default=0, metavar="S", help="run each way for S seconds more (0)")
    parser.add_argument("--time-limit", type=float, metavar="S", help="begin no batch after this many seconds")
    parser.add_argument("--batch-limit", type=float, metavar="S", help="leave out what takes longer (60; CPU: 600)")
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="that holds an older podattn, the way `before`")
    parser.add_argument("--before-library", type=Path, metavar="FILE", help="its library (the one in its package)")
    parser.add_argument("--commit", help="what the header says, where there is no git")
    arguments = parser.parse_args(argv)
    arguments.argv = argv
    is_gpu = arguments.device.startswith("cuda")
    if arguments.repeats is None:
        arguments.repeats = 5 if is_gpu else 0
    if arguments.batch_limit is None:
        arguments.batch_limit = 60 if is_gpu else 600
    if arguments.repeats == arguments.paused_repeats == 0:
        parser.error("--paused-repeats 0: there is nothing to measure")
    if arguments.resume and arguments.out is None:
        parser.error("--resume needs --out")
    return arguments


def kv_dtype_of(arguments: argparse.Namespace) -> torch.dtype:
    return F8 if arguments.kv_dtype == F8_NAME else DTYPES[arguments.dtype]


def open_file(arguments: argparse.Namespace) -> tuple[ResultFile, set[str], set[tuple[str, str]]]:
    """Also what the file has already: batches, and ways that were left out."""
    path, before = arguments.out, arguments.before and f"{arguments.before}, {arguments.before_library or 'its own'}"
    kv_dtype = kv_dtype_of(arguments)
    dtype = arguments.dtype, arguments.kv_dtype or arguments.dtype, kv_dtype.itemsize
    if path is None:
        file = ResultFile(sys.stdout, *dtype)
    elif arguments.resume and path.exists():
        try:
            done, left_out = result_file.resume(path)
        except ValueError as error:
            raise SystemExit(str(error)) from None
        return ResultFile(path.open("a", encoding="utf-8"), *dtype), done, left_out
    elif path.exists() and not arguments.overwrite:
        raise SystemExit(f"{path} exists; give --resume to go on with it, or --overwrite")
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = ResultFile(path.open("w", encoding="utf-8"), *dtype)
    lines = result_file.header(TITLE, torch.device(arguments.device), arguments.commit, TURNS)
    file.begin([*lines, f"# before: {before}"] if before else lines)
    return file, set(), set()


def counter_of(arguments: argparse.Namespace, file: ResultFile) -> energy.Counter | None:
    if not arguments.energy or not arguments.device.startswith("cuda"):
        return None
    try:
        return energy.Counter(torch.device(arguments.device))
    except energy.NotThere as error:
        file.left_out("energy", error)
        return None


def import_libraries(ways: dict[str, Way]) -> None:
    """Takes longer than a batch. Who is missing is named later."""
    for prefix, module in (("fused", "podattn"), ("fa3", flash_attention_3.MODULE), ("flashinfer", "flashinfer")):
        if any(name.startswith(prefix) for name in ways):
            with contextlib.suppress(Exception):
                importlib.import_module(module)


def main(argv: list[str] | None = None) -> None:
    begin = time.monotonic()
    arguments = parse(sys.argv[1:] if argv is None else argv)
    is_gpu = arguments.device.startswith("cuda")
    try:
        batches = [b for path in arguments.files for b in read_batches(path, arguments.page_size)[:: arguments.every]]
        ways = chosen(arguments.only, is_gpu, arguments.before is not None, arguments.kv_dtype == F8_NAME)
        if arguments.before:
            podattn_calls.load_before(arguments.before, arguments.before_library)
    except (BatchFileError, ValueError, ImportError) as error:
        raise SystemExit(str(error)) from None
    if arguments.time_limit is not None:
        batches = in_strides(batches)
    file, done, left_out = open_file(arguments)
    batches = [batch for batch in batches if batch.label not in done]
    if not batches:
        file.lines("# done")
        say("every batch is there")
        return
    if is_gpu:
        torch.cuda.set_device(arguments.device)
        most = int(CACHE_SHARE * torch.cuda.get_device_properties(arguments.device).total_memory)
    else:
        most = 1 << 62
    import_libraries(ways)
    memory = Memory(batches, arguments.device, DTYPES[arguments.dtype], most, kv_dtype_of(arguments))
    run = Run(arguments, ways, memory, file, counter_of(arguments, file), left_out)
    torch.set_float32_matmul_precision("highest")  # of the oracle
    deadline = begin + (float("inf") if arguments.time_limit is None else arguments.time_limit)
    gc.collect()
    gc.freeze()  # what is there now stays: collecting garbage is short from here on
    with torch.no_grad():
        try:
            run_all(run, batches, deadline)
        except BrokenError:
            begin_anew(run, deadline)


if __name__ == "__main__":
    main()
