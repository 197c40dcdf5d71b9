"""The benchmark as data: suites of one in-distribution data set and its shifts.

A suite is a TOML file: the package's own lie in ``robustbench_ft/data/suites``, a user's anywhere
(``--suite path/to/suite.toml``). Nothing here opens an image or imports torch.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from robustbench_ft.errors import UnknownName, UsageError
from robustbench_ft.files import digest

DATA = Path(__file__).parent / "data"
Groups = tuple[tuple[int, ...], ...]
Metric = Literal["top1", "pm", "macro-f1", "worst-region"]
"""``pm``: anchors whose every reviewed neighbour is right too, of all anchors."""


class Value(BaseModel):
    """A frozen value that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ignored_types=(cached_property,))


def fault(error: ValidationError) -> str:
    """The first thing that is wrong: ``field: what is wrong with it``."""
    first = error.errors()[0]
    told = "unknown field" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
    return f"{'.'.join(str(part) for part in first['loc']) or 'the file'}: {told}"


class TestSet(Value):
    """What a score needs to know of a test set: all that is known of one that is only met in published figures."""

    __test__ = False

    name: str
    """Name in tables and packs, for example ``mini-sketch``."""
    n: int | None = None
    """Number of examples when complete; anchors of the video sets; None: nobody says."""
    metric: Metric = "top1"
    headline: bool = True
    """Whether it counts in the OOD mean."""
    subset: int | None = None
    """Number of classes of a set that has not all of the suite's: only such a set has a class-matched ID axis."""
    aliases: tuple[str, ...] = ()
    """Other names that tables give it; matched like the name, without regard to case, dashes and dots."""

    @property
    def measure(self) -> str:
        """What its value is called."""
        return {"macro-f1": "macro-F1", "worst-region": "worst-region accuracy"}.get(self.metric, "accuracy")

    @property
    def binomial(self) -> bool:
        """Whether the value is a share of ``n`` right answers, so that it has an interval without predictions."""
        return self.metric in ("top1", "pm")


class DatasetSpec(TestSet):
    """One split of one data set: what differs between test sets is fields, what differs between formats is a reader."""

    n: int
    """Number of examples when complete."""
    format: str
    """The reader: a module of ``robustbench_ft.datasets``."""
    path: str
    """Where it lies: a folder under the data root (``--data``), or what the reader generates it from."""
    split: str
    digest: str | None = None
    """SHA-256 of ids, labels and, for generated sets, pixels (``datasets.content_digest``); None: not known."""
    head: Literal["suite"] = "suite"
    """Which head reads it: the suite's."""
    class_groups: Groups | None = None
    """For each class of the set, the suite's classes that count for it (max over them); None: the suite's own classes."""
    keep: str | None = None
    """File beside the suite's with one index a line: the members of the split that belong to this set."""
    checksums: tuple[tuple[str, str], ...] = ()
    """Official files with their checksums (``robustbench_ft.checksums``): ``["test_batch", "md5:4035..."]``; none: not known."""
    source: str = ""
    licence: str = ""
    superseded_by: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _subset_from_groups(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {"subset": len(values["class_groups"])} | values if values.get("class_groups") else values


class Panel(Value):
    """What a score needs to know of a suite: the ID test set, the shifts and the baseline."""

    name: str
    title: str
    baseline: str | None = None
    """The baseline that effective robustness is measured against: ``mini@1``, or a .json file, relative to the suite's."""
    no_baseline: str = ""
    """Why there is none, and what to do."""
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
    """Data sets that are reported together with the mean over them: each is one suite's ID test set."""

    name: str
    title: str
    sets: tuple[TestSet, ...]


class Suite(Panel):
    """One ID data set (train, val, test), any number of shifts, and the words that name its classes."""

    version: int = 1
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    start: str
    """Name of the start model that ``evaluate`` takes when none is given."""
    recipes: str
    """Key of the recipe table (``robustbench_ft/data/recipes.toml``) that gives methods their defaults here."""
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

    def groupings(self, spec: DatasetSpec) -> Iterator[tuple[str, Groups | None]]:
        """The groupings that ``spec``'s predictions are kept under: its own; for the ID test set, every shift's too."""
        yield "own", spec.class_groups
        if spec.name == self.test.name:
            yield from ((shift.name, shift.class_groups) for shift in self.shifts if shift.class_groups is not None)

    @cached_property
    def protocol(self) -> str:
        """SHA-256 of all that decides a score; numbers under two protocols never meet in one table."""
        decisive = {"name", "digest", "n", "metric", "head", "class_groups", "headline"}
        return digest(
            {
                "suite": [self.name, self.version],
                "classes": self.classes,
                "templates": self.templates,
                "preprocessing": self.preprocessing,
                "sets": [spec.model_dump(mode="json", include=decisive) for spec in (self.train, self.val, *self.tests)],
            }
        )


def names() -> list[str]:
    """The suites that ship with the package."""
    return sorted(path.stem for path in (DATA / "suites").glob("*.toml"))


def load(name: str) -> Suite:
    """The suite of that name, or of that file when ``name`` ends in ``.toml``; UnknownName or UsageError otherwise."""
    path = Path(name) if name.endswith(".toml") else DATA / "suites" / f"{name.lower()}.toml"
    if not path.is_file():
        if name.endswith(".toml"):
            raise UsageError(f"no suite file at {name}", hint="rbft list suites")
        if name.lower() in panel_names():
            raise UsageError(
                f"suite {name} is known for rbft score alone: rbft does not read its images", hint="rbft list suites"
            )
        raise UnknownName("suite", name, names(), hint="a suite of your own: --suite path/to/suite.toml")
    return parse(path)


def panel_names() -> list[str]:
    """The suites that can be scored: those that can be evaluated, and those that published figures are about."""
    return sorted({*names(), *(path.stem for path in (DATA / "panels").glob("*.toml"))})


def panel(name: str) -> Panel | Track:
    """What a score needs to know of the suite of that name, or file; of a track, its sets."""
    path = DATA / "panels" / f"{name.lower()}.toml"
    if name.endswith(".toml") or name.lower() in names():
        return load(name)
    if not path.is_file():
        raise UnknownName("suite", name, panel_names(), hint="a suite of your own: --suite path/to/suite.toml")
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return Track.model_validate(table) if "sets" in table else Panel.model_validate(table)


def parse(path: Path) -> Suite:
    """Read one suite file; fields of ``[defaults]`` hold for each of its data sets."""
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        common = table.pop("defaults", {})
        for key in ("train", "val", "test"):
            table[key] = common | table[key]
        if str(table.get("baseline", "")).endswith(".json"):
            table["baseline"] = str(path.parent / table["baseline"])
        table["shifts"] = [common | shift for shift in table.get("shifts", [])]
        return Suite.model_validate(table | {"file": path})
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise UsageError(f"{path}: {error!r} is wrong or missing in this suite file") from error
    except ValidationError as error:
        raise UsageError(f"{path}: field {fault(error)}") from error
