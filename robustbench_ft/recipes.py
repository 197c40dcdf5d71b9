"""The recipe table: per suite and method, the fields that differ from the method's own defaults (its paper's on ImageNet)."""

from __future__ import annotations

import tomllib
from functools import cache
from typing import Any

from robustbench_ft.errors import UnknownName
from robustbench_ft.files import DATA


@cache
def _tables() -> dict[str, dict[str, dict[str, Any]]]:
    return tomllib.loads((DATA / "recipes.toml").read_text(encoding="utf-8"))


def fields(table: str, method: str) -> dict[str, Any]:
    """The fields that ``table`` (``Suite.recipes``) gives ``method``; UnknownName lists the tables.

    A string in place of fields names the entry that it shares: ``greedy_soup = "soup"``.
    """
    tables = _tables()
    if table not in tables:
        raise UnknownName("recipe table", table, tables)
    entry = tables[table].get(method, {})
    return tables[table][entry] if isinstance(entry, str) else entry


def merge(base: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """``given`` over ``base``; plain tables are merged field by field, methods replaced whole."""
    merged = base | given
    for key in base.keys() & given.keys():
        if isinstance(base[key], dict) and isinstance(given[key], dict) and "method" not in given[key]:
            merged[key] = merge(base[key], given[key])
    return merged
