# SPDX-License-Identifier: Apache-2.0
"""bench/targets.py: the numbers of its table follow the files."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "bench" / "targets.py"
HEADING = (
    "case;param;variant;kernel;model;q_heads;kv_heads;head_dim;dtype;page_size;prefill_q;prefill_kv;decode_n;decode_kv;"
    "repeats;median_us;p10_us;p90_us;to_fused;to_fused_p10;to_fused_p90;tflops;kv_gb_per_s;relative_l2"
)
FA3 = {"fa3_serial": 300, "fa3_streams": 280, "fa3_mixed": 260, "fa3_mixed_unsplit": 270, "fa3_mixed_split": 290}
BALANCED = {"fused": 200, "serial": 250, "prefill": 125, "decode": 130, "fa3_prefill": 150, "fa3_decode": 104, **FA3}
LOPSIDED = {"fused": 300, "serial": 310, "prefill": 290, "decode": 20, "fa3_prefill": 290, "fa3_decode": 30, **FA3}


def write(path, page_size, batches):
    lines = ["# peers", "# device: cuda:0: NVIDIA H100", HEADING]
    for (q, kv, n, decode_kv), times in batches.items():
        case = f"{q}@{kv}+{n}@{decode_kv}"
        for variant, us in times.items():
            start = f"{case};;{variant};;;32;8;128;bf16;{page_size};{q};{kv};{n};{decode_kv};30;{us};{us};{us}"
            lines.append(start + ";1;1;1;1;1;1e-3")
    path.write_text("\n".join(lines) + "\n")
    return path


def table(tmp_path):
    """Row by row: the first column to (asked, contiguous, page 16)."""
    batches = {(1024, 8192, 64, 4096): BALANCED, (2048, 2048, 16, 4096): LOPSIDED}
    dearer = {name: us * 1.02 for name, us in BALANCED.items()} | {"fused": 208}
    contiguous = write(tmp_path / "a.csv", 0, batches)
    paged = write(tmp_path / "b.csv", 16, batches | {(1024, 8192, 64, 4096): dearer})
    run = subprocess.run([sys.executable, SCRIPT, contiguous, paged], check=True, capture_output=True, text=True)
    rows = [[field.strip() for field in line.strip("|").split("|")] for line in run.stdout.splitlines()]
    return {row[0]: row[1:] for row in rows}


def test_every_number_follows_the_files(tmp_path):
    rows = table(tmp_path)
    assert rows["slower than FlashAttention-3's best"][1] == "on 1 of 2"
    assert rows["FlashAttention-3's best / fused"][1] == "1.083 of 2"
    assert rows["the same, each side >= 20 % of serial"][1:] == ["1.300 of 1", "1.275 of 1"]
    assert rows["its prefill alone / own, by shape"][1] == "1.000 to 1.200"
    assert rows["its decode alone / own, by shape"][1] == "0.800 to 1.500"
    assert rows["own serial / fused, mean (least)"][1] == "1.142 (1.033)"
    # 4 * 32 heads * 128 operations a pair, 1024 * 7168 + 1024 * 1025 / 2 pairs, in 125 us
    assert rows["prefill alone from 1024@8192 on, TFLOP/s"][1] == "1031 to 1031"
    # 64 * 4096 keys of 4 * 8 * 128 bytes in 130 us
    assert rows["decode alone from 64@4096 on, TB/s"][1] == "8.26 to 8.26"
    assert rows["page 16 / contiguous, fused, mean (worst)"][2] == "1.020 (1.040), 1 of 2 above 1.03"


def test_the_limit_of_a_batch_is_its_longer_side_and_a_share_of_the_other(tmp_path):
    balanced, lopsided = 200 / (130 + 0.22 * 125), 300 / (290 + 0.22 * 20)
    found = table(tmp_path)["fused / (longer side + 0.22 of the shorter), mean (worst)"][1]
    assert found == f"{(balanced + lopsided) / 2:.3f} ({balanced:.3f})"
