#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times one hybrid batch on the CPU: podattn's fused call against PyTorch's scaled_dot_product_attention.

PyTorch computes the prefill and the decodes in two calls, each in the fastest of the ways that it offers, on caches that
lie as it likes them (contiguous, [heads, tokens, head_dim]); podattn reads the paged or contiguous cache of an engine,
[tokens, heads, head_dim]. Both see the same values, use the same threads, and take turns, so that a busy machine slows
both; the medians are compared.

    python3 bench/cpu_vs_torch.py --library build/libpodattn.so --prefill 512@2048 --decode 32@2048 --threads 2
"""
import argparse
import ctypes
import math
import statistics
import time

import torch

F32, F16, BF16 = 0, 1, 2
I32, I64, F32P, PTR = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p
DTYPES = {"f32": (F32, torch.float32), "f16": (F16, torch.float16), "bf16": (BF16, torch.bfloat16)}
MAX_ERROR = {"f32": 1e-5, "f16": 1e-3, "bf16": 5e-3}


def struct(name, *fields):
    """A ctypes structure that begins with its own size, like every struct of podattn.h."""
    kind = type(name, (ctypes.Structure,), {"_fields_": [("struct_size", ctypes.c_size_t), *fields]})
    return lambda **values: kind(struct_size=ctypes.sizeof(kind), **values)


def strides(*names):
    return [(name + "_stride", I64) for name in names]


limits_of = struct("pod_limits", *[(f, I32) for f in (
    "q_heads kv_heads head_dim q_dtype kv_dtype out_dtype page_size max_requests max_q_tokens max_kv_len").split()])
batch_of = struct(
    "pod_batch", ("memory", I32), ("num_requests", I32), ("q_start", PTR), ("kv_len", PTR), ("page_table", PTR),
    ("page_table_stride", I64), ("max_pages", I32), ("num_pages", I32), ("causal", I32), ("window_tokens", I32))
tensors_of = struct(
    "pod_tensors", ("q", PTR), *strides("q_token", "q_head"), ("k", PTR), *strides("k_page", "k_token", "k_head"),
    ("v", PTR), *strides("v_page", "v_token", "v_head"), ("out", PTR), *strides("out_token", "out_head"),
    ("lse", PTR), *strides("lse_token", "lse_head"), ("scale", ctypes.c_float), ("softcap", ctypes.c_float),
    ("sinks", F32P), ("alibi_slopes", F32P), ("k_scale", F32P), ("v_scale", F32P))


class Podattn:
    """The fused call, through the C API."""

    def __init__(self, path, threads):
        self.library = ctypes.CDLL(path)
        self.library.pod_error_message.restype = ctypes.c_char_p
        self.device = PTR()
        self.call("pod_device_open", f"cpu:{threads}".encode(), ctypes.byref(self.device))

    def call(self, function, *arguments):
        if getattr(self.library, function)(*arguments) != 0:
            raise SystemExit(f"{function}: {self.library.pod_error_message().decode()}")

    def prepare(self, work, page_size):
        """Lays the batch out for podattn and plans it; returns the call to be timed, and where its output is."""
        n, max_pages = len(work.kv_lens), max(math.ceil(kv / page_size) for kv in work.kv_lens)
        order = torch.randperm(n * max_pages) if page_size < max(work.kv_lens) else torch.arange(n * max_pages)
        table = order.to(torch.int32).reshape(n, max_pages)
        shape = (n * max_pages, page_size, work.kv_heads, work.head_dim)
        k, v = torch.zeros(shape, dtype=work.dtype), torch.zeros(shape, dtype=work.dtype)
        for r, kv_len in enumerate(work.kv_lens):
            for cache, source in ((k, work.k[r]), (v, work.v[r])):
                tokens = source.transpose(0, 1)
                for p in range(math.ceil(kv_len / page_size)):
                    piece = tokens[p * page_size:(p + 1) * page_size]
                    cache[table[r, p], :len(piece)] = piece
        q = torch.cat([x.transpose(0, 1) for x in work.q]).contiguous()
        out = torch.empty_like(q)
        q_start = torch.tensor([0, *work.q_lens]).cumsum(0).to(torch.int32)
        kv_len = torch.tensor(work.kv_lens, dtype=torch.int32)
        limits = limits_of(q_heads=work.q_heads, kv_heads=work.kv_heads, head_dim=work.head_dim, q_dtype=work.code,
                           kv_dtype=work.code, out_dtype=work.code, page_size=page_size, max_requests=n,
                           max_q_tokens=len(q), max_kv_len=max(work.kv_lens))
        batch = batch_of(num_requests=n, q_start=q_start.data_ptr(), kv_len=kv_len.data_ptr(),
                         page_table=table.data_ptr(), page_table_stride=max_pages, max_pages=max_pages,
                         num_pages=n * max_pages, causal=1)
        tensors = tensors_of(q=q.data_ptr(), k=k.data_ptr(), v=v.data_ptr(), out=out.data_ptr())
        size, plan = ctypes.c_size_t(), PTR()
        self.call("pod_workspace_size", self.device, ctypes.byref(limits), ctypes.byref(size))
        memory = torch.empty(size.value + 256, dtype=torch.uint8)
        workspace = PTR((memory.data_ptr() + 255) // 256 * 256)
        self.call("pod_plan_create", self.device, ctypes.byref(limits), ctypes.byref(plan))
        self.call("pod_plan_build", plan, ctypes.byref(batch), workspace, size, None)
        keep = (q, k, v, q_start, kv_len, table, memory)  # the plan points into them

        def attention(_keep=keep):
            self.call("pod_attention", plan, ctypes.byref(tensors), workspace, size, None)
        return attention, out


class Work:
    """The batch's values, request by request, [heads, tokens, head_dim]."""

    def __init__(self, arguments, name):
        self.code, self.dtype = DTYPES[name]
        self.q_heads, self.kv_heads = arguments.heads
        self.head_dim = arguments.head_dim
        self.prefills, self.decodes = arguments.prefill, arguments.decode
        self.q_lens = [q for q, _ in self.prefills] + [1 for count, _ in self.decodes for _ in range(count)]
        self.kv_lens = [kv for _, kv in self.prefills] + [kv for count, kv in self.decodes for _ in range(count)]
        self.q = [self.random(self.q_heads, q) for q in self.q_lens]
        self.k = [self.random(self.kv_heads, kv) for kv in self.kv_lens]
        self.v = [self.random(self.kv_heads, kv) for kv in self.kv_lens]

    def random(self, heads, tokens):
        return torch.randn(heads, tokens, self.head_dim).to(self.dtype)

    def torch_calls(self):
        """(what, q, k, v, mask) of every call that PyTorch needs: each prefill, then the decodes of each length."""
        for r, (q_len, kv_len) in enumerate(self.prefills):
            mask = torch.ones(q_len, kv_len, dtype=torch.bool).tril(kv_len - q_len)
            yield f"prefill {q_len}@{kv_len}", self.q[r][None], self.k[r][None], self.v[r][None], mask
        begin = len(self.prefills)
        for count, kv_len in self.decodes:
            of_these = slice(begin, begin + count)
            q, k, v = (torch.stack(x[of_these]) for x in (self.q, self.k, self.v))
            yield f"decode {count}@{kv_len}", q, k, v, None
            begin += count


def torch_ways(q, k, v, mask):
    """PyTorch's correct ways to compute one call, by name."""
    sdpa = torch.nn.functional.scaled_dot_product_attention
    group = q.shape[1] // k.shape[1]
    ways = {"enable_gqa": lambda: sdpa(q, k, v, attn_mask=mask, enable_gqa=True)}
    repeated = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)  # not timed: an engine could store them so
    ways["repeated kv"] = lambda: sdpa(q, *repeated, attn_mask=mask)
    if mask is not None:
        bias = torch.zeros(mask.shape, dtype=q.dtype).masked_fill_(~mask, -math.inf)
        ways["enable_gqa, float mask"] = lambda: sdpa(q, k, v, attn_mask=bias, enable_gqa=True)
        ways["repeated kv, float mask"] = lambda: sdpa(q, *repeated, attn_mask=bias)
    else:  # a group of query heads as the rows of one head: no cache is read twice
        packed = q.reshape(q.shape[0], k.shape[1], group, q.shape[3])
        ways["group as rows"] = lambda: sdpa(packed, k, v).reshape(q.shape)
    return ways


def time_ms(function):
    begin = time.perf_counter()
    function()
    return (time.perf_counter() - begin) * 1e3


def fastest_way(call, repeats):
    what, *inputs = call
    ways = torch_ways(*inputs)
    times = {name: min(time_ms(way) for _ in range(repeats)) for name, way in ways.items()}
    name = min(times, key=times.get)
    listed = ", ".join(f"{way} {t:.1f}" for way, t in sorted(times.items(), key=lambda item: item[1]))
    print(f"  torch {what}: {listed} ms", flush=True)
    return ways[name]


def compare(arguments, podattn, name):
    work = Work(arguments, name)
    ways = [fastest_way(call, 3) for call in work.torch_calls()]
    expected = torch.cat([x.transpose(1, 2).reshape(-1, work.q_heads, work.head_dim) for x in (w() for w in ways)])
    contiguous = max(work.kv_lens)
    contenders = {page: podattn.prepare(work, page or contiguous) for page in arguments.page_size}
    for page, (attention, out) in contenders.items():
        attention()
        error = ((out.double() - expected.double()).norm() / expected.double().norm()).item()
        # Both sides round: the difference may be twice one side's bound.
        if not error <= 2 * MAX_ERROR[name]:
            raise SystemExit(f"{name}, page size {page}: differs from torch by {error:.2e}")
    times = {key: [] for key in ["torch", *contenders]}
    for _ in range(arguments.repeats):
        times["torch"].append(sum(time_ms(way) for way in ways))
        for page, (attention, _) in contenders.items():
            times[page].append(time_ms(attention))
    median = {key: statistics.median(values) for key, values in times.items()}
    for page in contenders:
        layout = f"page {page}" if page else "contiguous"
        print(f"{name:5} {layout:11} {median[page]:9.2f} ms {median['torch']:9.2f} ms"
              f" {median[page] / median['torch']:7.2f} {min(times[page]):9.2f} ms {min(times['torch']):9.2f} ms",
              flush=True)


def pair(separator):
    def parse(text):
        first, second = text.split(separator)
        return int(first), int(second)
    return parse


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", default="build/libpodattn.so")
    parser.add_argument("--heads", type=pair(","), default=(32, 8), metavar="Q,KV")
    parser.add_argument("--head-dim", type=int, default=128)
    parser.add_argument("--prefill", type=pair("@"), action="append", metavar="Q@KV")
    parser.add_argument("--decode", type=pair("@"), action="append", metavar="N@KV")
    parser.add_argument("--dtype", choices=DTYPES, action="append")
    parser.add_argument("--page-size", type=int, action="append", help="0: contiguous")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    if not arguments.prefill and not arguments.decode:
        arguments.prefill, arguments.decode = [(512, 2048)], [(32, 2048)]
    arguments.prefill, arguments.decode = arguments.prefill or [], arguments.decode or []
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    podattn = Podattn(arguments.library, arguments.threads)
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}; {arguments.threads} threads; "
          f"prefill {arguments.prefill}, decode {arguments.decode}, heads {arguments.heads}, "
          f"head_dim {arguments.head_dim}; median and minimum of {arguments.repeats}")
    print(f"{'dtype':5} {'cache':11} {'podattn':>12} {'torch':>12} {'ratio':>7} {'podattn min':>12} {'torch min':>12}")
    with torch.no_grad():
        for name in arguments.dtype or ["f32", "bf16"]:
            compare(arguments, podattn, name)


if __name__ == "__main__":
    main()
