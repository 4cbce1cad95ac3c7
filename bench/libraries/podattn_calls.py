# SPDX-License-Identifier: Apache-2.0
"""podattn: the fused call, its two sides in turn and on two streams, each side alone; and an older build of it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import torch

from .inputs import Inputs, Missing
from .sides import Alone, in_turn, on_two_streams
from .timing import Call

BEFORE = "podattn_before"


def load_before(folder: Path, library: Path | None) -> None:
    """Makes the package in `folder`/podattn, with a library of its own, known as `podattn_before`. ImportError."""
    package = folder / "podattn" / "__init__.py"
    spec = importlib.util.spec_from_file_location(BEFORE, package, submodule_search_locations=[str(package.parent)])
    if spec is None or spec.loader is None or not package.exists():
        raise ImportError(f"{package}: no such package")
    module = importlib.util.module_from_spec(spec)
    sys.modules[BEFORE] = module
    # PyTorch knows each operator's name once, and nothing here needs the operators.
    sys.modules[f"{BEFORE}._torch_ops"] = ModuleType(f"{BEFORE}._torch_ops")
    own = os.environ.pop("PODATTN_LIBRARY", None)
    if library is not None:
        os.environ["PODATTN_LIBRARY"] = str(library.resolve())
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[BEFORE]
        raise
    finally:
        os.environ.pop("PODATTN_LIBRARY", None)
        if own is not None:
            os.environ["PODATTN_LIBRARY"] = own


def _library(name: str):
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise Missing(f"{name} cannot be imported: {error}") from error


class _Part:
    """A plan for a range of a batch's requests, and its call."""

    def __init__(self, inputs: Inputs, requests: range, library: str = "podattn") -> None:
        b = inputs.batch
        self.inputs = inputs
        self.tokens = inputs.tokens_of(requests)
        begin, end = requests.start, requests.stop
        # An older build gets what it knows.
        self.scales = {} if inputs.kv_scale is None else {"k_scale": inputs.kv_scale, "v_scale": inputs.kv_scale}
        kv_dtype = {} if inputs.kv_dtype == inputs.dtype else {"kv_dtype": inputs.kv_dtype}
        self.plan = _library(library).Plan(
            device=inputs.device,
            q_heads=b.q_heads,
            kv_heads=b.kv_heads,
            head_dim=b.head_dim,
            dtype=inputs.dtype,
            **kv_dtype,
            page_size=inputs.layout.page_size,
            num_pages=inputs.layout.num_pages,
            max_requests=len(requests),
            max_q_tokens=self.tokens.stop - self.tokens.start,
            max_kv_len=max(b.kv_lens[begin:end]),
        )
        self.arrays = (
            inputs.q_start[begin : end + 1] - inputs.q_start[begin],
            inputs.kv_len[begin:end],
            inputs.layout.page_table[begin:end],
        )  # kept: the plan reads them
        self.plan.build(*self.arrays, window_tokens=b.window)

    def __call__(self, index: int) -> torch.Tensor:
        layer = self.inputs.layers[index]
        return self.plan.attention(layer.q[self.tokens], layer.k, layer.v, **self.scales)


def _sides(inputs: Inputs) -> tuple[_Part, _Part]:
    return _Part(inputs, inputs.batch.prefill), _Part(inputs, inputs.batch.decodes)


def fused(inputs: Inputs) -> Call:
    part = _Part(inputs, inputs.batch.all)
    return lambda index: (part(index),)


def before(inputs: Inputs) -> Call:
    part = _Part(inputs, inputs.batch.all, BEFORE)
    return lambda index: (part(index),)


def serial(inputs: Inputs) -> Call:
    return in_turn(*_sides(inputs))


def streams(inputs: Inputs) -> Call:
    return on_two_streams(inputs, *_sides(inputs))


def prefill(inputs: Inputs) -> Call:
    return Alone(_Part(inputs, inputs.batch.prefill), inputs.batch.prefill)


def decode(inputs: Inputs) -> Call:
    return Alone(_Part(inputs, inputs.batch.decodes), inputs.batch.decodes)
