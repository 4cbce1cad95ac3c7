# SPDX-License-Identifier: Apache-2.0
"""bench/peers.py on the CPU: same inputs for all, wrong outputs are caught, whoever is missing is named."""

import argparse
import csv

import pytest

torch = pytest.importorskip("torch")

import peers  # noqa: E402
from contenders import report, torch_sdpa  # noqa: E402
from contenders.batch import Batch, Inputs, LeftOut, Missing, read_batches  # noqa: E402
from contenders.oracle import Oracle, spread  # noqa: E402
from contenders.table import ON_CPU  # noqa: E402

SMALL = Batch(q_heads=8, kv_heads=2, prefill_q=24, prefill_kv=100, decode_n=3, decode_kv=50)


@pytest.fixture()
def inputs():
    return Inputs(SMALL, "cpu", torch.bfloat16)


def test_the_gathered_cache_is_what_the_pages_hold(inputs):
    k, _, _, decode_v = inputs.contiguous(0)
    assert k.shape == (100, 2, 128) and decode_v.shape == (3, 50, 2, 128)
    layer = inputs.layers[0]
    for token in (0, 17, 99):
        page = inputs.page_table[0, token // 16]
        assert torch.equal(k[token], layer.k[page, token % 16])
    assert torch.equal(decode_v[2, 49], layer.v[inputs.page_table[3, 49 // 16], 49 % 16])


def test_no_page_belongs_to_two_requests(inputs):
    pages = torch.cat(inputs.page_lists)
    assert sorted(pages.tolist()) == list(range(inputs.num_pages))


def test_the_oracle_accepts_sdpa_and_refuses_a_wrong_mask(inputs):
    oracle = Oracle(inputs)
    prefill, decode = torch_sdpa.math(inputs)(0)
    assert oracle.passes(oracle.error((prefill, decode)))
    k, v = (x.repeat_interleave(4, 1).transpose(0, 1)[None] for x in inputs.contiguous(0)[:2])
    q = inputs.layers[0].q[:24].transpose(0, 1)[None]
    top_left = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)[0].transpose(0, 1)
    assert not oracle.passes(oracle.error((top_left, decode)))


def test_the_oracle_sees_one_wrong_decode(inputs):
    oracle = Oracle(inputs)
    prefill, decode = torch_sdpa.math(inputs)(0)
    wrong = decode.clone()
    wrong[1] = decode[2]
    assert not oracle.passes(oracle.error((prefill, wrong)))


def test_the_last_of_a_sample_is_always_taken():
    assert spread(100, 4) == [24, 49, 74, 99]
    assert spread(2, 4) == [0, 1]


def test_flops_count_what_the_mask_leaves():
    # The last two of three tokens see two and three keys; one decode sees five.
    assert Batch(1, 1, 2, 3, 1, 5, head_dim=8).flops == 4 * 8 * (2 + 3 + 5)


def test_quantiles():
    assert report.quantiles([5, 1, 2, 4, 3, 6, 7, 8, 9, 10, 11]) == (6, 2, 10)


def batch_file(folder):
    path = folder / "batches.csv"
    path.write_text("# comment\nq_heads;kv_heads;prefill_q;prefill_kv;decode_n;decode_kv\n8;2;24;100;3;50\n")
    return path


def test_a_batch_file_without_a_column_is_refused(tmp_path):
    assert read_batches(batch_file(tmp_path)) == [SMALL]
    path = tmp_path / "bad.csv"
    path.write_text("q_heads,kv_heads\n8,2\n")
    with pytest.raises(SystemExit, match="no column prefill_q, prefill_kv, decode_n, decode_kv"):
        read_batches(path)


def rows_of(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines, delimiter=";"))


def test_the_door_writes_a_row_a_contender(tmp_path):
    out = tmp_path / "libraries.csv"
    arguments = ["--device", "cpu", "--only", "sdpa_math", "--repeats", "3", "--out", str(out)]
    peers.main([str(batch_file(tmp_path)), *arguments])
    (row,) = rows_of(out)
    assert row["variant"] == "sdpa_math" and row["repeats"] == "3" and float(row["relative_l2"]) < 5e-3
    assert out.read_text().endswith("# done\n")


def test_failures_are_named_and_the_missing_are_not_asked_again(tmp_path, capsys):
    out = (tmp_path / "out.csv").open("w+")
    asked = []

    def missing(inputs):
        asked.append(inputs.batch.case)
        raise Missing("it is not installed")

    def unable(_):
        raise LeftOut("no such mask")

    def wrong(inputs):
        return lambda layer: (torch.zeros_like(inputs.layers[layer].q),)

    def broken(_):
        raise RuntimeError("out of luck")

    contenders = {"missing": missing, "unable": unable, "wrong": wrong, "broken": broken, "fused": torch_sdpa.math}
    arguments = argparse.Namespace(device="cpu", dtype="bf16", repeats=3)
    to = report.Report(out, ["# test"], "bf16")
    for _ in range(2):
        assert list(peers.run_batch(SMALL, contenders, arguments, to)) == ["fused"]
    out.flush()
    text = (tmp_path / "out.csv").read_text()
    assert asked == [SMALL.case]
    assert "# left out: missing: it is not installed" in text
    assert f"# left out: {SMALL.case} unable: no such mask" in text
    assert "its outputs are wrong: relative L2 1.0e+00" in text
    assert "broken failed: RuntimeError: out of luck" in capsys.readouterr().err
    assert [row["to_fused"] for row in rows_of(tmp_path / "out.csv")] == ["1.000", "1.000"]


def test_an_unknown_contender_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="no contender fa9"):
        peers.main([str(batch_file(tmp_path)), "--device", "cpu", "--only", "fa9"])


@pytest.mark.parametrize("way", ["fused", "serial"])
def test_podattn_computes_what_the_oracle_says(inputs, way):
    pytest.importorskip("podattn")
    outputs = ON_CPU[way](inputs)(0)
    oracle = Oracle(inputs)
    assert oracle.passes(oracle.error(outputs))
