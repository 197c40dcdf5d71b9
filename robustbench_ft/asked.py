"""Which splits a data verb was asked for: data sets by name or file, ``NAME/SPLIT``, or the sets of a suite."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from robustbench_ft import datafiles, suites
from robustbench_ft.datafiles import Dataset
from robustbench_ft.errors import MissingData, UnknownName, UsageError
from robustbench_ft.specs import DatasetSpec

READ_BY = {"format", "path", "also", "split", "options", "folders", "classes", "keep", "checksums"}
"""The fields that decide what a reader gives."""
PART_BY = {"part", "val_per_class", "mask", "shots", "shots_seed", "track"}
"""The fields that decide which part of it."""


@dataclass(frozen=True)
class Split:
    """One split that was asked for."""

    name: str
    """``imagenet/val``; a set that a suite file spells out goes by its own name."""
    spec: DatasetSpec
    dataset: Dataset | None
    """None where no data set file describes it."""
    key: str = ""
    """What the data set's file calls it: ``val``."""
    extra: bool = False
    """Whether only an optional archive gives it and nobody asked for it by name: missing is then no fault."""

    @property
    def whole(self) -> str:
        """The same for two splits that are parts of the same images."""
        own = PART_BY | {"digest"} if self.spec.digest else set()  # by which mirrors tell whether their names are official
        return self.spec.model_dump_json(include=READ_BY | own)


def asked(names: Sequence[str], suite: str | None = None, *, everything: bool = False) -> list[Split]:
    """The splits of those names or of that suite; with neither all that rbft knows if ``everything``, else UsageError."""
    if names and suite:
        raise UsageError("names and --suite were given, expected one of them")
    if suite:
        return _of_suite(suites.load(suite))
    if not names and not everything:
        raise UsageError("no data set was named", hint="rbft list datasets; or --suite NAME")
    found = [split for name in names or datafiles.names() for split in _of_name(name)]
    return list({split.name: split for split in found}.values())


def _of_name(name: str) -> list[Split]:
    """The splits of a data set, or the one of ``NAME/SPLIT``."""
    head, _, last = name.rpartition("/")
    if not name.endswith(".toml") and head and (head.endswith(".toml") or head.lower() in datafiles.names()):
        found = datafiles.load(head)
        return [Split(f"{found.name}/{last}", DatasetSpec.model_validate(found.table(last)), found, last)]
    if not name.endswith(".toml") and name.lower() not in datafiles.names() and suites.is_suite(name):
        raise UnknownName("data set", name, datafiles.names(), hint=f"{name} is a suite: --suite {name}")
    found = datafiles.load(name)
    specs = zip(found.splits, found.specs(), strict=True)
    return [Split(f"{found.name}/{key}", spec, found, key, _extra(found, key)) for key, spec in specs]


def _extra(dataset: Dataset, split: str) -> bool:
    return any(archive.optional and split in archive.splits for archive in dataset.archives)


def _of_suite(suite: suites.Suite) -> list[Split]:
    """The sets of a suite; sets that share images are there once."""
    found: dict[str, Split] = {}
    for spec in (suite.train, suite.val, *suite.tests):
        dataset = _described(spec.dataset, suite.file.parent)
        split = Split(spec.name, spec, dataset, _key(dataset, spec) if dataset else "")
        decisive = spec.model_dump_json(include=READ_BY | PART_BY)
        found.setdefault(decisive, split)
    return list(found.values())


def _key(dataset: Dataset, spec: DatasetSpec) -> str:
    """What a data set's file calls the split that a set of a suite is, or is a part of."""
    known = list(zip(dataset.splits, dataset.specs(), strict=True))
    for same in ({"split", "part", "mask", "path"}, {"split", "path"}, {"split"}):
        wanted = spec.model_dump(include=same)
        if found := next((key for key, own in known if own.model_dump(include=same) == wanted), ""):
            return found
    return ""


def _described(name: str, near: Path) -> Dataset | None:
    """The data set of that name in the package, or in a file beside the suite's."""
    if not name:
        return None
    own = f"{name}.toml"
    if (near / own).is_file() and "splits" in (near / own).read_text(encoding="utf-8"):
        return datafiles.load(own, near)
    return datafiles.load(name) if name in datafiles.names() else None


def by_dataset(splits: Iterable[Split]) -> dict[str, list[Split]]:
    """The splits of each data set together, by its name; of those that no data set file describes, by their own."""
    found: dict[str, list[Split]] = {}
    for split in splits:
        found.setdefault(split.dataset.name if split.dataset else split.name, []).append(split)
    return found


def data_root(data: Path | None) -> Path:
    """The data folder; MissingData where none was given or it is not there."""
    if data is None:
        raise MissingData("no data folder was given", hint="--data DIR, or RBFT_DATA=DIR: the folder that holds the data sets")
    if not data.is_dir():
        raise MissingData(f"--data {data}: no such folder", hint=f"mkdir -p {data}, or the folder that holds the data sets")
    return data
