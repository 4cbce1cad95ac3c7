# SPDX-License-Identifier: Apache-2.0
"""What an index shows of the distributions, and what they are built with."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import tomllib
from packaging.requirements import Requirement

import podattn
from podattn import _abi

ROOT = Path(__file__).parents[2]
FOLDERS = [".", *(f"integrations/{engine}" for engine in ("sglang", "transformers", "vllm"))]
LINK = re.compile(r"\]\(([^)\s]*)|<(?:img|a)[^>]+(?:src|href)=\"([^\"]*)|^\[[^]]+\]: *(\S+)", re.MULTILINE)


def pyproject(folder: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text())


def description(folder: str) -> str:
    return (ROOT / folder / pyproject(folder)["project"]["readme"]).read_text()


@pytest.mark.parametrize("folder", FOLDERS)
def test_an_index_can_show_it(folder: str) -> None:
    """Whom it is of, what it is about, and no link or picture that only the sources have."""
    project = pyproject(folder)["project"]
    assert project["authors"] and project["description"] and project["license"] == "Apache-2.0"
    assert {"attention", "LLM inference"} <= set(project["keywords"])
    links = ["".join(groups) for groups in LINK.findall(description(folder))] + list(project.get("urls", {}).values())
    assert [link for link in links if not link.startswith("https://")] == []


def test_links_are_found() -> None:
    text = '![A](a.svg) [b](https://b) <img src="c.png"> \n[d]: d.md\n'
    assert ["".join(groups) for groups in LINK.findall(text)] == ["a.svg", "https://b", "c.png", "d.md"]


def test_the_description_s_program() -> None:
    block = re.search(r"^```python\n(.*?)^```$", description("."), re.MULTILINE | re.DOTALL)
    assert block
    names: dict[str, Any] = {}
    exec(block[1], names)
    assert names["out"].shape == (4, 4, 64) and (names["out"] == 1).all()


@pytest.mark.parametrize("folder", FOLDERS[1:])
def test_plug_ins_are_of_the_same_version(folder: str) -> None:
    project = pyproject(folder)["project"]
    assert project["version"] == podattn.__version__
    needed = [Requirement(text) for text in project["dependencies"]]
    own = next(requirement for requirement in needed if requirement.name == "podattn")
    assert podattn.__version__ in own.specifier
    assert f"{_abi.VERSION[0]}.{_abi.VERSION[1] + 1}.0" not in own.specifier


def test_the_changelog_s_newest_part_is_of_this_version() -> None:
    newest = re.search(
        r"^## \[(.*?)\] - (unreleased|\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert newest and newest[1] == podattn.__version__


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_pinned_build_backend_is_within_the_range(folder: str) -> None:
    (requires,) = pyproject(folder)["build-system"]["requires"]
    backend = Requirement(requires)
    for place in ("python", "tools/wheel"):
        pinned = re.search(rf"^{backend.name}==([^ ]+)", (ROOT / place / "requirements.txt").read_text(), re.MULTILINE)
        assert pinned and pinned[1] in backend.specifier, place


def test_what_is_installed_says_so() -> None:
    try:
        installed = metadata.metadata("podattn")
    except metadata.PackageNotFoundError:
        pytest.skip("the package is used from the sources")
    assert installed["Version"] == podattn.__version__
    assert installed.get_all("Project-URL") == ["Paper, https://arxiv.org/abs/2410.18038"]
    assert str(installed.get_payload()).strip() == description(".").strip()
