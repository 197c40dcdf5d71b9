"""Baseline lines: OOD accuracy of ordinary models as a function of ID accuracy, least squares on logit axes (DESIGN 7.2)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from robustbench_ft.errors import DataError
from robustbench_ft.records import Accuracy
from robustbench_ft.statistics import Floats

MIN_R2 = 0.5
MIN_ABOVE_CHANCE = 0.05
MIN_MODELS = 3
ASSUMED_N = 1000
"""Images behind a printed 0 or 1 whose test set's size nobody says: only its place on the axis depends on it."""

TransformName = Literal["logit", "probit", "linear"]
SCALES: tuple[TransformName, ...] = ("logit", "probit", "linear")
Axis = Literal["class-matched", "full"]
"""ID accuracy on a shift's classes alone, or on all: where a row has both, the first is used (DESIGN 7.1)."""
Lines = Mapping[str, Mapping[Axis, "Line"]]
"""Per shift and ID axis, its line."""


class Transform(NamedTuple):
    """The scale on which the line is straight: accuracy to axis, axis to accuracy, and the slope of the latter."""

    forward: Callable[[float], float]
    inverse: Callable[[float], float]
    slope: Callable[[float], float]
    """d inverse / d axis, at an axis value."""


def logit(p: float) -> float:
    """The inverse of the logistic function, for an accuracy between 0 and 1."""
    return math.log(p / (1 - p))


def expit(x: float) -> float:
    """The logistic function, without overflow."""
    return 0.5 * (1 + math.tanh(x / 2))


@functools.cache
def transform(name: TransformName) -> Transform:
    """The scale of that name."""
    if name == "logit":
        return Transform(logit, expit, lambda x: expit(x) * expit(-x))
    if name == "probit":
        from scipy.special import ndtr, ndtri

        def density(x: float) -> float:
            return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)

        return Transform(lambda p: float(ndtri(p)), lambda x: float(ndtr(x)), density)
    return Transform(float, float, lambda x: 1.0)


def clamp(p: float, n: float) -> float:
    """Accuracies of 0 and 1 become (k + 0.5) / (n + 1): their logits are not finite (DESIGN 7.1)."""
    return p if 0 < p < 1 else (p * n + 0.5) / (n + 1)


@dataclass(frozen=True, eq=False)
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
    """Lowest and highest ID accuracy of the pool; of one of two pieces, its end and the split."""
    unusable: str
    """Why the line says nothing; empty where it is usable."""

    @property
    def m(self) -> int:
        """Number of reference models."""
        return len(self.x)

    @functools.cached_property
    def mean_x(self) -> float:
        """Mean ID accuracy of the pool on the axis scale."""
        return float(self.x.mean())

    @functools.cached_property
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

    def prediction_sd(self, x: float) -> float:
        """Standard deviation, on the axis scale, of a new ordinary model's distance to the line at ``x``."""
        return self.s * math.sqrt(1 + 1 / self.m + (x - self.mean_x) ** 2 / self.sxx)


@dataclass(frozen=True, eq=False)
class Line:
    """The line of one shift on one ID axis: one piece, or two where the shift was filtered (DESIGN 7.3)."""

    pieces: tuple[BaselineLine, ...]
    """The lower ID accuracies first."""
    split: float | None = None
    """ID accuracy up to which the first of two pieces holds."""

    def at(self, id_accuracy: float) -> BaselineLine:
        """The piece that holds there."""
        return self.pieces[0] if self.split is None or id_accuracy <= self.split else self.pieces[-1]

    @property
    def unusable(self) -> str:
        """Why a piece says nothing; empty where all are usable."""
        if self.split is None:
            return self.pieces[0].unusable
        sides = (f"ID up to {self.split:.1%}", "above")
        told = zip(sides, self.pieces, strict=True)
        return "; ".join(f"{side}: {piece.unusable}" for side, piece in told if piece.unusable)

    def to_json(self) -> dict[str, Any]:
        """Every piece's coefficients."""
        return {"split": self.split, "pieces": [piece.to_json() for piece in self.pieces]}


class Shared(NamedTuple):
    """What two lines have in common through the reference models of both."""

    covariance: float
    """Of one model's two residuals."""
    share: tuple[float, float, float, float]
    """sum_i w_a(x_a)_i w_b(x_b)_i = share . (1, t_a, t_b, t_a t_b) with t = (x - mean) / Sxx."""


@functools.lru_cache(maxsize=100_000)
def shared(a: BaselineLine, b: BaselineLine) -> Shared | None:
    """None where fewer than three models are on both lines: nothing is known of their covariance."""
    at = {name: index for index, name in enumerate(b.names)}
    pairs = [(i, at[name]) for i, name in enumerate(a.names) if name in at]
    if len(pairs) < MIN_MODELS:
        return None
    i, j = (np.array(side) for side in zip(*pairs, strict=True))
    dx_a, dx_b = a.x[i] - a.mean_x, b.x[j] - b.mean_x
    share = (len(pairs) / (a.m * b.m), float(dx_a.sum()) / b.m, float(dx_b.sum()) / a.m, float((dx_a * dx_b).sum()))
    return Shared(float((a.residuals[i] * b.residuals[j]).sum()) / (len(pairs) - 2), share)


def fit(pool: Mapping[str, tuple[Accuracy, Accuracy]], scale: TransformName, *, axis: Axis, chance: float) -> BaselineLine:
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


def bounded(counts: Accuracy, scale: TransformName) -> float:
    """The accuracy, clamped where the scale has no value at 0 and 1."""
    return counts.accuracy if scale == "linear" else clamp(counts.accuracy, counts.n or ASSUMED_N)
