# SPDX-License-Identifier: Apache-2.0
"""bench/peers.py on the CPU: same inputs for all, wrong outputs are caught, whoever is missing is named."""

import argparse
import csv
import sys
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

import fake_vllm  # noqa: E402
import peers  # noqa: E402
from contenders import flash_attention_3, flashinfer_calls, report, torch_sdpa  # noqa: E402
from contenders.batch import Batch, Inputs, LeftOut, Missing, read_batches  # noqa: E402
from contenders.oracle import Oracle, spread  # noqa: E402
from contenders.sides import Alone, requests_of  # noqa: E402
from contenders.table import CONTENDERS, ON_CPU  # noqa: E402

SMALL = Batch(q_heads=8, kv_heads=2, prefill_q=24, prefill_kv=100, decode_n=3, decode_kv=50)
LONG_DECODES = replace(SMALL, prefill_kv=60, decode_kv=90)


@pytest.fixture()
def inputs():
    return Inputs(SMALL, "cpu", torch.bfloat16)


@pytest.fixture(params=[(SMALL, 16), (SMALL, 0), (LONG_DECODES, 0)], ids=["pages", "contiguous", "long decodes"])
def any_inputs(request):
    batch, page_size = request.param
    return Inputs(replace(batch, page_size=page_size), "cpu", torch.bfloat16)


@pytest.fixture()
def vllm(monkeypatch):
    for name, module in fake_vllm.modules().items():
        monkeypatch.setitem(sys.modules, name, module)


def error_of(inputs, call):
    return Oracle(inputs).error(call(0), inputs.tokens_of(requests_of(call, inputs.batch)))


def test_the_gathered_cache_is_what_the_pages_hold(inputs):
    k, _, _, decode_v = inputs.contiguous(0)
    assert k.shape == (100, 2, 128) and decode_v.shape == (3, 50, 2, 128)
    layer = inputs.layers[0]
    for token in (0, 17, 99):
        page = inputs.page_table[0, token // 16]
        assert torch.equal(k[token], layer.k[page, token % 16])
    assert torch.equal(decode_v[2, 49], layer.v[inputs.page_table[3, 49 // 16], 49 % 16])


def test_no_page_belongs_to_two_requests(inputs):
    pages = torch.cat(inputs.layout.page_lists)
    assert sorted(pages.tolist()) == list(range(inputs.layout.num_pages))


@pytest.mark.parametrize("batch", [SMALL, LONG_DECODES])
def test_overlapping_pages_show_a_contiguous_cache(batch):
    inputs = Inputs(replace(batch, page_size=0), "cpu", torch.bfloat16)
    layer, layout = inputs.layers[0], inputs.layout
    k, _, decode_k, _ = inputs.contiguous(0)
    assert k.data_ptr() == layer.k.data_ptr() == layer.k_tokens.data_ptr()
    assert inputs.page_table.shape == (4, 1)
    assert torch.equal(layer.k[inputs.page_table[0, 0], : batch.prefill_kv], k)
    for i in range(batch.decode_n):
        assert torch.equal(layer.k[inputs.page_table[1 + i, 0], : batch.decode_kv], decode_k[i])
    assert layout.used_tokens == batch.prefill_kv + 3 * batch.decode_kv
    assert layer.k[-1, -1].data_ptr() <= layer.k_tokens[-1].data_ptr()


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


def test_the_oracle_compares_a_side_with_its_own_tokens(inputs):
    prefill, decode = torch_sdpa.math(inputs)(0)
    for part, requests in ((prefill, SMALL.prefill), (decode, SMALL.decodes)):
        assert Oracle.passes(error_of(inputs, Alone(lambda _, part=part: part, requests)))
    assert not Oracle.passes(error_of(inputs, Alone(lambda _: decode.flip(0), SMALL.decodes)))
    with pytest.raises(LeftOut, match="it returns 24 tokens; 3 were to be computed"):
        error_of(inputs, Alone(lambda _: prefill, SMALL.decodes))
    with pytest.raises(LeftOut, match="it returns 3 tokens; 27 were to be computed"):
        error_of(inputs, lambda _: (decode,))


def test_the_last_of_a_sample_is_always_taken():
    assert spread(100, 4) == [24, 49, 74, 99]
    assert spread(2, 4) == [0, 1]


def test_flops_count_what_the_mask_leaves():
    # The last two of three tokens see two and three keys; one decode sees five.
    batch = Batch(1, 1, 2, 3, 1, 5, head_dim=8)
    assert batch.flops == 4 * 8 * (2 + 3 + 5)
    assert batch.part(batch.prefill).flops == 4 * 8 * (2 + 3) and batch.part(batch.decodes).flops == 4 * 8 * 5
    assert batch.part(batch.prefill).kv_bytes == 4 * 3 * 8 and batch.part(batch.decodes).kv_bytes == 4 * 5 * 8
    assert batch.part(batch.requests) == batch


def test_quantiles():
    assert report.quantiles([5, 1, 2, 4, 3, 6, 7, 8, 9, 10, 11]) == (6, 2, 10)


def batch_file(folder):
    path = folder / "batches.csv"
    path.write_text("# comment\nq_heads;kv_heads;prefill_q;prefill_kv;decode_n;decode_kv\n8;2;24;100;3;50\n")
    return path


def test_a_batch_file_without_a_column_is_refused(tmp_path):
    assert read_batches(batch_file(tmp_path)) == [SMALL]
    assert read_batches(batch_file(tmp_path), page_size=0) == [replace(SMALL, page_size=0)]
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


@pytest.mark.parametrize("way", ["fused", "serial", "prefill", "decode"])
def test_podattn_computes_what_the_oracle_says(any_inputs, way):
    pytest.importorskip("podattn")
    assert Oracle.passes(error_of(any_inputs, ON_CPU[way](any_inputs)))


@pytest.mark.parametrize("way", ["serial", "mixed", "mixed_unsplit", "mixed_split", "prefill", "decode"])
def test_flash_attention_3_gets_the_arguments_that_it_needs(any_inputs, way, vllm):
    contender = getattr(flash_attention_3, way)
    assert CONTENDERS[f"fa3_{way}"] is contender
    assert Oracle.passes(error_of(any_inputs, contender(any_inputs)))


def test_streams_are_a_gpu_s(inputs, vllm):
    with pytest.raises(LeftOut, match="a CPU has no streams"):
        flash_attention_3.streams(inputs)


def test_who_reads_pages_has_no_part_in_a_contiguous_run(monkeypatch):
    monkeypatch.setattr(flashinfer_calls, "_library", lambda: None)
    with pytest.raises(Missing, match="reads pages, and the cache is contiguous"):
        flashinfer_calls.batch_attention(Inputs(replace(SMALL, page_size=0), "cpu", torch.bfloat16))


def test_the_door_measures_a_contiguous_cache_and_every_second_batch(tmp_path, monkeypatch, vllm):
    ways = ("fused", "fa3_mixed", "fa3_decode")
    fakes = {"fused": torch_sdpa.math, "fa3_mixed": flash_attention_3.mixed, "fa3_decode": flash_attention_3.decode}
    monkeypatch.setattr(peers, "ON_CPU", fakes)
    path, out = batch_file(tmp_path), tmp_path / "libraries.csv"
    path.write_text(path.read_text() + "8;2;8;64;2;32\n8;2;16;80;2;40\n")
    arguments = ["--device", "cpu", "--page-size", "0", "--every", "2", "--repeats", "2", "--out", str(out)]
    peers.main([str(path), *arguments])
    rows = rows_of(out)
    assert [(row["case"], row["variant"]) for row in rows] == [
        (case, way) for case in ("24@100+3@50", "16@80+2@40") for way in ways
    ]
    assert {row["page_size"] for row in rows} == {"0"}
    assert all(float(row["relative_l2"]) < 5e-3 for row in rows)
    assert "left out" not in out.read_text()


@pytest.mark.parametrize("arguments", [["--page-size", "-1"], ["--every", "0"]])
def test_numbers_out_of_range_are_refused(tmp_path, capsys, arguments):
    with pytest.raises(SystemExit):
        peers.main([str(batch_file(tmp_path)), *arguments])
    assert f"{arguments[1]} is less than" in capsys.readouterr().err
