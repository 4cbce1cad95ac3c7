# SPDX-License-Identifier: Apache-2.0
"""One table over two files: fused against everything else on the balanced batches."""

from __future__ import annotations

from .batches import Case, balance, cases_of, is_balanced, mean
from .look import name_of
from .peer_times import contiguous_cases, sides
from .results import Results

COLUMNS = ("serial", "streams", "flashinfer_pod", "flashinfer_batch_attention", "pod_best", "fa3_best")
MOST_ROWS = 12


def _ratio(variant: str, *cases: Case | None) -> float | None:
    """Of the first file that has both times; each file's ratio is its own."""
    for case in cases:
        if case is not None and variant in case.us:
            return case.us[variant] / case.us["fused"]
    return None


def _introduction(cases: list[Case], peers: Results) -> str:
    row = cases[0].row
    return (
        f"{peers.machine}; {row['q_heads']} query and {row['kv_heads']} KV heads, head_dim {row['head_dim']}, "
        f"{row['dtype']}. The other's time over that of podattn's fused call: above 1, fused is faster. The evenest of "
        f"{len(cases)} batches on which each side takes at least 20 % of both."
    )


def table(peers: Results, libraries: Results | None) -> str:
    """Markdown: what is compared, then a row a batch, the evenest first; times over fused's, and their means."""
    by_shape = {case.shape: case for case in cases_of(libraries, "fused")} if libraries else {}
    cases = [case for case in contiguous_cases(peers) if is_balanced(*sides(case))]
    if not cases:
        return "No batch is balanced."
    cases.sort(key=lambda case: -balance(*sides(case)))
    rows = []
    for case in cases:
        other = by_shape.get(case.shape)
        rows.append((case, [_ratio(variant, case, other) for variant in COLUMNS]))
    there = [i for i in range(len(COLUMNS)) if any(ratios[i] is not None for _, ratios in rows)]
    lines = [
        _introduction(cases, peers),
        "",
        f"| prefill + decodes | fused, us | {' | '.join(name_of(COLUMNS[i]) for i in there)} |",
        "|---|---|" + "---|" * len(there),
    ]
    for case, ratios in rows[:MOST_ROWS]:
        shown = " | ".join("" if ratios[i] is None else f"{ratios[i]:.2f}" for i in there)
        lines.append(f"| {case.label} | {case.us['fused']:,.0f} | {shown} |")
    means = [[ratios[i] for _, ratios in rows if ratios[i] is not None] for i in there]
    lines.append(f"| mean of the balanced batches | | {' | '.join(f'**{mean(m):.2f}** of {len(m)}' for m in means)} |")
    return "\n".join(lines)
