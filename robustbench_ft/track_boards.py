"""Boards of tracks: rows of one method and start model over several suites, with their mean; ordered, never ranked."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robustbench_ft import rows
from robustbench_ft.boards import rankable
from robustbench_ft.errors import CheckError
from robustbench_ft.records import StartRef
from robustbench_ft.rows import Row, Score
from robustbench_ft.score import START
from robustbench_ft.statistics import Interval, Term, linear
from robustbench_ft.submission import Submission
from robustbench_ft.suites import Track
from robustbench_ft.yardstick import BOTH, OOD, own

ID = "ID"
PLAIN = "ft"
"""The method whose error counts as what a row could have had for nothing."""

MEASURES: Mapping[str, Callable[[Row], Score | Interval | None]] = {
    ID: lambda row: row.id,
    OOD: lambda row: row.ood_mean,
    BOTH: lambda row: row.id_ood_mean,
}
Reductions = dict[str, dict[str, float]]
"""Per reference (``vs start``, ``vs ft``) and suite."""


@dataclass(frozen=True)
class TrackEntry:
    """One row: a method, by its title, on one start model."""

    title: str
    items: Mapping[str, Submission]
    """Per suite."""
    scores: Mapping[str, Mapping[str, Interval]]
    """Per measure and suite."""
    means: Mapping[str, Interval]
    """Per measure, where every suite of the track has a value."""
    reductions: Reductions
    """Share of the reference's error on the ID test set that is gone."""
    mean_reductions: Mapping[str, float]
    """Per reference the plain mean, where every suite of the track has a value."""


@dataclass(frozen=True)
class TrackBoard:
    """Rows of one track on one start model; best mean first, rows that lack a suite last."""

    track: Track
    start: StartRef
    measures: tuple[str, ...]
    """ID, and for a track of suites with shifts the means under shift."""
    entries: tuple[TrackEntry, ...]

    @property
    def suites(self) -> tuple[str, ...]:
        """The suites that a row has, in the track's order."""
        return tuple(name for name in self.track.suites if any(name in entry.items for entry in self.entries))

    @property
    def references(self) -> tuple[str, ...]:
        """What errors are compared to: those that a row has."""
        return tuple(dict.fromkeys(name for entry in self.entries for name in entry.reductions))


def boards(submissions: Sequence[Submission], tracks: Iterable[Track]) -> list[TrackBoard]:
    """One board per track and start model that has a submission; CheckError where two claim one place."""
    found = []
    for track in tracks:
        groups: dict[str, list[Submission]] = {}
        for item in submissions:
            if item.first.suite in track.suites:
                groups.setdefault(item.first.start.weights, []).append(item)
        found += [_board(track, groups[weights]) for weights in sorted(groups)]
    return found


def _board(track: Track, members: Sequence[Submission]) -> TrackBoard:
    measures = (ID, OOD, BOTH) if track.shifts else (ID,)
    per_title: dict[str, dict[str, Submission]] = {}
    for item in members:
        placed = per_title.setdefault(item.info.title, {}).setdefault(item.first.suite, item)
        if placed is not item:
            told = f"{placed.name} and {item.name} are both called {item.info.title!r} on {item.first.suite}"
            raise CheckError(f"{told}: a row of track {track.name} has one of them", hint="give one another title")
    plain = _plain(members)
    entries = [_entry(track, title, items, measures, plain) for title, items in per_title.items()]
    return TrackBoard(track, members[0].first.start, measures, tuple(sorted(entries, key=_place)))


def _place(entry: TrackEntry) -> tuple[float, int, str]:
    mean = entry.means.get(BOTH) or entry.means.get(ID)
    return (-mean.value if mean else 1.0, -len(entry.items), entry.title)


def _plain(members: Sequence[Submission]) -> dict[str, Submission]:
    """Per suite the submission of plain fine-tuning: the first by name that no test score chose."""
    found: dict[str, Submission] = {}
    for item in sorted(members, key=lambda item: item.name):
        if item.first.method == PLAIN and rankable(item):
            found.setdefault(item.first.suite, item)
    return found


def _entry(
    track: Track, title: str, items: Mapping[str, Submission], measures: Sequence[str], plain: Mapping[str, Submission]
) -> TrackEntry:
    scores: dict[str, dict[str, Interval]] = {}
    for measure in measures:
        found = {suite: MEASURES[measure](item.scores.headline) for suite, item in items.items()}
        scores[measure] = {suite: Interval(*value[:3]) for suite, value in found.items() if value is not None}
    whole = {measure: values for measure, values in scores.items() if len(values) == len(track.suites)}
    means = {measure: _mean(values, apart=measure == ID or _apart(items.values())) for measure, values in whole.items()}
    reductions = _reductions(track, items, plain) if track.error_reduction else {}
    complete = {name: values for name, values in reductions.items() if len(values) == len(track.suites)}
    return TrackEntry(
        title, items, scores, means, reductions, {name: sum(each.values()) / len(each) for name, each in complete.items()}
    )


def _mean(values: Mapping[str, Interval], *, apart: bool) -> Interval:
    """Plain mean over suites, whose errors are independent where they share no images; without an interval else."""
    share = 1 / len(values)
    found = linear([Term(share, each.value, None, ends=(each.low, each.high)) for each in values.values()])
    return found if apart else Interval(found.value, math.nan, math.nan)


def _apart(items: Iterable[Submission]) -> bool:
    """Whether no two suites have a test set in common."""
    counts = Counter(spec.name for item in items for spec in item.scores.panel.tests)
    return max(counts.values()) == 1


def _reductions(track: Track, items: Mapping[str, Submission], plain: Mapping[str, Submission]) -> Reductions:
    """Against the start model and against plain fine-tuning: (reference's error - own error) / reference's error.

    A reference that makes no error says nothing, and has no value.
    """
    found: Reductions = {}
    for suite in track.suites:
        if suite not in items or (score := items[suite].scores.headline.id) is None:
            continue
        references = {f"vs {START}": _start(items[suite])}
        if suite in plain and (reference := plain[suite].scores.headline.id):
            references[f"vs {PLAIN}"] = reference.value
        for name, value in references.items():
            if value < 1:
                found.setdefault(name, {})[suite] = (score.value - value) / (1 - value)
    return found


def _start(item: Submission) -> float:
    """The start model's accuracy on the ID test set, mean over the seeds' records."""
    name = own(item.scores.panel.test.name)
    points = [next(point for point in run.points if point.name == START) for run in item.runs]
    return sum(point.counts[name].accuracy for point in points) / len(points)


def to_json(board: TrackBoard) -> dict[str, Any]:
    """One board as a JSON document; fractions."""
    about = {"track": board.track.name, "start": board.start.model_dump(), "suites": list(board.track.suites)}
    return about | {"rows": [row_json(entry) for entry in board.entries]}


def row_json(entry: TrackEntry) -> dict[str, Any]:
    """One row of the document."""

    def every(values: Mapping[str, Interval]) -> dict[str, Any]:
        return {name: rows.plain(value) for name, value in values.items()}

    return {
        "title": entry.title,
        "submissions": {suite: item.name for suite, item in entry.items.items()},
        "scores": {measure: every(values) for measure, values in entry.scores.items()},
        "means": every(entry.means),
        "error_reduction": entry.reductions,
        "error_reduction_mean": dict(entry.mean_reductions),
    }
