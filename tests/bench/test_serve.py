# SPDX-License-Identifier: Apache-2.0
"""The engine's bench on an engine whose times are known."""

from __future__ import annotations

import json
import math
import random

import pytest
import serve
from engine import arrival, capacity, frontier, latency, load, shapes, table
from engine.drive import Run, Served, drive
from engine.load import Request
from engine.pretended_engine import PretendedClock, PretendedEngine

# ---- loads ----


@pytest.mark.parametrize(("name", "prompt", "answer"), [("arxiv", 10_000, 470), ("chat", 1_150, 210)])
def test_synthetic_loads_have_their_means(name, prompt, answer):
    made = load.make_load(f"{name}:4000", 40_000, seed=3)
    assert len(made.requests) == 4000 and made.name == name
    assert sum(one.prompt_tokens for one in made.requests) / 4000 == pytest.approx(prompt, rel=0.1)
    assert sum(one.output_tokens for one in made.requests) / 4000 == pytest.approx(answer, rel=0.1)
    assert load.make_load(f"{name}:4000", 40_000, seed=3) == made
    assert load.make_load(f"{name}:4000", 40_000, seed=4) != made


def test_uniform_load():
    made = load.make_load("uniform:500:10-20:3-4", 1000, seed=1)
    assert {one.prompt_tokens for one in made.requests} == set(range(10, 21))
    assert {one.output_tokens for one in made.requests} == {3, 4}


def test_traces(tmp_path):
    (tmp_path / "a.csv").write_text("num_prefill_tokens,num_decode_tokens\n100.0,7.0\n900.0,200.0\n5.0,6.0\n")
    (tmp_path / "b.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\nx,374,44\ny,0,5\nz,12,3\n")
    (tmp_path / "c.jsonl").write_text('{"timestamp": 0, "input_length": 68, "output_length": 50}\n')
    found = load.make_load(f"trace={tmp_path}/a.csv:2", 1000, 1)
    assert found == load.Load("a", [Request(100, 7), Request(5, 6)], left_out=1)
    assert load.make_load(f"trace={tmp_path}/b.csv:2", 1000, 1).requests == [Request(374, 44), Request(12, 3)]
    assert load.make_load(f"trace={tmp_path}/c.jsonl:1", 1000, 1).requests == [Request(68, 50)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arxiv", "load 'arxiv' is none of"),
        ("arxiv:x", "load 'arxiv:x': invalid literal"),
        ("arxiv:0", "load 'arxiv:0': 0 requests"),
        ("uniform:5:20-10:1-2", "'20-10' is no range"),
        ("uniform:5:20:1-2", "'20' is no range"),
        ("uniform:5:2000-3000:1-2", "load 5:2000-3000:1-2: 0 of 5 requests have at most 1000 tokens"),
        ("trace=/nowhere/t.csv:5", "/nowhere/t.csv: No such file"),
    ],
)
def test_wrong_loads(text, message):
    with pytest.raises(load.LoadError, match=message):
        load.make_load(text, 1000, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("prompt,answer\n1,2\n", "request 1 has prompt, answer, and none of"),
        ("input_length,output_length\n7,3\n8,many\n", "request 2 has input_length '8' and output_length 'many'"),
        ("input_length,output_length\n7,3\n", "load t: 1 of 2 requests"),
    ],
)
def test_wrong_traces(tmp_path, content, message):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(load.LoadError, match=message):
        load.make_load(f"trace={tmp_path}/t.csv:2", 1000, 1)


# ---- arrivals ----


def test_poisson_arrivals():
    requests = [Request(1, 1)] * 4000
    times = [one.at_s for one in arrival.poisson(requests, 20.0, seed=2)]
    assert times == sorted(times) and times[-1] == pytest.approx(200, rel=0.1)
    gaps = [b - a for a, b in zip([0.0, *times], times)]
    mean = sum(gaps) / 4000
    assert sum((gap - mean) ** 2 for gap in gaps) / 4000 == pytest.approx(mean**2, rel=0.15)
    twice = [one.at_s for one in arrival.poisson(requests, 40.0, seed=2)]
    assert twice == pytest.approx([at / 2 for at in times])
    with pytest.raises(ValueError, match=r"rate_per_s = 0.0"):
        arrival.poisson(requests, 0.0, seed=2)


# ---- numbers ----


def test_percentiles_against_their_definition():
    rng = random.Random(1)
    for _ in range(200):
        values = [rng.choice([1.0, 2.0, 3.5, 9.0]) for _ in range(rng.randint(1, 30))]
        percent = rng.choice([1, 50, 90, 99, 100])
        found = latency.percentile(values, percent)
        assert found in values
        assert sum(value <= found for value in values) >= percent / 100 * len(values) - 1e-9
        assert sum(value < found for value in values) < percent / 100 * len(values)
    assert math.isnan(latency.percentile([], 50))


def test_summary_of_a_run():
    served = [
        Served(Request(100, 3, at_s=1.0), [2.0, 2.5, 4.0]),
        Served(Request(50, 2, at_s=3.0), [3.25, 3.25]),
        Served(Request(60, 9, at_s=3.5), []),
    ]
    row = latency.summary(Run(served, 5.0))
    assert row == {
        "requests": 3, "unfinished": 1, "seconds": 5.0, "prompt_tokens": 150, "output_tokens": 5,
        "requests_per_s": 0.4, "tokens_per_s": 31.0, "output_tokens_per_s": 1.0, "ttft_p50_s": 0.25, "ttft_p99_s": 1.0,
        "between_p50_ms": 500.0, "between_p99_ms": 1500.0,
    }  # fmt: skip
    empty = latency.summary(Run([Served(Request(5, 1), [])], 1.0))
    assert empty["ttft_p50_s"] is None and empty["between_p99_ms"] is None


# ---- an engine of known times ----


def pretended(requests, budget=100, limit_s=math.inf, max_requests=128, started_at=0.0):
    clock = PretendedClock()
    clock.seconds = started_at
    engine = PretendedEngine(clock, step_s=0.01, token_s=0.001, max_requests=max_requests)
    engine.set_budget(budget)
    return engine, drive(engine, requests, clock, "r", limit_s)


def test_one_request_takes_its_steps():
    """250 tokens at 100 a step: 0.11 + 0.11 + 0.06 s, then 0.011 s for each token but the first."""
    _, run = pretended([Request(250, 4)])
    assert run.served[0].token_times == pytest.approx([0.28, 0.291, 0.302, 0.313])
    assert run.seconds == pytest.approx(0.313)


def test_a_later_request_is_mixed_with_decodes():
    engine, run = pretended([Request(100, 3), Request(150, 1, at_s=0.05)])
    assert engine.steps == [(0, 100), (1, 99), (1, 51)]
    assert run.served[0].token_times == pytest.approx([0.11, 0.22, 0.282])
    assert run.served[1].token_times == pytest.approx([0.282])


def test_waiting_for_a_request_that_comes_late():
    """No step before it comes, and an end: also where the clock's digits do not suffice for what is left to wait."""
    for started_at in (0.0, 1e8):
        engine, run = pretended([Request(10, 1, at_s=0.1234567)], started_at=started_at)
        assert engine.steps == [(0, 10)]
        assert run.served[0].token_times == pytest.approx([0.1234567 + 0.02], abs=1e-5)


def test_a_run_that_takes_too_long():
    requests = [Request(100, 1), Request(100, 500), Request(10, 1, at_s=99.0)]
    engine, run = pretended(requests, limit_s=1.0)
    assert [one.is_finished for one in run.served] == [True, False, False]
    assert not engine.has_work() and run.seconds < 1.2
    assert latency.summary(run)["unfinished"] == 2


def test_random_loads_lose_no_token():
    rng = random.Random(5)
    for _ in range(50):
        requests = [
            Request(rng.randint(1, 300), rng.randint(1, 20), rng.random() * 3) for _ in range(rng.randint(1, 20))
        ]
        engine, run = pretended(requests, budget=rng.choice([7, 64, 400]), max_requests=rng.choice([1, 4, 128]))
        served = sorted((one.request for one in run.served), key=lambda one: one.at_s)
        assert served == sorted(requests, key=lambda one: one.at_s)
        assert all(len(one.token_times) == one.request.output_tokens for one in run.served)
        assert all(one.token_times == sorted(one.token_times) for one in run.served)
        assert all(one.token_times[0] > one.request.at_s for one in run.served)
        assert sum(prompts for _, prompts in engine.steps) == sum(one.prompt_tokens for one in requests)


# ---- capacity ----


@pytest.mark.parametrize("border", [0.013, 3.7, 7.0, 7.99])
@pytest.mark.parametrize("start", [0.5, 4.0])
def test_the_border_is_found(border, start):
    tried = []

    def is_met(rate):
        tried.append(rate)
        return rate <= border

    found = capacity.search(is_met, start, most=8.0, most_trials=30)
    assert found.met <= border < found.failed <= 1.05 * found.met
    assert found.trials == len(tried) == len(set(tried))


def test_the_ends_of_a_search():
    assert capacity.search(lambda rate: True, 3.0, most=10.0) == (10.0, math.inf, 3)
    assert capacity.search(lambda rate: False, 4.0, most=10.0, most_trials=5) == (0.0, 0.25, 5)
    for start in (0.0, 11.0):
        with pytest.raises(ValueError, match="is not in"):
            capacity.search(lambda rate: True, start, most=10.0)


def test_limits():
    limits = capacity.Limits(between_p99_ms=50.0, ttft_p50_s=2.0)
    row = {"unfinished": 0, "ttft_p50_s": 1.9, "between_p99_ms": 50.0}
    assert limits.are_met(row) and limits.are_met({**row, "between_p99_ms": None})
    for wrong in ({"unfinished": 1}, {"ttft_p50_s": 2.1}, {"ttft_p50_s": None}, {"between_p99_ms": 50.1}):
        assert not limits.are_met({**row, **wrong})


# ---- the command ----


def test_the_command(tmp_path, capfd):
    """Both backends, in processes of their own, at once, at a share of the first one's throughput, and by search."""
    out = tmp_path / "engine.jsonl"
    argv = ["--pretend", "--out", str(out), "--loads", "uniform:40:200-900:5-60", "--budgets", "256,1024"]
    argv += ["--arrivals", "0.8", "--capacity-ms", "25", "--capacity-ttft-s", "0.15"]
    assert serve.main(argv) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["backend"] for row in rows if row["event"] == "engine"] == ["FLASH_ATTN", "CUSTOM"]
    loads = [row for row in rows if row["event"] == "load"]
    assert [(row["budget"], row["arrivals"]) for row in loads] == [(256, "all"), (256, 0.8), (1024, "all"),
                                                                 (1024, 0.8)] * 2  # fmt: skip
    first = {(row["budget"], row["arrivals"]): row for row in loads[:4]}
    for row in loads:
        assert row["unfinished"] == 0 and row["hybrid_steps"] > 0
        if row["arrivals"] == 0.8:
            assert row["rate_per_s"] == pytest.approx(0.8 * first[row["budget"], "all"]["requests_per_s"])
    # A step of 256 tokens takes 5 ms and 20 us a token with the one, 16 us with the other.
    assert first[256, "all"]["between_p99_ms"] == pytest.approx(5 + 256 * 0.02, rel=1e-3)
    assert loads[4]["between_p99_ms"] == pytest.approx(5 + 256 * 0.016, rel=1e-3)
    found = [row for row in rows if row["event"] == "capacity"]
    for row in found:
        trials = [one for one in rows if one["event"] == "trial" and one["backend"] == row["backend"]
                  and one["budget"] == row["budget"]]  # fmt: skip
        assert len(trials) == row["trials"]
        assert row["rate_per_s"] == max((one["rate_per_s"] for one in trials if one["met"]), default=0)
    rates = {(row["backend"], row["budget"]): row["rate_per_s"] for row in found}
    assert rates["CUSTOM", 256] > rates["FLASH_ATTN", 256] > 0
    printed = capfd.readouterr().out.splitlines()
    assert printed[-4].startswith("40:200-900:5-60, 256 tokens a step, arrivals all: FLASH_ATTN ")
    assert serve.main(["--figure", str(out)]) == 0
    assert (tmp_path / "engine.svg").exists() and (tmp_path / "engine.png").exists()


def test_a_backend_that_fails_is_named(tmp_path, capfd):
    """Here: no vLLM is installed."""
    folder = shapes.write_shape("llama-8b", tmp_path / "model")
    out = ["--out", str(tmp_path / "o.jsonl"), "--loads", "chat:2"]
    assert serve.main([*out, "--backends", "X", "--model", str(folder)]) == 1
    assert "serve: X ended with 1 in round 1" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "--out is needed, or --figure"),
        (["--out", "o", "--loads", "arxiv"], "load 'arxiv' is none of"),
        (["--out", "o", "--budgets", "512,x"], "invalid literal"),
        (["--out", "o", "--budgets", "0"], "a budget of 0 tokens"),
        (["--out", "o", "--arrivals", "-1"], "shares of the reference's throughput are positive"),
        (["--out", "o", "--model", "none"], "model 'none' is none of llama-8b"),
    ],
)
def test_wrong_arguments(argv, message, capsys):
    with pytest.raises(SystemExit):
        serve.parse(argv)
    assert message in capsys.readouterr().err


# ---- the figure ----


def row_of(backend, budget, p99, speed, load_name="arxiv", arrivals="all"):
    return {"event": "load", "backend": backend, "budget": budget, "load": load_name, "arrivals": arrivals,
            "between_p99_ms": p99, "tokens_per_s": speed}  # fmt: skip


def test_the_table():
    row = {"event": "load", "load": "some_trace", "budget": 1024, "arrivals": "all"}
    numbers = {"tokens_per_s": 1000.0, "between_p99_ms": 30.0, "ttft_p50_s": 2.0, "joules_per_output_token": None}
    slow = {**row, **numbers, "backend": "FLASH_ATTN"}
    fast = {**row, **numbers, "backend": "CUSTOM", "tokens_per_s": 1500.0, "between_p99_ms": 20.0}
    alone = {**fast, "budget": 512}
    assert table.markdown([slow, fast, alone]).splitlines()[2:] == [
        "| some trace | 1,024 | 1,000 / 1,500 (**1.50**) | 30.0 / 20.0 (**1.50**) | 2.0 / 2.0 (**1.00**) |  |"
    ]


def test_titles_of_panels():
    assert frontier.panel_title("32:8000-16000:128-256") == "32 prompts of 8,000 to 16,000,\nanswers of 128 to 256"
    assert frontier.panel_title("some_trace") == "some trace"


def test_the_frontier():
    rows = [row_of("FLASH_ATTN", 512, 40.0, 10_000.0), row_of("FLASH_ATTN", 512, 44.0, 12_000.0),
            row_of("FLASH_ATTN", 512, 42.0, 11_000.0), row_of("CUSTOM", 512, 30.0, 13_200.0),
            row_of("CUSTOM", 2048, 99.0, 15_000.0), row_of("FLASH_ATTN", 2048, 120.0, 14_000.0),
            row_of("CUSTOM", 512, 1.0, 1.0, arrivals=0.8)]  # fmt: skip
    lines = frontier.points(rows)
    assert lines == {"arxiv": {"FlashAttention": [(512, 42.0, 11_000.0), (2048, 120.0, 14_000.0)],
                               "podattn": [(512, 30.0, 13_200.0), (2048, 99.0, 15_000.0)]}}  # fmt: skip
    assert frontier.title(lines) == "With podattn 1.07 to 1.20 times FlashAttention's throughput at equal budgets"
    figure = frontier.draw(rows)
    assert [line.get_label() for line in figure.axes[0].lines] == ["FlashAttention", "podattn"]
    with pytest.raises(ValueError, match="no load whose requests came all at once"):
        frontier.draw(rows[-1:])


def test_shapes_divide():
    for name, shape in shapes.SHAPES.items():
        assert shape["num_attention_heads"] % shape["num_key_value_heads"] == 0, name
        assert len(shape.get("layer_types", range(shape["num_hidden_layers"]))) == shape["num_hidden_layers"]
