#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What podattn bench writes: whether its files are sound, and whether it goes on with them.

usage: check_bench.py PODATTN [--gpu]

With --gpu only what a GPU adds, small enough for one that is not really there.
"""
import csv
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TIMEOUT_S = 300
SHAPE = "q_heads;kv_heads;head_dim;dtype;kv_dtype;page_size;prefill_q;prefill_kv;decode_n;decode_kv"
BATCH_COLUMNS = (
    f"case;param;variant;kernel;model;{SHAPE};repeats;median_us;p10_us;p90_us;to_fused;to_fused_p10;to_fused_p90;"
    "tflops;kv_gb_per_s"
).split(";")
VARIANTS = ["fused", "serial", "prefill", "decode"]


class Bench:
    def __init__(self, podattn, device, folder):
        self.podattn = podattn
        self.device = device
        self.folder = folder

    def run(self, *arguments, commit="1234567", code=0, device=None):
        """Returns what is printed."""
        command = [self.podattn, "bench", *arguments, "--device", device or self.device, "--repeat", "1"]
        command += ["--out", self.folder]
        environment = dict(os.environ, PODATTN_COMMIT=commit)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def path(self, suite):
        return os.path.join(self.folder, suite + ".csv")

    def lines(self, suite):
        with open(self.path(suite), encoding="utf-8") as file:
            return file.read().splitlines()

    def comments(self, suite):
        return [line for line in self.lines(suite) if line.startswith("#")]

    def rows(self, suite):
        return list(csv.DictReader([line for line in self.lines(suite) if not line.startswith("#")], delimiter=";"))


def check_heading(bench, suite):
    comments = bench.comments(suite)
    assert comments[0].startswith("# podattn ") and suite in comments[0]
    for key in ("device: cpu: ", "commit: 1234567", f"command: podattn bench {suite} --device cpu:1", "date: 20"):
        assert any(comment.startswith("# " + key) for comment in comments), (key, comments)
    assert comments[-1] == "# done"


def check_batches(bench, suite, num_cases, more_columns=()):
    check_heading(bench, suite)
    rows = bench.rows(suite)
    assert list(rows[0]) == BATCH_COLUMNS + list(more_columns)
    cases = {}
    for row in rows:
        cases.setdefault(row["case"], []).append(row)
        assert 0 < float(row["p10_us"]) <= float(row["median_us"]) <= float(row["p90_us"])
        assert float(row["to_fused"]) > 0 and row["repeats"] == "1" and row["dtype"] == "bf16"
        assert int(row["q_heads"]) % int(row["kv_heads"]) == 0
    assert len(cases) == num_cases
    for case in cases.values():
        assert [row["variant"] for row in case] == VARIANTS
        fused, serial, prefill, decode = (float(row["median_us"]) for row in case)
        assert float(case[0]["to_fused"]) == 1
        assert abs(serial - prefill - decode) <= 0.01
        assert abs(float(case[1]["to_fused"]) * fused / serial - 1) < 1e-3


def check_trace(bench):
    check_heading(bench, "trace")
    rows = bench.rows("trace")
    kinds = sorted({row["case"] for row in rows})
    assert kinds == ["arxiv,chunk=64", "chat,chunk=64"]
    for kind in kinds:
        steps = [row for row in rows if row["case"] == kind]
        assert [int(row["step"]) for row in steps] == list(range(1, len(steps) + 1))
        assert all(0 < int(row["prefill_tokens"]) + int(row["decode_tokens"]) <= 64 for row in steps)
        assert any(int(row["prefill_tokens"]) > 0 and int(row["decode_tokens"]) > 0 for row in steps)
        for row in steps:
            assert float(row["fused_us"]) > 0 and row["streams_us"] == ""
            assert abs(float(row["serial_us"]) - float(row["prefill_us"]) - float(row["decode_us"])) <= 0.01


def check_peak(bench):
    check_heading(bench, "peak")
    rows = {row["measured"]: row for row in bench.rows("peak")}
    assert float(rows["read"]["gb_per_s"]) > 0 and rows["read"]["tflops"] == ""
    assert float(rows["math"]["tflops"]) > 0 and rows["math"]["gb_per_s"] == ""


def check_files(bench):
    printed = bench.run("peak", "utilisation", "chunk_waves", "decode_tiles", "trace")
    assert "decode_tiles  left out: needs a GPU" in printed
    assert not os.path.exists(bench.path("decode_tiles"))
    check_peak(bench)
    check_batches(bench, "utilisation", 3, ["sm_percent", "tensor_percent", "dram_percent", "source"])
    assert {row["source"] for row in bench.rows("utilisation")} == {"peak"}
    check_batches(bench, "chunk_waves", 16)
    check_trace(bench)


def check_resume(bench):
    """A file that was cut off amid a line keeps its whole cases; what is there is not measured again."""
    whole = bench.lines("chunk_waves")
    assert "exists; give --resume" in bench.run("chunk_waves", code=2)
    assert "of another command, device or commit" in bench.run("chunk_waves", "--resume", commit="other", code=2)
    assert bench.lines("chunk_waves") == whole
    with open(bench.path("chunk_waves"), "w", encoding="utf-8") as file:
        file.write("\n".join(whole[: 8 + 4 * 3]) + "\n" + "yi-6b,32@5")
    assert "cases done 13, there before 3" in bench.run("chunk_waves", "--resume")
    assert bench.lines("chunk_waves")[: 8 + 4 * 3] == whole[: 8 + 4 * 3]
    check_batches(bench, "chunk_waves", 16)
    assert "cases done 0, there before 16" in bench.run("chunk_waves", "--resume")
    assert bench.lines("chunk_waves").count("# done") == 1


def check_left_out(bench):
    """A case that was left out is named with a reason, and measured when the file is gone on with."""
    lines = bench.lines("chunk_waves")
    name = bench.rows("chunk_waves")[0]["case"]
    with open(bench.path("chunk_waves"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines[:-1]) + f"\n# left out: {name}: the time limit\n")
    assert "cases done 1, there before 15" in bench.run("chunk_waves", "--resume")
    check_batches(bench, "chunk_waves", 16)
    assert not any("left out" in comment for comment in bench.comments("chunk_waves"))


def check_overwrite(bench):
    bench.run("peak", "--overwrite", commit="other")
    assert "# commit: other" in bench.comments("peak")


def check_batch_file(bench):
    """Any mix of requests and a window, on both kinds of cache; only a mix of one chunk and decodes has its columns."""
    bench.run("batches", "--batches", os.path.join(HERE, "batch_files", "small.csv"))
    assert f"--batches {HERE}/batch_files/small.csv" in "\n".join(bench.comments("batches"))
    rows = bench.rows("batches")
    assert list(rows[0]) == BATCH_COLUMNS + ["window", "requests"]
    assert [row["case"] for row in rows[::4]] == ["small:one chunk,contiguous", "small:one chunk,p16"]
    assert {row["requests"] for row in rows} == {"16@64 2x1@32"} and {row["window"] for row in rows} == {"0"}
    assert {row["kv_dtype"] for row in rows} == {"bf16"}
    f8_cache = ("--kv-dtype", "f8e4m3", "--overwrite")
    bench.run("batches", "--batches", os.path.join(HERE, "batch_files", "small.csv"), *f8_cache)
    assert "--kv-dtype f8e4m3" in "\n".join(bench.comments("batches"))
    assert {(row["dtype"], row["kv_dtype"]) for row in bench.rows("batches")} == {("bf16", "f8e4m3")}


def check_steps(bench):
    """What podattn replay writes is what podattn bench reads."""
    steps = os.path.join(bench.folder, "steps.csv")
    command = "replay --synthetic chat --requests 6 --chunk 512 --window 512 --heads 8,2 --every 40 --write-batches"
    done = subprocess.run([bench.podattn, *command.split(), steps], capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    printed = bench.run("batches", "--batches", steps, "--overwrite")
    assert "left out" not in printed
    rows = bench.rows("batches")
    assert rows[0]["case"] == "steps:step40,contiguous" and {row["window"] for row in rows} == {"32"}


def device_kernels(bench, device):
    """The kernels that podattn info lists of a device."""
    done = subprocess.run([bench.podattn, "info", "--json"], capture_output=True, text=True, timeout=TIMEOUT_S)
    return next(row["kernels"] for row in json.loads(done.stdout)["devices"] if row["device"] == device)


def check_kernels(bench):
    """Every kernel of the device computes the same batch; others than the one that the name asks for are left out."""
    kernels = [kernel["name"] for kernel in device_kernels(bench, "cpu")]
    bench.run("kernels")
    check_batches(bench, "kernels", len(kernels))
    rows = bench.rows("kernels")
    assert [row["case"] for row in rows[::4]] == [kernel + ",p16" for kernel in kernels]
    assert all(row["case"] == row["kernel"] + ",p16" for row in rows)
    shapes = {tuple(row[column] for column in SHAPE.split(";")) for row in rows}
    assert shapes == {("32", "8", "128", "bf16", "bf16", "16", "64", "256", "8", "256")}
    printed = bench.run("kernels", "--overwrite", device="cpu:isa=generic")
    assert f"cases done 1, left out {len(kernels) - 1}: " in printed or len(kernels) == 1, printed


def check_gpu_kernels(bench):
    """A kernel is chosen by the device's options and by the dtype and head_dim of its case; some of each kind."""
    kernels = [kernel["name"] for kernel in device_kernels(bench, "cuda:0")]
    assert len(kernels) > 5
    for kernel in kernels[::5]:
        bench.run("kernels", "--short", "--launch", f"{kernel},p16/decode")
    assert not os.path.exists(bench.path("kernels"))
    sm90 = ("kernels", "--short", "--launch", f"{kernels[0]},p16/decode")
    printed = bench.run(*sm90, device="cuda:0,ctas=4", code=2)
    assert "no kernel of that name's options" in printed, printed


def check_gpu(bench):
    """Streams, both kinds of cache, sides that are empty, and any mix of requests with a window."""
    batch = ["fused", "serial", "streams", "prefill", "decode"]
    expected = [batch, [v for v in batch if v != "prefill"], [v for v in batch if v != "decode"], batch]
    bench.run("batches", "--batches", os.path.join(HERE, "batch_files", "tiny.csv"))
    assert bench.comments("batches")[-1] == "# done"
    requests = ["20@40 3x1@30", "5x1@33", "24@24", "30@30 17@50 2x3@40 1@33 1@9"]
    for page_size in ("0", "16"):
        rows = [row for row in bench.rows("batches") if row["page_size"] == page_size]
        cases = list(dict.fromkeys(row["case"] for row in rows))
        assert [[row["variant"] for row in rows if row["case"] == case] for case in cases] == expected
        assert list(dict.fromkeys(row["requests"] for row in rows)) == requests
        assert list(dict.fromkeys(row["window"] for row in rows)) == ["0", "16"]
        for row in rows:
            is_ragged = row["window"] == "16"
            assert "fused_bf16_d64" in row["kernel"] and float(row["median_us"]) > 0 and row["repeats"] == "1"
            assert is_ragged == (row["prefill_q"] == row["decode_kv"] == "")


def main(arguments):
    if not 1 <= len(arguments) <= 2 or arguments[1:] not in ([], ["--gpu"]):
        sys.exit(__doc__)
    is_gpu = len(arguments) == 2
    checks = [check_files, check_resume, check_left_out, check_overwrite, check_batch_file, check_steps, check_kernels]
    if is_gpu:
        checks = [check_gpu, check_gpu_kernels]
    with tempfile.TemporaryDirectory() as folder:
        device = "cuda:0" if is_gpu else "cpu:1"
        bench = Bench(os.path.abspath(arguments[0]), device, os.path.join(folder, "a", "b"))
        for check in checks:
            check(bench)
            print("ok", check.__name__)


if __name__ == "__main__":
    main(sys.argv[1:])
