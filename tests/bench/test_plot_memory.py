# SPDX-License-Identifier: Apache-2.0
"""The memory of replays as a figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import plot_memory
import pytest

GIB = 1 << 30


def replay(folder: Path, kind: str, taken_gib: float) -> str:
    """The JSON of a replay of four steps."""
    steps = [{"used_bytes": step * GIB // 8, "physical_bytes": taken_gib * GIB} for step in range(4)]
    said: dict[str, Any] = {
        "command": "replay",
        "trace": {"name": "chat", "num_requests": 3},
        "device": {"name": "a processor"},
        "shape": {"kv_heads": 8, "head_dim": 128, "kv_dtype": "bf16"},
        "num_steps": len(steps),
        "cache": {"kind": kind, "num_layers": 32, "physical": {"most_bytes": taken_gib * GIB}},
        "steps": steps,
    }
    path = folder / f"{kind}.json"
    path.write_text(json.dumps(said), encoding="utf-8")
    return str(path)


def test_a_line_a_kind(tmp_path: Path) -> None:
    files = [replay(tmp_path, kind, gib) for kind, gib in (("paged", 2.0), ("virtual", 1.5), ("mega", 1.1))]
    said = [plot_memory.read(Path(file)) for file in files]
    assert plot_memory.title_of(said) == (
        "The same requests take at most: a pool of 2.0 GiB, per layer 1.5 GiB, mega 1.1 GiB"
    )
    figure = tmp_path / "kv_memory.svg"
    assert plot_memory.main([*files, "--figure", str(figure)]) == 0
    assert figure.stat().st_size > 5000


def test_another_commands_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text('{"command": "run"}', encoding="utf-8")
    with pytest.raises(SystemExit, match="not the JSON of podattn replay"):
        plot_memory.main([str(path), "--figure", str(tmp_path / "x.svg")])
