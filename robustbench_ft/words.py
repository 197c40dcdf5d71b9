"""Class names and prompt templates as data: ``data/classes/*.csv`` and ``data/templates/*.txt``. No torch.

A class table has a line per class, in the order of the labels: ``folder`` (its name on disk), ``name`` (in prompts) and,
where the set is read by another suite's head, ``group``: the folders of that suite's classes that count for it, separated
by blanks. Lines that begin with ``#`` say where the table comes from.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from robustbench_ft.errors import UnknownName, UsageError
from robustbench_ft.files import DATA


class ClassRow(NamedTuple):
    """One class of a data set."""

    folder: str
    name: str
    group: tuple[str, ...]
    """Folders of the suite's classes that count for it; its own folder where the table does not say."""


@cache
def class_table(name: str, near: Path = DATA / "classes") -> tuple[ClassRow, ...]:
    """The table of that name in the package, or the ``.csv`` file of that path relative to ``near``; UsageError else."""
    own = name.endswith(".csv")
    path = near / name if own else DATA / "classes" / f"{name}.csv"
    if not path.is_file():
        if own:
            raise UsageError(f"no class table at {path}; expected csv with the columns folder,name[,group]")
        raise UnknownName("class table", name, (file.stem for file in (DATA / "classes").glob("*.csv")))
    lines = (line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    found: list[ClassRow] = []
    for row in csv.DictReader(lines):
        if not row.get("folder") or not row.get("name"):
            raise UsageError(f"{path}: row {len(found) + 1} lacks folder or name; expected folder,name[,group]")
        given = row.get("group")
        found.append(ClassRow(row["folder"], row["name"], (row["folder"],) if given is None else tuple(given.split())))
    return tuple(found)


@cache
def templates(name: str) -> tuple[str, ...]:
    """The prompt templates of that name, one a line of ``data/templates/NAME.txt``; UnknownName lists the known ones."""
    path = DATA / "templates" / f"{name}.txt"
    if not path.is_file():
        raise UnknownName("templates", name, (file.stem for file in path.parent.glob("*.txt")))
    return tuple(line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#"))


def prompt(template: str, name: str) -> str:
    """A template with a class name in it: ``{}`` is the name as it is, ``{a}`` has an article before it.

    ``{a}`` also turns underscores into blanks, as WiSE-FT's FMoW prompts do ("an amusement park").
    """
    return template.format(name, a=with_article(name))


def with_article(name: str) -> str:
    """``a`` or ``an`` before a name, by its first letter."""
    return f"{'an' if name[:1].lower() in tuple('aeiou') else 'a'} {name.replace('_', ' ')}"


def groups(rows: Sequence[ClassRow], suite: Sequence[ClassRow], where: str) -> tuple[tuple[int, ...], ...]:
    """For each class of a set, the suite's classes (by label) that count for it; UsageError names one that is no class."""
    place = {row.folder: label for label, row in enumerate(suite)}
    for row in rows:
        if unknown := [key for key in row.group if key not in place]:
            raise UsageError(f"{where}: class {row.name!r} counts {unknown[0]!r}, which is no class of the suite")
    return tuple(tuple(place[key] for key in row.group) for row in rows)
