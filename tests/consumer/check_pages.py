#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The C of the pages: what is between the fences compiles as it is, in a function that has the variables of the pages.

usage: check_pages.py COMPILER [FLAG...]
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```c\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What the variables of the pages are; a block may declare one of the same name.
VARIABLES = {
    "device": "pod_device *",
    "plan": "pod_plan *",
    "cache": "pod_cache ",
    "stream": "void *",
    "qkv": "uint16_t *",
    "q_heads": "int64_t ",
    "head_dim": "int64_t ",
    "kv_heads": "int64_t ",
    "step": "int64_t ",
    "last_step_that_left_the_gpu": "int64_t ",
    "n": "int32_t ",
    "requests": "const int64_t *",
    "kv_len": "const int32_t *",
    "next_kv_len": "const int32_t *",
}


def main(compiler):
    num_blocks, num_wrong = 0, 0
    for page in sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")]):
        text = page.read_text()
        for block in BLOCK.finditer(text):
            num_blocks += 1
            line = text.count("\n", 0, block.start()) + 2
            given = "".join(f"{kind}{name}, " for name, kind in VARIABLES.items()).removesuffix(", ")
            code = f'#include <podattn.h>\nvoid page({given});\nvoid page({given}) {{\n{{\n#line {line} "{page.name}"\n'
            code += block[1] + "}\n}\n"
            flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-fsyntax-only", "-x", "c", "-"]
            done = subprocess.run([*compiler, *flags], input=code, text=True, check=False)
            num_wrong += done.returncode != 0
    print(f"{num_blocks} blocks of C, {num_wrong} wrong")
    return 1 if num_wrong or not num_blocks else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
