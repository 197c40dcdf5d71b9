"""Published figures, scored and laid out: a board per suite and start model, greyed rows that are never ranked (DESIGN 7.10).

A paper's figures have no predictions: their intervals are binomial at the test set's size, with the rounding, and rows
are not tested against each other.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_ft import records, rows, suites, yardstick
from robustbench_ft.errors import DataError
from robustbench_ft.records import PUBLISHED, Figure, Publication, PublishedRecord
from robustbench_ft.rows import Row, Scores, Subject, row_json
from robustbench_ft.statistics import Interval, Term, linear
from robustbench_ft.suites import Panel, Track
from robustbench_ft.yardstick import own

STATUS = "published"
POOL = "ingredient"
"""A variant that begins so is one of many ingredients of a soup: drawn faintly and listed apart."""


MIN_ROWS = 3
"""Start models with fewer rows share one board, called ``OTHERS``."""
OTHERS = "other start models"

Pair = tuple[Publication, PublishedRecord]


@dataclass(frozen=True)
class Evidence:
    """One row of somebody's table, scored."""

    source: Publication
    record: PublishedRecord
    row: Row

    @property
    def in_pool(self) -> bool:
        """Whether it is one of a soup's ingredients."""
        return self.record.variant.startswith(POOL)

    @property
    def listed(self) -> bool:
        """Whether it is a row of the board's table."""
        return not (self.record.curve or self.in_pool)


@dataclass(frozen=True)
class PublishedBoard:
    """The figures of one start model on one suite; best ID/OOD mean first, rows that lack a shift last."""

    panel: Panel
    start: str
    scores: Scores
    evidence: tuple[Evidence, ...]

    @property
    def name(self) -> str:
        """Of the picture's file."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.panel.name} {self.start}".lower()).strip("-")

    @property
    def drawable(self) -> bool:
        """Whether three rows or more have an ID accuracy and an OOD mean: fewer make no picture."""
        return sum(one.row.id_ood_mean is not None for one in self.evidence) > 2

    @property
    def listed(self) -> list[Evidence]:
        """The rows of the table."""
        return [one for one in self.evidence if one.listed]

    @property
    def pool(self) -> list[Evidence]:
        """The ingredients of soups."""
        return [one for one in self.evidence if one.in_pool]

    def curves(self) -> Iterator[list[Evidence]]:
        """The alpha curves: rows of one table, method and variant with an alpha that was not picked on test scores."""
        path = [one for one in self.evidence if one.record.alpha is not None and "oracle" not in one.record.selection.values()]
        for _, group in itertools.groupby(sorted(path, key=_curve), key=_curve):
            curve = sorted(group, key=lambda one: one.record.alpha or 0.0)
            if len(curve) > 2:
                yield curve


def read_all(folder: Path) -> list[Publication]:
    """Every ``published.json`` one level below ``folder``, by path."""
    return [load(path) for path in sorted(folder.glob(f"*/{PUBLISHED}"))]


def load(path: Path) -> Publication:
    """One file of published figures; DataError where a figure is of no test set of its suite."""
    publication = records.load_publication(path)
    for number, record in enumerate(publication.records):
        panel = suites.panel(record.suite)
        known = {spec.name: spec for spec in (panel.sets if isinstance(panel, Track) else panel.tests)}
        for name, figure in record.values.items():
            where = f"{path}: records.{number}.values"
            if name not in known:
                raise DataError(f"{where}: {name} is no test set of {record.suite}; known: {', '.join(known)}")
            if figure.n and not known[name].binomial:
                metric = known[name].metric
                raise DataError(f"{where}.{name}.n: {metric} is no share of right answers, so n says nothing; leave it out")
    return publication


def boards(publications: Iterable[Publication]) -> list[PublishedBoard]:
    """One board per suite and start model, the most rows first; figures on tracks are left to ``tracks``."""
    groups: dict[str, dict[str, list[Pair]]] = {}
    for publication in publications:
        for record in publication.records:
            groups.setdefault(record.suite, {}).setdefault(record.start, []).append((publication, record))
    found = []
    for suite, starts in groups.items():
        panel = suites.panel(suite)
        if isinstance(panel, Panel):
            found.append([_board(panel, start, pairs) for start, pairs in _few_together(starts).items()])
    found.sort(key=lambda boards: (-sum(len(board.evidence) for board in boards), boards[0].panel.name))
    return [board for boards in found for board in sorted(boards, key=_order)]


def _order(board: PublishedBoard) -> tuple[bool, int, str]:
    return board.start == OTHERS, -len(board.evidence), board.start


def _few_together(starts: dict[str, list[Pair]]) -> dict[str, list[Pair]]:
    """Start models with a row or two share one board."""
    kept = {start: pairs for start, pairs in starts.items() if len(pairs) >= MIN_ROWS}
    rest = [pair for start, pairs in starts.items() if start not in kept for pair in pairs]
    return kept | ({OTHERS: rest} if rest else {})


def _board(panel: Panel, start: str, pairs: Sequence[Pair]) -> PublishedBoard:
    subjects = [_subject(source, record) for source, record in pairs]
    scores = rows.score(subjects, yardstick.of(panel))
    found = [Evidence(source, record, row) for (source, record), row in zip(pairs, scores.rows, strict=True)]
    return PublishedBoard(panel, start, scores, tuple(sorted(found, key=_place)))


def _subject(source: Publication, record: PublishedRecord) -> Subject:
    start = _start(source, record)
    return Subject(
        model=title(record),
        seeds=[_keyed(record)],
        starts=[_keyed(start)] if start else None,
        alpha=record.alpha,
    )


def _keyed(record: PublishedRecord) -> dict[str, Figure]:
    return {own(name): figure for name, figure in record.values.items()}


def _start(source: Publication, record: PublishedRecord) -> PublishedRecord | None:
    """The start model's own row in the same source: rather of the same table, of the same curve, and not quoted."""
    same = [one for one in source.records if (one.suite, one.start) == (record.suite, record.start)]
    starts = [one for one in same if one.method == "zeroshot" or one.alpha == 0]

    def distance(one: PublishedRecord) -> tuple[bool, bool, bool]:
        other_curve = one.method != "zeroshot" and one.variant != record.variant
        return one.table != record.table, other_curve, one.provenance == "quoted"

    return min(starts, key=distance, default=None)


def title(record: PublishedRecord) -> str:
    """What a row is called: ``wiseft over ft, alpha 0.5``."""
    name = f"{record.method} {record.variant}".strip()
    return name if record.alpha is None else f"{name}, alpha {record.alpha:g}"


def origin(one: Evidence) -> str:
    """Where a row's figures stand and who ran it: ``VRF, Table 2 (rerun)``."""
    return f"{one.source.short}, {one.record.table} ({one.record.provenance})"


def label(one: Evidence, board: PublishedBoard) -> str:
    """``title``, with the start model where a board has several."""
    return f"{one.record.start}: {title(one.record)}" if board.start == OTHERS else title(one.record)


def _place(one: Evidence) -> tuple[float, float, str, str]:
    board, id_ = one.row.id_ood_mean, one.row.id
    return (-board.value if board else 1.0, -id_.value if id_ else 1.0, title(one.record), origin(one))


def _curve(one: Evidence) -> tuple[str, str, str, str]:
    return (one.source.short, one.record.table, one.record.method, one.record.variant)


def disputed(board: PublishedBoard) -> list[list[Evidence]]:
    """Rows of one method, variant and alpha that two sources or more give, in groups.

    An alpha picked on test scores stays apart: two oracles differ by what they looked at, not by their sources.
    """

    def same(one: Evidence) -> tuple[str, str]:
        return label(one, board), one.record.selection.get("alpha", "")

    fixed = [one for one in board.listed if one.record.selection.get("alpha") != "oracle"]
    listed = sorted(fixed, key=lambda one: (same(one), origin(one)))
    groups = [list(group) for _, group in itertools.groupby(listed, key=same)]
    return [group for group in groups if len({one.source.short for one in group}) > 1]


@dataclass(frozen=True)
class TrackRow:
    """One row of a track: an accuracy per data set, and their plain mean where it has all that any row has."""

    source: Publication
    record: PublishedRecord
    scores: dict[str, Interval]
    mean: Interval | None


def tracks(publications: Iterable[Publication]) -> dict[str, list[TrackRow]]:
    """Per track, its rows, best mean first; the mean is over the sets that a row of the track has."""
    pairs: dict[str, list[Pair]] = {}
    for publication in publications:
        for record in publication.records:
            if isinstance(suites.panel(record.suite), Track):
                pairs.setdefault(record.suite, []).append((publication, record))
    found = {
        name: [_track_row(shown_sets(name, [record for _, record in each]), *pair) for pair in each]
        for name, each in pairs.items()
    }
    return {name: sorted(each, key=lambda row: -row.mean.value if row.mean else 1.0) for name, each in found.items()}


def shown_sets(track: str, found: Sequence[PublishedRecord]) -> list[str]:
    """The sets of a track that a row has a figure on, in the track's order."""
    return [spec.name for spec in suites.track(track).sets if any(spec.name in record.values for record in found)]


def _track_row(sets: Sequence[str], source: Publication, record: PublishedRecord) -> TrackRow:
    figures = [(name, record.values[name]) for name in sets if name in record.values]
    scores = {name: linear([Term(1.0, figure.accuracy, figure.n, figure.half)]) for name, figure in figures}
    terms = [Term(1 / len(sets), figure.accuracy, figure.n, figure.half) for _, figure in figures]
    return TrackRow(source, record, scores, linear(terms) if len(figures) == len(sets) else None)


def to_json(board: PublishedBoard) -> dict[str, Any]:
    """One board as a JSON document; every row with its source."""
    baseline = board.scores.baseline
    about = {"suite": board.panel.name, "start": {"name": board.start}, "baseline": baseline.id if baseline else None}
    return about | {"rows": list(rows_json(board))}


def rows_json(board: PublishedBoard) -> Iterator[dict[str, Any]]:
    """The rows, each with its suite, start model and source; sources rarely tell seeds."""
    for one in board.evidence:
        record = one.record
        about = {
            "suite": record.suite,
            "start": record.start,
            "source": one.source.source,
            "table": record.table,
            "provenance": record.provenance,
            "status": STATUS,
            "method": record.method,
            "variant": record.variant,
            "selection": record.selection,
            "note": record.note,
        }
        yield about | row_json(one.row, board.panel) | {"seeds": None}
