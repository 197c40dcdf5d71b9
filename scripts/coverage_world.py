"""What coverage.py plants: lines, reference models, rows with known gaps and known ties, as counts of right answers."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from robustbench_ft import baselines
from robustbench_ft.lines import BaselineLine, fit, transform
from robustbench_ft.records import Accuracy, Counts, Figure
from robustbench_ft.robustness import Measured

Generator = np.random.Generator
Floats = npt.NDArray[np.float64]
ID_N, MATCHED_N = 50_000, 6_250
ID_SEED_SD, OOD_SEED_SD = 0.002, 0.005
OF_ROW, OF_SEED = 0.15, 0.25
"""Shares of the images that each row answers in its own way, and each seed of it; all rows answer the others alike.

So the hits of two seeds correlate at 0.75, those of two rows at 0.60 (measured on mini: 0.72 and more; 0.51 to 0.98).
"""
COMMON = 0.5
"""Correlation of the hits of two models where all take the same test (26 classifiers on CIFAR-10.1 v4: 0.48)."""


class Shift(NamedTuple):
    """A planted line on logit axes, the SD of ordinary models around it, images, and the gap that the row has."""

    slope: float
    intercept: float
    s: float
    n: int
    rho: float

    def at(self, x: Floats) -> Floats:
        """True accuracy of a model on the line."""
        return expit(self.intercept + self.slope * x)


SHIFTS = {
    "V2": Shift(0.92, -0.50, 0.02, 10_000, 0.03),
    "R": Shift(0.91, -1.60, 0.10, 30_000, 0.12),
    "Sketch": Shift(1.07, -2.37, 0.13, 50_000, 0.10),
    "ObjectNet": Shift(1.20, -2.02, 0.10, 18_574, -0.04),
    "small": Shift(1.00, -1.50, 0.30, 2_000, 0.0),
}
"""The first four as in imagenet-testbed@1, full axis; a fifth like it with few images and much spread."""
MATCHED = "ObjectNet, class-matched"
MINI = {"id": (0.85, 0.5), "v2": (0.78, 0.1), "sketch": (0.80, 0.1), "r": (0.75, 0.1), "on": (0.60, 0.1), "a": (0.70, 0.1)}
"""Test sets of 2,000 images: true accuracy, and weight in the ID/OOD mean."""
MINI_N = 2_000


class Kind(NamedTuple):
    """How a row is measured: seeds, their noise in units of the planted SDs, printed to 0.1 points or counted."""

    seeds: int = 1
    noise: float = 0.0
    printed: bool = False


def expit(x: Floats) -> Floats:
    """The logistic function of an array."""
    return 0.5 * (1 + np.tanh(x / 2))


@functools.cache
def reference_x(m: int) -> Floats:
    """Logits of ``m`` true ID accuracies: those of imagenet-testbed@1's pool, at evenly spaced ranks."""
    pool = baselines.load("imagenet-testbed@1").models
    found = [transform("logit").forward(model.counts["imagenet-val"].accuracy) for model in pool]
    return np.quantile(found, np.linspace(0, 1, m))


def residuals(generator: Generator, m: int) -> Floats:
    """Of ``m`` ordinary models on the five shifts, [m, 5]: correlated at 0.4, R and Sketch at 0.9, as in the testbed."""
    correlation = np.full((5, 5), 0.4) + 0.6 * np.eye(5)
    correlation[1, 2] = correlation[2, 1] = 0.9
    drawn: Floats = generator.standard_normal((m, 5)) @ np.linalg.cholesky(correlation).T
    return drawn * [shift.s for shift in SHIFTS.values()]


def counts(generator: Generator, n: int, p: Floats, luck: float = 0.0) -> list[Counts]:
    """Right answers of models with true accuracies ``p`` [m], binomial.

    ``luck``: standard normal; where it is not 0, ``COMMON`` of the image error's variance is the same for all models.
    """
    if luck:
        error = math.sqrt(COMMON) * luck + math.sqrt(1 - COMMON) * generator.standard_normal(len(p))
        k = np.clip(np.round(n * p + np.sqrt(n * p * (1 - p)) * error), 0, n).astype(int)
    else:
        k = generator.binomial(n, p)
    return [Counts(k=int(one), n=n) for one in k]


def tested(generator: Generator, x: Floats, y: Floats, luck: Floats) -> dict[str, tuple[list[Counts], list[Counts]]]:
    """Per line, ID and OOD counts of models with true ID logits ``x`` [m] and residuals ``y`` [m, 5]."""
    ids = counts(generator, ID_N, expit(x), luck[0])
    found = {}
    for place, (name, shift) in enumerate(SHIFTS.items()):
        found[name] = ids, counts(generator, shift.n, expit(shift.intercept + shift.slope * x + y[:, place]), luck[1 + place])
    found[MATCHED] = counts(generator, MATCHED_N, expit(x)), found["ObjectNet"][1]
    return found


def line(ids: Sequence[Accuracy], oods: Sequence[Accuracy]) -> BaselineLine:
    """The package's fit."""
    pairs = {str(place): pair for place, pair in enumerate(zip(ids, oods, strict=True))}
    return fit(pairs, "logit", axis="full", chance=0.001)


def lines(generator: Generator, m: int, luck: Floats) -> dict[str, BaselineLine]:
    """The planted lines as fitted to ``m`` drawn reference models."""
    x = reference_x(m)
    return {name: line(*pair) for name, pair in tested(generator, x, residuals(generator, m), luck).items()}


def row(generator: Generator, x: float, kind: Kind, fitted: dict[str, BaselineLine]) -> dict[str, Measured]:
    """A row at true ID logit ``x`` with the planted gaps, measured per line."""
    place = np.array([x])
    p = float(expit(place)[0])
    sets = [(ID_N, p), *((s.n, float(s.at(place)[0]) + s.rho) for s in SHIFTS.values())]
    ids, *oods = figures(generator, sets, kind)
    found = {name: Measured(fitted[name], ids, ood) for name, ood in zip(SHIFTS, oods, strict=True)}
    matched = figures(generator, [(MATCHED_N, p)], kind)[0]
    return found | {MATCHED: Measured(fitted[MATCHED], matched, found["ObjectNet"].ood)}


def figures(generator: Generator, sets: Sequence[tuple[int, float]], kind: Kind) -> list[list[Accuracy]]:
    """Per set (images, true accuracy), the accuracies of the seeds; the first set is ID; OOD noise correlates at 0.5."""
    common, found = generator.standard_normal(kind.seeds), []
    for place, (n, p) in enumerate(sets):
        own = generator.standard_normal(kind.seeds)
        noise = kind.noise * (OOD_SEED_SD * (common + own) / math.sqrt(2) if place else ID_SEED_SD * own)
        found.append([printed(one) if kind.printed else one for one in seeds(generator, n, p, noise)])
    return found


def seeds(generator: Generator, n: int, p: float, noise: Floats) -> list[Counts]:
    """Counts of the seeds of one row, true accuracies ``p`` + noise [seeds]; they differ on ``OF_SEED`` of the images."""
    own = int(generator.binomial(n, OF_SEED))
    k = generator.binomial(n - own, p) + generator.binomial(own, np.clip(p + noise / OF_SEED, 0, 1))
    return [Counts(k=int(one), n=n) for one in k]


def printed(one: Counts) -> Accuracy:
    """As a paper prints it, to 0.1 points."""
    return Figure(value=Decimal(f"{one.accuracy:.3f}"), n=one.n)


def ties(generator: Generator, rows: int, number: int, seed_sd: float) -> tuple[list[dict[str, Floats]], Floats]:
    """Rows of ``number`` seeds that are equally good, on the test sets of ``MINI``.

    Per row and set, the share of seeds that got each image right; and each seed's ID/OOD mean, [rows, number]. Every
    seed's true ID/OOD mean has SD ``seed_sd``.
    """
    shares: list[dict[str, Floats]] = [{} for _ in range(rows)]
    values = np.zeros((rows, number))
    noise = seed_sd * generator.standard_normal((rows, number, 1)) / OF_SEED
    for name, (p, weight) in MINI.items():
        alike, of_row, of_seed = generator.multinomial(MINI_N, [1 - OF_ROW - OF_SEED, OF_ROW, OF_SEED])
        parts = [np.broadcast_to(generator.random(alike) < p, (rows, number, alike))]
        parts.append(np.broadcast_to(generator.random((rows, 1, of_row)) < p, (rows, number, of_row)))
        parts.append(generator.random((rows, number, of_seed)) < p + noise)
        right = np.concatenate(parts, axis=2)
        values += weight * right.mean(axis=2)
        for place in range(rows):
            shares[place][name] = right[place].mean(axis=0)
    return shares, values
