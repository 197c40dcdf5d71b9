"""Every method has a page in docs/methods that names all of its fields, its paper, and tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from robustbench_ft import method

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "methods"
TESTS = set(re.findall(r"^def (test_\w+)\(", "\n".join(f.read_text() for f in (ROOT / "tests").glob("test_*.py")), re.M))


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def test_every_method_has_a_page_and_every_page_a_method() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == set(method.names())


@pytest.mark.parametrize("name", method.names())
def test_a_page_names_every_field_and_no_other(name: str) -> None:
    fields = method.describe(method.folder() / f"{name}.py").fields
    rows = re.findall(r"^\| `(\w+)` \|", page(name), re.M)
    assert sorted(rows) == sorted(fields)


@pytest.mark.parametrize("name", method.names())
def test_a_page_names_the_paper_of_its_file_and_shows_a_formula(name: str) -> None:
    text, source = page(name), (method.folder() / f"{name}.py").read_text(encoding="utf-8")
    cited = re.search(r"https://arxiv\.org/abs/[\d.]+\d", source.partition("\nfrom ")[0])
    assert cited is None or cited[0] in text
    assert text.startswith(f"# `{name}`: ") and "\n    " in text


@pytest.mark.parametrize("name", method.names())
def test_the_tests_that_a_page_names_are_there(name: str) -> None:
    named = set(re.findall(r"`(test_\w+)`", page(name)))
    assert named and named <= TESTS, named - TESTS
