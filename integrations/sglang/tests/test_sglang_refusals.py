# SPDX-License-Identifier: Apache-2.0
"""Registration, and what is refused by name."""

from __future__ import annotations

import subprocess
import sys
import types
from typing import Any

import pytest
import torch
from fake_sglang import ForwardBatch, ForwardMode, Layer, TokenPool, make_runner

import podattn
import podattn_sglang


def runner(**changes: Any) -> Any:
    pool = TokenPool([0], 60, 4, 2, 16, torch.float32)
    made = make_runner(pool, 4, (4, 2), 16, torch.float32, 7)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def backend(**changes: Any) -> Any:
    from podattn_sglang.sglang_backend import PodattnBackend

    return PodattnBackend(runner(**changes))


def batch(mode: ForwardMode = ForwardMode.DECODE, **changes: Any) -> ForwardBatch:
    made = ForwardBatch(mode, 1, torch.tensor([1]), torch.tensor([3]), torch.tensor([5]))
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def refusal(call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(podattn.UnsupportedError) as error:
        call(*arguments, **options)
    return str(error.value)


def test_registering_twice_is_registering_once() -> None:
    from sglang.srt import server_args
    from sglang.srt.layers.attention.attention_registry import ATTENTION_BACKENDS

    podattn_sglang.register()
    factory = ATTENTION_BACKENDS["podattn"]
    podattn_sglang.register()
    assert ATTENTION_BACKENDS["podattn"] is factory
    assert server_args.ATTENTION_BACKEND_CHOICES.count("podattn") == 1
    assert type(factory(runner())).__name__ == "PodattnBackend"


def test_the_plug_in_is_light() -> None:
    """SGLang imports it in every process."""
    program = "import sys, podattn_sglang; sys.exit(bool({'torch', 'podattn', 'sglang'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_models_that_are_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "a draft model" in refusal(backend, is_draft_worker=True)
    assert "MLA" in refusal(backend, use_mla_backend=True)
    assert "attention in chunks" in refusal(backend, attention_chunk_size=8192)
    assert "a KV cache of torch.uint8 for torch.float32" in refusal(backend, kv_cache_dtype=torch.uint8)
    translator = types.SimpleNamespace(is_translating=True)
    assert "the unified memory pool" in refusal(backend, kv_index_translator=translator)
    monkeypatch.setattr("fake_sglang.SPECULATION.speculative_eagle_topk", 4)
    assert "speculative_eagle_topk = 4" in refusal(backend)


def test_steps_that_are_not_served() -> None:
    plan = backend().init_forward_metadata
    assert "encoder_lens" in refusal(plan, batch(encoder_lens=torch.tensor([1])))
    assert "decode steps of a draft model" in refusal(plan, batch(spec_info=object()))
    assert "forward mode DRAFT_EXTEND_V2" in refusal(plan, batch(ForwardMode.DRAFT_EXTEND_V2))
    assert "forward mode DLLM_EXTEND" in refusal(plan, batch(ForwardMode.DLLM_EXTEND))
    tree = types.SimpleNamespace(topk=2)
    assert "verification of trees, topk = 2" in refusal(plan, batch(ForwardMode.TARGET_VERIFY, spec_info=tree))
    ragged = types.SimpleNamespace(topk=1, ragged_verify_layout=object())
    assert "different numbers" in refusal(plan, batch(ForwardMode.TARGET_VERIFY, spec_info=ragged))
    graph = backend().init_forward_metadata_out_graph
    assert "CUDA graphs of forward mode EXTEND" in refusal(graph, batch(ForwardMode.EXTEND))


def test_layers_that_are_not_served() -> None:
    made = backend()
    step = batch()
    made.init_forward_metadata(step)
    q, k = torch.zeros(1, 64), torch.zeros(1, 2, 16)

    def layer_refusal(options: dict[str, Any], **changes: Any) -> str:
        layer = Layer(0, 4, 2, 16)
        for name, value in changes.items():
            setattr(layer, name, value)
        return refusal(made.forward, q, k, k, layer, step, **options)

    assert "q_rope of attention" in layer_refusal({"q_rope": q})
    assert "cross attention" in layer_refusal({}, is_cross_attention=True)
    assert "attn_type 'encoder_only'" in layer_refusal({}, attn_type=types.SimpleNamespace(value="encoder_only"))
    assert "values of 8 elements per head" in layer_refusal({}, v_head_dim=8)
    assert "a window of 10 keys; the model's is 8" in layer_refusal({}, sliding_window_size=9)


def test_calls_out_of_order() -> None:
    made = backend()
    with pytest.raises(podattn.StateError, match="before init_forward_metadata"):
        made.forward(torch.zeros(1, 64), None, None, Layer(0, 4, 2, 16), batch())
    with pytest.raises(podattn.StateError, match="init_cuda_graph_state was not called"):
        made.init_forward_metadata_out_graph(batch())
