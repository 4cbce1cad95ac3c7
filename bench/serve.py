#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Serves a model with vLLM under load, with one attention backend after the other, and compares them.

    python3 bench/serve.py --out engine.jsonl --loads arxiv:48,chat:256 --budgets 512,1024,2048,8192
    python3 bench/serve.py --out engine.jsonl --loads arxiv:64 --budgets 1024 --arrivals all,0.7,0.85,0.95
    python3 bench/serve.py --out engine.jsonl --loads arxiv:64 --budgets 1024 --capacity-ms 100
    "$(bench/venv.sh)" bench/serve.py --figure engine.jsonl

Each backend has a process of its own. Rows are appended to --out as JSON lines, and printed. --pretend takes an engine
whose times are known in place of vLLM, to try a command without a GPU.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from engine import arrival, capacity, latency, load, shapes
from engine.drive import Clock, drive
from engine.pretended_engine import PretendedClock, PretendedEngine

ALL = "all"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="FILE", help="where rows are appended")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the frontier of this file")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="where to (beside the file)")
    parser.add_argument("--page", type=Path, help="a page whose block `engine` becomes the figure file's table")
    parser.add_argument(
        "--backends", default="FLASH_ATTN,CUSTOM", help="the first is the reference (FLASH_ATTN,CUSTOM)"
    )
    parser.add_argument("--model", default="llama-8b", help=f"{', '.join(shapes.SHAPES)}, or a folder (llama-8b)")
    parser.add_argument("--layers", type=int, help="of the model, fewer than it has")
    parser.add_argument("--loads", default="arxiv:32", metavar="L,...", help=load.GRAMMAR)
    parser.add_argument("--budgets", default="512,1024,2048,8192", help="tokens that a step may have")
    parser.add_argument(
        "--arrivals", default=ALL, metavar="A,...", help="all (at once), or shares of the reference's throughput"
    )
    parser.add_argument(
        "--capacity-ms", type=float, metavar="MS", help="search the capacity with this p99 between tokens"
    )
    parser.add_argument("--capacity-ttft-s", type=float, default=2.0, help="and this median to the first token (2)")
    parser.add_argument("--rounds", type=int, default=1, help="processes of each backend, in turns (1)")
    parser.add_argument("--mode", default="default", choices=["default", "eager", "piecewise", "full"])
    parser.add_argument("--max-len", type=int, default=32768, help="tokens of one request (32768)")
    parser.add_argument("--max-requests", type=int, default=128, help="of one step (128)")
    parser.add_argument("--block-size", type=int, default=16, help="tokens of a page (16)")
    parser.add_argument("--memory", type=float, default=0.9, help="share of the GPU's memory (0.9)")
    parser.add_argument("--limit-s", type=float, default=600.0, help="of one run; the rest is unfinished (600)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--commit", help="what the file says, where there is no git")
    parser.add_argument("--pretend", action="store_true", help="no vLLM and no GPU")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if not options.out and not options.figure:
        parser.error("--out is needed, or --figure")
    try:
        options.backends = options.backends.split(",")
        options.budgets = [int(text) for text in options.budgets.split(",")]
        options.arrivals = [text if text == ALL else float(text) for text in options.arrivals.split(",")]
        options.loads = [load.make_load(text, options.max_len, options.seed) for text in options.loads.split(",")]
    except (ValueError, load.LoadError) as error:
        parser.error(str(error))
    if min(options.budgets) < 1:
        parser.error(f"a budget of {min(options.budgets)} tokens")
    if any(share != ALL and not share > 0 for share in options.arrivals):
        parser.error("shares of the reference's throughput are positive")
    needs_rate = options.capacity_ms is not None or any(share != ALL for share in options.arrivals)
    if needs_rate and ALL not in options.arrivals:
        options.arrivals.insert(0, ALL)  # which says the reference's throughput
    if not options.pretend and options.model not in shapes.SHAPES and not Path(options.model, "config.json").exists():
        parser.error(f"model {options.model!r} is none of {', '.join(shapes.SHAPES)} and no folder with config.json")
    return options


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows so far."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


class Worker:
    """One process: one backend, all its runs."""

    def __init__(self, options: argparse.Namespace, backend: str, argv: list[str]) -> None:
        self.options, self.backend = options, backend
        self.command = shlex.join(["bench/serve.py", *argv])
        self.clock: Clock
        self.engine: Any
        self.number = 0
        if options.pretend:
            self.clock = PretendedClock()
            faster = 1.0 if backend == options.backends[0] else 0.8
            self.engine = PretendedEngine(self.clock, 0.005, 20e-6 * faster, options.max_requests)
        else:
            self.clock, self.engine = Clock(), self._make_vllm()

    def _make_vllm(self) -> Any:
        from engine.vllm_engine import VllmEngine

        options = self.options
        with tempfile.TemporaryDirectory() as folder:
            model = options.model
            if model in shapes.SHAPES:
                model = str(shapes.write_shape(model, Path(folder)))
            return VllmEngine(
                model,
                self.backend,
                options.mode,
                max(options.budgets),
                options.max_len,
                options.max_requests,
                options.block_size,
                options.memory,
                options.layers,
            )

    def emit(self, event: str, **values: Any) -> dict[str, Any]:
        row = {
            "event": event,
            "backend": self.backend,
            "model": self.options.model,
            "mode": self.options.mode,
            **values,
        }
        line = json.dumps(row)
        with self.options.out.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)
        return row

    def run(self) -> None:
        """All runs, after short ones in which things are compiled at their first use."""
        options = self.options
        info = {} if options.pretend else self.engine.info(options.commit)
        self.emit("engine", command=self.command, layers=options.layers, **info)
        warm = [load.Request(min(options.max_len - 8, 2000 + 100 * i), 8) for i in range(6)]
        for budget in options.budgets:
            self.engine.set_budget(budget)
            self.drive(warm)
        for budget in options.budgets:
            self.engine.set_budget(budget)
            for one in options.loads:
                for share in options.arrivals:
                    self.measure(one, budget, share)
                if options.capacity_ms is not None:
                    self.search(one, budget)

    def drive(self, requests: list[load.Request]) -> dict[str, Any]:
        """One run's numbers."""
        engine, is_real = self.engine, not self.options.pretend
        engine.steps.clear()
        self.number += 1
        energy = engine.millijoules() if is_real else None
        run = drive(engine, requests, self.clock, f"run{self.number}", self.options.limit_s)
        if is_real:
            engine.wait()
        row: dict[str, Any] = latency.summary(run)
        joules = None if energy is None else (engine.millijoules() - energy) / 1e3
        tokens = row["output_tokens"]
        row["joules_per_output_token"] = joules / tokens if joules is not None and tokens else None
        hybrid = [step for step in engine.steps if step[0] and step[1]]
        row["steps"], row["hybrid_steps"] = len(engine.steps), len(hybrid)
        row["decodes_per_hybrid_step"] = statistics.mean(step[0] for step in hybrid) if hybrid else 0.0
        return row

    def measure(self, one: load.Load, budget: int, share: Any) -> None:
        if share == ALL:
            rate, requests = None, arrival.all_at_once(one.requests)
        else:
            rate = share * self.rate_at_once(one, budget, self.options.backends[0])
            requests = arrival.poisson(one.requests, rate, self.options.seed)
        row = self.drive(requests)
        arrivals = {"arrivals": share, "rate_per_s": rate, "left_out": one.left_out, "seed": self.options.seed}
        self.emit("load", load=one.name, budget=budget, **arrivals, **row)

    def rate_at_once(self, one: load.Load, budget: int, backend: str) -> float:
        """Requests per second when all come at once; the median of the rows so far."""
        wanted = {"event": "load", "backend": backend, "load": one.name, "budget": budget,
                  "arrivals": ALL, "model": self.options.model, "mode": self.options.mode}  # fmt: skip
        rows = [row for row in read_rows(self.options.out) if wanted.items() <= row.items()]
        if not rows:
            raise SystemExit(f"serve: {self.options.out} has no row of {wanted}")
        return statistics.median(row["requests_per_s"] for row in rows)

    def search(self, one: load.Load, budget: int) -> None:
        options = self.options
        limits = capacity.Limits(options.capacity_ms, options.capacity_ttft_s)

        def is_met(rate: float) -> bool:
            row = self.drive(arrival.poisson(one.requests, rate, options.seed))
            met = limits.are_met(row)
            self.emit("trial", load=one.name, budget=budget, rate_per_s=rate, met=met, **row)
            return met

        start, own = (self.rate_at_once(one, budget, backend) for backend in (options.backends[0], self.backend))
        found = capacity.search(is_met, start, 2 * max(start, own))
        self.emit(
            "capacity", load=one.name, budget=budget, rate_per_s=found.met, trials=found.trials,
            failed_rate_per_s=None if found.failed == float("inf") else found.failed,
            between_p99_ms=limits.between_p99_ms, ttft_p50_s=limits.ttft_p50_s,
        )  # fmt: skip


def compare(rows: list[dict[str, Any]], backends: list[str]) -> list[str]:
    """A line for each load, budget and kind of arrivals: each backend against the first."""
    keys = {(row["load"], row["budget"], row["arrivals"]): None for row in rows if row["event"] == "load"}
    lines = []
    for key in keys:
        parts = []
        for backend in backends:
            same = [row for row in rows if row["event"] == "load" and row["backend"] == backend
                    and (row["load"], row["budget"], row["arrivals"]) == key]  # fmt: skip
            if not same:
                continue
            speed = statistics.median(row["tokens_per_s"] for row in same)
            gaps = [row["between_p99_ms"] for row in same if row["between_p99_ms"] is not None]
            p99 = f", p99 {statistics.median(gaps):.1f} ms" if gaps else ""
            first = statistics.median(
                row["tokens_per_s"] for row in rows
                if row["event"] == "load" and row["backend"] == backends[0]
                and (row["load"], row["budget"], row["arrivals"]) == key
            )  # fmt: skip
            parts.append(f"{backend} {speed:,.0f} tokens/s ({speed / first:.3f}){p99}")
        lines.append(f"{key[0]}, {key[1]} tokens a step, arrivals {key[2]}: {'; '.join(parts)}")
    return lines


def draw(path: Path, folder: Path, page: Path | None) -> int:
    """The figure of a file, into a folder; its table into a page."""
    try:
        from engine import frontier, table
        from figures import pages
        from figures.look import save
    except ImportError as error:
        print(f'serve: {error}: run it with "$(bench/venv.sh)"', file=sys.stderr)
        return 1
    try:
        saved = save(frontier.draw(read_rows(path)), folder, path.stem)
    except ValueError as error:
        print(f"serve: {path}: {error}", file=sys.stderr)
        return 1
    if page:
        text = pages.replace(page.read_text(encoding="utf-8"), {"engine": table.markdown(read_rows(path))})
        page.write_text(text, encoding="utf-8")
    print(*saved)
    return 0


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    options = parse(argv)
    if options.figure:
        return draw(options.figure, options.figures or options.figure.parent, options.page)
    if options.worker:
        Worker(options, options.worker, argv[: argv.index("--worker")]).run()
        return 0
    earlier = len(read_rows(options.out))
    for turn in range(options.rounds):
        for backend in options.backends:
            status = subprocess.run([sys.executable, __file__, *argv, "--worker", backend], check=False).returncode
            if status != 0:
                print(f"serve: {backend} ended with {status} in round {turn + 1}", file=sys.stderr)
                return 1
    print(*compare(read_rows(options.out)[earlier:], options.backends), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
