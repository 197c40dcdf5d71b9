"""Effective robustness: how far above the line of ordinary models an accuracy under shift lies (DESIGN 7.1, 7.4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from robustbench_ft.lines import Axis, BaselineLine, bounded, clamp, shared, transform
from robustbench_ft.records import Accuracy
from robustbench_ft.statistics import Interval, seed_noise, t_interval, t_quantile

MAX_BEYOND = 0.005
"""Beyond the pool's ID range by more than this, a value is extrapolated (DESIGN 7.3)."""


class Measured(NamedTuple):
    """One shift of one row: its line, and the row's accuracies per seed on the line's ID axis and on the shift."""

    line: BaselineLine
    id: Sequence[Accuracy]
    ood: Sequence[Accuracy]


class Sensitivity(NamedTuple):
    """Lowest and highest value over logit, probit and linear axes and, where a row has both, over both ID axes."""

    low: float
    high: float

    @property
    def changes_sign(self) -> bool:
        """Whether "above the line" or "below the line" depends on the choice of axes."""
        return self.low < 0 < self.high


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
    unusable: str = ""
    """Why the line says nothing here; empty where it is usable."""
    sensitivity: Sensitivity | None = None


def effective_robustness(shift: Measured) -> Rho:
    """Effective robustness (rho): OOD accuracy minus the line at the same ID accuracy, mean over seeds."""
    value, low, high = mean_effective_robustness([shift])
    x, p = _position(shift)
    line, scale = shift.line, transform(shift.line.scale)
    q = _mean([bounded(counts, line.scale) for counts in shift.ood])
    above = scale.forward(q) - line.intercept - line.slope * x
    z = above / line.prediction_sd(x) if line.s > 0 else math.copysign(math.inf, above) if above else 0.0
    beyond = max(line.id_range[0] - p, p - line.id_range[1])
    return Rho(value, low, high, z, line.axis, p, beyond > MAX_BEYOND, line.unusable)


def seed_values(shifts: Sequence[Measured]) -> list[float]:
    """Per seed, the mean over shifts of rho."""
    return [_mean(rhos) for rhos in zip(*map(_rho_per_seed, shifts), strict=True)]


def plain_value(shifts: Sequence[Measured]) -> float:
    """Mean over seeds and shifts of rho, without an interval."""
    return _mean([rho for shift in shifts for rho in _rho_per_seed(shift)])


def mean_effective_robustness(shifts: Sequence[Measured]) -> Interval:
    """Plain mean of rho over ``shifts``; 95% interval by the delta method, t with Satterthwaite's degrees of freedom.

    Assumptions. Images of different shifts and of the ID test set are independent. The ID error is one error shared
    by all shifts (exact on the full axis; the cautious side on class-matched axes, which overlap). Lines fitted to the
    same reference models share their errors: a model's residuals on two shifts have the covariance seen in the pool,
    different models are independent. That the reference models saw the same test images is left out.
    Seed noise comes from the per-seed means themselves. Rounding of printed figures is an error like the images'.
    """
    per_seed = seed_values(shifts)
    slopes, places, id_sd, ood = [], [], 0.0, 0.0
    for shift in shifts:
        scale = transform(shift.line.scale)
        x, p = _position(shift)
        share = scale.slope(shift.line.intercept + shift.line.slope * x) / len(shifts)
        steep = share * shift.line.slope / scale.slope(x)
        id_sd += steep * math.sqrt(_variance(p, shift.id[0]))
        ood += _variance(_mean([counts.accuracy for counts in shift.ood]), shift.ood[0]) / len(shifts) ** 2
        slopes.append(share)
        places.append(x)
    line = _shared_line_variance([shift.line for shift in shifts], slopes, places)
    df = min(shift.line.m for shift in shifts) - 2
    parts = [(line, df), (id_sd**2, math.inf), (ood, math.inf), seed_noise(per_seed)]
    return t_interval(_mean(per_seed), parts)


def _variance(p: float, counts: Accuracy) -> float:
    """Of an accuracy on as many images, and of its rounding: even over one unit of the last digit; NaN without n."""
    if counts.n is None:
        return math.nan
    p = clamp(p, counts.n)
    return p * (1 - p) / counts.n + counts.half**2 / 3


def ordinary(lines: Sequence[BaselineLine], id_accuracy: float) -> Interval:
    """Mean over ``lines`` at one ID accuracy, and where 95% of ordinary models (like the pool's) lie around it.

    On logits, as pictures have it and z is counted: for one line these are the ends at z = t.
    """
    slopes, places, values = [], [], []
    for line in lines:
        scale = transform(line.scale)
        places.append(scale.forward(id_accuracy))
        slopes.append(scale.slope(line.intercept + line.slope * places[-1]) / len(lines))
        values.append(line(id_accuracy))
    spread = _shared_line_variance(lines, slopes, places, new_model=True)
    logits, value = transform("logit"), _mean(values)
    x, df = logits.forward(value), min(line.m for line in lines) - 2
    half = t_quantile(df) * math.sqrt(spread) / logits.slope(x)
    return Interval(value, logits.inverse(x - half), logits.inverse(x + half))


def _shared_line_variance(
    lines: Sequence[BaselineLine], shares: Sequence[float], places: Sequence[float], *, new_model: bool = False
) -> float:
    """Variance of sum_s share_s x line_s(place_s), on the axis scale; one line gives s^2 (1/m + (x - mean)^2 / Sxx).

    ``new_model``: of a new ordinary model's distance to that sum; one line gives s^2 (1 + 1/m + (x - mean)^2 / Sxx).
    """
    total = 0.0
    terms = [(line, share, (x - line.mean_x) / line.sxx) for line, share, x in zip(lines, shares, places, strict=True)]
    for a, share_a, t_a in terms:
        for b, share_b, t_b in terms:
            if common := shared(a, b):
                one, of_a, of_b, of_both = common.share
                line_error = one + of_a * t_a + of_b * t_b + of_both * t_a * t_b
                total += share_a * share_b * common.covariance * (line_error + new_model)
    return max(total, 0.0)


def _rho_per_seed(shift: Measured) -> list[float]:
    pairs = zip(shift.id, shift.ood, strict=True)
    return [ood.accuracy - shift.line(bounded(counts, shift.line.scale)) for counts, ood in pairs]


def _position(shift: Measured) -> tuple[float, float]:
    """The row's place on the line's ID axis: (axis value, accuracy)."""
    p = _mean([bounded(counts, shift.line.scale) for counts in shift.id])
    return transform(shift.line.scale).forward(p), _mean([counts.accuracy for counts in shift.id])


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
