"""Records in, rows of numbers out: accuracies, OOD mean, effective and relative robustness, with 95% intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from robustbench_ft import baselines, records, suites
from robustbench_ft.baselines import Baseline, BaselineLine
from robustbench_ft.errors import DataError, ProtocolError
from robustbench_ft.metrics import RECORD
from robustbench_ft.records import Counts, Point, RunRecord
from robustbench_ft.robustness import Measured, Rho, effective_robustness, mean_effective_robustness
from robustbench_ft.statistics import Interval, Term, linear, seed_noise
from robustbench_ft.suites import DatasetSpec, Suite

START = "start"
"""The point of every run that is the start model itself."""


class Score(NamedTuple):
    """Accuracy on one test set of ``n`` images, mean over seeds, with its 95% interval."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Row:
    """One point of a run, or the mean over the seeds of that point. All values are fractions."""

    model: str
    """For example ``wiseft alpha=0.5``."""
    point: str
    alpha: float | None
    headline: bool
    seeds: int
    id: Score
    scores: dict[str, Score]
    """Per shift that was evaluated."""
    ood_mean: Interval | None
    """Plain mean over the headline shifts; None where one is missing."""
    id_ood_mean: Interval | None
    """(ID + OOD mean) / 2: what boards rank on."""
    effective: dict[str, Rho]
    effective_mean: Interval | None
    """Mean over the headline shifts whose line is usable."""
    relative: dict[str, Interval]
    """OOD accuracy minus the start model's."""
    relative_mean: Interval | None

    def extrapolated(self, shifts: Sequence[str]) -> bool:
        """Whether the mean over ``shifts`` holds an extrapolated value."""
        return any(self.effective[name].extrapolated for name in shifts if name in self.effective)


@dataclass(frozen=True)
class Scores:
    """The rows of one run (or of several seeds of it) and what they were measured against."""

    suite: Suite
    record: RunRecord
    """The first seed's."""
    seeds: tuple[int, ...]
    baseline: Baseline | None
    lines: dict[str, BaselineLine]
    rows: tuple[Row, ...]
    missing: tuple[str, ...]

    @property
    def usable(self) -> tuple[str, ...]:
        """Headline shifts whose line says something: the mean of rho is over these."""
        return usable(self.suite, self.lines)

    @property
    def headline(self) -> Row:
        """The row that stands for the run."""
        return next(row for row in self.rows if row.headline)


def usable(suite: Suite, lines: dict[str, BaselineLine]) -> tuple[str, ...]:
    """Headline shifts of ``suite`` whose line is usable."""
    return tuple(spec.name for spec in suite.headline_shifts if spec.name in lines and not lines[spec.name].unusable)


def load_run(path: Path) -> list[RunRecord]:
    """The record of a run folder or of a ``record.json``; of a submission's folder, the records of its seeds."""
    if path.is_dir() and not (path / RECORD).is_file():
        seeds = sorted(path.glob(f"seed-*/{RECORD}"))
        if not seeds:
            raise DataError(f"{path} holds neither {RECORD} nor seed-*/{RECORD}", hint="rbft evaluate --method wiseft")
        return sorted((records.load(file) for file in seeds), key=lambda record: record.seed)
    return [records.load(path / RECORD if path.is_dir() else path)]


def score(runs: Sequence[RunRecord], suite: Suite | None = None, baseline: Baseline | None = None) -> Scores:
    """One row per point of ``runs``, which are the seeds of one (suite, start, method).

    ``baseline``: default the suite's own, where it has one. ProtocolError where suite, records and baseline differ in
    protocol; DataError where the records are not of one row or lack the ID test set.
    """
    first = runs[0]
    suite = suite or suites.load(first.suite)
    baseline = baseline or (baselines.load(suite.baseline) if suite.baseline else None)
    _same_row(runs)
    for what, protocol in (("record", first.protocol), ("baseline", baseline.protocol if baseline else suite.protocol)):
        if protocol != suite.protocol:
            raise ProtocolError(
                f"this {what} has protocol {protocol[:12]}, but suite {suite.name} is now {suite.protocol[:12]}",
                hint=f"rbft evaluate --method {first.method} --suite {suite.name}",
            )
    if any(own(suite.test) not in point.counts for run in runs for point in run.points):
        raise DataError(f"no answers on {suite.test.name}: without the ID test set there is nothing to score")
    lines = baseline.lines(suite) if baseline else {}
    starts = [_point(run, START) for run in runs]
    names = [point.name for point in first.points]
    rows = [_row(suite, lines, [_point(run, name) for run in runs], starts, first.method) for name in names]
    missing = tuple(spec.name for spec in suite.tests if any(spec.name in run.missing for run in runs))
    return Scores(suite, first, tuple(run.seed for run in runs), baseline, lines, tuple(rows), missing)


def _same_row(runs: Sequence[RunRecord]) -> None:
    """Refuse records that are not seeds of one row."""
    for field in ("suite", "protocol", "start", "method", "config", "selection", "deterministic"):
        if len({repr(getattr(run, field)) for run in runs}) > 1:
            raise DataError(f"these records are not seeds of one row: they differ in {field}")
    if len({run.seed for run in runs}) < len(runs):
        raise DataError(f"two records have the same seed (seeds: {', '.join(str(run.seed) for run in runs)})")


def _point(run: RunRecord, name: str) -> Point:
    for point in run.points:
        if point.name == name:
            return point
    raise DataError(f"the record of seed {run.seed} has no point {name!r} ({', '.join(p.name for p in run.points)})")


def _row(suite: Suite, lines: dict[str, BaselineLine], points: Sequence[Point], starts: Sequence[Point], method: str) -> Row:
    point = points[0]
    seeds = [p.counts for p in points]
    present = [spec for spec in suite.shifts if all(own(spec) in counts for counts in seeds)]
    headline = suite.headline_shifts
    full = bool(headline) and all(spec in present for spec in headline)
    ood = {own(spec): 1 / len(headline) for spec in headline}
    board = {own(suite.test): 0.5} | {name: weight / 2 for name, weight in ood.items()}
    measured = {s.name: _measured(suite, s, lines[s.name], seeds) for s in present if s.name in lines}
    used = usable(suite, lines)
    base = [p.counts for p in starts]
    return Row(
        model=point.name if point.name in (START, method) else f"{method} {point.name}",
        point=point.name,
        alpha=point.alpha,
        headline=point.headline,
        seeds=len(points),
        id=_score(own(suite.test), seeds),
        scores={spec.name: _score(own(spec), seeds) for spec in present},
        ood_mean=weighted(ood, seeds) if full else None,
        id_ood_mean=weighted(board, seeds) if full else None,
        effective={name: effective_robustness(shift) for name, shift in measured.items()},
        effective_mean=(
            mean_effective_robustness([measured[name] for name in used]) if used and set(used) <= set(measured) else None
        ),
        relative={spec.name: _relative({own(spec): 1.0}, seeds, base) for spec in present},
        relative_mean=_relative(ood, seeds, base) if full else None,
    )


def own(spec: DatasetSpec) -> str:
    """Name of a set's counts under its own classes."""
    return f"{spec.name}/own"


def weighted(weights: dict[str, float], seeds: Sequence[dict[str, Counts]]) -> Interval:
    """Weighted mean of accuracies, mean over seeds, with its 95% interval inside [0, 1]."""
    value, low, high = linear(_terms(weights, seeds), seed_noise([_value(weights, counts) for counts in seeds]))
    return Interval(value, max(0.0, low), min(1.0, high))


def _relative(weights: dict[str, float], seeds: Sequence[dict[str, Counts]], starts: Sequence[dict[str, Counts]]) -> Interval:
    """Weighted sum of accuracies minus the start model's; 0 for the start model itself (equal counts everywhere)."""
    if list(seeds) == list(starts):
        return Interval(0.0, 0.0, 0.0)
    minus = {name: -weight for name, weight in weights.items()}
    differences = [_value(weights, a) - _value(weights, b) for a, b in zip(seeds, starts, strict=True)]
    return linear(_terms(weights, seeds) + _terms(minus, starts), seed_noise(differences))


def _value(weights: dict[str, float], counts: dict[str, Counts]) -> float:
    return sum(weight * counts[name].accuracy for name, weight in weights.items())


def _terms(weights: dict[str, float], seeds: Sequence[dict[str, Counts]]) -> list[Term]:
    return [Term(w, sum(c[name].accuracy for c in seeds) / len(seeds), seeds[0][name].n) for name, w in weights.items()]


def _score(name: str, seeds: Sequence[dict[str, Counts]]) -> Score:
    return Score(*weighted({name: 1.0}, seeds), n=seeds[0][name].n)


def _measured(suite: Suite, spec: DatasetSpec, line: BaselineLine, seeds: Sequence[dict[str, Counts]]) -> Measured:
    grouping = spec.name if line.axis == "class-matched" else "own"
    return Measured(line, [counts[f"{suite.test.name}/{grouping}"] for counts in seeds], [c[own(spec)] for c in seeds])


def to_json(scores: Scores) -> dict[str, Any]:
    """The document of ``rbft score --json``; fractions."""
    baseline = scores.baseline
    return {
        "suite": scores.suite.name,
        "protocol": scores.record.protocol,
        "method": scores.record.method,
        "start": scores.record.start.model_dump(),
        "seeds": list(scores.seeds),
        "baseline": baseline.id if baseline else None,
        "baseline_hash": baseline.hash if baseline else None,
        "unusable_lines": {name: line.unusable for name, line in scores.lines.items() if line.unusable},
        "partial": list(scores.missing),
        "rows": [row_json(row, scores.suite, scores.usable) for row in scores.rows],
    }


def row_json(row: Row, suite: Suite, used: Sequence[str]) -> dict[str, Any]:
    """One row of the document; ``used``: the shifts that the mean of rho is over."""
    mean = interval_json(row.effective_mean)
    return {
        "model": row.model,
        "point": row.point,
        "alpha": row.alpha,
        "headline": row.headline,
        "seeds": row.seeds,
        "id": row.id.value,
        "ood_mean": row.ood_mean.value if row.ood_mean else None,
        "ood_mean_interval": interval_json(row.ood_mean),
        "id_ood_mean": interval_json(row.id_ood_mean),
        "scores": {name: s._asdict() for name, s in ({suite.test.name: row.id} | row.scores).items()},
        "effective_robustness": {name: rho._asdict() for name, rho in row.effective.items()},
        "effective_robustness_mean": mean and mean | {"over": list(used), "extrapolated": row.extrapolated(used)},
        "relative_robustness": {name: interval._asdict() for name, interval in row.relative.items()},
        "relative_robustness_mean": interval_json(row.relative_mean),
        "partial": [spec.name for spec in suite.shifts if spec.name not in row.scores],
    }


def interval_json(interval: Interval | None) -> dict[str, Any] | None:
    """Value, low and high; None where there is none."""
    return interval._asdict() if interval else None
