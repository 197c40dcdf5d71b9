"""docs/datasets.md against the data set files and the tests that it names."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from robustbench_ft import datafiles

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "datasets.md"


def table(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


SETS = {row[0].strip("`"): row for row in table("What there is")}
TRAPS = table("Traps")


def test_tables_are_whole() -> None:
    assert {len(row) for row in (*SETS.values(), *TRAPS)} == {5} and len(TRAPS) >= 31
    assert all(cell for row in (*SETS.values(), *TRAPS) for cell in row)
    assert len({(row[0], row[1]) for row in TRAPS}) == len(TRAPS), "no trap twice"


@pytest.mark.parametrize("name", datafiles.names())
def test_every_data_set_has_a_line(name: str) -> None:
    assert name in SETS, f"a line of {PAGE.name} that begins with | `{name}` |"


@pytest.mark.parametrize("row", TRAPS, ids=lambda row: f"{row[0]}: {row[1]}")
def test_the_test_of_every_trap_exists_and_its_data_sets_are_known(row: list[str]) -> None:
    for test in row[4].split(", "):
        file, _, name = test.strip("`").partition("::")
        tree = ast.parse((TESTS / f"{file}.py").read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"no test {name} in {file}.py"
    assert row[0].startswith("all ") or set(row[0].split(", ")) <= SETS.keys()
