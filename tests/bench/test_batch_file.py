# SPDX-License-Identifier: Apache-2.0
"""Batch files: what is understood, what is said of wrong ones, and that those of the repository are what is written."""

from pathlib import Path

import make_batches
import pytest
from libraries.batch_file import (
    BatchFileError,
    Requests,
    format_batch,
    format_requests,
    parse_line,
    parse_requests,
    read_batches,
)

FOLDER = Path(__file__).parents[2] / "bench" / "batches"


def test_a_line_is_what_it_says():
    batch = parse_line("a b;8;2;64;128;3x1@50 24@100 1x2@7")
    assert (batch.q_heads, batch.kv_heads, batch.head_dim, batch.window) == (8, 2, 64, 128)
    assert batch.requests == (Requests(3, 1, 50), Requests(1, 24, 100), Requests(1, 2, 7))
    assert format_batch(batch) == "a b;8;2;64;128;3x1@50 24@100 2@7"
    assert parse_requests(format_requests(batch.requests)) == batch.requests


def test_prefill_comes_first_and_short_requests_are_decodes():
    batch = parse_line("a;8;2;64;0;2x1@50 17@100 16@40")
    assert batch.q_lens == [17, 1, 1, 16] and batch.kv_lens == [100, 50, 50, 40]
    assert list(batch.prefill) == [0] and list(batch.decodes) == [1, 2, 3] and batch.has_both_sides
    assert batch.part(batch.prefill).q_lens == [17] and batch.part(batch.decodes).q_lens == [1, 1, 16]
    assert batch.part(batch.all) is batch


@pytest.mark.parametrize("window", [0, 1, 3, 4, 100])
def test_flops_count_what_the_masks_leave(window):
    batch = parse_line(f"a;4;2;8;{window};3@5 2x1@9 4@4")
    pairs = 0
    for q_len, kv_len in zip(batch.q_lens, batch.kv_lens):
        pairs += sum(min(kv_len - q_len + i + 1, window or kv_len) for i in range(q_len))
    assert batch.flops == 4 * 4 * 8 * pairs


def test_a_window_leaves_keys_unread():
    assert parse_line("a;1;1;8;0;1@100 2@50").seen_elements == 2 * 8 * 150
    assert parse_line("a;1;1;8;10;1@100 2@50 3@4").seen_elements == 2 * 8 * (10 + 11 + 4)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a;8;2;64;0", "5 fields; 6 are needed"),
        (";8;2;64;0;1@1", "name:"),
        ("a/b;8;2;64;0;1@1", "name:"),
        ("a: b;8;2;64;0;1@1", "name:"),
        ("a;8;0;64;0;1@1", 'kv_heads: "0" is not a whole number of at least 1'),
        ("a;8;3;64;0;1@1", "q_heads: 8 is not a multiple of kv_heads 3"),
        ("a;8;2;x;0;1@1", 'head_dim: "x"'),
        ("a;8;2;64;-1;1@1", 'window: "-1"'),
        ("a;8;2;64;0;", "requests: there are none"),
        ("a;8;2;64;0;1@1 2@1", 'requests: "2@1": COUNT and Q'),
        ("a;8;2;64;0;0x1@1", 'requests: "0x1@1"'),
        ("a;8;2;64;0;1x1", 'requests: "1x1" is not'),
    ],
)
def test_a_wrong_line_is_refused_by_its_field(tmp_path, line, said):
    path = tmp_path / "bad.csv"
    path.write_text(f"# comment\n{line}\n")
    with pytest.raises(BatchFileError) as error:
        read_batches(path)
    assert str(error.value).startswith(f"{path}:2: ") and said in str(error.value)


def test_a_file_without_batches_or_with_a_name_twice_is_refused(tmp_path):
    path = tmp_path / "bad.csv"
    with pytest.raises(BatchFileError, match="No such file"):
        read_batches(path)
    path.write_text("name;q_heads;kv_heads;head_dim;window;requests\n")
    with pytest.raises(BatchFileError, match="no batches"):
        read_batches(path)
    path.write_text("a;8;2;64;0;1@1\na;8;2;64;0;1@2\n")
    with pytest.raises(BatchFileError, match=r"bad\.csv:2: name: a is there twice"):
        read_batches(path)


@pytest.mark.parametrize("name", make_batches.FILES)
def test_the_repository_has_what_is_written(name):
    path = FOLDER / f"{name}.csv"
    assert path.read_text(encoding="utf-8") == make_batches.text_of(name), "run bench/make_batches.py"
    batches = read_batches(path)
    assert [format_batch(batch) for batch in batches] == [
        format_batch(batch) for batch in make_batches.FILES[name][1]()
    ]


def test_there_is_no_other_file():
    assert {path.stem for path in FOLDER.glob("*.csv")} == set(make_batches.FILES)


def test_steps_are_those_of_a_scheduler():
    steps = make_batches.steps("chat", 256)
    most = 0
    for _, step in zip(range(400), steps):
        tokens = sum(request.q for request in step)
        assert 0 < tokens <= 256 and all(1 <= request.q <= request.kv for request in step)
        # Only the last prompt of a step may be cut short, so a step is full while requests wait.
        assert tokens == 256 or len(step) >= make_batches.MOST_RUNNING
        most = max(most, sum(request.q > 1 for request in step))
    assert most >= 2
