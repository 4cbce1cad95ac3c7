#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws the memory of a KV cache over a trace, as `podattn replay --cache KIND --json` reports it, a line a kind.

    for kind in paged virtual mega; do
        podattn replay --synthetic chat --requests 24 --max-batch 6 --heads 8,8 --head-dim 128 --layers 32 \
            --kv-tokens 16384 --device cpu --cache $kind --json > $kind.json
    done
    "$(bench/venv.sh)" bench/plot_memory.py paged.json virtual.json mega.json --figure docs/figures/kv_memory.svg
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

if find_spec("matplotlib") is None:
    sys.exit('bench/plot_memory.py needs matplotlib: run it with "$(bench/venv.sh)"')

from figures.look import COLOURS, GREY, figure, label_ends, save
from figures.results import Results

GIB = 1 << 30
NAMES = {"paged": "paged: a pool", "virtual": "virtual, per layer", "mega": "virtual, mega"}
SHORT = {"paged": "a pool of", "virtual": "per layer", "mega": "mega"}
LINES = {"paged": COLOURS["serial"], "virtual": COLOURS["streams"], "mega": COLOURS["fused"]}


def read(path: Path) -> dict[str, Any]:
    replay: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if replay.get("command") != "replay" or "cache" not in replay:
        sys.exit(f"{path}: not the JSON of podattn replay")
    return replay


def title_of(replays: list[dict[str, Any]]) -> str:
    """What each kind takes at most."""
    taken = [f"{SHORT[r['cache']['kind']]} {r['cache']['physical']['most_bytes'] / GIB:.1f} GiB" for r in replays]
    return f"The same requests take at most: {', '.join(taken)}"


def draw(replays: list[dict[str, Any]], path: Path) -> Path:
    first = replays[0]
    shape, cache = first["shape"], first["cache"]
    comments = {
        "device": first["device"]["name"],
        "command": f"replay {first['trace']['name']}, {first['trace']['num_requests']} requests, "
        f"{shape['kv_heads']} KV heads, head_dim {shape['head_dim']}, {shape['kv_dtype']}, "
        f"{cache['num_layers']} layers",
    }
    results = Results(name="kv_memory", columns=[], rows=[], comments=comments)
    how_to_read = "Memory taken from the system after each step. Grey: keys and values."
    fig, (ax,) = figure(results, title_of(replays), how_to_read)
    fig.subplots_adjust(right=0.79)
    steps = range(first["num_steps"])
    ax.fill_between(steps, [step["used_bytes"] / GIB for step in first["steps"]], color="#d0d0d0", linewidth=0)
    ends = []
    for replay in replays:
        kind, taken = replay["cache"]["kind"], [step["physical_bytes"] / GIB for step in replay["steps"]]
        ax.plot(steps, taken, color=LINES[kind], linewidth=2)
        ends.append((float(len(taken) - 1), taken[-1], NAMES[kind], LINES[kind]))
    ax.set(xlabel="step", ylabel="GiB", xlim=(0, first["num_steps"] - 1), ylim=(0, None))
    ax.xaxis.label.set_color(GREY)
    label_ends(ax, ends)
    return save(fig, path.parent, path.stem)[0]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("replays", nargs="+", type=Path, metavar="JSON")
    parser.add_argument("--figure", type=Path, required=True, metavar="SVG")
    arguments = parser.parse_args(argv)
    print(draw([read(path) for path in arguments.replays], arguments.figure))
    return 0


if __name__ == "__main__":
    sys.exit(main())
