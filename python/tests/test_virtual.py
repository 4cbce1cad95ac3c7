# SPDX-License-Identifier: Apache-2.0
"""Virtual caches from Python: tensors over them, attention, requests that come and go."""

from __future__ import annotations

import gc
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

import podattn

HEADS, HEAD_DIM, LENGTHS = 2, 64, [33, 200, 1]


def make(device: str = "cpu", **changes: Any) -> podattn.VirtualCache:
    sizes: dict[str, Any] = {"num_layers": 2, "kv_heads": HEADS, "head_dim": HEAD_DIM}
    limits = {"max_requests": 4, "max_kv_len": 300, "page_bytes": 65536 if device == "cpu" else 0}
    return podattn.VirtualCache(**{**sizes, **limits, "dtype": "float32", "device": device, **changes})


@pytest.mark.parametrize("layout", ["per_layer", "mega"])
def test_attention(device: str, layout: str) -> None:
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    cache = make(device, layout=layout, dtype=dtype)
    requests = [cache.open() for _ in LENGTHS]
    cache.ensure(0, requests, LENGTHS)
    pages = [[cache.page(request)] for request in requests]
    plan = podattn.Plan(
        q_heads=4, kv_heads=HEADS, head_dim=HEAD_DIM, page_size=cache.page_size, num_pages=cache.num_pages,
        max_requests=4, max_q_tokens=16, max_kv_len=300, dtype=dtype, device=device,
    )  # fmt: skip
    plan.build([0, 5, 6, 7], LENGTHS, pages)
    q = torch.randn(7, 4, HEAD_DIM, dtype=dtype, device=device)
    for layer in range(2):
        k, v = (torch.from_dlpack(tensor) for tensor in cache.layer(layer))
        assert k.dtype == dtype and k.shape == (4, 304, HEADS, HEAD_DIM)
        packed = [torch.zeros(4, 304, HEADS, HEAD_DIM, dtype=dtype, device=device) for _ in range(2)]
        for (page,), length in zip(pages, LENGTHS):
            for own, other in zip((k, v), packed):
                other[page, :length] = torch.randn(length, HEADS, HEAD_DIM, dtype=dtype, device=device)
                own[page, :length] = other[page, :length]
        expected = plan.attention(q, *packed)
        assert torch.equal(plan.attention(q, k, v), expected)
        assert torch.equal(plan.attention(q, *cache.layer(layer)), expected)


def test_numpy_writes() -> None:
    cache = make()
    request = cache.open()
    cache.ensure(0, [request], [10])
    k = np.from_dlpack(cache.layer(1)[0])
    if not k.flags.writeable:  # NumPy before 2.1 reads only
        pytest.skip("this NumPy takes DLPack for reading alone")
    k[cache.page(request), 9] = 3
    assert torch.from_dlpack(cache.layer(1)[0])[cache.page(request), 9].eq(3).all()


def test_tensors_keep_the_cache() -> None:
    cache = make()
    request = cache.open()
    cache.ensure(0, [request], [10])
    page = cache.page(request)
    k = torch.from_dlpack(cache.layer(0)[0])
    unused = cache.layer(0)[0].__dlpack__()
    newer = cache.layer(0)[0].__dlpack__(max_version=(1, 0))
    k[page, :10] = 7
    del cache
    gc.collect()
    assert k[page, :10].eq(7).all()
    from podattn import _dlpack_export

    assert len(_dlpack_export._handed_out) == 3
    del unused, newer, k
    gc.collect()
    assert not _dlpack_export._handed_out


def test_a_process_ends_with_tensors_alive() -> None:
    program = (
        "import podattn, torch\n"
        "sizes = dict(num_layers=1, kv_heads=1, head_dim=64, max_requests=1, max_kv_len=9)\n"
        "cache = podattn.VirtualCache(**sizes, device='cpu')\n"
        "cache.ensure(0, [cache.open()], [9])\n"
        "k = torch.from_dlpack(cache.layer(0)[0])\n"
        "k[0, :9] = 1\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_requests_share_and_are_counted() -> None:
    cache = make(layout="mega", max_bytes=6 * 65536)
    parent = cache.open()
    cache.expect([parent], [100])
    cache.ensure(0, [parent], [100])  # 2,048 bytes a token: three pages and a part
    k = torch.from_dlpack(cache.layer(0)[0])
    k[cache.page(parent), :100] = torch.arange(100, dtype=torch.float32)[:, None, None]
    child = cache.fork(parent, 70)
    assert torch.equal(k[cache.page(child), :70], k[cache.page(parent), :70])
    stats = cache.stats()
    assert (stats.num_open, stats.shared_bytes, stats.physical_bytes) == (2, 2 * 65536, 5 * 65536)
    with pytest.raises(podattn.OutOfMemoryError, match=r"kv_len\[1\] = 300 needs .* bytes more"):
        cache.ensure(1, [parent, child], [100, 300])
    cache.close(parent)
    with pytest.raises(podattn.ArgumentError, match=f"request = {parent} was closed"):
        cache.close(parent)
    cache.ensure(1, [child], [71])
    cache.finished(1)
    cache.close(child)
    assert cache.trim(1 << 40) > 0
    assert cache.stats().physical_bytes == 0


def test_refusals() -> None:
    cache = make(thread=False)
    with pytest.raises(podattn.ArgumentError, match="layout = 'huge' is neither"):
        make(layout="huge")
    with pytest.raises(podattn.ArgumentError, match="head_dim = 12 is not a multiple of 8"):
        make(head_dim=12)
    with pytest.raises(podattn.UnsupportedError, match="this device has no memory"):
        make(device="sim:h100", page_bytes=0)
    with pytest.raises(podattn.ArgumentError, match=r"requests\[0\] = 'x' is no integer"):
        cache.ensure(0, ["x"], [1])  # type: ignore[list-item]
    with pytest.raises(podattn.ArgumentError, match="requests has 0 entries, kv_len 1"):
        cache.expect([], [1])
    with pytest.raises(podattn.LimitError, match=r"kv_len\[0\] = 301 exceeds max_kv_len = 300"):
        cache.ensure(0, [cache.open()], [301])
    with pytest.raises(podattn.ArgumentError, match="layer = 2 is not in"):
        cache.layer(2)
    with pytest.raises(BufferError, match="not copied"):
        cache.layer(0)[0].__dlpack__(copy=True)
