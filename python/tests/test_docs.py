# SPDX-License-Identifier: Apache-2.0
"""The Python of the pages: it parses, and calls what there is with arguments that there are."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import podattn

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What the variables of the pages are.
OBJECTS = {"plan": podattn.Plan, "cache": podattn.VirtualCache, "scratch": podattn.Scratch}


def blocks() -> Iterator[object]:
    for path in sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")]):
        text = path.read_text()
        for block in BLOCK.finditer(text):
            yield pytest.param(block[1], id=f"{path.name}:{text.count(chr(10), 0, block.start()) + 1}")


def called(function: ast.expr) -> tuple[object, bool]:
    """What of podattn a call is of, and whether it takes a `self`; None for something else. AttributeError if there is
    no such thing.
    """
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        owner, name = function.value.id, function.attr
        if owner == "podattn":
            return getattr(podattn, name), False
        if owner in OBJECTS:
            return getattr(OBJECTS[owner], name), not isinstance(
                inspect.getattr_static(OBJECTS[owner], name), staticmethod
            )
    return None, False


def check_call(call: ast.Call) -> None:
    target, has_self = called(call.func)
    if target is None:
        return
    signature = inspect.signature(target)  # type: ignore[arg-type]
    names = [keyword.arg for keyword in call.keywords if keyword.arg is not None]
    if any(isinstance(a, ast.Starred) or (isinstance(a, ast.Constant) and a.value is ...) for a in call.args):
        assert set(names) <= set(signature.parameters), ast.unparse(call)
    else:
        signature.bind(*[None] * (len(call.args) + has_self), **dict.fromkeys(names))


@pytest.mark.parametrize("code", list(blocks()))
def test_a_page_calls_what_there_is(code: str) -> None:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call):
            check_call(node)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "podattn":
            assert hasattr(podattn, node.attr), ast.unparse(node)
