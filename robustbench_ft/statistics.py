"""Intervals, paired tests and ranks: plain functions of numbers, with no file and no suite in sight.

A row's error has two parts: the images it was tested on (another test set would give another count) and the training
seed. ``scipy.special`` is imported inside functions: it costs a quarter of a second.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Z95 = 1.959963984540054
"""97.5% quantile of the normal distribution."""
ALPHA = 0.05
MIN_SEEDS = 3
"""Rows with fewer seeds say too little about seed noise to enter the pooled estimate (DESIGN 7.4)."""

FEW = 25
"""Images that only one of two models got right, up to which McNemar's test is exact."""
MANY = 10**9
"""More images than anybody will collect."""

Floats = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """A value and its 95% interval."""

    value: float
    low: float
    high: float


class Noise(NamedTuple):
    """Variance of a row's mean over its seeds, and the degrees of freedom of that variance."""

    variance: float
    df: float


NO_NOISE = Noise(0.0, math.inf)


class Term(NamedTuple):
    """``weight`` times an accuracy ``p`` measured on ``n`` images and printed to plus or minus ``half``."""

    weight: float
    p: float
    n: int | None
    half: float = 0.0
    ends: tuple[float, float] | None = None
    """Of its 95% interval, where that is not Wilson's."""


def wilson(p: float, n: int | None) -> Interval:
    """Wilson's 95% score interval of an accuracy ``p`` on ``n`` images (Wilson, 1927); NaN ends where n is not known."""
    if n is None:
        return Interval(p, math.nan, math.nan)
    scale = 1 + Z95**2 / n
    centre = (p + Z95**2 / (2 * n)) / scale
    half = Z95 / scale * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n))
    return Interval(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)))


def t_quantile(df: float, q: float = 1 - ALPHA / 2) -> float:
    """Quantile ``q`` of Student's t; the normal distribution's for infinitely many degrees of freedom."""
    from scipy.special import ndtri, stdtrit

    return float(ndtri(q) if math.isinf(df) else stdtrit(df, q))


def t_pvalue(t: float, df: float) -> float:
    """Two-sided p-value of a t statistic."""
    from scipy.special import ndtr, stdtr

    return 2 * float(ndtr(-abs(t)) if math.isinf(df) else stdtr(df, -abs(t)))


def satterthwaite(parts: Iterable[tuple[float, float]]) -> Noise:
    """Sum of independent variances, each with its degrees of freedom, and the sum's (Satterthwaite, 1946)."""
    parts = list(parts)
    total = sum(variance for variance, _ in parts)
    spread = sum(variance**2 / df for variance, df in parts)
    return Noise(total, total**2 / spread if spread > 0 else math.inf)


def t_interval(value: float, parts: Iterable[tuple[float, float]]) -> Interval:
    """95% interval of ``value`` whose error is a sum of independent parts (variance, degrees of freedom)."""
    total, df = satterthwaite(parts)
    half = t_quantile(df) * math.sqrt(total)
    return Interval(value, value - half, value + half)


def seed_noise(values: Sequence[float]) -> Noise:
    """Noise of the mean of per-seed ``values``; one seed says nothing about it and adds none."""
    if len(values) < 2:
        return NO_NOISE
    return Noise(float(np.var(values, ddof=1)) / len(values), len(values) - 1)


def linear(terms: Sequence[Term], noise: Noise = NO_NOISE) -> Interval:
    """95% interval of a weighted sum of accuracies on independent images, plus seed noise.

    Image errors are combined from each accuracy's Wilson limits by MOVER (Zou and Donner, 2008): one term gives
    Wilson's interval, two with weights 1 and -1 Newcombe's for a difference. Accuracies that share images (a
    difference to the start model) are treated as independent, which makes the interval wider than it need be.
    The rounding of printed figures adds the variance of an even spread over one unit of their last digits.
    """
    below = above = 0.0
    for weight, p, n, half, known in terms:
        low, high = known or wilson(p, n)[1:]
        ends = sorted((weight * (low - p), weight * (high - p)))
        rounding = (Z95 * weight * half) ** 2 / 3
        below += ends[0] ** 2 + rounding
        above += ends[1] ** 2 + rounding
    value = sum(term.weight * term.p for term in terms)
    return Interval(value, value - _reach(below, noise), value + _reach(above, noise))


def _reach(squared: float, noise: Noise) -> float:
    """Length of one side; ``squared`` is the image part's squared length at 95%, kept as it is without seed noise."""
    if noise.variance == 0:
        return math.sqrt(squared)
    total, df = satterthwaite([(squared / Z95**2, math.inf), noise])
    return t_quantile(df) * math.sqrt(total)


def holm(pvalues: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given (Holm, 1979)."""
    adjusted, highest = [0.0] * len(pvalues), 0.0
    for step, index in enumerate(sorted(range(len(pvalues)), key=lambda i: pvalues[i])):
        highest = max(highest, min(1.0, (len(pvalues) - step) * pvalues[index]))
        adjusted[index] = highest
    return adjusted


def pooled_seed_variance(rows: Iterable[Sequence[float]]) -> Noise | None:
    """Variance of one seed's value, pooled over the rows with ``MIN_SEEDS`` seeds or more; None without such a row."""
    rows = [values for values in rows if len(values) >= MIN_SEEDS]
    df = sum(len(values) - 1 for values in rows)
    if not df:
        return None
    return Noise(sum((len(values) - 1) * float(np.var(values, ddof=1)) for values in rows) / df, df)


def paired_variance(a: Mapping[str, Floats], b: Mapping[str, Floats], weights: Mapping[str, float]) -> float:
    """Image variance of the difference of two weighted accuracies on the same images.

    ``a`` and ``b``: per test set, float [N], the share of a row's seeds that were right on each image. Sets are
    independent.
    """
    return sum(weight**2 * float(np.var(a[name] - b[name], ddof=1)) / len(a[name]) for name, weight in weights.items())


def difference_pvalue(difference: float, image_variance: float, seed: Noise) -> float:
    """Two-sided p-value of a difference of two rows with variance V_img + V_seed (DESIGN 7.4)."""
    values, images, seeds = (np.array([value], np.float64) for value in (difference, image_variance, seed.variance))
    return float(difference_pvalues(values, images, seeds, seed.df)[0])


def difference_pvalues(differences: Floats, image_variances: Floats, seed_variances: Floats, df: float) -> Floats:
    """``difference_pvalue`` for arrays of one shape; ``df``: degrees of freedom of the seed variances."""
    from scipy.special import ndtr, stdtr

    total = image_variances + seed_variances
    found: Floats = (differences == 0).astype(np.float64)
    sure = total > 0
    t, total, spread = np.abs(differences[sure]) / np.sqrt(total[sure]), total[sure], seed_variances[sure] ** 2 / df
    normal = spread == 0
    both = np.divide(total**2, spread, out=np.ones_like(total), where=~normal)
    found[sure] = 2 * np.where(normal, ndtr(-t), stdtr(both, -t))
    return found


def rank_ranges(differences: Floats, pvalues: Floats) -> list[tuple[int, int]]:
    """Per row, its rank (1 + rows significantly better) and the worst it may have (rows - rows significantly worse).

    ``differences`` and ``pvalues``: [R, R], row minus column. Significant: 5% after Holm over the row's comparisons.
    """
    ranges, rows = [], len(differences)
    for row in range(rows):
        order = np.argsort(np.delete(pvalues[row], row), kind="stable")
        ordered, signs = (np.delete(values[row], row)[order] for values in (pvalues, differences))
        beyond = ordered * np.arange(rows - 1, 0, -1) > ALPHA
        found = int(np.argmax(beyond)) if beyond.any() else rows - 1
        ranges.append((1 + int((signs[:found] < 0).sum()), rows - int((signs[:found] > 0).sum())))
    return ranges


def smallest_gap(image_variance: float, seed: Noise, power: float = 0.8) -> float:
    """The true gap that one two-sided test at 5% finds with probability ``power``.

    (t_0.975 + t_power) sqrt(V_img + V_seed), with Satterthwaite's degrees of freedom.
    """
    total, df = satterthwaite([(image_variance, math.inf), seed])
    return (t_quantile(df) + t_quantile(df, power)) * math.sqrt(total)


def images_needed(gap: float, image_variance: float, seed: Noise, power: float = 0.8) -> int | None:
    """Images at which ``smallest_gap`` is down to ``gap``; None where seed noise alone is too much for it.

    ``image_variance``: of one image, so that n images have ``image_variance / n``. The first n that is enough by
    doubling and halving: with very few degrees of freedom the gap need not fall all the way as n grows.
    """

    def enough(n: int) -> bool:
        return smallest_gap(image_variance / n, seed, power) <= gap

    high = 1
    while not enough(high):
        if high > MANY:
            return None
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p-value for two trained models on the same images (McNemar, 1947).

    ``only_a``, ``only_b``: images that one of them alone got right. Exact binomial on up to ``FEW`` of these; mid-p
    above, where the exact test is more cautious than it need be (Fagerland, Lydersen and Laake, 2013).
    """
    from scipy.special import bdtr

    least, n = min(only_a, only_b), only_a + only_b
    tail = float(bdtr(least, n, 0.5))
    if n > FEW:
        tail = (tail + (float(bdtr(least - 1, n, 0.5)) if least else 0.0)) / 2
    return min(1.0, 2 * tail)
