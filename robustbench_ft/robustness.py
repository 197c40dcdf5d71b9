"""Effective robustness: how far above the line of ordinary models an accuracy under shift lies (DESIGN 7.1, 7.4)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from robustbench_ft.baselines import Axis, BaselineLine, bounded, clamp, transform
from robustbench_ft.records import Counts
from robustbench_ft.statistics import Interval, seed_noise, t_interval

MAX_BEYOND = 0.005
"""Beyond the pool's ID range by more than this, a value is extrapolated (DESIGN 7.3)."""


class Measured(NamedTuple):
    """One shift of one row: its line, and the row's counts per seed on the line's ID axis and on the shift."""

    line: BaselineLine
    id: Sequence[Counts]
    ood: Sequence[Counts]


class Rho(NamedTuple):
    """Effective robustness with its 95% interval, and z: the distance to the line in prediction standard deviations."""

    value: float
    low: float
    high: float
    z: float
    axis: Axis
    id: float
    """ID accuracy on that axis."""
    extrapolated: bool


def effective_robustness(shift: Measured) -> Rho:
    """Effective robustness (rho): OOD accuracy minus the line at the same ID accuracy, mean over seeds."""
    value, low, high = mean_effective_robustness([shift])
    x, p = _position(shift)
    line, scale = shift.line, transform(shift.line.scale)
    q = _mean(bounded(counts, line.scale) for counts in shift.ood)
    z = (scale.forward(q) - line.intercept - line.slope * x) / line.prediction_sd(x) if line.s > 0 else math.inf
    beyond = max(line.id_range[0] - p, p - line.id_range[1])
    return Rho(value, low, high, z, line.axis, p, beyond > MAX_BEYOND)


def mean_effective_robustness(shifts: Sequence[Measured]) -> Interval:
    """Plain mean of rho over ``shifts``; 95% interval by the delta method, t with Satterthwaite's degrees of freedom.

    Assumptions. Images of different shifts and of the ID test set are independent. The ID error is one error shared
    by all shifts (exact on the full axis; the cautious side on class-matched axes, which overlap). Lines fitted to the
    same reference models share their errors: a model's residuals on two shifts have the covariance seen in the pool,
    different models are independent. That the reference models saw the same test images is left out.
    Seed noise comes from the per-seed means themselves.
    """
    per_seed = np.mean([_rho_per_seed(shift) for shift in shifts], axis=0)
    slopes, places, id_sd, ood = [], [], 0.0, 0.0
    for shift in shifts:
        scale, n = transform(shift.line.scale), shift.ood[0].n
        x, p = _position(shift)
        p = clamp(p, shift.id[0].n)
        share = scale.slope(shift.line.intercept + shift.line.slope * x) / len(shifts)
        id_sd += share * shift.line.slope / scale.slope(x) * math.sqrt(p * (1 - p) / shift.id[0].n)
        q = clamp(_mean(counts.accuracy for counts in shift.ood), n)
        ood += q * (1 - q) / n / len(shifts) ** 2
        slopes.append(share)
        places.append(x)
    line = _shared_line_variance([shift.line for shift in shifts], slopes, places)
    df = min(shift.line.m for shift in shifts) - 2
    parts = [(line, df), (id_sd**2, math.inf), (ood, math.inf), seed_noise(per_seed.tolist())]
    return t_interval(float(per_seed.mean()), parts)


def ordinary(lines: Sequence[BaselineLine], id_accuracy: float) -> Interval:
    """Mean over ``lines`` at one ID accuracy, and where 95% of ordinary models (like the pool's) lie around it."""
    slopes, places, values = [], [], []
    for line in lines:
        scale = transform(line.scale)
        places.append(scale.forward(id_accuracy))
        slopes.append(scale.slope(line.intercept + line.slope * places[-1]) / len(lines))
        values.append(line(id_accuracy))
    spread = _shared_line_variance(lines, slopes, places, new_model=True)
    return t_interval(_mean(values), [(spread, min(line.m for line in lines) - 2)])


def _shared_line_variance(
    lines: Sequence[BaselineLine], shares: Sequence[float], places: Sequence[float], *, new_model: bool = False
) -> float:
    """Variance of sum_s share_s x line_s(place_s), on the axis scale; one line gives s^2 (1/m + (x - mean)^2 / Sxx).

    ``new_model``: of a new ordinary model's distance to that sum; one line gives s^2 (1 + 1/m + (x - mean)^2 / Sxx).
    """
    total = 0.0
    for a, share_a, x_a in zip(lines, shares, places, strict=True):
        for b, share_b, x_b in zip(lines, shares, places, strict=True):
            at = {name: index for index, name in enumerate(b.names)}
            pairs = [(i, at[name]) for i, name in enumerate(a.names) if name in at]
            if len(pairs) < 3:
                continue
            i, j = (np.array(side) for side in zip(*pairs, strict=True))
            covariance = float((a.residuals[i] * b.residuals[j]).sum()) / (len(pairs) - 2)
            line_error = float((a.weights(x_a)[i] * b.weights(x_b)[j]).sum())
            total += share_a * share_b * covariance * (line_error + new_model)
    return max(total, 0.0)


def _rho_per_seed(shift: Measured) -> list[float]:
    pairs = zip(shift.id, shift.ood, strict=True)
    return [ood.accuracy - shift.line(bounded(counts, shift.line.scale)) for counts, ood in pairs]


def _position(shift: Measured) -> tuple[float, float]:
    """The row's place on the line's ID axis: (axis value, accuracy)."""
    p = _mean(bounded(counts, shift.line.scale) for counts in shift.id)
    return transform(shift.line.scale).forward(p), _mean(counts.accuracy for counts in shift.id)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
