"""Run records in, scores out: one row per point of the runs that are the seeds of one (suite, start, method)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_ft import records, rows, suites, yardstick
from robustbench_ft.errors import DataError, ProtocolError, UsageError
from robustbench_ft.metrics import RECORD, Hits
from robustbench_ft.records import PUBLISHED, Point, RunRecord
from robustbench_ft.rows import Row, Scores, Subject
from robustbench_ft.suites import Suite
from robustbench_ft.yardstick import Yardstick, own

START = "start"
"""The point of every run that is the start model itself."""
CHOSEN = "chosen"
"""The point that stands for a row whose seeds chose different ones, such as different alphas."""


@dataclass(frozen=True)
class RunScores(Scores):
    """The rows of one run, or of several seeds of it."""

    record: RunRecord
    """The first seed's."""
    seeds: tuple[int, ...]
    missing: tuple[str, ...]
    chosen: tuple[str, ...] = ()
    """Per seed, the name of its headline."""

    @property
    def headline(self) -> Row:
        """The row that stands for the run."""
        return next(row for row in self.rows if row.headline)


def score(runs: Sequence[RunRecord], by: Yardstick | None = None, *, hits: Sequence[Hits] = (), brief: bool = False) -> RunScores:
    """One row per point of ``runs``, which are the seeds of one (suite, start, method).

    ``by``: default the suite's own, with its baseline. ``hits``: per run, of its headline, where predictions are at hand.
    ``brief``: the headline alone, which is what a board's tables
    show. ProtocolError where suite, records and baseline differ in protocol; DataError where the records are not of one
    row or lack the ID test set.
    """
    first = runs[0]
    by = by or yardstick.of(suites.load(first.suite))
    same_row(runs)
    suite = by.panel
    assert isinstance(suite, Suite)
    for what, protocol in (("record", first.protocol), ("baseline", by.baseline.protocol if by.baseline else None)):
        shared = what == "baseline" and protocol == suite.tested_as
        if protocol not in (None, suite.protocol) and not shared:
            raise ProtocolError(
                f"this {what} has protocol {protocol[:12]}, but suite {suite.name} is now {suite.protocol[:12]}",
                hint=f"rbft evaluate --method {first.method} --suite {suite.name}",
            )
    if any(own(suite.test.name) not in point.counts for run in runs for point in run.points):
        raise DataError(f"no answers on {suite.test.name}: without the ID test set there is nothing to score")
    starts = [_point(run, START).counts for run in runs]
    subjects = [
        Subject(
            model=point.name if point.name in (START, first.method) else f"{first.method} {point.name}",
            seeds=[one.counts for one in seeds],
            hits=hits if point.headline else (),
            starts=starts,
            point=point.name,
            alpha=point.alpha,
            headline=point.headline,
        )
        for point, seeds in _points(runs)
        if point.headline or not brief
    ]
    scores = rows.score(subjects, by)
    missing = tuple(spec.name for spec in suite.tests if any(spec.name in run.missing for run in runs))
    chosen = tuple(run.headline.name for run in runs)
    return RunScores(by, scores.rows, scores.used, first, tuple(run.seed for run in runs), missing, chosen)


def _points(runs: Sequence[RunRecord]) -> list[tuple[Point, list[Point]]]:
    """The points that all runs have, each with its counterparts; ``CHOSEN`` last, where the seeds' headlines differ."""
    headlines = [run.headline for run in runs]
    names = set.intersection(*({point.name for point in run.points} for run in runs))
    found = [(point, [_point(run, point.name) for run in runs]) for point in runs[0].points if point.name in names]
    if len({point.name for point in headlines}) == 1:
        return found
    found = [(point.model_copy(update={"headline": False}), seeds) for point, seeds in found]
    return [*found, (headlines[0].model_copy(update={"name": CHOSEN, "alpha": None}), headlines)]


def load_run(path: Path) -> list[RunRecord]:
    """The record of a run folder or of a ``record.json``; of a submission's folder, the records of its seeds."""
    if path.is_dir() and not (path / RECORD).is_file():
        if (path / PUBLISHED).is_file():
            raise UsageError(f"{path} holds published figures, which are shown and never tested", hint=f"rbft score {path}")
        seeds = sorted(path.glob(f"seed-*/{RECORD}"))
        if not seeds:
            told = f"{path} holds neither {RECORD} nor seed-*/{RECORD}; expected a run or a submission"
            raise DataError(told, hint="rbft evaluate --method wiseft makes a run")
        return sorted((records.load(file) for file in seeds), key=lambda record: record.seed)
    return [records.load(path / RECORD if path.is_dir() else path)]


def same_row(runs: Sequence[RunRecord]) -> None:
    """Refuse records that are not seeds of one row."""
    for field in ("suite", "protocol", "start", "method", "config", "selection", "deterministic"):
        if len({repr(getattr(run, field)) for run in runs}) > 1:
            raise DataError(f"these records are not seeds of one row: they differ in {field}")
    for name in dict.fromkeys(point.name for run in runs for point in run.points if not point.headline):
        for run in runs:
            _point(run, name)
    if len({run.seed for run in runs}) < len(runs):
        raise DataError(f"two records have the same seed (seeds: {', '.join(str(run.seed) for run in runs)})")


def _point(run: RunRecord, name: str) -> Point:
    for point in run.points:
        if point.name == name:
            return point
    raise DataError(f"the record of seed {run.seed} has no point {name!r} ({', '.join(p.name for p in run.points)})")


def to_json(scores: RunScores) -> dict[str, Any]:
    """The document of ``rbft score RUN --json``; fractions."""
    record = scores.record
    about = {"protocol": record.protocol, "method": record.method, "start": record.start.model_dump()}
    return about | {"seeds": list(scores.seeds), "partial": list(scores.missing)} | rows.to_json(scores)
