"""What a panel of a picture is about, as numbers: rows and reference models on one ID and one OOD axis, and the lines."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from robustbench_ft.lines import Axis, Line, clamp
from robustbench_ft.rows import Row
from robustbench_ft.statistics import Interval
from robustbench_ft.yardstick import Yardstick

Pair = tuple[float, float]
"""ID and OOD accuracy as logits: a place on a picture's axes."""


class Spot(NamedTuple):
    """A row's place, with intervals (logits), which have no length where they are not known."""

    id: Interval
    ood: Interval

    @property
    def middle(self) -> Pair:
        """The place itself."""
        return self.id.value, self.ood.value

    @property
    def bars(self) -> tuple[list[Pair], list[Pair]]:
        """The ends of its OOD interval, then of its ID interval."""
        x, y = self.middle
        return [(x, end) for end in self.ood[1:]], [(end, y) for end in self.id[1:]]


def logit(p: float) -> float:
    """Place on the axes; 0 and 1 are drawn as if one image in 2,000 were different."""
    p = clamp(min(1.0, max(0.0, p)), 1000)
    return math.log(p / (1 - p))


def _interval(value: float, low: float = math.nan, high: float = math.nan) -> Interval:
    return Interval(logit(value), *(logit(value if math.isnan(end) else end) for end in (low, high)))


@dataclass(frozen=True)
class View:
    """The OOD mean (``shift`` None) or one shift, against ID accuracy on one axis."""

    by: Yardstick
    shift: str | None = None
    axis: Axis = "full"

    @property
    def shifts(self) -> list[str]:
        """What OOD accuracy is the mean over."""
        return [self.shift] if self.shift else [spec.name for spec in self.by.panel.headline_shifts]

    @property
    def lines(self) -> list[Line]:
        """Of all its shifts, usable or not, as the places are means over all; empty where a shift has none."""
        found = [self.by.lines[name][self.axis] for name in self.shifts if self.axis in self.by.lines.get(name, {})]
        return found if len(found) == len(self.shifts) else []

    @property
    def pool(self) -> list[Pair]:
        """The reference models that all its lines are fitted to."""
        baseline, lines = self.by.baseline, self.lines
        if not baseline or not lines:
            return []
        fitted = set.intersection(*({name for piece in line.pieces for name in piece.names} for line in lines))
        key = baseline.id_set if self.axis == "full" else f"{baseline.id_set}/{self.shift}"
        models = [model.counts for model in baseline.models if model.name in fitted]
        ood = [sum(m[name].accuracy for name in self.shifts) / len(self.shifts) for m in models]
        return [(logit(m[key].accuracy), logit(mean)) for m, mean in zip(models, ood, strict=True)]

    def spot(self, row: Row) -> Spot | None:
        """Where a row stands; None where it lacks an accuracy, or stands on the other ID axis."""
        if self.shift is None:
            return Spot(_interval(*row.id[:3]), _interval(*row.ood_mean)) if row.id and row.ood_mean else None
        score, rho = row.scores.get(self.shift), row.effective.get(self.shift)
        if score is None or (rho.axis if rho else "full") != self.axis:
            return None
        ood = _interval(*score[:3])
        if rho and self.axis == "class-matched":
            return Spot(_interval(rho.id), ood)
        return Spot(_interval(*row.id[:3]), ood) if row.id else None

    @property
    def title(self) -> str:
        """What OOD accuracy is on."""
        return self.shifts[0] if len(self.shifts) == 1 else f"OOD mean over {len(self.shifts)} shifts"

    @property
    def id_label(self) -> str:
        """Of the ID axis."""
        return f"ID {self.by.panel.test.measure}{' on its classes' * (self.axis != 'full')} (%)"

    @property
    def silence(self) -> str:
        """Which lines say nothing; empty where all are usable."""
        lines = self.lines
        dead = sum(bool(line.unusable) for line in lines)
        if not dead or len(lines) > 1:
            return f"lines that say nothing: {dead} of {len(lines)}" if dead else ""
        line, (lower, *_, upper) = lines[0], (lines[0].pieces[0], lines[0].pieces[-1])
        if line.split is None or (lower.unusable and upper.unusable):
            return "line says nothing"
        return f"line says nothing {'up to' if lower.unusable else 'above'} {100 * line.split:.0f}"


def of(by: Yardstick, rows: Iterable[Row]) -> list[View]:
    """One view per headline shift on which a row has a place: class-matched where a row's value is."""
    rows, found = list(rows), []
    for spec in by.panel.headline_shifts:
        axes = {row.effective[spec.name].axis for row in rows if spec.name in row.effective}
        view = View(by, spec.name, "class-matched" if "class-matched" in axes else "full")
        if any(view.spot(row) for row in rows):
            found.append(view)
    return found
