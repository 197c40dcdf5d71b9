"""What rows are measured with: a suite's sets, the baseline lines on every scale, and which of them a row can use."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from robustbench_ft import baselines
from robustbench_ft.baselines import Baseline
from robustbench_ft.errors import UsageError
from robustbench_ft.lines import SCALES, Axis, Lines, TransformName
from robustbench_ft.records import Accuracy
from robustbench_ft.robustness import Measured, Sensitivity, plain_value
from robustbench_ft.suites import Panel

AXES: tuple[Axis, ...] = get_args(Axis)

Figures = Mapping[str, Accuracy]
"""One seed's accuracies per ``<test set>/<grouping>``."""


def mean_accuracy(figures: Sequence[Accuracy]) -> float:
    """Over seeds."""
    return sum(figure.accuracy for figure in figures) / len(figures)


OOD, BOTH = "OOD mean", "ID/OOD mean"
Weights = Mapping[str, float]
"""Per test set, how much it counts in a weighted mean of accuracies."""


def own(name: str) -> str:
    """Key of a set's accuracy under its own classes."""
    return f"{name}/own"


def measures(panel: Panel, present: Collection[str]) -> dict[str, Weights]:
    """What can be compared on the test sets ``present``: each of them and, where they are complete, the two means."""
    found: dict[str, Weights] = {spec.name: {spec.name: 1.0} for spec in panel.tests if spec.name in present}
    shifts = [spec.name for spec in panel.headline_shifts]
    if shifts and set(shifts) <= set(present):
        found[OOD] = {name: 1 / len(shifts) for name in shifts}
        if panel.test.name in present:
            found[BOTH] = {panel.test.name: 0.5} | {name: 0.5 / len(shifts) for name in shifts}
    return found


def ranked_by(panel: Panel) -> str:
    """What boards rank on: the ID/OOD mean; for a suite without shifts in its mean, the ID test set."""
    return BOTH if panel.headline_shifts else panel.test.name


@dataclass(frozen=True)
class Yardstick:
    """A panel and the lines of a baseline on it."""

    panel: Panel
    baseline: Baseline | None = None
    scale: TransformName | None = None
    """Of the lines; None: the baseline's own."""

    @functools.cached_property
    def lines(self) -> Lines:
        """Per shift and ID axis; empty without a baseline."""
        return self.on(self.scale)

    def on(self, scale: TransformName | None) -> Lines:
        """The lines on one scale."""
        return self.baseline.lines(self.panel, scale) if self.baseline else {}

    def measured(self, seeds: Sequence[Figures], first: Axis = "class-matched") -> dict[str, Measured]:
        """Per shift that has figures and a line: both, on the ID axis ``first`` where the seeds have it, else on the other."""
        found = {}
        for name, axis, id_key, ood_key in self._places(seeds, first):
            ids, oods = [seed[id_key] for seed in seeds], [seed[ood_key] for seed in seeds]
            found[name] = Measured(self.lines[name][axis].at(mean_accuracy(ids)), ids, oods)
        return found

    def _places(self, seeds: Sequence[Figures], first: Axis) -> list[tuple[str, Axis, str, str]]:
        """Shift, ID axis and the keys of both accuracies: the same for all rows that have the same figures."""
        known = frozenset.intersection(*map(frozenset, seeds)), first
        if known not in self._known:
            pairs = itertools.product(self.panel.shifts, sorted(AXES, key=lambda axis: axis == first))
            every = [(spec.name, axis, self._id_key(spec.name, axis), own(spec.name)) for spec, axis in pairs]
            places = {one[0]: one for one in every if one[1] in self.lines.get(one[0], {}) and {one[2], one[3]} <= known[0]}
            self._known[known] = list(places.values())
        return self._known[known]

    @functools.cached_property
    def _known(self) -> dict[tuple[frozenset[str], Axis], list[tuple[str, Axis, str, str]]]:
        return {}

    def _id_key(self, shift: str, axis: Axis) -> str:
        return f"{self.panel.test.name}/{shift}" if axis == "class-matched" else own(self.panel.test.name)

    @functools.cached_property
    def _scales(self) -> list[Lines]:
        return [self.on(scale) for scale in SCALES]

    def sensitivity(self, seeds: Sequence[Figures], means: Sequence[Sequence[str]] = ()) -> Ranges:
        """The range of every rho of a row, and of the mean over each of ``means``, over the scales and the ID axes."""
        found: list[dict[str, float]] = []
        for shifts in (self.measured(seeds, axis) for axis in AXES):
            at = {name: mean_accuracy(shift.id) for name, shift in shifts.items()}
            for lines in self._scales:
                on = {n: Measured(lines[n][s.line.axis].at(at[n]), s.id, s.ood) for n, s in shifts.items()}
                found.append({name: plain_value([shift]) for name, shift in on.items()})
        per_shift = {name: _range([one[name] for one in found]) for name in found[0]}
        over = {tuple(m): _range([sum(one[name] for name in m) / len(m) for one in found]) for m in means if m}
        return per_shift, over


Ranges = tuple[dict[str, Sensitivity], dict[tuple[str, ...], Sensitivity]]


def _range(values: Sequence[float]) -> Sensitivity:
    return Sensitivity(min(values), max(values))


def of(panel: Panel, baseline: str | None = None, scale: TransformName | None = None) -> Yardstick:
    """The yardstick of a panel: against the baseline of that name, else the panel's own, where it has one.

    UsageError where the baseline's ID test set is another one.
    """
    name = baseline or panel.baseline
    loaded = baselines.load(name) if name else None
    if loaded and loaded.id_set != panel.test.name:
        told = f"baseline {loaded.id} stands on {loaded.id_set}, but the ID test set of {panel.name} is {panel.test.name}"
        raise UsageError(told, hint="rbft list baselines")
    return Yardstick(panel, loaded, scale)
