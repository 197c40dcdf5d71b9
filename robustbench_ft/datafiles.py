"""Data sets as data: one TOML file each, in the package's ``data/datasets`` or anywhere.

A file says where a data set lies under the data root, how it is read, what its splits hold, where it comes from and how
its archives unpack. A suite names its sets ``imagenet-r/test``: data set and split. No torch.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from robustbench_ft import words
from robustbench_ft.errors import UnknownName, UsageError
from robustbench_ft.files import DATA
from robustbench_ft.specs import DatasetSpec
from robustbench_ft.values import Value, fault

FOLDER = DATA / "datasets"


class Archive(Value):
    """A file that a data set is handed out in."""

    file: str
    """Its usual name."""
    url: str = ""
    """Where rbft may fetch it; empty: a person has to (login, licence, dead link), and ``how`` says what to do."""
    bytes: int | None = None
    checksums: tuple[str, ...] = ()
    """``sha256:``, ``md5:`` or ``git:`` and hex digits; each belongs to one copy that is in circulation, and any will do."""
    into: str = "."
    """Folder under the data root that it is unpacked into or, with ``unpack = false``, copied to."""
    unpack: bool = True
    password: str = ""
    """Of an encrypted zip, as published by its authors."""
    optional: bool = False
    """Whether the data set can be read without it, or without the splits that it is for."""
    splits: tuple[str, ...] = ()
    """The splits that are read from it; none: all."""
    step: str = ""
    """What is done with its content once it is unpacked: a name in ``robustbench_ft.prepare_steps``."""


class Dataset(Value):
    """One data set: all that its file says."""

    name: str
    title: str
    format: str
    path: str
    also: tuple[str, ...] = ()
    classes: str | tuple[str, ...]
    """A class table (``robustbench_ft.words``), or the names themselves."""
    folders: str | tuple[str, ...] = ()
    """Names on disk; ``"index"``: the labels as numbers; none: the class table's, or the class names."""
    templates: str | tuple[str, ...]
    """A name in the table of templates, or the templates themselves."""
    names_from: str = ""
    """Where class names and templates come from, and in what style they are written."""
    source: str
    licence: str
    size: str = ""
    """On disk, unpacked, about."""
    how: str = ""
    """What a user has to do to get it where it cannot be fetched."""
    archives: tuple[Archive, ...] = ()
    splits: dict[str, dict[str, Any]] = Field(min_length=1)
    """Per split the fields of its ``DatasetSpec`` that are its own."""
    file: Path
    """The file that this was read from."""

    def table(self, split: str) -> dict[str, Any]:
        """The fields of a split's ``DatasetSpec``; UnknownName lists the splits."""
        if split not in self.splits:
            raise UnknownName(f"split of {self.name}:", split, self.splits, hint=f"rbft show {self.name}")
        own = self.splits[split]
        rows = self.rows()
        folders = [row.folder for row in rows] if not self.folders else list(self.folders)
        if self.folders == "index":
            folders = [str(label) for label in range(len(rows))]
        templates = words.templates(self.templates) if isinstance(self.templates, str) else self.templates
        common = {
            "name": f"{self.name}-{split}", "format": self.format, "path": self.path, "also": self.also, "split": split,
            "dataset": self.name, "classes": [row.name for row in rows], "folders": folders, "templates": templates,
            "source": self.source, "licence": self.licence,
        }  # fmt: skip
        return common | own

    def rows(self) -> tuple[words.ClassRow, ...]:
        """Its classes, in the order of the labels."""
        if isinstance(self.classes, str):
            return words.class_table(self.classes, self.file.parent)
        return tuple(words.ClassRow(name, name, (name,)) for name in self.classes)

    def specs(self) -> tuple[DatasetSpec, ...]:
        """Every split, as it is read on its own."""
        return tuple(DatasetSpec.model_validate(self.table(split)) for split in self.splits)


def names() -> list[str]:
    """The data sets that the package knows."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str, near: Path = Path(".")) -> Dataset:
    """The data set of that name, or of the ``.toml`` file of that path relative to ``near``; UnknownName or UsageError else."""
    own = name.endswith(".toml")
    path = near / name if own else FOLDER / f"{name.lower()}.toml"
    if not path.is_file():
        if own:
            raise UsageError(f"no data set file at {path}", hint="rbft list datasets")
        raise UnknownName("data set", name, names(), hint="a data set of your own: path/to/dataset.toml")
    return _parse(path)


@cache
def _parse(path: Path) -> Dataset:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        found = Dataset.model_validate({"name": path.stem, "file": path} | table)
        found.specs()
        return found
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: {error}") from error
    except ValidationError as error:
        raise UsageError(f"{path}: field {fault(error)}") from error
