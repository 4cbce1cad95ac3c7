#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""That the table of what each kernel family takes, in docs/operation.md, is what the families take.

Every cell is asked of the program: `podattn plan` refuses for a target what its kernels would refuse. --update writes
the table as it is now.

usage: check_support.py PODATTN [--update]
"""

import itertools
import pathlib
import re
import subprocess
import sys

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "operation.md"
BLOCK = re.compile(r"(?<=<!-- support -->\n).*?(?=<!-- /support -->)", re.DOTALL)
# Columns: a heading, the target that has these kernels alone, and a shape that it takes.
FAMILIES = {
    "CPU": ("cpu", {"head_dim": 128}),
    "GPU, *sm80*": ("h100,kernel=sm80", {"head_dim": 128}),
    "GPU, *sm90*": ("h100,kernel=sm90", {"head_dim": 128}),
    "GPU, *sm90mla*": ("h100,kernel=sm90mla", {"head_dim": 576, "v_head_dim": 512}),
}
DTYPES = ("bf16", "f16", "f32", "f8e4m3")
HEAD_DIMS = range(8, 640, 8)
WIDE_DIMS = range(64, 320, 64)  # of keys and values that differ
PAGE_SIZES = range(1, 34)


class Family:
    def __init__(self, program, target, shape):
        self.shape = shape
        self.command = [program, "plan", "--target", target, "--json"]

    def kernel(self, **options):
        """The kernel for a batch whose requests have several pages, None where the limits are refused."""
        options = {**self.shape, **options}
        words = [word for name, value in options.items() for word in ("--" + name.replace("_", "-"), str(value))]
        command = [*self.command, "--decode", "2@200", "--prefill", "40@200", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == 0:
            return re.search(r'"kernel": "(\w+)"', done.stdout)[1]
        if done.returncode != 2 or not done.stderr.startswith("podattn: "):
            sys.exit(f"{command}: {done.returncode}: {done.stderr}")
        return None


def sizes_text(taken):
    """A set of sizes in few words."""
    if taken == list(range(taken[0], taken[-1] + 1, taken[0])) and len(taken) > 2:
        return f"multiples of {taken[0]} up to {taken[-1]}"
    return ", ".join(map(str, taken))


def q_dtypes(family):
    return ", ".join(dtype for dtype in DTYPES[:3] if family.kernel(dtype=dtype))


def kv_dtypes(family):
    """For each dtype of queries that is taken."""
    taken = {}
    for dtype in DTYPES[:3]:
        kv = tuple(other for other in DTYPES if family.kernel(dtype=dtype, kv_dtype=other))
        if kv:
            taken[dtype] = kv
    if set(taken.values()) == {DTYPES}:
        return "any of these, f8e4m3"
    others = {tuple(other for other in kv if other != dtype) for dtype, kv in taken.items()}
    if len(others) == 1 and all(dtype in kv for dtype, kv in taken.items()):
        return ", ".join(["as q", *others.pop()])
    return "; ".join(f"{dtype}: {', '.join(kv)}" for dtype, kv in taken.items())


def head_dims(family):
    kernels = {dim: family.kernel(head_dim=dim) for dim in HEAD_DIMS}
    taken = [dim for dim, kernel in kernels.items() if kernel]
    own = [dim for dim in taken if "padded" not in kernels[dim]]
    return sizes_text(taken) + (f"; {sizes_text(own)} by kernels of their own" if own != taken else "")


def v_head_dims(family):
    """Beside keys of the family's shape."""
    taken = [dim for dim in HEAD_DIMS if family.kernel(v_head_dim=dim)]
    if taken != [family.shape["head_dim"]]:
        return sizes_text(taken)
    pairs = [(dim, v) for dim, v in itertools.permutations(WIDE_DIMS, 2) if family.kernel(head_dim=dim, v_head_dim=v)]
    return "; ".join(["as `head_dim`", *(f"{v} beside {dim}" for dim, v in pairs)])


def page_sizes(family):
    taken = [size for size in PAGE_SIZES if family.kernel(page_size=size)]
    if taken == list(PAGE_SIZES):
        return "any"
    return f"multiples of {taken[0]}" if taken == list(range(taken[0], PAGE_SIZES[-1] + 1, taken[0])) else str(taken)


ROWS = {
    "`q_dtype`, `out_dtype`": q_dtypes,
    "`kv_dtype`": kv_dtypes,
    "`head_dim`": head_dims,
    "`v_head_dim`": v_head_dims,
    "`page_size` where a request has several pages": page_sizes,
    "contiguous caches": lambda family: "yes" if family.kernel() else "no",
}


def table(program):
    families = [Family(program, *family) for family in FAMILIES.values()]
    lines = ["| | " + " | ".join(FAMILIES) + " |", "|---" * (len(FAMILIES) + 1) + "|"]
    for name, cell in ROWS.items():
        lines.append(f"| {name} | " + " | ".join(cell(family) for family in families) + " |")
    return "\n".join(lines) + "\n"


def main(program, *flags):
    page = PAGE.read_text()
    if len(BLOCK.findall(page)) != 1:
        sys.exit(f"{PAGE.name} needs one block between <!-- support --> and <!-- /support -->")
    wanted = table(program)
    if "--update" in flags:
        PAGE.write_text(BLOCK.sub(lambda _: wanted, page))
    elif BLOCK.search(page)[0] != wanted:
        sys.exit(f"docs/operation.md is not what the kernels take; check_support.py PODATTN --update writes\n{wanted}")
    print(f"{len(ROWS)} rows of {len(FAMILIES)} families")


if __name__ == "__main__":
    main(*sys.argv[1:])
