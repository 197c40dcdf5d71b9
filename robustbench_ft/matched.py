"""Matched ID: two alpha curves at the same ID accuracy.

A curve goes through its points in the order of alpha; between neighbours every logit is linear. Where it turns back and
reaches an ID accuracy again, the part with the higher OOD mean counts: whoever chooses alpha would choose that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from robustbench_ft.likeness import Likeness, correlation, likeness
from robustbench_ft.lines import bounded, expit, transform
from robustbench_ft.records import RunRecord
from robustbench_ft.sides import Side, seed_noise
from robustbench_ft.statistics import NO_NOISE, Floats, Interval, t_interval
from robustbench_ft.suites import Suite
from robustbench_ft.yardstick import OOD, own

GRID = 41
"""ID accuracies, equally spaced, that stand for the common range."""
A, B, RANGE = "A's ID", "B's ID", "common range"


class Level(NamedTuple):
    """A - B where both have the ID accuracies ``id``: one, or the ends of a range that is averaged over."""

    id: tuple[float, ...]
    difference: dict[str, Interval]
    """Of the OOD mean and per headline shift."""


@dataclass(frozen=True)
class Matched:
    """Two alpha curves at the same ID accuracy."""

    levels: dict[str, Level]
    """At A's headline ID accuracy, at B's, and on average over the ID range that all curves have."""
    why_not: dict[str, str]
    """Per level that is missing, the reason."""
    turns: bool = False
    """Whether a curve reaches an ID accuracy twice."""


class Curve(NamedTuple):
    """One seed's alpha curve: K points in the order of alpha."""

    alpha: Floats
    x: Floats
    """[K] logit of ID accuracy."""
    y: Floats
    """[K, S] logit of accuracy on each headline shift."""

    def at(self, x: Floats) -> tuple[Floats, Floats]:
        """Where the logit of ID accuracy is ``x`` [G], inside the curve's range: accuracy per shift [G, S]; alpha [G]."""
        best, alpha = np.full((len(x), self.y.shape[1]), -np.inf), np.zeros(len(x))
        for j in np.flatnonzero(np.diff(self.x)):  # where ID stands still there is nothing in between
            t = (x - self.x[j]) / (self.x[j + 1] - self.x[j])
            values = _expit(np.outer(1 - t, self.y[j]) + np.outer(t, self.y[j + 1]))
            better = (t >= 0) & (t <= 1) & (values.mean(1) > best.mean(1))
            best[better] = values[better]
            alpha[better] = ((1 - t) * self.alpha[j] + t * self.alpha[j + 1])[better]
        return best, alpha

    @property
    def turns(self) -> bool:
        """Whether it reaches an ID accuracy twice."""
        steps = np.diff(self.x)
        return bool((steps > 0).any() and (steps < 0).any())


def matched(a: Side, b: Side, suite: Suite) -> Matched:
    """Compare the alpha curves of two rows at the same ID accuracy; the reasons, where that cannot be done."""
    shifts = [spec.name for spec in suite.headline_shifts]
    curves = [[curve for run in side.runs if (curve := _curve(run, suite.test.name, shifts))] for side in (a, b)]
    lacking = [n for n, side, found in zip("AB", (a, b), curves, strict=True) if len(found) < len(side.runs)]
    if not shifts or not all(spec.binomial for spec in (suite.test, *suite.headline_shifts)):
        return _nowhere("the suite has metrics that are no share of right answers" if shifts else "the suite has no shift")
    if lacking:
        return _nowhere(f"no alpha curve in {' and '.join(lacking)}")
    ranges = [(max(min(c.x) for c in side), min(max(c.x) for c in side)) for side in curves]
    low, high = max(r[0] for r in ranges), min(r[1] for r in ranges)
    if low >= high:
        told = (f"{name} {_percent(*ends)}" for name, ends in zip("AB", ranges, strict=True))
        return _nowhere(f"the curves have no ID accuracy in common ({'; '.join(told)})")
    alike = {name: likeness((a, b), name) for name in (suite.test.name, *shifts)}
    pair = _Pair((a, b), curves, suite.test.name, shifts, (low, high), alike)
    levels, why_not = {}, {}
    for index, (name, side) in enumerate(((A, a), (B, b))):
        p = float(np.mean(side.values({suite.test.name: 1.0})))
        if expit(low) <= p <= expit(high):
            levels[name] = pair.level([p], np.eye(2)[:, [index]])
        else:
            why_not[name] = f"{p:.1%} is outside the ID range that all curves have ({_percent(low, high)})"
    ends = np.zeros((2 * GRID, GRID))
    ends[0 if low == ranges[0][0] else GRID] = np.linspace(1, 0, GRID)
    ends[GRID - 1 if high == ranges[0][1] else 2 * GRID - 1] = np.linspace(0, 1, GRID)
    levels[RANGE] = pair.level(np.linspace(expit(low), expit(high), GRID).tolist(), ends)
    return Matched(levels, why_not, any(curve.turns for side in curves for curve in side))


def _nowhere(reason: str) -> Matched:
    return Matched({}, dict.fromkeys((A, B, RANGE), reason))


def _percent(low: float, high: float) -> str:
    return f"{expit(low):.1%} to {expit(high):.1%}"


def _curve(run: RunRecord, test: str, shifts: Sequence[str]) -> Curve | None:
    """The run's points that have an alpha and all sets; None with fewer than two ID accuracies."""
    names = [own(name) for name in (test, *shifts)]
    forward = transform("logit").forward
    points = sorted(
        (point.alpha, *(forward(bounded(point.counts[name], "logit")) for name in names))
        for point in run.points
        if point.alpha is not None and all(name in point.counts for name in names)
    )
    table = np.array(points)
    return Curve(table[:, 0], table[:, 1], table[:, 2:]) if len({point[1] for point in points}) > 1 else None


class _Pair(NamedTuple):
    """The curves of two rows, one per seed."""

    both: tuple[Side, Side]
    curves: Sequence[Sequence[Curve]]
    test: str
    shifts: Sequence[str]
    bounds: tuple[float, float]
    """Of the common ID range, as logits."""
    alike: Mapping[str, Likeness]
    """Per set."""

    def level(self, ids: Sequence[float], anchors: Floats) -> Level:
        """A - B, mean over ``ids`` [G], ID accuracies within bounds.

        ``anchors`` [2G, G]: whose ID accuracies ``ids`` are, of A's curve at ``ids`` and then of B's: they move with
        these curves' errors.
        Image errors by the delta method: where a curve lies sideways of the anchors by an error of ID, that costs its
        slope, taken over one standard deviation of ID to either side, as neighbouring points may lie closer than
        that. Errors at several ID accuracies and of the two curves go together as ``likeness`` says.
        """
        p = np.array(ids)
        spread = np.sqrt(p * (1 - p) / self._n(self.test))
        below, at, above = (np.clip(_logit(q), *self.bounds) for q in (p - spread, p, p + spread))
        width = (_expit(above) - _expit(below))[:, None]
        found = [[curve.at(at) for curve in side] for side in self.curves]
        slopes = [np.mean([(c.at(above)[0] - c.at(below)[0]) / width for c in side], axis=0) for side in self.curves]
        sideways = np.concatenate([-slopes[0], slopes[1]]) + anchors @ (slopes[0] - slopes[1])
        alphas = [np.mean([alpha for _, alpha in side], axis=0) for side in found]
        seeds = [np.array([values for values, _ in side]) for side in found]
        images = self._image_variances(alphas, sideways * np.tile(spread, 2)[:, None], [side.mean(0) for side in seeds])
        difference = {}
        for name, weights in self._weights().items():
            values = [(side @ weights).mean(1).tolist() for side in seeds]
            noise = seed_noise(self.both, values) or NO_NOISE
            value = float(np.mean(values[0]) - np.mean(values[1]))
            difference[name] = t_interval(value, [(images[name], math.inf), noise])
        return Level(tuple(dict.fromkeys((ids[0], ids[-1]))), difference)

    def _image_variances(self, alphas: list[Floats], sideways: Floats, q: list[Floats]) -> dict[str, float]:
        """Per measure; ``alphas``: per side [G]; ``sideways`` [2G, S]: what an SD of ID costs; ``q``: per side [G, S]."""
        together = {name: correlation(alphas, like) for name, like in self.alike.items()}

        def variance(name: str, signed: Floats) -> float:
            mean = signed / len(alphas[0])
            return float(mean @ together[name] @ mean)

        n = [self._n(name) for name in self.shifts]
        up = np.concatenate([sign * np.sqrt(side * (1 - side) / n) for sign, side in zip((1, -1), q, strict=True)])
        upright = np.array([variance(name, up[:, s]) for s, name in enumerate(self.shifts)])
        return {
            name: variance(self.test, sideways @ weights) + float(upright @ weights**2)
            for name, weights in self._weights().items()
        }

    def _weights(self) -> dict[str, Floats]:
        size = len(self.shifts)
        return {OOD: np.full(size, 1 / size)} | dict(zip(self.shifts, np.eye(size), strict=True))

    def _n(self, name: str) -> int:
        return self.both[0].first.headline.counts[own(name)].n or 0  # matched() takes shares of right answers alone


def _expit(x: Floats) -> Floats:
    accuracy: Floats = 1 / (1 + np.exp(-x))
    return accuracy


def _logit(p: Floats) -> Floats:
    p = np.clip(p, 1e-9, 1 - 1e-9)
    x: Floats = np.log(p / (1 - p))
    return x
