# SPDX-License-Identifier: Apache-2.0
"""The prefills and the decodes of a call in POD-Attention's form: what the caller gave of each, checked."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import _arrays, _integers, _torch
from ._errors import ArgumentError
from ._values import count


class Part(NamedTuple):
    """Tensors are plain ones, integers int32, and what the host can read of them is in order."""

    name: str
    """ "p" or "d"."""
    q: Any
    k: Any
    v: Any
    seqlens: Any
    """Context tokens: a tensor `[n]` or a number for all."""
    rows: Any
    """A tensor `[n]`, or None."""
    block_table: Any
    """A tensor `[n, pages]`, or None."""
    new: Any = None
    """`(k, v)`, `[n, tokens, kv_heads, head_dim]` each, that `seqlens` counts in but the cache lacks yet; or None."""

    @property
    def num_requests(self) -> int:
        """How many there are."""
        return int(self.q.shape[0])

    @property
    def q_len(self) -> int:
        """Tokens of each."""
        return int(self.q.shape[1])

    @property
    def num_tokens(self) -> int:
        """Tokens of all."""
        return self.num_requests * self.q_len


def read(
    name: str, q: Any, k: Any, v: Any, seqlens: Any, rows: Any, block_table: Any, causal: bool, new: Any, left_pad: Any
) -> Part:
    """Checks a part; raises ArgumentError, which names the argument."""
    q, k, v = _tensor(q, f"q_{name}"), _tensor(k, f"k_cache_{name}"), _tensor(v, f"v_cache_{name}")
    if k.shape[:-1] != v.shape[:-1]:
        raise ArgumentError(f"k_cache_{name} has shape {tuple(k.shape)}, v_cache_{name} {tuple(v.shape)}")
    if q.shape[1] == 0:
        raise ArgumentError(f"q_{name} has no tokens")
    num_requests = q.shape[0]
    if rows is not None:
        rows = _integers_of(rows, "cache_batch_idx", (num_requests,))
        _check_pages(rows, "cache_batch_idx", k.shape[0], None)
    elif block_table is None and k.shape[0] < num_requests:
        raise ArgumentError(f"k_cache_{name} has {k.shape[0]} rows for {num_requests} requests")
    if block_table is not None:
        block_table = _integers_of(block_table, f"block_table_{name}", (num_requests, None))
        if seqlens is None:
            raise ArgumentError(f"cache_seqlens_{name} is None; a paged cache does not tell the lengths")
    if seqlens is None and new is not None:
        raise ArgumentError(f"cache_seqlens_{name} is None; with k it says where the new tokens go")
    seqlens = k.shape[1] if seqlens is None else _lengths_of(seqlens, f"cache_seqlens_{name}", num_requests)
    if new is not None:
        new = _new_tokens(name, q, k.shape[2:], v.shape[2:], *new)
        seqlens = seqlens + new[0].shape[1]
    part = Part(name, q, k, v, seqlens, rows, block_table, new)
    _check_lengths(part, causal)
    return part if left_pad is None else _without_pads(part, left_pad, causal)


def _new_tokens(name: str, q: Any, k_heads: Any, v_heads: Any, k: Any, v: Any) -> tuple[Any, Any]:
    k, v = _tensor(k, "k"), _tensor(v, "v")
    for field, tensor, heads in (("k", k, k_heads), ("v", v, v_heads)):
        wanted = (*q.shape[:2], *heads)
        if tuple(tensor.shape) != wanted:
            raise ArgumentError(f"{field} has shape {tuple(tensor.shape)}; {wanted} is needed, as q_{name} has")
        if tensor.dtype != q.dtype or tensor.device != q.device:
            raise ArgumentError(f"{field} differs from q_{name} in dtype or device")
    return k, v


def _without_pads(part: Part, left_pad: Any, causal: bool) -> Part:
    """The same with pages of one token, the first of which is behind each request's padding."""
    torch = _torch.torch
    if part.block_table is not None:
        raise ArgumentError(f"cache_leftpad beside block_table_{part.name}; it is for caches without one")
    pads = _integers_of(left_pad, "cache_leftpad", (part.num_requests,))
    token, row = part.k.stride(1), part.k.stride(0)
    if part.k.shape[0] > 1 and (row % token or part.v.stride(0) * token != row * part.v.stride(1)):
        raise ArgumentError(f"k_cache_{part.name} and v_cache_{part.name} have rows that are no whole number of tokens")
    step = row // token if part.k.shape[0] > 1 else 0
    num_rows, num_slots = part.k.shape[:2]
    num_pages = (num_rows - 1) * step + num_slots
    k, v = (x.as_strided((num_pages, 1, *x.shape[2:]), (x.stride(1), *x.stride()[1:])) for x in (part.k, part.v))
    is_host = pads.device.type == "cpu" and (isinstance(part.seqlens, int) or part.seqlens.device.type == "cpu")
    device = torch.device("cpu") if is_host else part.q.device
    lengths = part.seqlens
    if isinstance(lengths, int):
        lengths = torch.full((part.num_requests,), lengths, dtype=torch.int32)
    pads, lengths = pads.to(device), lengths.to(device)
    rows = torch.arange(part.num_requests, dtype=torch.int32) if part.rows is None else part.rows
    table = (rows.to(device) * step + pads).unsqueeze(1) + torch.arange(num_slots, dtype=torch.int32, device=device)
    if is_host:
        wrong = ((pads < 0) | (pads > lengths - (part.q_len if causal else 0))).nonzero()
        if len(wrong):
            at = int(wrong[0])
            raise ArgumentError(f"cache_leftpad[{at}] = {int(pads[at])} is outside the {int(lengths[at])} tokens")
    return part._replace(k=k, v=v, seqlens=lengths - pads, rows=None, block_table=table)


def _tensor(value: Any, field: str) -> Any:
    if not _arrays.is_torch(value):
        raise ArgumentError(f"{field} is a {type(value).__name__}; a torch.Tensor is needed")
    layout = _arrays.view(value, field)[1]
    _arrays.has_grad(layout, field)
    if len(layout[0]) != 4:
        raise ArgumentError(f"{field} has shape {tuple(layout[0])}; four dimensions are needed")
    return value.detach().as_subclass(_torch.torch.Tensor)


def _integers_of(value: Any, field: str, shape: tuple[Any, ...]) -> Any:
    """A tensor of int32, of whatever holds integers on the host, or of int32 on a GPU."""
    read = _integers.read(value, field, 0)
    if read.device == "cpu":
        tensor = _torch.torch.from_numpy(read.owner)
    elif _arrays.is_torch(value):
        tensor = value.as_subclass(_torch.torch.Tensor)
    else:
        raise ArgumentError(f"{field} is a {type(value).__name__} on {read.device}; a torch.Tensor is needed there")
    found = tuple(tensor.shape)
    if len(found) != len(shape) or any(b is not None and a != b for a, b in zip(found, shape)):
        wanted = ", ".join("any" if extent is None else str(extent) for extent in shape)
        raise ArgumentError(f"{field} has shape {found}; ({wanted}) is needed")
    return tensor


def _lengths_of(value: Any, field: str, num_requests: int) -> Any:
    is_number = isinstance(value, (int, float, np.number))
    return count(value, field) if is_number else _integers_of(value, field, (num_requests,))


def _check_lengths(part: Part, causal: bool) -> None:
    """Those that the host can read, and the pages that they need."""
    field = f"cache_seqlens_{part.name}"
    is_number = isinstance(part.seqlens, int)
    if not is_number and part.seqlens.device.type != "cpu":
        return
    lengths = [part.seqlens] * part.num_requests if is_number else part.seqlens.tolist()
    page_size = part.k.shape[1]
    most = page_size if part.block_table is None else page_size * part.block_table.shape[1]
    for i, length in enumerate(lengths):
        given = length if part.new is None else length - part.q_len
        named = f"{field} = {given}" if is_number else f"{field}[{i}] = {given}"
        if given < 0:
            raise ArgumentError(f"{named} is negative")
        if length > most:
            counted = "" if part.new is None else f", those of k counted in ({length})"
            raise ArgumentError(f"{named}{counted}, but the cache holds {most} tokens")
        if causal and length < part.q_len:
            raise ArgumentError(f"{named} is smaller than the {part.q_len} tokens of q_{part.name}")
    if part.block_table is not None:
        used = [-(-length // page_size) for length in lengths]
        _check_pages(part.block_table, f"block_table_{part.name}", part.k.shape[0], used)


def _check_pages(entries: Any, field: str, num_pages: int, used: Any) -> None:
    """Whether all entries, or the first `used` ones of each row, are pages; if they are on the host."""
    if entries.device.type != "cpu":
        return
    is_wrong = (entries < 0) | (entries >= num_pages)
    if used is not None:
        is_wrong &= _torch.torch.arange(entries.shape[1]) < _torch.torch.tensor(used).unsqueeze(1)
    wrong = is_wrong.nonzero()
    if len(wrong):
        at = tuple(wrong[0].tolist())
        index = "".join(f"[{i}]" for i in at)
        raise ArgumentError(f"{field}{index} = {int(entries[at])} is outside [0, {num_pages})")
