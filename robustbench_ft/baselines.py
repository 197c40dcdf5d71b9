"""Baselines: pools of reference models, and the lines that are fitted to them.

A pool holds models trained in the standard way on the ID training set only, as counts, in a versioned JSON file
(``data/baselines/<name>@<version>.json``). Lines are fitted when they are asked for and never stored (DESIGN 7.2).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, ValidationError, model_validator

from robustbench_ft.errors import DataError, UnknownName
from robustbench_ft.files import canonical_json, digest, write_atomic
from robustbench_ft.records import Counts
from robustbench_ft.statistics import Floats
from robustbench_ft.suites import DATA, Suite, Value, fault

BASELINES = DATA / "baselines"
MIN_R2 = 0.5
MIN_ABOVE_CHANCE = 0.05

TransformName = Literal["logit", "probit", "linear"]
Axis = Literal["full", "class-matched"]


class Transform(NamedTuple):
    """The scale on which the line is straight: accuracy to axis, axis to accuracy, and the slope of the latter."""

    forward: Callable[[float], float]
    inverse: Callable[[float], float]
    slope: Callable[[float], float]
    """d inverse / d axis, at an axis value."""


def expit(x: float) -> float:
    """The logistic function, without overflow."""
    return 0.5 * (1 + math.tanh(x / 2))


def transform(name: TransformName) -> Transform:
    """The scale of that name."""
    if name == "logit":
        return Transform(lambda p: math.log(p / (1 - p)), expit, lambda x: expit(x) * expit(-x))
    if name == "probit":
        from scipy.special import ndtr, ndtri

        def density(x: float) -> float:
            return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)

        return Transform(lambda p: float(ndtri(p)), lambda x: float(ndtr(x)), density)
    return Transform(float, float, lambda x: 1.0)


def clamp(p: float, n: int) -> float:
    """Accuracies of 0 and 1 become (k + 0.5) / (n + 1): their logits are not finite (DESIGN 7.1)."""
    return p if 0 < p < 1 else (p * n + 0.5) / (n + 1)


class Reference(Value):
    """One reference model: counts per ``<test set>``, and ``<ID set>/<shift>`` for the class-matched ID accuracy."""

    name: str
    note: str = ""
    counts: dict[str, Counts]


class Baseline(Value):
    """A pool of reference models and how lines are fitted to it."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*@[0-9]+$")
    suite: str
    protocol: str
    id_set: str
    """The ID test set, for example ``mini-test``."""
    classes: int = Field(ge=2)
    """Number of classes: chance is 1 / classes."""
    transform: TransformName = "logit"
    source: str
    """Where the figures come from: a script and its seed, or a paper."""
    models: tuple[Reference, ...] = Field(min_length=3)

    @model_validator(mode="after")
    def _names_once(self) -> Baseline:
        names = [model.name for model in self.models]
        if len(set(names)) < len(names):
            raise ValueError("a reference model is listed twice")
        return self

    @property
    def hash(self) -> str:
        """SHA-256 of the content."""
        return digest(self.model_dump(mode="json"))

    def save(self, path: Path) -> None:
        """Write as JSON, indented for review."""
        value = json.loads(canonical_json(self.model_dump(mode="json")))
        write_atomic(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")

    def lines(self, suite: Suite, scale: TransformName | None = None) -> dict[str, BaselineLine]:
        """The line of every shift of ``suite`` for which three reference models or more have counts."""
        found = {}
        for spec in suite.shifts:
            matched = f"{self.id_set}/{spec.name}"
            use = spec.class_groups is not None and any(matched in model.counts for model in self.models)
            id_key, axis = (matched, "class-matched") if use else (self.id_set, "full")
            pool = [model for model in self.models if {id_key, spec.name} <= model.counts.keys()]
            if len(pool) >= 3:
                named = {model.name: (model.counts[id_key], model.counts[spec.name]) for model in pool}
                chance = 1 / (len(spec.class_groups) if spec.class_groups else self.classes)
                found[spec.name] = fit(named, scale or self.transform, axis=axis, chance=chance)  # type: ignore[arg-type]
        return found

    def to_json(self, suite: Suite) -> dict[str, Any]:
        """The document of ``rbft show``: the pool's size and hash, and the coefficients of every line."""
        about: dict[str, Any] = self.model_dump(mode="json", exclude={"models"})
        lines = {name: line.to_json() for name, line in self.lines(suite).items()}
        return about | {"hash": self.hash, "models": len(self.models), "lines": lines}


@dataclass(frozen=True)
class BaselineLine:
    """``axis(OOD) = slope x axis(ID) + intercept``, least squares over ``m`` reference models."""

    scale: TransformName
    axis: Axis
    slope: float
    intercept: float
    s: float
    """Residual standard deviation on the axis scale, m - 2 degrees of freedom."""
    r2: float
    names: tuple[str, ...]
    x: Floats
    residuals: Floats
    id_range: tuple[float, float]
    """Lowest and highest ID accuracy of the pool."""
    unusable: str
    """Why the line says nothing; empty where it is usable."""

    @property
    def m(self) -> int:
        """Number of reference models."""
        return len(self.x)

    @property
    def mean_x(self) -> float:
        """Mean ID accuracy of the pool on the axis scale."""
        return float(self.x.mean())

    @property
    def sxx(self) -> float:
        """Sum of squared deviations of x."""
        return float(((self.x - self.mean_x) ** 2).sum())

    def to_json(self) -> dict[str, Any]:
        """Coefficients and fit."""
        names = ("scale", "axis", "m", "slope", "intercept", "s", "r2", "mean_x", "sxx", "id_range", "unusable")
        return {name: getattr(self, name) for name in names}

    def __call__(self, id_accuracy: float) -> float:
        """The OOD accuracy that the line predicts."""
        scale = transform(self.scale)
        return scale.inverse(self.intercept + self.slope * scale.forward(id_accuracy))

    def weights(self, x: float) -> Floats:
        """[m] how much each reference model's OOD value counts in the prediction at ``x`` (on the axis scale)."""
        return np.asarray(1 / self.m + (x - self.mean_x) * (self.x - self.mean_x) / self.sxx)

    def prediction_sd(self, x: float) -> float:
        """Standard deviation, on the axis scale, of a new ordinary model's distance to the line at ``x``."""
        return self.s * math.sqrt(1 + 1 / self.m + (x - self.mean_x) ** 2 / self.sxx)


def fit(pool: dict[str, tuple[Counts, Counts]], scale: TransformName, *, axis: Axis, chance: float) -> BaselineLine:
    """Least squares of OOD on ID over the pool (name -> ID counts, OOD counts), both on ``scale``."""
    forward = transform(scale).forward
    x, y = (np.array([forward(bounded(pair[side], scale)) for pair in pool.values()]) for side in (0, 1))
    dx, dy = x - x.mean(), y - y.mean()
    if not (dx**2).sum() > 0:
        raise DataError("the reference models all have the same ID accuracy: no line can be fitted")
    slope = float((dx * dy).sum() / (dx**2).sum())
    residuals = dy - slope * dx
    r2 = 1 - float((residuals**2).sum() / (dy**2).sum()) if (dy**2).sum() > 0 else 0.0
    median = float(np.median([ood.accuracy for _, ood in pool.values()]))
    reasons = [f"R2 {r2:.2f} is below {MIN_R2}"] * (r2 < MIN_R2)
    if median - chance < MIN_ABOVE_CHANCE:
        reasons.append(f"the pool's median {median:.1%} is within 5 points of chance ({chance:.1%})")
    ids = [counts.accuracy for counts, _ in pool.values()]
    return BaselineLine(
        scale,
        axis,
        slope,
        float(y.mean() - slope * x.mean()),
        s=math.sqrt(float((residuals**2).sum()) / (len(x) - 2)),
        r2=r2,
        names=tuple(pool),
        x=x,
        residuals=residuals,
        id_range=(min(ids), max(ids)),
        unusable=" and ".join(reasons),
    )


def bounded(counts: Counts, scale: TransformName) -> float:
    """The accuracy, clamped where the scale has no value at 0 and 1."""
    return counts.accuracy if scale == "linear" else clamp(counts.accuracy, counts.n)


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
