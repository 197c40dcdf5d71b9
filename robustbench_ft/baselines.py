"""Baselines: pools of reference models, and the lines that are fitted to them.

A pool holds models trained in the standard way on the ID training set only, as counts, in a versioned JSON file
(``data/baselines/<name>@<version>.json``). Lines are fitted when they are asked for and never stored (DESIGN 7.2).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from robustbench_ft.errors import DataError, UnknownName
from robustbench_ft.files import DATA, digest, readable_json, write_atomic
from robustbench_ft.lines import MIN_MODELS, Axis, Line, Lines, TransformName, fit
from robustbench_ft.records import Accuracy
from robustbench_ft.specs import TestSet
from robustbench_ft.suites import Panel
from robustbench_ft.values import Value, fault

BASELINES = DATA / "baselines"


class Reference(Value):
    """One reference model: counts per ``<test set>``, and ``<ID set>/<shift>`` for the class-matched ID accuracy."""

    name: str
    note: str = ""
    counts: dict[str, Accuracy]


class Baseline(Value):
    """A pool of reference models and how lines are fitted to it."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*@[0-9]+$")
    suite: str
    protocol: str | None = None
    """The suite's protocol hash; None: the figures are published ones, which name no protocol."""
    id_set: str
    """The ID test set, for example ``mini-test``."""
    classes: int = Field(ge=2)
    """Number of classes: chance is 1 / classes."""
    transform: TransformName = "logit"
    source: str
    """Where the figures come from: a script and its seed, or a paper."""
    filtered: dict[str, str] = {}
    """Per shift that was filtered against a reference model, that model (DESIGN 7.3)."""
    models: tuple[Reference, ...] = Field(min_length=MIN_MODELS)

    @model_validator(mode="after")
    def _names_known_and_once(self) -> Baseline:
        names = [model.name for model in self.models]
        if len(set(names)) < len(names):
            raise ValueError("a reference model is listed twice")
        if unknown := set(self.filtered.values()) - set(names):
            raise ValueError(f"filtered against {', '.join(sorted(unknown))}, which is no model of the pool")
        return self

    @property
    def hash(self) -> str:
        """SHA-256 of the content."""
        return digest(self.model_dump(mode="json", exclude_defaults=True))

    def save(self, path: Path) -> None:
        """Write as JSON, indented for review."""
        write_atomic(path, readable_json(self.model_dump(mode="json", exclude_defaults=True), rows="models"))

    def lines(self, panel: Panel, scale: TransformName | None = None) -> Lines:
        """Per shift of ``panel``, its line on each ID axis that three reference models or more have."""
        return {
            spec.name: lines for spec in panel.shifts if (lines := self._axes(spec, scale or self.transform))
        }  # fmt: skip

    def _axes(self, spec: TestSet, scale: TransformName) -> Mapping[Axis, Line]:
        keys: dict[Axis, str] = {"class-matched": f"{self.id_set}/{spec.name}", "full": self.id_set}
        pools = {axis: [m for m in self.models if {key, spec.name} <= m.counts.keys()] for axis, key in keys.items()}
        return {axis: line for axis in keys if (line := self._line(spec, keys[axis], pools[axis], (axis, scale)))}

    def _line(self, spec: TestSet, id_key: str, pool: list[Reference], how: tuple[Axis, TransformName]) -> Line | None:
        """One piece, or two where the shift was filtered against a model of the pool.

        None where too few models differ in ID accuracy.
        """
        axis, scale = how
        pairs = {model.name: (model.counts[id_key], model.counts[spec.name]) for model in pool}
        filtered_by = pairs.pop(self.filtered.get(spec.name, ""), None)
        if spec.name in self.filtered and not filtered_by:
            return None  # nothing says where the pieces would meet
        sides = [pairs]
        if filtered_by:
            split = filtered_by[0].accuracy
            sides = [{n: p for n, p in pairs.items() if (p[0].accuracy <= split) == below} for below in (True, False)]
        if min(len({pair[0].accuracy for pair in side.values()}) for side in sides) < MIN_MODELS:
            return None
        chance = 1 / (spec.subset or self.classes)
        pieces = tuple(fit(side, scale, axis=axis, chance=chance) for side in sides)
        if not filtered_by:
            return Line(pieces)
        lower, upper = pieces
        ends = ((lower.id_range[0], split), (split, upper.id_range[1]))
        return Line(tuple(dataclasses.replace(p, id_range=e) for p, e in zip(pieces, ends, strict=True)), split)

    def panel(self) -> Panel:
        """The test sets of the pool, where they are a user's own that no suite names."""
        keys = dict.fromkeys(key for model in self.models for key in model.counts)
        matched = {key.partition("/")[2] for key in keys if "/" in key}
        sets = {
            key: TestSet(name=key, n=self.size(key), subset=self.classes if key in matched else None)
            for key in keys
            if "/" not in key
        }
        shifts = tuple(spec for name, spec in sets.items() if name != self.id_set)
        return Panel(name=self.suite, title=self.suite, test=sets[self.id_set], shifts=shifts)

    def size(self, key: str) -> int | None:
        """Images behind the pool's figures of that key, where they are known."""
        return next((model.counts[key].n for model in self.models if key in model.counts), None)

    def to_json(self, panels: Iterable[Panel]) -> dict[str, Any]:
        """The document of ``rbft show``: the pool's size and hash, and the coefficients of every line."""
        about: dict[str, Any] = self.model_dump(mode="json", exclude={"models"})
        found = {name: axes for panel in panels for name, axes in self.lines(panel).items()}
        lines = {name: {axis: line.to_json() for axis, line in axes.items()} for name, axes in found.items()}
        return about | {"hash": self.hash, "models": len(self.models), "lines": lines}


def names() -> list[str]:
    """The baselines that ship with the package."""
    return sorted(path.stem for path in BASELINES.glob("*.json"))


def load(name: str) -> Baseline:
    """The baseline of that id, or of that file when ``name`` ends in ``.json``; UnknownName or DataError otherwise."""
    path = Path(name) if name.endswith(".json") else BASELINES / f"{name}.json"
    if not name.endswith(".json") and not path.is_file():
        raise UnknownName("baseline", name, names(), hint="rbft list baselines")
    try:
        return Baseline.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"no baseline at {path}", hint="rbft list baselines") from error
    except ValidationError as error:
        raise DataError(f"{path}: {fault(error)}") from error
