"""Planted alpha curves for ``coverage_matched.py``: true accuracies, the true difference of two curves, and draws of records.

A model's luck on an image is standard normal, and it is right where that is below a bar, the probit of its true accuracy.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from robustbench_ft.matched import RANGE, A, B
from robustbench_ft.records import Cost, Counts, Numerics, Point, RunRecord, StartRef
from robustbench_ft.sides import Side
from robustbench_ft.statistics import Floats
from robustbench_ft.suites import Suite
from robustbench_ft.yardstick import own

Bools = npt.NDArray[np.bool_]
LEVELS = (A, B, RANGE)
ALPHAS = np.round(np.linspace(0, 1, 11), 1)
IMAGE = 0.6
"""Share of a model's luck on an image that all models have in common."""
OF_A_ROW = 0.7
"""Share of the rest that the fine-tuned ends of a row's seeds have in common."""
SEED_SD = 0.03
"""Of a seed's fine-tuned end, in probits: 0.6 to 1.2 points, on every set by itself."""


class Planted(NamedTuple):
    """True accuracies on the ID test set and the five shifts at alpha 0, 0.5 and 1; parabolas in probits between them."""

    start: tuple[float, ...]
    middle: tuple[float, ...]
    end: tuple[float, ...]
    headline: float
    """The row's alpha."""

    def probits(self, alpha: Floats) -> Floats:
        """[K, 6] at ``alpha`` [K]."""
        from scipy.special import ndtri

        start, middle, end = (ndtri(np.array(values)) for values in (self.start, self.middle, self.end))
        a = alpha[:, None]
        found: Floats = (1 - a) * start + a * end + 4 * a * (1 - a) * (middle - (start + end) / 2)
        return found

    def accuracies(self, alpha: Floats) -> Floats:
        """[K, 6] at ``alpha`` [K]."""
        from scipy.special import ndtr

        found: Floats = ndtr(self.probits(alpha))
        return found


START = (0.765, 0.586, 0.818, 0.784, 0.438, 0.559)
MIDDLE = ((0.83, 0.70, 0.84, 0.80, 0.45, 0.60), (0.82, 0.66, 0.80, 0.77, 0.41, 0.57))
OOD_END = ((0.714, 0.784, 0.70, 0.40, 0.55), (0.70, 0.72, 0.66, 0.33, 0.50))
HEADLINES = (0.5, 0.6)


def curves(*ends: float) -> tuple[Planted, ...]:
    """A and B: their ID accuracies at alpha 1 are ``ends``."""
    planted = zip(MIDDLE, ends, OOD_END, HEADLINES, strict=True)
    return tuple(Planted(START, middle, (end, *ood), headline) for middle, end, ood, headline in planted)


STEADY, FLAT, TURNING, APART = (curves(*ends) for ends in ((0.885, 0.880), (0.858, 0.870), (0.835, 0.870), (0.858, 0.900)))


class Case(NamedTuple):
    """What is planted, and what the comparison sees of it."""

    curves: tuple[Planted, ...]
    seeds: int = 1
    predictions: bool = True


CASES = {
    "1 seed": Case(STEADY),
    "3 seeds": Case(STEADY, seeds=3),
    "without predictions": Case(STEADY, predictions=False),
    "A flattens": Case(FLAT),
    "A flattens, 3 seeds": Case(FLAT, seeds=3),
    "A turns back": Case(TURNING),
    "A flattens, ends apart": Case(APART),
    "A flattens, ends apart, 3 seeds": Case(APART, seeds=3),
}


def truth(planted: tuple[Planted, ...]) -> dict[str, Floats]:
    """Per level, the planted A - B per shift [5]. Where ID turns back, OOD is lower: the rising parts count."""
    drawn = [curve.accuracies(np.linspace(0, 1, 4001)) for curve in planted]
    rising = [curve[: curve[:, 0].argmax() + 1] for curve in drawn]
    at = [curve.accuracies(np.array([curve.headline]))[:, 0] for curve in planted]
    ids = (*at, np.linspace(max(curve[0, 0] for curve in drawn), min(curve[-1, 0] for curve in rising), 401))
    found = {}
    for level, points in zip(LEVELS, ids, strict=True):
        a, b = (np.array([np.interp(points, curve[:, 0], shift).mean() for shift in curve[:, 1:].T]) for curve in rising)
        found[level] = a - b
    return found


def draw(generator: np.random.Generator, suite: Suite, case: Case, n: int) -> list[Side]:
    """A and B of one start model, all points tested on the same ``n`` images a set.

    A model's luck on an image is normal: a share ``IMAGE`` is the image's, the rest mixes those of start and end by alpha.
    """
    image, start = generator.standard_normal((2, 6, n))
    sides = []
    for name, planted in zip("AB", case.curves, strict=True):
        probits, row = planted.probits(ALPHAS), generator.standard_normal((6, n))
        runs, hits = [], []
        for seed in range(case.seeds):
            drift = SEED_SD * generator.standard_normal(6) if case.seeds > 1 else np.zeros(6)
            end = OF_A_ROW**0.5 * row + (1 - OF_A_ROW) ** 0.5 * generator.standard_normal((6, n))
            right = {}
            for alpha, bars in zip(ALPHAS.tolist(), probits, strict=True):
                mix = ((1 - alpha) * start + alpha * end) / np.hypot(1 - alpha, alpha)
                right[alpha] = IMAGE**0.5 * image + (1 - IMAGE) ** 0.5 * mix < (bars + alpha * drift)[:, None]
            runs.append(record(suite, name, seed, right, planted.headline))
            hits.append({own(spec.name): values for spec, values in zip(suite.tests, right[planted.headline], strict=True)})
        sides.append(Side(name, tuple(runs), tuple(hits) if case.predictions else ()))
    return sides


def record(suite: Suite, method: str, seed: int, right: dict[float, Bools], headline: float) -> RunRecord:
    """The record of one seed's curve: per alpha, what was right, bool [6, N]."""

    def point(alpha: float) -> Point:
        counts = {own(s.name): Counts(k=int(hits.sum()), n=len(hits)) for s, hits in zip(suite.tests, right[alpha], strict=True)}
        return Point(name=f"alpha={alpha}", alpha=alpha, headline=alpha == headline, counts=counts)

    return RunRecord(
        suite=suite.name,
        protocol=suite.protocol,
        start=StartRef(name="planted", weights="0" * 64),
        method=method,
        config={},
        deterministic=False,
        seed=seed,
        selection={},
        points=tuple(point(alpha) for alpha in right),
        numerics=Numerics(device="cpu", precision="fp32", batch_size=1, threads=1),
        versions={},
        commit=None,
        dirty=None,
        cost=Cost(fit_seconds=0, evaluate_seconds=0),
        created="2026-01-01",
        host="",
    )
