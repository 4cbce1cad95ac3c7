# SPDX-License-Identifier: Apache-2.0
"""bench/compare.py on the CPU: same inputs for all, wrong outputs are caught, whoever is missing is named."""

import csv
import os
import shutil
import sys
from pathlib import Path
from time import sleep

import pytest

torch = pytest.importorskip("torch")

import compare  # noqa: E402
import fake_cuda  # noqa: E402
import fake_vllm  # noqa: E402
from libraries import (  # noqa: E402
    energy,
    flash_attention_3,
    flashinfer_calls,
    inputs,
    podattn_calls,
    result_file,
    timing,
    torch_sdpa,
)
from libraries.batch_file import parse_line  # noqa: E402
from libraries.inputs import F8, Inputs, LeftOut, Memory, Missing  # noqa: E402
from libraries.oracle import Oracle, spread  # noqa: E402
from libraries.sides import Alone, requests_of  # noqa: E402
from libraries.table import WAYS, Way, chosen  # noqa: E402

LINES = {
    "small": "small;8;2;128;0;24@100 3x1@50",
    "long decodes": "long;8;2;128;0;24@60 3x1@90",
    "ragged": "ragged;8;2;64;0;1@31 20@20 1@77 4@90 33@64 1@1",
    "window": "window;8;2;128;20;24@100 3x1@50 2@40 18@18",
    "decodes": "decodes;4;4;64;0;3x1@40 2@17",
    "prompts": "prompts;4;1;128;0;40@40 2x18@33",
}


def inputs_of(line, page_size=16, dtype=torch.bfloat16, kv_dtype=None):
    batch = parse_line(line, "file", page_size)
    return Inputs(batch, Memory([batch], "cpu", dtype, kv_dtype=kv_dtype))


@pytest.fixture()
def small():
    return inputs_of(LINES["small"])


@pytest.fixture(params=[(line, page) for line in LINES for page in (16, 0)], ids=lambda p: f"{p[0]}, page {p[1]}")
def any_inputs(request):
    return inputs_of(LINES[request.param[0]], request.param[1])


@pytest.fixture()
def vllm(monkeypatch):
    for name, module in fake_vllm.modules().items():
        monkeypatch.setitem(sys.modules, name, module)


def error_of(inputs, call):
    return Oracle(inputs).error(call(0), inputs.tokens_of(requests_of(call, inputs.batch)))


def passes(inputs, call):
    return Oracle(inputs).passes(error_of(inputs, call))


# ---- inputs ----


def test_a_request_s_cache_is_what_its_pages_hold(any_inputs):
    layer, table, layout = any_inputs.layers[0], any_inputs.layout.page_table, any_inputs.layout
    assert table.shape == (len(any_inputs.batch.all), int(layout.pages_of.max()))
    for request, kv_len in enumerate(any_inputs.batch.kv_lens):
        k, v = any_inputs.cache_of(request)
        assert k.shape == (kv_len, any_inputs.batch.kv_heads, any_inputs.batch.head_dim)
        for token in {0, kv_len // 2, kv_len - 1}:
            page, offset = table[request, token // layout.page_size], token % layout.page_size
            assert torch.equal(k[token], layer.k[page, offset]) and torch.equal(v[token], layer.v[page, offset])


def test_no_page_belongs_to_two_requests(small):
    assert sorted(small.layout.pages.tolist()) == list(range(small.layout.num_pages))


def test_a_contiguous_cache_has_no_gaps_and_its_pages_lie_inside(any_inputs):
    layout, layer = any_inputs.layout, any_inputs.layers[0]
    if layout.is_contiguous:
        lengths = any_inputs.batch.kv_lens
        starts = [sum(lengths[:i]) for i in range(len(lengths))]
        assert (layout.pages * layout.stride).tolist() == starts
        assert layer.k[-1, -1].data_ptr() <= layer.k_tokens[-1].data_ptr()


def test_keys_values_and_layers_share_no_memory(monkeypatch):
    monkeypatch.setattr(inputs, "ROTATED_BYTES", 4 * 250 * 2 * 64 * 2.5)
    batch = parse_line("a;8;2;64;0;24@100 3x1@50")
    memory = Memory([batch], "cpu", torch.bfloat16)
    memory.max_layers = 12
    assert memory.layers_wanted(batch) == 3
    memory.cache = memory._random(6 * inputs.cache_elements(batch), memory.kv_dtype)
    found = Inputs(batch, memory)
    begins = [x.data_ptr() for layer in found.layers for x in (layer.k_tokens, layer.v_tokens)]
    size = 2 * inputs.cache_elements(batch)
    assert len(begins) == 6 and {b - a for a, b in zip(begins, begins[1:])} == {size}


def test_a_batch_that_memory_does_not_hold_is_left_out_and_the_others_are_not():
    batches = [parse_line("a;8;2;64;0;24@100"), parse_line("b;8;2;64;0;1@100000")]
    memory = Memory(batches, "cpu", torch.bfloat16, most_bytes=10**6)
    assert Inputs(batches[0], memory).layers
    with pytest.raises(LeftOut, match=r"its keys and values take 0\.1 GB"):
        Inputs(batches[1], memory)


# ---- the oracle ----


def test_the_oracle_accepts_sdpa(any_inputs):
    assert passes(any_inputs, torch_sdpa.best(any_inputs))


def test_the_oracle_refuses_a_wrong_mask(small):
    _, decode = torch_sdpa.best(small)(0)
    k, v = (x.repeat_interleave(4, 1).transpose(0, 1)[None] for x in small.cache_of(0))
    q = small.layers[0].q[:24].transpose(0, 1)[None]
    top_left = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)[0].transpose(0, 1)
    assert not passes(small, lambda _: (top_left, decode))


def test_the_oracle_refuses_a_window_that_is_one_off():
    inside = inputs_of(LINES["window"])
    other = inputs_of(LINES["window"].replace(";20;", ";21;"))
    assert not passes(inside, torch_sdpa.best(other))


def test_the_oracle_sees_one_wrong_decode(small):
    prefill, decode = torch_sdpa.best(small)(0)
    wrong = decode.clone()
    wrong[1] = decode[2]
    assert not passes(small, lambda _: (prefill, wrong))


def test_the_oracle_compares_a_side_with_its_own_tokens(small):
    prefill, decode = torch_sdpa.best(small)(0)
    for part, requests in ((prefill, small.batch.prefill), (decode, small.batch.decodes)):
        assert passes(small, Alone(lambda _, part=part: part, requests))
    assert not passes(small, Alone(lambda _: decode.flip(0), small.batch.decodes))
    with pytest.raises(LeftOut, match="it returns 24 tokens; 3 were to be computed"):
        error_of(small, Alone(lambda _: prefill, small.batch.decodes))
    with pytest.raises(LeftOut, match="it returns 3 tokens; 27 were to be computed"):
        error_of(small, lambda _: (decode,))


def test_the_last_of_a_sample_is_always_taken():
    assert spread(100, 4) == [24, 49, 74, 99]
    assert spread(2, 4) == [0, 1]
    assert spread(0, 4) == []


# ---- the libraries ----


@pytest.mark.parametrize("way", ["fused", "serial", "prefill", "decode"])
def test_podattn_computes_what_the_oracle_says(any_inputs, way):
    pytest.importorskip("podattn")
    if any_inputs.batch.has_both_sides or not WAYS[way].needs_both_sides:
        assert passes(any_inputs, WAYS[way].prepare(any_inputs))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_other_types_have_bounds_of_their_own(dtype):
    pytest.importorskip("podattn")
    found = inputs_of(LINES["window"], dtype=dtype)
    assert passes(found, WAYS["fused"].prepare(found)) and passes(found, torch_sdpa.best(found))
    assert not Oracle(found).passes((2e-3, 2e-3))


@pytest.mark.parametrize("page_size", [16, 0])
@pytest.mark.parametrize("way", chosen([], is_gpu=False, has_before=False, is_f8=True))
def test_caches_of_e4m3_have_scales(way, page_size):
    pytest.importorskip("podattn")
    found = inputs_of(LINES["window"], page_size, torch.float16, F8)
    assert passes(found, WAYS[way].prepare(found))
    assert found.layers[0].k.float().isfinite().all() and found.layers[0].k.float().std() > 32


@pytest.mark.parametrize("way", ["serial", "mixed", "mixed_unsplit", "mixed_split", "prefill", "decode"])
def test_flash_attention_3_gets_the_arguments_that_it_needs(any_inputs, way, vllm):
    known = WAYS[f"fa3_{way}"]
    assert known.prepare is getattr(flash_attention_3, way)
    if any_inputs.batch.has_both_sides or not known.needs_both_sides:
        assert passes(any_inputs, known.prepare(any_inputs))


def test_streams_are_a_gpu_s(small, vllm):
    with pytest.raises(LeftOut, match="a CPU has no streams"):
        flash_attention_3.streams(small)


def test_who_reads_pages_has_no_part_in_a_contiguous_run(monkeypatch):
    monkeypatch.setattr(flashinfer_calls, "_library", lambda: None)
    with pytest.raises(Missing, match="reads pages, and the cache is contiguous"):
        flashinfer_calls.batch_attention(inputs_of(LINES["small"], 0))


def test_flashinfer_says_what_it_cannot_do():
    with pytest.raises(LeftOut, match="its decodes have one token each"):
        flashinfer_calls.serial(inputs_of("a;8;2;64;0;24@100 2x4@50"))
    with pytest.raises(LeftOut, match="has no window"):
        flashinfer_calls.batch_pod(inputs_of(LINES["window"]))
    with pytest.raises(LeftOut, match="it takes one prompt"):
        flashinfer_calls.pod(inputs_of("a;8;2;64;0;2x24@100 1@50"))


def test_groups_stand_for_their_members():
    assert list(chosen(["fa3", "fused"], True, False)) == [
        "fused",
        "fa3_serial",
        "fa3_mixed",
        "fa3_mixed_unsplit",
        "fa3_mixed_split",
    ]
    assert "before" in chosen(["fused"], True, True) and "before" not in chosen([], True, False)
    assert set(chosen([], False, False)) == {"fused", "serial", "prefill", "decode", "sdpa"}
    with pytest.raises(ValueError, match="--only: no way fa9"):
        chosen(["fa9"], True, False)


def test_an_older_build_is_another_package(small, tmp_path):
    podattn = pytest.importorskip("podattn")
    from podattn import _library

    shutil.copytree(Path(podattn.__file__).parent, tmp_path / "podattn")
    library = tmp_path / "old.so"
    shutil.copy(_library._path(), library)
    environment = os.environ.get("PODATTN_LIBRARY")
    try:
        podattn_calls.load_before(tmp_path, library)
        old = sys.modules["podattn_before"]
        assert old.Plan is not podattn.Plan and old._library.lib._name == str(library)
        assert os.environ.get("PODATTN_LIBRARY") == environment
        assert passes(small, podattn_calls.before(small))
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "podattn_before"]:
            del sys.modules[name]
    with pytest.raises(ImportError, match="no such package"):
        podattn_calls.load_before(tmp_path / "nothing", None)


# ---- timing ----


@pytest.fixture()
def clock(monkeypatch):
    return fake_cuda.install(monkeypatch, torch)


def fake_calls(clock):
    def call(name, us):
        return lambda layer: clock.work(f"{name}{layer}", us)

    return {"a": call("a", 100), "b": call("b", 3000)}


def test_no_paused_call_finds_the_layer_of_the_one_before():
    """Its keys and values would still be in the L2 cache: only the first way of a turn would read memory."""
    seen = []
    calls = dict.fromkeys(("one", "two", "three"), seen.append)
    times = {name: timing.Times() for name in calls}
    timing.measure_paused(timing.Host(), calls, 4, 5, times)
    paused = seen[-15:]
    assert len(times["one"].paused) == 5 and all(a != b for a, b in zip(paused, paused[1:]))


def test_both_ways_of_timing_take_turns(clock):
    machine = timing.Gpu(torch.device("cpu"))
    times, graphs = timing.measure(machine, fake_calls(clock), 3, 4, 5, 12)
    assert times["a"].paused == pytest.approx([100] * 5) and times["b"].paused == pytest.approx([3000] * 5)
    assert times["a"].sustained == pytest.approx([100] * 4) and times["b"].sustained == pytest.approx([3000] * 4)
    assert times["a"].calls == 12 and graphs["a"].replays == 5 and graphs["b"].replays == 1
    turn_of_a, turn_of_b = ["a0", "a1", "a2"] * 4 * 5, ["b0", "b1", "b2"] * 4
    assert clock.log[-4 * 72 :] == (turn_of_a + turn_of_b) * 4


def test_graphs_of_long_calls_have_fewer_calls(clock):
    machine = timing.Gpu(torch.device("cpu"))
    slow = {"slow": lambda layer: clock.work("slow", 1000)}
    assert timing.measure(machine, slow, 1, 1, 1, 12)[0]["slow"].calls == 6
    slower = {"slower": lambda layer: clock.work("slower", 5000)}
    assert timing.measure(machine, slower, 1, 1, 1, 12)[0]["slower"].calls == 4


def test_who_cannot_be_captured_is_timed_with_pauses_only(clock):
    def call(layer):
        if clock.captured is not None:
            raise RuntimeError("not while capturing")
        clock.work("x", 50)

    machine = timing.Gpu(torch.device("cpu"))
    times, graphs = timing.measure(machine, {"x": call, **fake_calls(clock)}, 1, 2, 3, 12)
    assert times["x"].error == "no graph: RuntimeError: not while capturing" and "x" not in graphs
    assert len(times["x"].paused) == 3 and not times["x"].sustained and len(times["a"].sustained) == 2


def test_energy_is_what_the_counter_says_of_each_call(clock, monkeypatch):
    machine = timing.Gpu(torch.device("cpu"))
    times, graphs = timing.measure(machine, fake_calls(clock), 1, 1, 1, 12)
    monkeypatch.setattr(energy.time, "monotonic", lambda: clock.us / 1e6)

    class Counter:
        def millijoules(self):
            return int(0.7 * clock.us)  # 700 W

        def clock_mhz(self):
            return 1500

    energy.measure_energy(Counter(), graphs["a"], times["a"], 0.5)
    assert times["a"].energy_mj == pytest.approx(70, rel=1e-3) and times["a"].clock_mhz == 1500


def test_without_nvidia_s_library_there_is_no_counter(monkeypatch):
    def missing(name):
        raise OSError("libnvidia-ml.so.1: no such file")

    monkeypatch.setattr(energy.ctypes, "CDLL", missing)
    with pytest.raises(energy.NotThere, match="no such file"):
        energy.Counter(torch.device("cpu"))


# ---- the door ----


def batch_file(folder, *lines):
    path = folder / "batches.csv"
    path.write_text("# comment\nname;q_heads;kv_heads;head_dim;window;requests\n" + "".join(x + "\n" for x in lines))
    return path


def rows_of(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines, delimiter=";"))


def compared(tmp_path, lines, *options, ways=None, monkeypatch=None):
    out = tmp_path / "out.csv"
    if ways is not None:
        monkeypatch.setattr(compare, "chosen", lambda *_: dict(ways))
    compare.main([str(batch_file(tmp_path, *lines)), "--device", "cpu", "--out", str(out), *options])
    return out


def test_the_door_makes_caches_of_e4m3(tmp_path):
    pytest.importorskip("podattn")
    rows = rows_of(compared(tmp_path, [LINES["small"]], "--kv-dtype", "f8e4m3"))
    assert [row["way"] for row in rows] == ["fused", "serial", "prefill", "decode"]
    assert {(row["dtype"], row["kv_dtype"]) for row in rows} == {("bf16", "f8e4m3")}
    own = rows_of(compared(tmp_path, [LINES["small"]], "--only", "decode", "--overwrite"))
    assert [(row["dtype"], row["kv_dtype"]) for row in own] == [("bf16", "bf16")]


def test_the_door_writes_a_row_a_way(tmp_path):
    out = compared(tmp_path, [LINES["small"], LINES["window"]], "--only", "sdpa", "--repeats", "2")
    rows = rows_of(out)
    assert [(row["name"], row["way"], row["file"]) for row in rows] == [
        ("small", "sdpa", "batches"),
        ("window", "sdpa", "batches"),
    ]
    for row in rows:
        assert float(row["relative_l2"]) < 5e-3 and row["calls"] in ("4", "12")
        for timing_name in ("sustained", "paused"):
            least, median, most = (float(row[f"{timing_name}_{x}us"]) for x in ("least_", "", "most_"))
            assert 0 < least <= median <= most
    assert rows[1]["window"] == "20" and rows[1]["requests"] == "24@100 3x1@50 2@40 18@18"
    assert out.read_text().endswith("# done\n")


def test_the_door_measures_flash_attention_3_on_contiguous_caches(tmp_path, monkeypatch, vllm):
    ways = {name: WAYS[name] for name in ("sdpa", "fa3_mixed", "fa3_serial", "fa3_decode")}
    lines = [LINES["small"], LINES["decodes"], LINES["ragged"]]
    out = compared(tmp_path, lines, "--page-size", "0", "--every", "2", ways=ways, monkeypatch=monkeypatch)
    assert [(row["name"], row["way"]) for row in rows_of(out)] == [
        (name, way) for name in ("small", "ragged") for way in ("sdpa", "fa3_mixed", "fa3_serial", "fa3_decode")
    ]
    assert {row["page_size"] for row in rows_of(out)} == {"0"} and "left out" not in out.read_text()


def test_failures_are_named_and_the_missing_are_not_asked_again(tmp_path, monkeypatch, capsys):
    asked = []

    def missing(inputs):
        asked.append(inputs.batch.name)
        raise Missing("it is not installed")

    def unable(_):
        raise LeftOut("no such mask")

    def wrong(inputs):
        return lambda layer: (torch.zeros_like(inputs.layers[layer].q),)

    def broken(_):
        raise torch.cuda.OutOfMemoryError("out of luck")

    ways = {"missing": missing, "unable": unable, "wrong": wrong, "broken": broken, "fused": torch_sdpa.best}
    ways = {name: Way(prepare) for name, prepare in ways.items()}
    out = compared(tmp_path, [LINES["small"], LINES["ragged"]], ways=ways, monkeypatch=monkeypatch)
    text = out.read_text()
    assert asked == ["small"]
    assert "# left out: missing: it is not installed" in text
    assert "# left out: batches/small [unable]: no such mask" in text
    assert "its outputs are wrong: relative L2 1.0e+00" in text
    said = capsys.readouterr().err
    assert "missing is not there: it is not installed" in said and "broken: OutOfMemoryError" in said
    assert [row["way"] for row in rows_of(out)] == ["fused", "fused"]


def test_a_batch_that_fails_as_a_whole_stops_nothing(tmp_path, monkeypatch):
    whole = compare.Oracle

    def oracle(inputs):
        if inputs.batch.name == "small":
            raise RuntimeError("CUDA out of memory")
        return whole(inputs)

    monkeypatch.setattr(compare, "Oracle", oracle)
    out = compared(tmp_path, [LINES["small"], LINES["ragged"]], "--only", "sdpa")
    assert [row["name"] for row in rows_of(out)] == ["ragged"]
    assert "# left out: batches/small: CUDA out of memory" in out.read_text()


def test_an_ended_run_is_resumed(tmp_path):
    lines = [LINES["small"], LINES["ragged"], LINES["window"]]
    out = compared(tmp_path, lines, "--only", "sdpa")
    whole = out.read_text()
    begin = whole.index("batches;ragged")
    out.write_text(whole[: begin + 20])
    with pytest.raises(SystemExit, match="exists; give --resume"):
        compared(tmp_path, lines, "--only", "sdpa")
    compared(tmp_path, lines, "--only", "sdpa", "--resume")
    assert out.read_text()[:begin] == whole[:begin]
    assert [row["name"] for row in rows_of(out)] == ["small", "ragged", "window"]
    assert out.read_text().count("# done") == 1
    before = out.read_text()
    compared(tmp_path, lines, "--only", "sdpa", "--resume")
    assert out.read_text() == before
    out.write_text("case;variant\n")
    with pytest.raises(SystemExit, match="its heading is not file;name"):
        compared(tmp_path, lines, "--resume")


def test_rows_of_a_batch_that_was_not_finished_are_cut_off(tmp_path):
    out = compared(tmp_path, [LINES["small"], LINES["ragged"]], "--only", "sdpa")
    text = out.read_text().replace("# batch: batches/ragged\n", "# left out: batches/ragged [fa3_mixed]: it hangs\n")
    out.write_text(text)
    done, left_out = result_file.resume(out)
    assert done == {"batches/small"} and left_out == {("batches/ragged", "fa3_mixed")}
    assert [row["name"] for row in rows_of(out)] == ["small"]


def test_no_batch_is_begun_after_the_time_limit(tmp_path):
    out = compared(tmp_path, [LINES["small"], LINES["ragged"]], "--only", "sdpa", "--time-limit", "0")
    assert rows_of(out) == [] and "# time limit: 2 of 2 batches were not begun" in out.read_text()
    compared(tmp_path, [LINES["small"], LINES["ragged"]], "--only", "sdpa", "--resume")
    assert len(rows_of(out)) == 2 and "time limit" not in out.read_text().split("file;name")[1]


def test_a_process_that_the_gpu_fails_begins_anew_without_the_culprit(tmp_path, monkeypatch):
    class Anew(Exception):  # noqa: N818
        pass

    def execv(program, arguments):
        raise Anew(arguments)

    def illegal(inputs):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def dead(self):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    ways = {"illegal": Way(illegal), "sdpa": Way(torch_sdpa.best)}
    monkeypatch.setattr(os, "execv", execv)
    with monkeypatch.context() as broken, pytest.raises(Anew) as anew:
        broken.setattr(timing.Host, "synchronize", dead)
        options = ("--overwrite", "--time-limit", "100")
        compared(tmp_path, [LINES["small"]], *options, ways=ways, monkeypatch=broken)
    (arguments,) = anew.value.args
    assert "--overwrite" not in arguments and "--resume" in arguments
    assert arguments[-2] == "--time-limit" and 0 < float(arguments[-1]) <= 100
    monkeypatch.setattr(compare, "chosen", lambda *_: dict(ways))
    compare.main(arguments[2:])
    out = tmp_path / "out.csv"
    assert [row["way"] for row in rows_of(out)] == ["sdpa"]
    assert "# left out: batches/small [illegal]: CUDA error" in out.read_text()


def test_what_hangs_is_left_out(tmp_path, monkeypatch):
    restarted = []
    monkeypatch.setattr(compare, "begin_anew", lambda run, deadline: restarted.append(run.current))
    ways = {"slow": Way(lambda inputs: sleep(0.5) or torch_sdpa.best(inputs))}
    out = compared(tmp_path, [LINES["small"]], "--batch-limit", "0.1", ways=ways, monkeypatch=monkeypatch)
    assert [(batch.name, way) for batch, way in restarted] == [("small", "slow")]
    assert "# left out: batches/small [slow]: it takes longer than 0.1 s" in out.read_text()


def test_every_beginning_is_spread_over_all_files():
    batches = [parse_line(f"{i};8;2;64;0;1@1", file) for file in "ab" for i in range(8)]
    order = [batch.label for batch in compare.in_strides(batches)]
    assert sorted(order) == sorted(batch.label for batch in batches)
    assert order[:8] == ["a/0", "b/0", "a/4", "b/4", "a/2", "b/2", "a/6", "b/6"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--page-size", "-1"], "--page-size: -1 is less than 0"),
        (["--every", "0"], "--every: 0 is less than 1"),
        (["--resume"], "--resume needs --out"),
        (["--repeats", "0", "--paused-repeats", "0"], "nothing to measure"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path, capsys, arguments, said):
    with pytest.raises(SystemExit):
        compare.main([str(batch_file(tmp_path, LINES["small"])), *arguments])
    assert said in capsys.readouterr().err


def test_an_unknown_way_or_a_wrong_file_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="no way fa9"):
        compared(tmp_path, [LINES["small"]], "--only", "fa9")
    with pytest.raises(SystemExit, match=r"batches\.csv:3: kv_heads"):
        compared(tmp_path, ["a;8;x;64;0;1@1"])
