"""Metrics that are no share of right answers: from counts per class or region, and their bootstrap over sampling units.

    mean-per-class    mean over classes of the share of right answers
    macro-f1          mean of F1 over the classes that occur in the labels (as WILDS has it; Koh et al., 2021)
    worst-region      lowest share of right answers of any region; images of no region are left out

A test set's value comes from three counts per class (or region): right answers, examples, answers that named it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from robustbench_ft.statistics import Floats, Interval
from robustbench_ft.values import Value

Labels = npt.NDArray[np.int64]
TallyMetric = Literal["mean-per-class", "macro-f1", "worst-region"]

DRAWS = 1000
"""Bootstrap samples."""
BLOCK = 100
"""Samples multiplied at a time."""


class Tallies(Value):
    """Counts per class or region that a metric is computed from."""

    metric: TallyMetric
    right: tuple[int, ...]
    of: tuple[int, ...]
    """Examples of each."""
    called: tuple[int, ...] = Field(default=())
    """Answers that named each; macro-F1 alone needs it."""

    @model_validator(mode="after")
    def _fit_together(self) -> Tallies:
        sizes = {len(self.right), len(self.of), len(self.called) if self.metric == "macro-f1" else len(self.of)}
        if len(sizes) != 1:
            raise ValueError("right, of and called have one count per class each")
        if not any(self.of) or any(not 0 <= k <= n for k, n in zip(self.right, self.of, strict=True)):
            raise ValueError("every class has 0 to all of its examples right, and there is an example")
        if any(k > c for k, c in zip(self.right, self.called, strict=False)) or sum(self.called) > sum(self.of):
            raise ValueError("more right answers than answers")
        return self

    @functools.cached_property
    def accuracy(self) -> float:
        """The metric's value, in [0, 1]."""
        counts = np.array([self.right, self.of, self.called or self.of], np.float64)
        return float(measure(self.metric, counts))

    @property
    def n(self) -> None:
        """No number of examples gives it an interval: that takes predictions (``as_images``)."""

    @property
    def half(self) -> float:
        """Half a unit of the last digit: none was rounded away."""
        return 0.0


def measure(metric: TallyMetric, counts: Floats) -> Floats:
    """The metric's value, [...], from right, of and called: [..., 3, C]; NaN without an example."""
    right, of, called = np.moveaxis(counts, -2, 0)
    there = of > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        each = 2 * right / (of + called) if metric == "macro-f1" else right / of
        if metric == "worst-region":
            worst: Floats = np.where(there.any(-1), np.where(there, each, np.inf).min(-1), np.nan)
            return worst
        mean: Floats = np.where(there, each, 0.0).sum(-1) / there.sum(-1)
        return mean


def tally(metric: TallyMetric, answers: npt.NDArray[Any], labels: Labels, columns: Mapping[str, Labels], size: int) -> Tallies:
    """The counts of one test set: ``answers`` and ``labels`` [N] below ``size``, ``columns`` as ``ImageSet.columns`` has them."""
    right, of, called = _sums(metric, answers, labels, columns, size, np.zeros(len(labels), np.int64))[0].astype(int).tolist()
    return Tallies(metric=metric, right=right, of=of, called=called if metric == "macro-f1" else ())


def as_images(
    metric: TallyMetric, answers: npt.NDArray[Any], labels: Labels, columns: Mapping[str, Labels], size: int, *, name: str
) -> Floats:
    """The bootstrap of a metric as if it were a mean over ``DRAWS`` images: float64 [DRAWS].

    Their mean is the metric's value, their variance over ``DRAWS`` the bootstrap variance. All rows draw the same units of the
    test set ``name``, so that differences of two rows are paired. Unit: the column ``unit`` where there is one (cameras), else
    the image.
    """
    units = columns.get("unit", np.arange(len(labels)))
    _, unit_of = np.unique(units, return_inverse=True)
    sums = _sums(metric, answers, labels, columns, size, unit_of)
    value = float(measure(metric, sums.sum(0)))
    times = _times(name, len(sums))
    flat = sums.reshape(len(sums), -1).astype(np.float32)
    drawn = np.concatenate([times[at : at + BLOCK].astype(np.float32) @ flat for at in range(0, DRAWS, BLOCK)])
    draws = measure(metric, drawn.reshape(DRAWS, *sums.shape[1:]).astype(np.float64))
    draws = np.where(np.isfinite(draws), draws, value)
    found: Floats = value + (draws - draws.mean()) * math.sqrt(DRAWS)
    return found


def interval(value: float, images: Floats) -> Interval:
    """95% percentile interval from ``as_images`` (of one row, mean over its seeds).

    The samples are centred on the value: a sample of cameras lacks rare classes, so that plain percentiles of macro-F1 may
    all lie on one side of it.
    """
    draws = value + (images - images.mean()) / math.sqrt(len(images))
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(value, min(value, float(low)), max(value, float(high)))


def _sums(
    metric: TallyMetric, answers: npt.NDArray[Any], labels: Labels, columns: Mapping[str, Labels], size: int, unit_of: Labels
) -> Floats:
    """Per sampling unit, right, of and called per class or region: [U, 3, C]."""
    of, hit = labels, answers == labels
    if metric == "worst-region":
        of = columns["region"]
        size = int(of.max(initial=0)) + 1
    sums = np.zeros((int(unit_of.max(initial=0)) + 1, 3, size))
    counted = of >= 0
    _count(sums[:, 0], unit_of[counted & hit], of[counted & hit])
    _count(sums[:, 1], unit_of[counted], of[counted])
    if metric == "macro-f1":
        _count(sums[:, 2], unit_of, answers.astype(np.int64))
    return sums


def _count(table: Floats, rows: Labels, columns: Labels) -> None:
    """Add 1 at each (row, column) of ``table`` [U, C]."""
    size = table.shape[1]
    table += np.bincount(rows * size + columns, minlength=table.size).reshape(table.shape)


@functools.lru_cache(maxsize=8)
def _times(name: str, units: int) -> npt.NDArray[np.uint16]:
    """How often each sample draws each unit, with replacement: [DRAWS, U]; the same for every row and on every machine."""
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(blake2b(name.encode(), digest_size=8).digest())))
    drawn = (generator.integers(0, units, units) for _ in range(DRAWS))
    return np.stack([np.bincount(one, minlength=units).astype(np.uint16) for one in drawn])
