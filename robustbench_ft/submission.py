"""Submissions, read and re-scored: ``submission.toml`` and, per seed, ``seed-<k>/record.json`` with its pack."""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field, ValidationError

from robustbench_ft import records, suites
from robustbench_ft.errors import CheckError, DataError, PartialError
from robustbench_ft.metrics import RECORD, Hits, key_of, recount
from robustbench_ft.packs import Pack
from robustbench_ft.records import RunRecord
from robustbench_ft.score import START, Scores, score
from robustbench_ft.statistics import Floats
from robustbench_ft.suites import Suite, Value

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
    scores: Scores
    shares: dict[str, Floats]
    """Per ``<test set>/<grouping>``, float [N]: the share of seeds that were right on each image."""

    @property
    def first(self) -> RunRecord:
        """The record of the first seed."""
        return self.runs[0]

    @property
    def selection(self) -> dict[str, str]:
        """Per field, the rule that chose it, without the reason behind a colon."""
        return {field: rule.split(":")[0] for field, rule in self.first.selection.items()}


class Shelf:
    """Suites and their answer keys, each read once."""

    def __init__(self, find: FindSuite = suites.load) -> None:
        """``find``: from a suite's name to the suite."""
        self._find = find
        self._held: dict[str, tuple[Suite, Pack]] = {}

    def __call__(self, name: str) -> tuple[Suite, Pack]:
        """The suite of that name and its answer key."""
        if name not in self._held:
            suite = self._find(name)
            self._held[name] = (suite, key_of(suite))
        return self._held[name]


def read_all(folder: Path, find: FindSuite = suites.load) -> list[Submission]:
    """Every submission below ``folder``, by name; errors name the file. CheckError where start models disagree."""
    shelf = Shelf(find)
    found = [load(path, shelf) for path in sorted(folder.iterdir()) if path.is_dir()] if folder.is_dir() else []
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
        suite, key = shelf(records.load(seed / RECORD).suite)
        run, right = recount(seed, suite, key)
        _complete(run, seed)
        runs.append(run)
        hits.append(right)
    order = sorted(range(len(runs)), key=lambda index: runs[index].seed)
    try:
        scores = score([runs[index] for index in order], suite)
    except DataError as error:
        raise DataError(f"{folder}: {error}") from error
    return Submission(folder.name, info, tuple(runs[index] for index in order), scores, _shares(hits))


def _info(path: Path) -> SubmissionInfo:
    try:
        return SubmissionInfo.model_validate(tomllib.loads(path.read_text()))
    except OSError as error:
        raise DataError(f"no {INFO} at {path}", hint="rbft submit RUN") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from error
    except ValidationError as error:
        raise DataError(f"{path}: {suites.fault(error)}") from error


def _complete(run: RunRecord, folder: Path) -> None:
    """Refuse what may be scored but not submitted."""
    if run.missing or run.unaligned:
        what = f"no images of {', '.join(run.missing)}" if run.missing else f"unaligned: {', '.join(run.unaligned)}"
        raise PartialError(f"{folder}: {what}; a submission needs every test set in its official layout")
    if folder.name != f"seed-{run.seed}":
        raise DataError(f"{folder}: the record's seed is {run.seed}, so the folder must be seed-{run.seed}")


def _shares(hits: Sequence[Hits]) -> dict[str, Floats]:
    return {name: np.mean([seed[name] for seed in hits], axis=0, dtype=np.float64) for name in hits[0]}


def _same_start(submissions: Sequence[Submission]) -> None:
    """The start model's counts carry no pack: those of one start must agree, within one image in 1,000 (DESIGN 7.9)."""
    seen: dict[tuple[str, str], tuple[str, RunRecord]] = {}
    for submission in submissions:
        for run in submission.runs:
            where = f"{submission.name}/seed-{run.seed}"
            other, known = seen.setdefault((run.protocol, run.start.weights), (where, run))
            mine, theirs = (next(p.counts for p in r.points if p.name == START) for r in (run, known))
            for name in mine.keys() & theirs.keys():
                if abs(mine[name].k - theirs[name].k) > max(1, mine[name].n // 1000):
                    told = f"{where} gives the start model {mine[name].k} of {mine[name].n}"
                    raise CheckError(f"{name}: {told}, {other} {theirs[name].k}")
