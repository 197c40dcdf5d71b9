"""Submissions, read and re-scored: ``submission.toml`` and, per seed, ``seed-<k>/record.json`` with its pack."""

from __future__ import annotations

import datetime
import functools
import hashlib
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from robustbench_ft import records, suites, yardstick
from robustbench_ft.errors import CheckError, DataError, PartialError
from robustbench_ft.files import default_folder
from robustbench_ft.metrics import RECORD, Hits, headline_hits, key_of
from robustbench_ft.packs import Pack, to_bytes
from robustbench_ft.records import PUBLISHED, Counted, Counts, RunRecord
from robustbench_ft.rows import Row
from robustbench_ft.score import START, RunScores, score
from robustbench_ft.suites import Suite
from robustbench_ft.summaries import Summaries
from robustbench_ft.values import Value, fault
from robustbench_ft.yardstick import Yardstick

INFO = "submission.toml"
FindSuite = Callable[[str], Suite]


class SubmissionInfo(Value):
    """``submission.toml``: who made the row, from which paper, and what a reader must know."""

    title: str = Field(min_length=1, max_length=80)
    authors: tuple[str, ...] = Field(min_length=1)
    paper: str
    """Address or citation of the paper; empty where there is none."""
    date: datetime.date
    licence: str = Field(min_length=1)
    data_beyond_id: str = "none"
    """Data used beyond the start model and the suite's own train and val."""
    notes: str = ""


@dataclass(frozen=True)
class Submission:
    """One row of a board: its seeds' records, checked against their packs."""

    name: str
    info: SubmissionInfo
    runs: tuple[RunRecord, ...]
    scores: RunScores
    """Of the headline alone."""
    hits: tuple[Hits, ...]
    """Per seed."""
    kept: Summaries
    """Where what is slow to compute of this suite's rows is kept."""

    @functools.cached_property
    def curve(self) -> tuple[Row, ...]:
        """The points with an alpha, scored when they are drawn."""
        return tuple(row for row in score(self.runs, self.scores.yardstick).rows if row.alpha is not None)

    @property
    def first(self) -> RunRecord:
        """The record of the first seed."""
        return self.runs[0]

    @property
    def selection(self) -> dict[str, str]:
        """Per field, the rule that chose it, without the reason behind a colon."""
        return {field: rule.split(":")[0] for field, rule in self.first.selection.items()}


class Shelf:
    """Suites, their answer keys and the summaries of their packs, each read once."""

    def __init__(self, find: FindSuite = suites.load) -> None:
        """``find``: from a suite's name to the suite."""
        self._find = find
        self._held: dict[str, tuple[Suite, Pack, Summaries]] = {}
        self._yardsticks: dict[str, Yardstick] = {}

    def yardstick(self, suite: Suite) -> Yardstick:
        """The suite with its own baseline, whose lines are fitted once."""
        if suite.protocol not in self._yardsticks:
            self._yardsticks[suite.protocol] = yardstick.of(suite)
        return self._yardsticks[suite.protocol]

    def __call__(self, name: str) -> tuple[Suite, Pack, Summaries]:
        """The suite of that name, its answer key and the summaries of its packs."""
        if name not in self._held:
            suite = self._find(name)
            key = key_of(suite)
            self._held[name] = (
                suite,
                key,
                Summaries(default_folder(), suite.protocol, hashlib.sha256(to_bytes(key)).hexdigest()),
            )
        return self._held[name]

    def save(self) -> None:
        """Keep what was learned of the packs' files."""
        for _, _, kept in self._held.values():
            kept.save()


def read_all(folder: Path, find: FindSuite = suites.load) -> list[Submission]:
    """Every submission below ``folder``, by name, but not the published figures; errors name the file.

    CheckError where start models disagree.
    """
    shelf = Shelf(find)
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [load(path, shelf) for path in paths if path.is_dir() and not (path / PUBLISHED).is_file()]
    shelf.save()
    _same_start(found)
    return found


def load(folder: Path, shelf: Shelf | None = None) -> Submission:
    """One submission, every headline count recomputed from its pack (``metrics.recount``).

    DataError: a file missing or malformed; PartialError: a run that is not complete; CheckError: a count that is not
    its pack's.
    """
    shelf = shelf or Shelf()
    info = _info(folder / INFO)
    seeds = sorted(folder.glob("seed-*"))
    if not seeds:
        raise DataError(f"{folder}: no seed-<k> folder", hint="rbft submit RUN")
    runs, hits = [], []
    for seed in seeds:
        run = records.load(seed / RECORD)
        suite, key, kept = shelf(run.suite)
        hits.append(headline_hits(run, seed, suite, key, kept))
        _complete(run, seed)
        runs.append(run)
    order = sorted(range(len(runs)), key=lambda index: runs[index].seed)
    runs, hits = [runs[index] for index in order], [hits[index] for index in order]
    try:
        scores = score(runs, shelf.yardstick(suite), hits=hits, brief=True)
    except DataError as error:
        raise DataError(f"{folder}: {error}") from error
    return Submission(folder.name, info, tuple(runs), scores, tuple(hits), kept)


def _info(path: Path) -> SubmissionInfo:
    try:
        return SubmissionInfo.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"no {INFO} at {path}", hint="rbft submit RUN") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from error
    except ValidationError as error:
        raise DataError(f"{path}: {fault(error)}") from error


def _complete(run: RunRecord, folder: Path) -> None:
    """Refuse what may be scored but not submitted."""
    if run.missing or run.unaligned:
        what = f"no images of {', '.join(run.missing)}" if run.missing else f"unaligned: {', '.join(run.unaligned)}"
        raise PartialError(f"{folder}: {what}; a submission needs every test set in its official layout")
    if folder.name != f"seed-{run.seed}":
        raise DataError(f"{folder}: the record's seed is {run.seed}, so the folder must be seed-{run.seed}")


def _same_start(submissions: Sequence[Submission]) -> None:
    """The start model's counts carry no pack: those of one start must agree, within one image in 1,000 (DESIGN 7.9)."""
    seen: dict[tuple[str, str], tuple[str, RunRecord]] = {}
    for submission in submissions:
        for run in submission.runs:
            where = f"{submission.name}/seed-{run.seed}"
            other, known = seen.setdefault((run.protocol, run.start.weights), (where, run))
            mine, theirs = (next(p.counts for p in r.points if p.name == START) for r in (run, known))
            for name in mine.keys() & theirs.keys():
                (k, n), (k_theirs, _) = (_right(counts[name]) for counts in (mine, theirs))
                if abs(k - k_theirs) > max(1, n // 1000):
                    raise CheckError(f"{name}: {where} gives the start model {k} of {n}, {other} {k_theirs}")


def _right(counts: Counted) -> tuple[int, int]:
    """Right answers and examples, whatever the metric."""
    return (counts.k, counts.n) if isinstance(counts, Counts) else (sum(counts.right), sum(counts.of))
