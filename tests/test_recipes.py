from __future__ import annotations

import pytest

from robustbench_ft import method, recipes, suites
from robustbench_ft.errors import UnknownName


def test_a_merge_is_field_by_field_and_what_is_given_wins() -> None:
    base = {"recipe": {"lr": 1, "epochs": 2}, "alpha": 0.5}
    given = {"recipe": {"lr": 3}, "new": [1]}
    assert recipes.merge(base, given) == {"recipe": {"lr": 3, "epochs": 2}, "alpha": 0.5, "new": [1]}
    assert base == {"recipe": {"lr": 1, "epochs": 2}, "alpha": 0.5} and given == {"recipe": {"lr": 3}, "new": [1]}


def test_a_method_is_replaced_whole() -> None:
    base = {"base": {"method": "ft", "recipe": {"lr": 1}}}
    assert recipes.merge(base, {"base": {"method": "flyp"}}) == {"base": {"method": "flyp"}}


def test_a_string_names_the_entry_that_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "_tables", lambda: {"t": {"a": "both", "b": "both", "both": {"x": 1}}})
    assert recipes.fields("t", "a") == recipes.fields("t", "b") == {"x": 1}
    assert recipes.fields("t", "c") == {}
    with pytest.raises(UnknownName, match="recipe table"):
        recipes.fields("u", "a")


def test_every_shipped_table_is_of_methods_that_take_it() -> None:
    tables = recipes._tables()
    for table, entries in tables.items():
        shared = {entry for entry in entries.values() if isinstance(entry, str)}
        for name in entries.keys() - shared:
            method.configure(name, recipe_table=table)


def test_every_shipped_suite_names_a_table_that_is_there() -> None:
    known = set(recipes._tables())
    assert {suites.load(name).recipes for name in suites.names()} <= known
