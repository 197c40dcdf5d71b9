"""Accuracies in, rows of numbers out: OOD mean, effective and relative robustness, with 95% intervals."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import stdev
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from robustbench_ft.baselines import Baseline
from robustbench_ft.lines import Axis
from robustbench_ft.robustness import (
    Measured,
    Rho,
    Sensitivity,
    effective_robustness,
    mean_effective_robustness,
    seed_values,
)
from robustbench_ft.statistics import NO_NOISE, Interval, Term, linear, seed_noise
from robustbench_ft.suites import Panel
from robustbench_ft.tallies import Tallies, interval
from robustbench_ft.yardstick import BOTH, OOD, Figures, Weights, Yardstick, measures, own

if TYPE_CHECKING:
    from robustbench_ft.metrics import Hits


EFFECTIVE = "effective robustness"
"""Its mean, as the name of a measure."""


class Score(NamedTuple):
    """Accuracy on one test set of ``n`` images, mean over seeds, with its 95% interval.

    The ends are NaN where there is no interval without predictions: macro-F1, worst region, a size that nobody says.
    """

    value: float
    low: float
    high: float
    n: int | None


class MeanRho(NamedTuple):
    """The mean of rho over shifts, with its 95% interval."""

    value: float
    low: float
    high: float
    over: tuple[str, ...]
    extrapolated: bool
    """Whether one of its values is."""
    sensitivity: Sensitivity


@dataclass(frozen=True)
class Subject:
    """What becomes a row: one point of a run with its seeds, or one model of a table."""

    model: str
    seeds: Sequence[Figures]
    starts: Sequence[Figures] | None = None
    """The start model's accuracies, one for each of ``seeds``; None: not known."""
    point: str = ""
    alpha: float | None = None
    headline: bool = False
    hits: Sequence[Hits] = ()
    """Per seed, for intervals of metrics that have none without predictions; empty where there are no predictions."""


@dataclass(frozen=True)
class Row:
    """One point of a run, or the mean over the seeds of that point, or a model of a table. All values are fractions."""

    model: str
    """For example ``wiseft alpha=0.5``."""
    point: str
    alpha: float | None
    headline: bool
    seeds: int
    id: Score | None
    id_on: dict[str, Score]
    """Per shift with classes of its own, ID accuracy on these: the class-matched axis (DESIGN 7.1)."""
    scores: dict[str, Score]
    """Per shift that was evaluated."""
    ood_mean: Interval | None
    """Plain mean over the headline shifts; None where one is missing."""
    id_ood_mean: Interval | None
    """(ID + OOD mean) / 2: what boards rank on."""
    effective: dict[str, Rho]
    effective_mean: MeanRho | None
    """Mean over the headline shifts whose line is usable in every row."""
    effective_all: MeanRho | None
    """Mean over all headline shifts, where that is another one and each line is usable in this row (DESIGN 7.3)."""
    relative: dict[str, Interval]
    """OOD accuracy minus the start model's."""
    relative_mean: Interval | None
    sd: dict[str, float] = field(default_factory=dict)
    """Standard deviation over the seeds per test set, of both means and of ``EFFECTIVE``; empty for one seed."""


@dataclass(frozen=True)
class Scores:
    """Rows, and what they were measured with."""

    yardstick: Yardstick
    rows: tuple[Row, ...]
    used: tuple[str, ...]
    """The shifts that the mean of rho is over."""

    @property
    def panel(self) -> Panel:
        """The suite's sets."""
        return self.yardstick.panel

    @property
    def baseline(self) -> Baseline | None:
        """What effective robustness is measured against."""
        return self.yardstick.baseline

    @functools.cached_property
    def axes(self) -> dict[str, set[Axis]]:
        """Per shift that a row has a rho on, the ID axes that rows stand on; in the panel's order."""
        found = {
            spec.name: {row.effective[spec.name].axis for row in self.rows if spec.name in row.effective}
            for spec in self.panel.shifts
        }
        return {name: axes for name, axes in found.items() if axes}

    @property
    def measured(self) -> tuple[str, ...]:
        """The shifts that a row has a rho on."""
        return tuple(self.axes)

    @property
    def extra(self) -> tuple[str, ...]:
        """What the second mean of rho is over, which holds the filtered shifts too; empty where no row has one."""
        return next((row.effective_all.over for row in self.rows if row.effective_all), ())


def score(subjects: Sequence[Subject], by: Yardstick) -> Scores:
    """One row per subject, in order."""
    measured = [by.measured(subject.seeds) for subject in subjects]
    used = _used(measured, by)
    return Scores(by, tuple(_row(s, m, by, used) for s, m in zip(subjects, measured, strict=True)), used)


def _used(measured: Iterable[dict[str, Measured]], by: Yardstick) -> tuple[str, ...]:
    """Headline shifts whose line says something, on the ID axes that the rows stand on: one rule for every row.

    Filtered ones are never among them: the mean stands without them, and beside it with them (DESIGN 7.3).
    """
    axes = {(name, shift.line.axis) for row in measured for name, shift in row.items()}
    aside = {name for name, axis in axes if by.lines[name][axis].unusable}
    aside |= set(by.baseline.filtered if by.baseline else ())
    return tuple(spec.name for spec in by.panel.headline_shifts if spec.name in by.lines and spec.name not in aside)


def _row(subject: Subject, measured: dict[str, Measured], by: Yardstick, used: Sequence[str]) -> Row:
    panel, seeds = by.panel, subject.seeds
    present = [spec.name for spec in panel.shifts if all(own(spec.name) in figures for figures in seeds)]
    known_id = all(own(panel.test.name) in figures for figures in seeds)
    means = measures(panel, [panel.test.name] * known_id + present)
    effective = {name: effective_robustness(shift) for name, shift in measured.items()}
    ranges, mean, mean_all = _means(measured, effective, seeds, by, used)
    starts = subject.starts
    itself = starts is not None and list(seeds) == list(starts)

    def relative(weights: Weights | None) -> Interval | None:
        if not (weights and starts and all(own(name) in figures for figures in starts for name in weights)):
            return None
        return Interval(0.0, 0.0, 0.0) if itself else _relative(weights, seeds, starts)

    return Row(
        model=subject.model,
        point=subject.point,
        alpha=subject.alpha,
        headline=subject.headline,
        seeds=len(seeds),
        id=_score(panel.test.name, subject) if known_id else None,
        id_on={spec.name: score for spec in panel.shifts if (score := _id_on(spec.name, subject, panel))},
        scores={name: _score(name, subject) for name in present},
        ood_mean=weighted(means[OOD], seeds, subject.hits) if OOD in means else None,
        id_ood_mean=weighted(means[BOTH], seeds, subject.hits) if BOTH in means else None,
        effective={name: rho._replace(sensitivity=ranges[name]) for name, rho in effective.items()},
        effective_mean=mean,
        effective_all=mean_all,
        relative={name: found for name in present if (found := relative({name: 1.0}))},
        relative_mean=relative(means.get(OOD)),
        sd=_spread(means, [measured[name] for name in mean.over] if mean else [], seeds) if len(seeds) > 1 else {},
    )


def _spread(means: Mapping[str, Weights], effective: Sequence[Measured], seeds: Sequence[Figures]) -> dict[str, float]:
    """Standard deviation over the seeds of each of ``means`` and of the mean of rho over the shifts ``effective``."""
    values = {name: [_value(weights, figures) for figures in seeds] for name, weights in means.items()}
    if effective:
        values[EFFECTIVE] = seed_values(effective)
    return {name: stdev(each) for name, each in values.items()}


def _means(
    measured: dict[str, Measured], effective: dict[str, Rho], seeds: Sequence[Figures], by: Yardstick, used: Sequence[str]
) -> tuple[dict[str, Sensitivity], MeanRho | None, MeanRho | None]:
    """Every rho's sensitivity; the mean over ``used``; the mean over all shifts with a line, where that is another one."""
    if not measured:
        return {}, None, None
    every = tuple(spec.name for spec in by.panel.headline_shifts if spec.name in by.lines)
    wanted = [tuple(used), every if set(every) != set(used) else ()]
    says_nothing = any(rho.unusable for name, rho in effective.items() if name in every)
    wanted = [names if set(names) <= set(measured) else () for names in wanted]
    wanted[1] = () if says_nothing else wanted[1]
    ranges, over = by.sensitivity(seeds, wanted)
    found: list[MeanRho | None] = []
    for names in wanted:
        extrapolated = any(effective[name].extrapolated for name in names)
        value = mean_effective_robustness([measured[name] for name in names]) if names else None
        found.append(MeanRho(*value, names, extrapolated, over[names]) if value else None)
    return ranges, found[0], found[1]


def weighted(weights: Weights, seeds: Sequence[Figures], hits: Sequence[Hits] = ()) -> Interval:
    """Weighted mean of accuracies, mean over seeds, with its 95% interval inside [0, 1].

    ``hits``, per seed, give the metrics an interval that are no share of right answers.
    """
    noise = seed_noise([_value(weights, figures) for figures in seeds]) if len(seeds) > 1 else NO_NOISE
    value, low, high = linear(_terms(weights, seeds, hits), noise)
    return Interval(value, low if math.isnan(low) else max(0.0, low), high if math.isnan(high) else min(1.0, high))


def _relative(weights: Weights, seeds: Sequence[Figures], starts: Sequence[Figures]) -> Interval:
    """Weighted sum of accuracies minus the start model's."""
    minus = {name: -weight for name, weight in weights.items()}
    differences = [_value(weights, a) - _value(weights, b) for a, b in zip(seeds, starts, strict=True)]
    return linear(_terms(weights, seeds) + _terms(minus, starts), seed_noise(differences))


def _value(weights: Weights, figures: Figures) -> float:
    return sum(weight * figures[own(name)].accuracy for name, weight in weights.items())


def _terms(weights: Weights, seeds: Sequence[Figures], hits: Sequence[Hits] = ()) -> list[Term]:
    found = []
    for name, weight in weights.items():
        first = seeds[0][own(name)]
        p = sum(figures[own(name)].accuracy for figures in seeds) / len(seeds)
        ends = None
        if isinstance(first, Tallies) and hits:
            ends = interval(p, np.mean([seed[own(name)] for seed in hits], axis=0))[1:]
        found.append(Term(weight, p, first.n, first.half, ends))
    return found


def _score(name: str, subject: Subject) -> Score:
    return Score(*weighted({name: 1.0}, subject.seeds, subject.hits), n=subject.seeds[0][own(name)].n)


def _id_on(shift: str, subject: Subject, panel: Panel) -> Score | None:
    """ID accuracy restricted to the classes of a shift; None where a seed does not have it."""
    name = f"{panel.test.name}/{shift}"
    if not all(name in figures for figures in subject.seeds):
        return None
    seeds = [{own(name): figures[name]} for figures in subject.seeds]
    return Score(*weighted({name: 1.0}, seeds), n=subject.seeds[0][name].n)


def to_json(scores: Scores) -> dict[str, Any]:
    """The document of ``rbft score --json``; fractions."""
    baseline = scores.baseline
    return {
        "suite": scores.panel.name,
        "baseline": baseline.id if baseline else None,
        "baseline_hash": baseline.hash if baseline else None,
        "axes": (scores.yardstick.scale or baseline.transform) if baseline else None,
        "rows": [row_json(row, scores.panel) for row in scores.rows],
    }


def row_json(row: Row, panel: Panel) -> dict[str, Any]:
    """One row of the document."""
    every = ({panel.test.name: row.id} if row.id else {}) | row.scores
    return {
        "model": row.model,
        "point": row.point,
        "alpha": row.alpha,
        "headline": row.headline,
        "seeds": row.seeds,
        "id": row.id.value if row.id else None,
        "ood_mean": row.ood_mean.value if row.ood_mean else None,
        "ood_mean_interval": plain(row.ood_mean),
        "id_ood_mean": plain(row.id_ood_mean),
        "id_on_classes_of": {name: plain(score) for name, score in row.id_on.items()},
        "scores": {name: plain(score) for name, score in every.items()},
        "effective_robustness": {name: plain(rho) for name, rho in row.effective.items()},
        "effective_robustness_mean": plain(row.effective_mean),
        "effective_robustness_mean_all": plain(row.effective_all),
        "relative_robustness": {name: plain(interval) for name, interval in row.relative.items()},
        "relative_robustness_mean": plain(row.relative_mean),
        "sd": row.sd,
        "partial": [spec.name for spec in panel.headline_shifts if spec.name not in row.scores],
    }


def plain(value: Any) -> Any:
    """A value as JSON has it: named tuples as objects, unknown ends (NaN) as null."""
    if hasattr(value, "_asdict"):
        found = {name: plain(one) for name, one in value._asdict().items()}
        return found | {"changes_sign": value.changes_sign} if isinstance(value, Sensitivity) else found
    return None if isinstance(value, float) and not math.isfinite(value) else list(value) if isinstance(value, tuple) else value
