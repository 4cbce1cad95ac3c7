# SPDX-License-Identifier: Apache-2.0
"""An engine as the plug-in sees it: layers with caches, a block table, and steps of mixed requests.

It keeps each request's keys and values a second time, plainly, so that what a layer returns is compared with the
definition of attention and not with anything that went through the plug-in.
"""

import random
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Optional

import torch


@dataclass
class LayerKind:
    """How a layer attends."""

    window: int = 0
    softcap: float = 0.0
    has_sinks: bool = False
    shares: Optional[int] = None
    """The layer whose cache it reads."""
    q_heads: int = 4


@dataclass
class Shape:
    """What all layers have in common."""

    kv_heads: int = 2
    head_dim: int = 16
    page_size: int = 16
    dtype: torch.dtype = torch.float16
    kv_cache_dtype: str = "auto"
    heads_first: bool = False
    """Whether a page holds heads before tokens."""


@dataclass(eq=False)
class Request:
    """A sequence: how many tokens are in the cache, and where."""

    pages: list[int]
    length: int = 0
    keys: list[torch.Tensor] = field(default_factory=list)
    """For each layer [tokens, kv_heads, dim]."""
    values: list[torch.Tensor] = field(default_factory=list)


def make_config(shape: Shape, max_requests: int, max_tokens: int, max_len: int, drafts: int = 0) -> Any:
    """The parts of vLLM's configuration that the plug-in reads."""
    return SimpleNamespace(
        scheduler_config=SimpleNamespace(max_num_seqs=max_requests, max_num_batched_tokens=max_tokens),
        model_config=SimpleNamespace(max_model_len=max_len, dtype=shape.dtype),
        compilation_config=SimpleNamespace(max_cudagraph_capture_size=max_tokens, static_forward_context={}),
        cache_config=SimpleNamespace(block_size=shape.page_size),
        speculative_config=SimpleNamespace(num_speculative_tokens=drafts) if drafts else None,
    )


def make_cache(shape: Shape, layout: str, num_pages: int) -> torch.Tensor:
    """One layer's cache as that layout has it, of NaN, so that what was never written cannot be read unseen."""
    pages, tokens, heads, dim = num_pages, shape.page_size, shape.kv_heads, shape.head_dim

    def room(*extents: int) -> torch.Tensor:
        if shape.kv_cache_dtype == "fp8":
            return torch.full(extents, 0x7F, dtype=torch.uint8)
        return torch.full(extents, float("nan"), dtype=shape.dtype)

    if layout == "packed":
        if shape.heads_first:
            return room(pages, heads, tokens, 2 * dim)
        return room(pages, tokens, heads, 2 * dim).transpose(1, 2)
    inner = (heads, tokens, dim) if shape.heads_first else (tokens, heads, dim)
    cache = room(2, pages, *inner) if layout == "keys_first" else room(pages, 2, *inner)
    return cache.transpose(2, 3) if shape.heads_first else cache


def reference(
    kind: LayerKind,
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scale: float,
    sinks: Optional[torch.Tensor],
    causal: bool = True,
) -> torch.Tensor:
    """Attention of one request in float64: the last tokens of `keys` are the queries' own."""
    n, heads = q.shape[:2]
    total, group = keys.shape[0], heads // keys.shape[1]
    k = keys.double().repeat_interleave(group, dim=1)
    v = values.double().repeat_interleave(group, dim=1)
    scores = torch.einsum("qhd,khd->hqk", q.double(), k) * scale
    if kind.softcap:
        scores = kind.softcap * torch.tanh(scores / kind.softcap)
    position = torch.arange(total - n, total)[:, None]
    key = torch.arange(total)[None, :]
    hidden = key > position if causal else torch.zeros(n, total, dtype=torch.bool)
    if kind.window:
        hidden = hidden | (key <= position - kind.window)
    scores = scores.masked_fill(hidden, float("-inf"))
    if sinks is not None:
        scores = torch.cat([scores, sinks.double()[:, None, None].expand(heads, n, 1)], dim=2)
    weights = torch.softmax(scores, dim=2)[:, :, :total]
    return torch.einsum("hqk,khd->qhd", weights, v)


class FakeEngine:
    """Layers, their caches and the requests in them."""

    def __init__(
        self,
        fake: Any,
        rng: random.Random,
        kinds: list[LayerKind],
        shape: Shape,
        num_pages: int = 64,
        max_requests: int = 8,
        max_tokens: int = 96,
        max_len: int = 160,
        drafts: int = 0,
    ) -> None:
        """`fake` is what `fake_vllm_package.installed` yields."""
        self.fake, self.rng, self.kinds, self.shape = fake, rng, kinds, shape
        self.max_requests, self.max_tokens, self.max_len = max_requests, max_tokens, max_len
        self.config = make_config(shape, max_requests, max_tokens, max_len, drafts)
        fake.current.config = self.config
        from podattn_vllm.backend import PodAttentionBackend

        self.scale = shape.head_dim**-0.5
        self.sinks = [self.random(kind.q_heads) if kind.has_sinks else None for kind in kinds]
        impl_class = PodAttentionBackend.get_impl_cls()
        self.layers = []
        for i, kind in enumerate(kinds):
            impl = impl_class(
                kind.q_heads,
                shape.head_dim,
                self.scale,
                shape.kv_heads,
                None,
                kind.window or None,
                shape.kv_cache_dtype,
                kind.softcap or None,
                "decoder",
                None if kind.shares is None else f"layer.{kind.shares}",
                **({"sinks": self.sinks[i]} if kind.has_sinks else {}),
            )
            impl.process_weights_after_loading(shape.dtype)
            scales = {"_k_scale": torch.tensor([0.5]), "_v_scale": torch.tensor([0.25])}
            self.layers.append(SimpleNamespace(impl=impl, kv_cache=torch.tensor([]), **scales))
        self.names = [f"layer.{i}" for i in range(len(kinds))]
        self.config.compilation_config.static_forward_context.update(zip(self.names, self.layers))
        self.spec = SimpleNamespace(
            block_size=shape.page_size, num_kv_heads=shape.kv_heads, head_size=shape.head_dim, dtype=shape.dtype
        )
        self.builder = PodAttentionBackend.get_builder_cls()(self.spec, self.names, self.config, torch.device("cpu"))
        self.bind(num_pages)
        self.table_columns = -(-(max_len + drafts + 1) // shape.page_size)
        # As in vLLM, the arrays stay where they are; padding holds what an earlier step left there, or -1.
        self.q_start = torch.zeros(max_requests + 1, dtype=torch.int32)
        self.seq_lens = torch.zeros(max_requests, dtype=torch.int32)
        self.table = torch.full((max_requests, self.table_columns), -1, dtype=torch.int32)
        self.requests: list[Request] = []

    def random(self, *extents: int) -> torch.Tensor:
        """Of the layers' dtype, from the case's seed."""
        generator = torch.Generator().manual_seed(self.rng.randrange(1 << 31))
        return torch.randn(extents, generator=generator).to(self.shape.dtype)

    def random_qkv(self, rows: int, kind: LayerKind) -> torch.Tensor:
        """`[rows, heads, head_dim]` of queries, keys and values."""
        return self.random(rows, kind.q_heads + 2 * self.shape.kv_heads, self.shape.head_dim)

    def as_cached(self, tensor: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """What the cache keeps of it."""
        if self.shape.kv_cache_dtype != "fp8":
            return tensor
        return ((tensor.float() / scale).to(torch.float8_e4m3fn).float() * scale).to(tensor.dtype)

    # ---- caches ----

    def bind(self, num_pages: int) -> None:
        """New caches, as at the start and after the engine slept."""
        layout = self.fake.era.shape or "packed"
        for kind, layer in zip(self.kinds, self.layers):
            if kind.shares is None:
                layer.kv_cache = make_cache(self.shape, layout, num_pages)
            else:
                layer.kv_cache = self.layers[kind.shares].kv_cache
        self.free = list(range(num_pages))
        self.rng.shuffle(self.free)
        self.users: dict[int, int] = {}
        self.requests = []

    def take_page(self) -> int:
        """A free page."""
        page = self.free.pop()
        self.users[page] = 1
        return page

    def drop(self, request: Request) -> None:
        """Preempts or ends a request."""
        for page in request.pages:
            self.users[page] -= 1
            if not self.users[page]:
                self.free.append(page)
        self.requests.remove(request)

    def add(self, prefix_of: Optional[Request] = None) -> Request:
        """A new request, whose whole first pages may be another's: prefix caching."""
        request = Request([])
        if prefix_of is not None:
            whole = self.rng.randint(0, prefix_of.length // self.shape.page_size)
            request.pages = prefix_of.pages[:whole]
            request.length = whole * self.shape.page_size
            for page in request.pages:
                self.users[page] += 1
        empty = torch.zeros(0, self.shape.kv_heads, self.shape.head_dim, dtype=self.shape.dtype)
        for i in range(len(self.kinds)):
            for mine, other in ((request.keys, "keys"), (request.values, "values")):
                mine.append(empty if prefix_of is None else getattr(prefix_of, other)[i][: request.length])
        self.requests.append(request)
        return request

    # ---- a step ----

    def step(
        self,
        counts: list[tuple[Request, int]],
        padded_requests: int = 0,
        padded_tokens: int = 0,
        causal: Any = True,
        before_layers: Any = None,
    ) -> list[float]:
        """Runs all layers on so many new tokens of each request; returns each layer's relative error (L2)."""
        n, num_tokens = len(counts), sum(count for _, count in counts)
        starts, slots = [0], []
        for r, (request, count) in enumerate(counts):
            end = request.length + count
            while len(request.pages) * self.shape.page_size < end:
                request.pages.append(self.take_page())
            for position in range(request.length, end):
                page = request.pages[position // self.shape.page_size]
                slots.append(page * self.shape.page_size + position % self.shape.page_size)
            starts.append(starts[-1] + count)
            self.seq_lens[r] = end
            self.table[r, : len(request.pages)] = torch.tensor(request.pages, dtype=torch.int32)
        total = n + padded_requests
        self.q_start[: n + 1] = torch.tensor(starts, dtype=torch.int32)
        self.q_start[n + 1 :] = starts[-1]
        self.seq_lens[n:] = 0
        slots += [-1] * padded_tokens
        common = SimpleNamespace(
            query_start_loc=self.q_start[: total + 1],
            seq_lens=self.seq_lens[:total],
            num_reqs=total,
            num_actual_tokens=num_tokens + padded_tokens,
            block_table_tensor=self.table[:total],
            slot_mapping=torch.tensor(slots, dtype=torch.int64),
            causal=causal,
        )
        metadata = self.builder.build(0, common)
        if before_layers is not None:
            before_layers(common)
        errors = [self._run_layer(i, counts, starts, common, metadata, padded_tokens) for i in range(len(self.kinds))]
        for request, count in counts:
            request.length += count
        return errors

    def _run_layer(
        self, i: int, counts: list[tuple[Request, int]], starts: list[int], common: Any, metadata: Any, padded: int
    ) -> float:
        kind, layer, shape = self.kinds[i], self.layers[i], self.shape
        rows = starts[-1] + padded
        # One row of all heads, as a fused projection gives them.
        qkv = self.random_qkv(rows, kind)
        q, k, v = qkv.split([kind.q_heads, shape.kv_heads, shape.kv_heads], dim=1)
        out = self.last_out = torch.full((rows, kind.q_heads, shape.head_dim), 7.0, dtype=shape.dtype)
        layer.impl.do_kv_cache_update(layer, k, v, layer.kv_cache, common.slot_mapping)
        returned = layer.impl.forward(layer, q, k, v, layer.kv_cache, metadata, out)
        assert returned is out
        wanted = torch.zeros(starts[-1], kind.q_heads, shape.head_dim, dtype=torch.float64)
        for r, (request, count) in enumerate(counts):
            own = slice(starts[r], starts[r] + count)
            if kind.shares is None:
                new_k, new_v = self.as_cached(k[own], layer._k_scale), self.as_cached(v[own], layer._v_scale)
                request.keys[i] = torch.cat([request.keys[i][: request.length], new_k])
                request.values[i] = torch.cat([request.values[i][: request.length], new_v])
            source = i if kind.shares is None else kind.shares
            is_causal = bool(common.causal[r]) if isinstance(common.causal, torch.Tensor) else bool(common.causal)
            keys, values = request.keys[source], request.values[source]
            wanted[own] = reference(kind, q[own], keys, values, self.scale, self.sinks[i], is_causal)
        assert bool((out[starts[-1] :] == 7.0).all()), "rows behind the batch were written"
        difference = (out[: starts[-1]].double() - wanted).norm()
        return float(difference / wanted.norm().clamp_min(1e-9))
