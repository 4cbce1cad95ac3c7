# SPDX-License-Identifier: Apache-2.0
"""How figures look: sizes, colours, titles that say what the numbers say, and labels instead of legends."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .results import Results

# Okabe and Ito's palette, which the colour-blind tell apart; one colour for one thing in all figures.
COLOURS = {
    "fused": "#0072B2",
    "serial": "#D55E00",
    "streams": "#E69F00",
    "hfuse": "#7A6A53",
    "fa3_best": "#009E73",
    "fa3_sm_partition": "#56B4E9",
    "pod_best": "#CC79A7",
    "limit": "#222222",
}
OTHERS = ["#56B4E9", "#009E73", "#CC79A7", "#E69F00", "#7A6A53", "#D55E00"]
MARKERS = {"fused": "o", "serial": "s", "streams": "D", "fa3_best": "^", "fa3_sm_partition": "v", "pod_best": "P"}
GREY = "#666666"
# Colours that are too light for letters, and what these have.
INK = {"#E69F00": "#9A6A00", "#56B4E9": "#2A7FB0"}

NAMES = {
    "fused": "podattn fused",
    "serial": "own serial",
    "streams": "own streams",
    "hfuse": "HFuse (static split)",
    "prefill": "prefill alone",
    "decode": "decode alone",
    "fa3_best": "FlashAttention-3, best",
    "fa3_sm_partition": "FlashAttention-3, SMs divided by an oracle",
    "pod_best": "POD-Attention, best",
    "fa3_serial": "FlashAttention-3, serial",
    "fa3_streams": "FlashAttention-3, streams",
    "fa3_mixed": "FlashAttention-3, one mixed call",
    "fa3_mixed_unsplit": "FlashAttention-3, one mixed call, unsplit",
    "fa3_mixed_split": "FlashAttention-3, one mixed call, up to 32 splits",
    "flashinfer_serial": "FlashInfer, serial",
    "flashinfer_batched": "FlashInfer, one batched prefill",
    "flashinfer_pod": "FlashInfer POD",
    "flashinfer_batch_pod": "FlashInfer BatchPOD",
    "flashinfer_batch_attention": "FlashInfer BatchAttention",
    "sdpa_flash": "PyTorch SDPA, flash",
    "sdpa_cudnn": "PyTorch SDPA, cuDNN",
    "sdpa_efficient": "PyTorch SDPA, efficient",
    "sdpa": "PyTorch SDPA",
}

WIDTH, DPI = 8.0, 150
matplotlib.rcParams.update(
    {
        "font.size": 10.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#888888",
        "axes.labelcolor": "#333333",
        "xtick.color": "#333333",
        "ytick.color": "#333333",
        "axes.grid": True,
        "grid.color": "#e4e4e4",
        "grid.linewidth": 0.8,
        "axes.axisbelow": True,
        "figure.facecolor": "white",
        "svg.hashsalt": "podattn",
        "svg.fonttype": "path",
    }
)


def times(ratio: float) -> str:
    return f"{ratio:.2f}×"


def than(ratio: float, other: str, noise: float = 0.0) -> str:
    """How fast fused is where the other takes `ratio` of its time; nothing is said of what is noise."""
    if abs(ratio - 1) <= noise:
        return f"as fast as {other}, within {noise:.0%}"
    return f"{times(ratio)} faster than {other}" if ratio >= 1 else f"{times(1 / ratio)} slower than {other}"


def name_of(variant: str) -> str:
    return NAMES.get(variant, variant)


def colour_of(variant: str, index: int = 0) -> str:
    return COLOURS.get(variant, OTHERS[index % len(OTHERS)])


def ink(colour: str) -> str:
    """The colour as text on white."""
    return INK.get(colour, colour)


def _wrap_evenly(text: str, width: int) -> list[str]:
    """As few lines as `width` allows, all about as long."""
    lines = textwrap.wrap(text, width, break_on_hyphens=False)
    while len(tighter := textwrap.wrap(text, width - 1, break_on_hyphens=False)) == len(lines):
        lines, width = tighter, width - 1
    return lines


def _wrap_small_print(text: str) -> list[str]:
    """Two lines at most. A list without blanks, as of an option, may go on in the next line after a comma."""
    lines = textwrap.wrap(text.replace(",", ",\0 "), 104, max_lines=2, placeholder=" …", break_on_hyphens=False)
    return [line.replace("\0 ", "").replace("\0", "") for line in lines]


def figure(
    results: Results, title: str, how_to_read: str, panels: int = 1, height: float = 4.6, **subplots: object
) -> tuple[Figure, Sequence[Axes]]:
    """A figure with panels side by side; title and reading aid are above, what measured it below."""
    lines = _wrap_evenly(title, 70)
    top = 0.3 + 0.25 * len(lines) + 0.32
    fig = Figure(figsize=(WIDTH, height))
    axes = fig.subplots(1, panels, squeeze=False, **subplots)
    fig.subplots_adjust(left=0.11, right=0.97, top=1 - top / height, bottom=0.95 / height)
    fig.text(0.02, 1 - 0.14 / height, "\n".join(lines), va="top", size=13, weight="bold", linespacing=1.25)
    fig.text(0.02, 1 - (0.2 + 0.25 * len(lines)) / height, how_to_read, va="top", color=GREY)
    commit = results.commit and f"commit {results.commit}"
    small_print = " · ".join(part for part in (results.machine, commit, results.command) if part)
    fig.text(
        0.02,
        0.06 / height,
        "\n".join(_wrap_small_print(small_print)),
        va="bottom",
        size=8.5,
        color=GREY,
        linespacing=1.15,
    )
    fig.podattn_description = f"{how_to_read} {small_print}"
    fig.podattn_title = title
    return fig, axes[0]


def _lines_between(below: str, above: str) -> float:
    """Lines of text from the middle of one label to that of the next."""
    return 1 + (below.count("\n") + above.count("\n")) / 2


def label_ends(ax: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Names of lines right of the axes, joined to the lines' ends (x, y, text, colour), moved apart where they would
    overlap, and down where the uppermost would be above the axes. Axes must have their limits already.
    """
    line_px = 12.5 * ax.figure.dpi / 72
    edge = ax.get_xlim()[1]
    placed = sorted(
        ([ax.transData.transform((x, y))[1], x, y, text, colour] for x, y, text, colour in ends),
        key=lambda item: item[0],
    )
    for below, above in zip(placed, placed[1:]):
        above[0] = max(above[0], below[0] + line_px * _lines_between(below[3], above[3]))
    ceiling = ax.transAxes.transform((0, 1))[1]
    for index in range(len(placed) - 1, -1, -1):
        placed[index][0] = min(placed[index][0], ceiling)
        if index > 0:
            ceiling = placed[index][0] - line_px * _lines_between(placed[index - 1][3], placed[index][3])
    for y_px, x, y, text, colour in placed:
        label_y = ax.transData.inverted().transform((0, y_px))[1]
        ax.plot([x, edge], [y, label_y], color=colour, linewidth=0.7, linestyle=":", clip_on=False)
        ax.text(
            edge,
            label_y,
            "  " + text,
            va="center",
            color=ink(colour),
            size=9.5,
            clip_on=False,
            weight="bold" if colour == COLOURS["fused"] else "normal",
        )


def save(fig: Figure, folder: Path, name: str) -> list[Path]:
    """As SVG and PNG; the same numbers give the same bytes. The SVG says in words what the picture says."""
    paths = [folder / f"{name}.svg", folder / f"{name}.png"]
    fig.savefig(paths[0], metadata={"Date": None, "Title": fig.podattn_title})
    title = f"<title>{escape(fig.podattn_title)}</title>"
    svg = paths[0].read_text(encoding="utf-8")
    described = svg.replace(title, f"{title}\n <desc>{escape(fig.podattn_description)}</desc>", 1)
    paths[0].write_text(described.replace("<svg ", '<svg role="img" ', 1), encoding="utf-8")
    fig.savefig(paths[1], dpi=DPI)
    return paths
