"""How far the image errors of the points of two alpha curves go together.

Points carry counts alone, but all are tested on the same images; only the headlines have predictions. So a model: the
errors of the start and of the two fine-tuned ends have one correlation, those of a point are the mix that its alpha
says. That correlation is the one under which the two headlines are as alike as their predictions are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from robustbench_ft.sides import Side
from robustbench_ft.statistics import Floats

STEPS = 30


class Likeness(NamedTuple):
    """For one test set."""

    same_start: bool
    ends: float
    """Correlation of the errors of two of the three models: the start, A's end, B's end."""
    cross: float
    """What A and B have in common, as a share of what the model gives."""
    sds: tuple[float, float]
    """Each headline's standard deviation over its binomial one: below 1 as the mean of seeds that do not always agree."""


def likeness(both: Sequence[Side], name: str) -> Likeness:
    """From the headlines' predictions on one set. Without them: a curve's errors are one, A's and B's have nothing in common."""
    same_start = both[0].first.start.weights == both[1].first.start.weights
    alphas = [side.first.headline.alpha for side in both]
    if not all(side.hits for side in both) or None in alphas:
        return Likeness(same_start, 1.0, 0.0, (1.0, 1.0))
    shares = [side.shares[name] for side in both]
    binomial = [float(share.mean() * (1 - share.mean())) for share in shares]
    if not all(share.std() for share in shares):
        return Likeness(same_start, 1.0, 0.0, (1.0, 1.0))
    seen = float(np.asarray(np.corrcoef(shares))[0, 1])
    low, high = 0.0, 1.0
    at = [np.array([alpha], float) for alpha in alphas]

    def expected(ends: float) -> float:
        return float(correlation(at, Likeness(same_start, ends, 1.0, (1.0, 1.0)))[0, 1])

    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if expected(middle) > seen else (middle, high)
    cross = min(1.0, max(0.0, seen) / (expected(low) or 1.0))
    sds = (float(shares[0].std()) / binomial[0] ** 0.5, float(shares[1].std()) / binomial[1] ** 0.5)
    return Likeness(same_start, low, cross, sds)


def correlation(alphas: Sequence[Floats], like: Likeness) -> Floats:
    """[2G, 2G] covariance of the errors at A's ``alphas`` [G], then B's, in binomial standard deviations."""
    models = np.full((4, 4), like.ends) + (1 - like.ends) * np.eye(4)  # A's start, B's start, A's end, B's end
    if like.same_start:
        models[0, 1] = models[1, 0] = 1.0
    mix = np.zeros((2 * len(alphas[0]), 4))
    for side, (alpha, rows) in enumerate(zip(alphas, np.split(mix, 2), strict=True)):
        rows[:, side], rows[:, 2 + side] = 1 - alpha, alpha
    found: Floats = mix @ models @ mix.T
    sd = np.sqrt(np.diag(found)) / np.repeat(like.sds, len(alphas[0]))
    found = found / np.outer(sd, sd)
    size = len(alphas[0])
    found[:size, size:] *= like.cross
    found[size:, :size] *= like.cross
    return found
