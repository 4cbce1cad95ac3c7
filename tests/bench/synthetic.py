# SPDX-License-Identifier: Apache-2.0
"""Small result files with known numbers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

COMMENTS = [
    "# podattn 0.2.0, suite",
    "# device: cuda:0: NVIDIA H100, kernel sm90a, CTAs: 132",
    "# commit: 0123abc",
    "# command: podattn bench suite",
]
BATCH_COLUMNS = (
    "case param variant kernel model q_heads kv_heads head_dim dtype page_size prefill_q prefill_kv decode_n decode_kv "
    "repeats median_us p10_us p90_us to_fused to_fused_p10 to_fused_p90 tflops kv_gb_per_s"
).split()


COMPARED_COLUMNS = (
    "file name q_heads kv_heads head_dim window requests page_size dtype way calls sustained_us sustained_least_us "
    "sustained_most_us paused_us paused_least_us paused_most_us energy_mj clock_mhz tflops kv_gb_per_s relative_l2"
).split()


def write(path: Path, columns: Iterable[str], rows: Iterable[dict], comments: Iterable[str] = ()) -> Path:
    columns = list(columns)
    lines = [*COMMENTS, *comments, ";".join(columns)]
    lines += [";".join(str(row.get(column, "")) for column in columns) for row in rows]
    path.write_text("\n".join([*lines, "# done"]) + "\n")
    return path


def case(
    us: dict[str, float], prefill: str = "512@4096", decode: str = "16@4096", spread: float = 0, **fields: object
) -> list[dict]:
    """The rows of one batch: `us` has the median of every variant, its turns go from 1 - spread to 1 + spread of it."""
    prefill_q, prefill_kv = prefill.split("@")
    decode_n, decode_kv = decode.split("@")
    shape = {
        "case": f"{fields.get('model', 'm')},{prefill}+{decode},p{fields.get('page_size', 16)}",
        "kernel": "sm90a", "model": "m", "q_heads": 32, "kv_heads": 8, "head_dim": 128, "dtype": "bf16",
        "page_size": 16, "prefill_q": prefill_q, "prefill_kv": prefill_kv, "decode_n": decode_n,
        "decode_kv": decode_kv, "repeats": 50, **fields,
    }  # fmt: skip
    rows = []
    for variant, time_us in us.items():
        ratio = time_us / us["fused"] if "fused" in us else ""
        rows.append({
            **shape, "variant": variant, "median_us": time_us, "p10_us": time_us, "p90_us": time_us,
            "to_fused": ratio, "to_fused_p10": ratio and ratio * (1 - spread),
            "to_fused_p90": ratio and ratio * (1 + spread),
        })  # fmt: skip
    return rows


def compared(
    us: dict[str, float],
    requests: str,
    file: str = "heads",
    heads: tuple[int, int, int] = (32, 8, 128),
    window: int = 0,
    page_size: int = 16,
    paused: float | None = 1.0,
    sustained: float | None = 1.0,
    energy: float | None = None,
) -> list[dict]:
    """The rows of one batch of bench/compare.py: the other arguments are factors of `us`, None is not measured."""
    shape = {
        "file": file, "name": f"{heads[0]}-{heads[1]},{requests.replace(' ', '+')}", "q_heads": heads[0],
        "kv_heads": heads[1], "head_dim": heads[2], "window": window, "requests": requests, "page_size": page_size,
        "dtype": "bf16", "relative_l2": "2e-03",
    }  # fmt: skip
    factors = {"sustained_us": sustained, "paused_us": paused, "energy_mj": energy}
    return [
        {**shape, "way": way, **{column: x * time_us for column, x in factors.items() if x is not None}}
        for way, time_us in us.items()
    ]


def peak(folder: Path, both_tflops: float = 480) -> Path:
    columns = "measured tflops gb_per_s clock_mhz power_watts".split()
    rows = [("read", "", 3100, 1980, 300), ("math", 640, "", 1500, 690), ("both", both_tflops, 3100, 1300, 700)]
    return write(folder / "peak.csv", columns, [dict(zip(columns, row)) for row in rows])


def kernels(folder: Path, serial: float = 130, spread: float = 0) -> Path:
    rows = []
    for name, us in (("sm90_fused_bf16_d128_c1", serial), ("sm80_fused_bf16_d128_c2", 140)):
        rows += case({"fused": 100, "serial": us, "streams": 120}, "1024@4096", "32@4096", spread,
                     kernel=f"pod_{name}", case=f"pod_{name},p16", model="")  # fmt: skip
    return write(folder / "kernels.csv", BATCH_COLUMNS, rows)


def utilisation(folder: Path, fused_sm: float = 60, fused_dram: float = 70) -> Path:
    rows = []
    for prefill in ("1024@12288", "12288@12288"):
        busy = {"serial": (40, 50), "streams": (45, 55), "fused": (fused_sm, fused_dram)}
        for row in case({"serial": 150, "streams": 130, "fused": 100}, prefill):
            sm, dram = busy[row["variant"]]
            rows.append({**row, "sm_percent": sm, "tensor_percent": "", "dram_percent": dram, "source": "ncu"})
    return write(
        folder / "utilisation.csv", [*BATCH_COLUMNS, "sm_percent", "tensor_percent", "dram_percent", "source"], rows
    )


def chunk_waves(folder: Path, serial_55: float = 300, spread: float = 0) -> Path:
    rows = []
    for decodes, serial in ((54, 250), (55, serial_55)):
        for chunk in (1, 2, 3):
            rows += case({"fused": 200, "serial": serial, "streams": 230}, f"512@{512 * chunk}", f"{decodes}@16384",
                         spread, model="yi-6b", param=chunk)  # fmt: skip
    return write(folder / "chunk_waves.csv", BATCH_COLUMNS, rows)


def fusion_ways(folder: Path, sm_aware: float = 1.1) -> Path:
    columns = "case iterations variant repeats median_us to_ideal to_ideal_p10 to_ideal_p90".split()
    over_ideal = {"serial": 2.0, "streams": 1.9, "cta_parallel": 1.8, "thread": 1.5, "sm_aware": sm_aware, "ideal": 1.0}
    rows = [{"case": f"i{n}", "iterations": n, "variant": variant, "median_us": 10 * x, "to_ideal": x}
            for n in (2, 4, 8) for variant, x in over_ideal.items()]  # fmt: skip
    return write(folder / "fusion_ways.csv", columns, rows)


def decode_tiles(folder: Path, small: float = 50) -> Path:
    rows = case({"fused": 100, "decode": 50, "decode ctas=2": 50, "decode ctas=4": small, "ctas=2": 100, "ctas=4": 140})
    return write(folder / "decode_tiles.csv", BATCH_COLUMNS, rows)


def sweep(folder: Path, serial: float = 140, spread: float = 0) -> Path:
    rows = [row for model in ("llama-3-8b", "yi-6b") for prefill in ("512@4096", "1024@8192")
            for row in case({"fused": 100, "serial": serial, "streams": 120}, prefill, spread=spread,
                            model=model)]  # fmt: skip
    return write(folder / "sweep.csv", BATCH_COLUMNS, rows)


def ctas_per_sm(folder: Path, four: float = 90) -> Path:
    rows = case({"fused": 100, "ctas=2": 100, "ctas=4": 150}, "2048@8192")
    rows += case({"fused": 100, "ctas=2": 110, "ctas=4": four}, "512@512")
    return write(folder / "ctas_per_sm.csv", BATCH_COLUMNS, rows)


def ticket_policy(folder: Path, half: float = 120) -> Path:
    rows = case({"fused": 100, "policy=proportional": 100, "policy=half": half})
    return write(folder / "ticket_policy.csv", BATCH_COLUMNS, rows)


def trace(folder: Path, serial: float = 130, alone: float = 100) -> Path:
    """`serial` of the steps with both kinds of work, `alone` of those with decodes alone: there it is the same call."""
    columns = (
        "case step requests prefill_tokens decode_tokens kv_tokens plan_us fused_us serial_us streams_us prefill_us "
        "decode_us"
    ).split()
    rows = [{"case": "chat,chunk=512", "step": step, "requests": 9, "prefill_tokens": 512 * (step % 2),
             "decode_tokens": 8, "kv_tokens": 4096, "plan_us": 5, "fused_us": 100,
             "serial_us": serial if step % 2 else alone, "streams_us": 110, "prefill_us": 60,
             "decode_us": 70} for step in range(1, 5)]  # fmt: skip
    return write(folder / "trace.csv", columns, rows)


def batches(folder: Path, fa3: float = 150) -> Path:
    rows = []
    for prefill, side in (("512@512", 20), ("512@8192", 60), ("1024@8192", 95)):
        times = {"fused": 110, "serial": 100 + side, "streams": 95 + side, "prefill": side, "decode": 100}
        rows += case({**times, "fa3_best": fa3, "fa3_sm_partition": 130, "pod_best": 140}, prefill, page_size=0)
        rows += case({**times, "fused": 112, "fa3_best": fa3}, prefill, page_size=16)
    return write(folder / "batches.csv", BATCH_COLUMNS, rows)


def libraries(folder: Path) -> Path:
    us = {"fused": 112, "serial": 195, "flashinfer_pod": 168, "flashinfer_batch_attention": 180}
    missing = [
        "# left out: fa3_mixed: vllm.vllm_flash_attn cannot be imported",
        "# left out: heads/a [sdpa]: out of memory",
    ]
    return write(folder / "libraries.csv", COMPARED_COLUMNS, compared(us, "1024@8192 16x1@4096"), missing)


def libraries_contiguous(folder: Path, fa3_decode: float = 104, **factors: float | None) -> Path:
    rows = []
    for prefill, side, fa3_prefill in (("1024@8192", 90, 99), ("2048@8192", 120, 144)):
        us = {"fused": 100, "serial": 100 + side, "prefill": side, "decode": 100, "fa3_prefill": fa3_prefill,
              "fa3_decode": fa3_decode, "fa3_serial": 200, "fa3_streams": 130, "fa3_mixed": 150,
              "fa3_mixed_unsplit": 120 if side == 120 else 160}  # fmt: skip
        rows += compared(us, f"{prefill} 16x1@4096", page_size=0, **factors)
    return write(folder / "libraries_contiguous.csv", COMPARED_COLUMNS, rows)


MAKERS = {maker.__name__: maker for maker in (
    peak, kernels, utilisation, chunk_waves, fusion_ways, decode_tiles, sweep, ctas_per_sm, ticket_policy, trace,
    batches, libraries, libraries_contiguous)}  # fmt: skip
