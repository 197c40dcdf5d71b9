"""The benchmark as data: suites of one in-distribution data set and its shifts.

A suite is a TOML file: the package's own lie in ``robustbench_ft/data/suites``, a user's anywhere
(``--suite path/to/suite.toml``). Nothing here opens an image or imports torch.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from robustbench_ft import datafiles, words
from robustbench_ft.errors import UnknownName, UsageError
from robustbench_ft.files import DATA, digest
from robustbench_ft.specs import DatasetSpec, Groups, TestSet
from robustbench_ft.values import Value, fault

FEW_SHOT = re.compile(r":(\d+)-shot(?:-seed-(\d+))?$")


class Panel(Value):
    """What a score needs to know of a suite: the ID test set, the shifts and the baseline."""

    name: str
    title: str
    baseline: str | None = None
    """The baseline that effective robustness is measured against: ``mini@1``, or a .json file, relative to the suite's."""
    no_baseline: str = ""
    """Why there is none, and what to do."""
    variant_of: str = ""
    """The suite that has its ID test set too, and other training data or shifts: tables that name neither are scored as that."""
    test: TestSet
    shifts: tuple[TestSet, ...] = ()

    @property
    def tests(self) -> tuple[TestSet, ...]:
        """Every set that is scored: the ID test set, then the shifts."""
        return (self.test, *self.shifts)

    @property
    def headline_shifts(self) -> tuple[TestSet, ...]:
        """The shifts of the OOD mean."""
        return tuple(spec for spec in self.shifts if spec.headline)


class Track(Value):
    """Suites that are reported together with the mean over them."""

    name: str
    title: str
    suites: tuple[str, ...]
    shifts: bool = False
    """Whether its boards show the means under shift beside ID: its suites have headline shifts."""
    error_reduction: bool = False
    """Whether its boards show how much of the error of ``ft`` and of the start model a row takes away."""

    @cached_property
    def sets(self) -> tuple[TestSet, ...]:
        """The ID test set of each suite; a name that two of them go by is neither's."""
        tests = [found.test for found in map(panel, self.suites) if isinstance(found, Panel)]
        often = Counter(alias for spec in tests for alias in spec.aliases)
        return tuple(
            spec.model_copy(update={"aliases": tuple(alias for alias in spec.aliases if often[alias] == 1)}) for spec in tests
        )


class Suite(Panel):
    """One ID data set (train, val, test), any number of shifts, and the words that name its classes."""

    version: int = 1
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    start: str
    """Name of the start model that ``evaluate`` takes when none is given."""
    recipes: str
    """Key of the recipe table (``robustbench_ft/data/recipes.toml``) that gives methods their defaults here."""
    few_shot_recipes: str = "few-shot"
    """The same of its few-shot variants (``NAME:16-shot``)."""
    tested_as: str = ""
    """Of a few-shot variant: the protocol of the suite whose test sets, answer key and baseline it shares."""
    preprocessing: str = "start-eval@1"
    train: DatasetSpec
    val: DatasetSpec
    test: DatasetSpec
    shifts: tuple[DatasetSpec, ...] = ()
    file: Path
    """The file that this suite was read from."""

    @property
    def tests(self) -> tuple[DatasetSpec, ...]:
        """Every set that is scored: the ID test set, then the shifts."""
        return (self.test, *self.shifts)

    @property
    def read(self) -> tuple[DatasetSpec, ...]:
        """The test sets whose images are read: those that share another's images are scored from its answers."""
        return tuple(spec for spec in self.tests if spec.images_of is None)

    def spec(self, name: str) -> DatasetSpec:
        """The test set of that name; UnknownName else."""
        found = next((spec for spec in self.tests if spec.name == name), None)
        if found is None:
            raise UnknownName(f"test set of {self.name}:", name, (spec.name for spec in self.tests))
        return found

    def groupings(self, spec: DatasetSpec) -> Iterator[tuple[str, Groups | None]]:
        """The groupings that ``spec``'s predictions are kept under: its own; for the ID test set, every shift's too."""
        yield "own", spec.class_groups
        if spec.name == self.test.name:
            yield from ((shift.name, shift.class_groups) for shift in self.shifts if shift.class_groups is not None)

    def packed(self, spec: DatasetSpec) -> dict[str, Groups | None]:
        """The groupings that a pack keeps ``spec``'s answers under: those of sets that share images are kept once."""
        return {name: groups for name, groups in self.groupings(spec) if name == "own" or self.spec(name).images == name}

    @cached_property
    def protocol(self) -> str:
        """SHA-256 of all that decides a score; numbers under two protocols never meet in one table."""
        return digest(
            {
                "suite": [self.name, self.version],
                "classes": self.classes,
                "templates": self.templates,
                "preprocessing": self.preprocessing,
                "sets": [spec.decisive() for spec in (self.train, self.val, *self.tests)],
            }
        )


def names() -> list[str]:
    """The suites that ship with the package."""
    return sorted(path.stem for path in (DATA / "suites").glob("*.toml"))


def load(name: str) -> Suite:
    """The suite of that name, or of that file when ``name`` ends in ``.toml``; UnknownName or UsageError otherwise.

    ``NAME:16-shot`` and ``NAME:16-shot-seed-3`` are its few-shot variants.
    """
    if found := FEW_SHOT.search(name):
        return few_shot(load(name[: found.start()]), int(found[1]), int(found[2] or 0))
    path = Path(name) if name.endswith(".toml") else DATA / "suites" / f"{name.lower()}.toml"
    if not path.is_file():
        if name.endswith(".toml"):
            raise UsageError(f"no suite file at {name}", hint="rbft list suites")
        if name.lower() in track_names():
            members = track(name).suites
            raise UsageError(f"{name} is a track; its suites: {', '.join(members)}", hint=f"--suite {members[0]}")
        if name.lower() in panel_names():
            raise UsageError(
                f"suite {name} is known for rbft score alone: rbft does not read its images", hint="rbft list suites"
            )
        raise UnknownName("suite", name, names(), hint="a suite of your own: --suite path/to/suite.toml")
    return parse(path)


def few_shot(suite: Suite, shots: int, seed: int = 0) -> Suite:
    """The suite with ``shots`` training and as many validation examples of each class, chosen by hashes under ``seed``.

    Where val has fewer of each, it stays whole. UsageError where the training set has not that many.
    """
    classes, few = len(suite.classes), {"shots": shots, "shots_seed": seed, "digest": None}
    if not 0 < shots * classes <= suite.train.n:
        most = suite.train.n // classes
        told = f"{suite.name}: {shots} training images of each class asked, expected 1 to {most} ({suite.train.n} in all)"
        raise UsageError(told, hint=f"--suite {suite.name}:16-shot")
    name = f"{suite.name}:{shots}-shot" + (f"-seed-{seed}" if seed else "")
    train, val = (
        spec.model_copy(update=few | {"name": f"{spec.name}-{shots}-shot", "n": min(spec.n, shots * classes)})
        for spec in (suite.train, suite.val)
    )
    about = {"name": name, "title": f"{suite.title}, {shots} per class", "recipes": suite.few_shot_recipes}
    fields = {field: getattr(suite, field) for field in Suite.model_fields}  # a copy would keep the suite's own protocol
    return Suite.model_validate(fields | about | {"tested_as": suite.protocol, "train": train, "val": val})


def panel_names() -> list[str]:
    """The suites and tracks that can be scored: those that can be evaluated, and those that published figures are about."""
    return sorted({*names(), *track_names(), *(path.stem for path in (DATA / "panels").glob("*.toml"))})


def track_names() -> list[str]:
    """The tracks of the package."""
    return sorted(path.stem for path in (DATA / "tracks").glob("*.toml"))


def track(name: str) -> Track:
    """The track of that name; UnknownName else."""
    path = DATA / "tracks" / f"{name.lower()}.toml"
    if not path.is_file():
        raise UnknownName("track", name, track_names())
    return Track.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))


def is_suite(name: str) -> bool:
    """Whether ``load`` reads it: a suite of the package, a few-shot variant of one, or a file."""
    plain = FEW_SHOT.sub("", name)
    return plain.endswith(".toml") or plain.lower() in names()


def panel(name: str) -> Panel | Track:
    """What a score needs to know of the suite of that name, or file; of a track, its sets.

    Published figures are of more sets, under more names, than rbft reads: where both are there, the panel file holds.
    """
    path = DATA / "panels" / f"{name.lower()}.toml"
    if not path.is_file() and is_suite(name):
        return load(name)
    if name.lower() in track_names():
        return track(name)
    if not path.is_file():
        raise UnknownName("suite", name, panel_names(), hint="a suite of your own: --suite path/to/suite.toml")
    return Panel.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))


def parse(path: Path) -> Suite:
    """Read one suite file; fields of ``[defaults]`` hold for each of its data sets."""
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        if str(table.get("baseline", "")).endswith(".json"):
            table["baseline"] = str(path.parent / table["baseline"])
        return Suite.model_validate(_resolved(table, path) | {"file": path})
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise UsageError(f"{path}: {error!r} is wrong or missing in this suite file") from error
    except ValidationError as error:
        raise UsageError(f"{path}: field {fault(error)}") from error


def _resolved(table: dict[str, Any], path: Path) -> dict[str, Any]:
    """The file's table with every set written out in full (``datafiles``), and the suite's words."""
    common, shared = table.pop("defaults", {}), table.pop("shifts_from", "")
    shifts = [*table.get("shifts", []), *(_shared(shared, path) if shared else ())]
    sets = [common | table[key] for key in ("train", "val", "test")] + [common | shift for shift in shifts]
    ids = datafiles.load(sets[0]["set"].rpartition("/")[0], path.parent) if "set" in sets[0] else None
    given = table.get("classes")
    rows = words.class_table(given, path.parent) if isinstance(given, str) else ids.rows() if ids and not given else ()
    rows = rows or tuple(words.ClassRow(name, name, (name,)) for name in given or ())
    templates = table.get("templates") or (ids.templates if ids else ())
    found: list[dict[str, Any]] = []
    for fields in sets:
        found.append(_fields(fields, rows, found, path))
    return table | {
        "classes": [row.name for row in rows],
        "templates": words.templates(templates) if isinstance(templates, str) else templates,
        **dict(zip(("train", "val", "test"), found, strict=False)),
        "shifts": found[3:],
    }


def _shared(name: str, path: Path) -> list[dict[str, Any]]:
    """The ``[[shifts]]`` that several suites have: of the package's ``data/shifts``, or a .toml file relative to the suite's."""
    own = name.endswith(".toml")
    file = path.parent / name if own else DATA / "shifts" / f"{name}.toml"
    if own and not file.is_file():
        raise UsageError(f"{path}: shifts_from: no file at {file}")
    if not file.is_file():
        raise UnknownName("shared shifts", name, (known.stem for known in file.parent.glob("*.toml")), hint=f"in {path}")
    found: list[dict[str, Any]] = tomllib.loads(file.read_text(encoding="utf-8"))["shifts"]
    return found


def _fields(given: dict[str, Any], rows: tuple[words.ClassRow, ...], before: list[dict[str, Any]], path: Path) -> dict[str, Any]:
    """The fields of one set: its own, those of the data set that it names, and its classes as the suite's head sees them."""
    if "images_of" in given:
        other = next((fields for fields in before if fields["name"] == given["images_of"]), None)
        if other is None:
            raise UsageError(f"{path}: {given['name']}: images_of {given['images_of']!r}: expected a set that stands before it")
        return other | given
    own: dict[str, Any] = {"classes": [row.name for row in rows], "folders": [row.folder for row in rows]}
    if "set" in given:
        dataset, _, split = given["set"].rpartition("/")
        of = datafiles.load(dataset, path.parent)
        own = of.table(split)
        if given.get("head", own.get("head")) != "own" and "class_groups" not in given | own and of.rows() != rows:
            own["class_groups"] = words.groups(of.rows(), rows, f"{path}: {given['set']}")
    fields = own | {key: value for key, value in given.items() if key != "set"}
    if "val" in fields:
        dataset, _, split = fields["val"].rpartition("/")
        fields["val"] = datafiles.load(dataset, path.parent).table(split)
    if "keep" in fields:
        fields["keep"] = str(path.parent / fields["keep"])
    return fields
