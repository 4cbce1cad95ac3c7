# SPDX-License-Identifier: Apache-2.0
"""What is said of two engines' answers."""

from engine.answers import compare


def test_answers_are_compared_up_to_the_first_token_that_differs() -> None:
    own = [[(5, -1.0), (6, -2.0), (7, -3.0)], [(1, -0.5), (2, -0.5), (3, -0.5)], [(9, -1.0), (9, -1.0), (9, -1.0)]]
    other = [[(5, -1.25), (6, -2.0), (8, -9.0)], [(1, -0.5), (2, -0.5), (3, -1.0)], [(8, -7.0), (9, -1.0), (9, -1.0)]]
    assert compare(own, other) == {
        "first_tokens_same": 2,
        "mean_tokens_before_difference": 1.67,
        "answers_same": 1,
        "most_logprob_distance": 0.5,
        "mean_logprob_distance": round((0.25 + 0.5) / 6, 6),
    }


def test_equal_answers_are_no_distance_apart() -> None:
    answers = [[(1, -0.25)]]
    assert compare(answers, answers)["most_logprob_distance"] == 0.0
