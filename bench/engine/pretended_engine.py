# SPDX-License-Identifier: Apache-2.0
"""An engine that computes nothing and takes a known time: for the tests, and to try a command without a GPU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .drive import Clock
from .load import Request


class PretendedClock(Clock):
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@dataclass
class _State:
    prompt_left: int
    output_left: int


class PretendedEngine:
    """Chunked prefill with a budget of tokens: decodes first, then prompts in the order in which they came.

    A step takes `step_s`, and `token_s` for each token in it.
    """

    def __init__(self, clock: PretendedClock, step_s: float, token_s: float, max_requests: int = 128) -> None:
        self.clock, self.step_s, self.token_s, self.max_requests = clock, step_s, token_s, max_requests
        self.budget = 512
        self.steps: list[tuple[int, int]] = []
        """Decode tokens and prompt tokens of each."""
        self._requests: dict[str, _State] = {}

    def set_budget(self, tokens: int) -> None:
        self.budget = tokens

    def add(self, key: str, request: Request) -> None:
        self._requests[key] = _State(request.prompt_tokens, request.output_tokens)

    def has_work(self) -> bool:
        return bool(self._requests)

    def abort(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._requests.pop(key, None)

    def step(self) -> Iterable[tuple[str, int]]:
        room, decodes, prompts, outputs = self.budget, 0, 0, []
        for key, state in list(self._requests.items())[: self.max_requests]:
            if state.prompt_left == 0 and room:
                room, decodes = room - 1, decodes + 1
                outputs.append(key)
        for key, state in list(self._requests.items())[: self.max_requests]:
            if state.prompt_left and room:
                chunk = min(room, state.prompt_left)
                room, prompts = room - chunk, prompts + chunk
                state.prompt_left -= chunk
                if state.prompt_left == 0:
                    outputs.append(key)
        self.steps.append((decodes, prompts))
        self.clock.sleep(self.step_s + self.token_s * (decodes + prompts))
        for key in outputs:
            self._requests[key].output_left -= 1
            if self._requests[key].output_left == 0:
                del self._requests[key]
        return [(key, 1) for key in outputs]
