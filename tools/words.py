#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Words that a reader stumbles over: fails, with page and line, where a page that users read has one of them.

Code is not looked at: fenced blocks, what is in backticks, addresses of links. Nor are the logs of the kernels, which
are notes. A page about a kernel has a bound on its words. Of Python the docstrings are read, which help() shows, of C
sources the strings, which are messages.
"""

import ast
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = (
    "*.md",
    ".github/**/*.md",
    "include/podattn.h",
    "docs/*.md",
    "bench/**/*.md",
    "integrations/*/README.md",
    "cli/**/*.md",
    "examples/*.md",
    "python/*.md",
    "src/**/README.md",
    "tests/**/README.md",
    "cli/podattn.1",
    "python/podattn/*.py",
    "integrations/*/podattn_*/*.py",
    "src/**/*.c",
    "cli/**/*.c",
)
NOTES = ("docs/sm80-log.md", "docs/sm90-log.md")
MOST_WORDS = {"docs/sm80-ticket.md": 3500, "docs/sm90-pipeline.md": 3500, "docs/sm90-operands.md": 3500}
# What is found, and what to write instead. A phrase may be broken between lines, also of a comment.
GLOSSARY = {
    r"\bstands?\b(?!-in)(?!\s+(?:in\s+)?for\b)|\bstood\b": "is, is in, is kept",
    # To be behind another in a race is plain English.
    r"(?<!is )(?<!are )(?<!was )(?<!were )(?<!furthest )(?<!be )\bbehind\b(?! by)": "after, below, under",
    r"\bat[\s*]+once\b": "at the same time, together, immediately",
    r"(?<!nothing )(?<!anything )(?<!something )(?<!everything )(?<!what )(?<!or )(?<!anywhere )\belse\b": "otherwise",
    r"\bheld[\s*]+against\b": "compared with",
    r"\bmade-up\b": "synthetic",
    r"\bas far as that goes\b": "where it fits",
    r"\bnobody\b|\bwhoever\b|\bof whom\b": "no thread, no warp, no one; the thread, the caller",
    r"\blies\b|\blay\b": "is, is stored",
    r"(?-i:\bWho )(?!are\b|is\b)": "one that, those that",
    r"\bto be had\b": "available",
    r"\beven(?:er|est)\b": "more, most balanced",
    r"\bbeforehand\b": "before",
    r"\bseldom\b": "rarely",
}
FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`|\]\([^)]*\)|<!--.*?-->|https?://\S+|^\s*#\s*(?:if|el|en|de|in).*$", re.MULTILINE)


def blank(found):
    """As many characters and lines, so that places stay."""
    return re.sub(r"[^\n]", " ", found[0])


def docstrings(text):
    lines = [""] * len(text.splitlines())
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            said = node.value.value.split("\n")
            lines[node.lineno - 1 : node.lineno - 1 + len(said)] = said
    return "\n".join(lines)


def strings(text):
    return "\n".join(" ".join(re.findall(r'"((?:[^"\\]|\\.)*)"', line)) for line in text.splitlines())


def prose_of(name, text):
    """What a reader sees of a file, on the same lines."""
    if name.endswith(".py"):
        text = docstrings(text)
    elif name.endswith(".c"):
        text = strings(text)
    elif name.endswith(".md"):
        text = FENCE.sub(blank, text)
    return CODE.sub(blank, text)


def faults_of(name, text):
    prose = prose_of(name, text)
    for pattern, instead in GLOSSARY.items():
        for found in re.finditer(pattern, prose, re.IGNORECASE):
            line = prose.count("\n", 0, found.start()) + 1
            yield f'{name}:{line}: "{found[0]}": write {instead}'
    if name in MOST_WORDS and len(text.split()) > MOST_WORDS[name]:
        yield f"{name}: {len(text.split())} words; {MOST_WORDS[name]} are the most: what was tried belongs into the log"


def main():
    paths = sorted({path for pattern in PAGES for path in ROOT.glob(pattern)})
    names = [str(path.relative_to(ROOT)) for path in paths]
    names = [name for name in names if name not in NOTES and not name.startswith((".cache", "build"))]
    missing = [name for name in (*NOTES, *MOST_WORDS) if not (ROOT / name).exists()]
    faults = [f"{name}: there is no such page" for name in missing]
    faults += [fault for name in names for fault in faults_of(name, (ROOT / name).read_text())]
    print("\n".join(faults) or f"words: {len(names)} files")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
