"""Boards: submissions of one suite, protocol and start model, ordered and ranked with ties (DESIGN 7.4, 7.8, 7.10)."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robustbench_ft import page, suites, tables
from robustbench_ft.errors import CheckError, UnknownName
from robustbench_ft.files import write_atomic
from robustbench_ft.score import own, row_json
from robustbench_ft.statistics import (
    Noise,
    difference_pvalue,
    paired_variance,
    pooled_seed_variance,
    rank_ranges,
    smallest_gap,
)
from robustbench_ft.submission import FindSuite, Submission, read_all

PAGE = "leaderboard.md"
SUBMISSIONS = "submissions"
DOCS = "docs"
UNRANKED = {"unstated", "oracle"}
FORMATS = ("markdown", "csv", "json", "latex")


@dataclass(frozen=True)
class Entry:
    """One row of a board."""

    submission: Submission
    rank: tuple[int, int] | None
    """Rank and the worst rank it may have; None: shown, never ranked."""
    status: str = "rescored"
    """What this page verifies by itself: the arithmetic, from packs."""


@dataclass(frozen=True)
class Gap:
    """The smallest true gap in ID/OOD mean that two rows of three seeds show, and what it is made of (variances)."""

    value: float
    image_variance: float
    seed: Noise | None
    """Variance of one seed's ID/OOD mean, pooled over rows; None: no row has three seeds."""


@dataclass(frozen=True)
class Board:
    """Rows that may be compared: one suite, one protocol, one start model; best ID/OOD mean first."""

    name: str
    """Of the picture's file: the suite's, with the start model's hash where a suite has several boards."""
    entries: tuple[Entry, ...]
    gap: Gap | None

    @property
    def first(self) -> Submission:
        """Any of its submissions: suite, baseline and start model are the same for all."""
        return self.entries[0].submission


def boards(submissions: Iterable[Submission]) -> list[Board]:
    """One board per (suite, protocol, start weights), by name."""
    groups: dict[tuple[str, str, str], list[Submission]] = {}
    for item in submissions:
        groups.setdefault((item.first.suite, item.first.protocol, item.first.start.weights), []).append(item)
    per_suite = [suite for suite, _, _ in groups]
    return [
        _board(suite if per_suite.count(suite) == 1 else f"{suite}-{weights[:8]}", groups[suite, protocol, weights])
        for suite, protocol, weights in sorted(groups)
    ]


def _board(name: str, members: Sequence[Submission]) -> Board:
    members = sorted(members, key=lambda item: (-_value(item), item.name))
    ranked = [item for item in members if rankable(item)]
    seed = pooled_seed_variance(seed_values(item) for item in members if not item.first.deterministic)
    images = {(a.name, b.name): image_variance(a, b) for a, b in itertools.combinations(ranked, 2)}
    ranks = dict(zip((item.name for item in ranked), _ranks(ranked, images, seed), strict=True))
    gap = None
    if images:
        median = float(np.median(list(images.values())))
        noise = Noise(seed.variance * 2 / 3, seed.df) if seed else Noise(0.0, math.inf)
        gap = Gap(smallest_gap(median, noise), median, seed)
    return Board(name, tuple(Entry(item, ranks.get(item.name)) for item in members), gap)


def rankable(item: Submission) -> bool:
    """Complete, and chosen by a rule that saw no test score."""
    return item.scores.headline.id_ood_mean is not None and not UNRANKED & set(item.selection.values())


def _value(item: Submission) -> float:
    interval = item.scores.headline.id_ood_mean
    return interval.value if interval else -1.0


def weights(item: Submission) -> dict[str, float]:
    """What the ID/OOD mean is made of: half ID, half the plain mean over the headline shifts."""
    suite = item.scores.suite
    shifts = suite.headline_shifts
    return {own(suite.test): 0.5} | {own(spec): 0.5 / len(shifts) for spec in shifts}


def seed_values(item: Submission) -> list[float]:
    """The ID/OOD mean of each seed."""
    return [sum(w * run.headline.counts[name].accuracy for name, w in weights(item).items()) for run in item.runs]


def image_variance(a: Submission, b: Submission) -> float:
    """V_img of the difference of two rows' ID/OOD means, on the same images."""
    return paired_variance(a.shares, b.shares, weights(a))


def _ranks(ranked: Sequence[Submission], images: dict[tuple[str, str], float], seed: Noise | None) -> list[tuple[int, int]]:
    differences, pvalues = np.zeros((2, len(ranked), len(ranked)))
    for (i, a), (j, b) in itertools.combinations(enumerate(ranked), 2):
        share = sum(0 if item.first.deterministic else 1 / len(item.runs) for item in (a, b))
        noise = Noise(seed.variance * share, seed.df) if seed else Noise(0.0, math.inf)
        differences[i, j] = _value(a) - _value(b)
        differences[j, i] = -differences[i, j]
        pvalues[i, j] = pvalues[j, i] = difference_pvalue(differences[i, j], images[a.name, b.name], noise)
    return rank_ranges(differences, pvalues)


def picture_file(board: Board) -> str:
    """Where the board's picture lies, relative to the page."""
    return f"{DOCS}/leaderboard-{board.name}.svg"


def write(root: Path, find: FindSuite = suites.load) -> list[Path]:
    """Regenerate ``leaderboard.md`` (between its markers) and the pictures; the paths written."""
    from robustbench_ft.plots import board_picture

    found = boards(read_all(root / SUBMISSIONS, find))
    path = root / PAGE
    text = page.replaced(path.read_text() if path.exists() else page.EMPTY, _body(found), str(path))
    written = [root / picture_file(board) for board in found]
    for board, picture in zip(found, written, strict=True):
        board_picture(board, picture)
    write_atomic(path, text)
    return [path, *written]


def check(root: Path, find: FindSuite = suites.load) -> None:
    """CheckError, with a unified diff, where ``leaderboard.md`` is stale or a picture of it is missing."""
    path, hint = root / PAGE, "rbft leaderboard"
    if not path.exists():
        raise CheckError(f"no {path}", hint=hint)
    found = boards(read_all(root / SUBMISSIONS, find))
    old = path.read_text()
    new = page.replaced(old, _body(found), str(path))
    if old != new:
        names = (f"{PAGE} (as it is)", f"{PAGE} (as it should be)")
        diff = "\n".join(difflib.unified_diff(old.splitlines(), new.splitlines(), *names, lineterm=""))
        raise CheckError(f"{path} is stale:\n{diff}", hint=hint)
    for board in found:
        if not (root / picture_file(board)).is_file():
            raise CheckError(f"{path} shows {picture_file(board)}, which does not exist", hint=hint)


def _body(found: Sequence[Board]) -> str:
    return "\n".join(page.section(board, picture_file(board)) for board in found) or "No submissions yet.\n"


def export(found: Sequence[Board], name: str) -> str:
    """The boards in one of ``FORMATS``; fractions in csv and json."""
    if name == "json":
        import json

        return json.dumps({"boards": [to_json(board) for board in found]}, indent=1) + "\n"
    if name == "csv":
        return tables.to_csv(row for board in found for row in _csv_rows(board))
    if name in tables.FORMATS and name in FORMATS:
        return "\n\n".join(page.main_table(board, tables.FORMATS[name]) for board in found) + "\n"
    raise UnknownName("format", name, FORMATS)


def to_json(board: Board) -> dict[str, Any]:
    """One board as a JSON document."""
    item = board.first
    baseline, gap = item.scores.baseline, board.gap
    return {
        "suite": item.first.suite,
        "protocol": item.first.protocol,
        "start": item.first.start.model_dump(),
        "baseline": baseline.id if baseline else None,
        "smallest_gap": gap.value if gap else None,
        "image_variance": gap.image_variance if gap else None,
        "seed_variance": gap.seed.variance if gap and gap.seed else None,
        "rows": [_entry_json(entry) for entry in board.entries],
    }


def _entry_json(entry: Entry) -> dict[str, Any]:
    item = entry.submission
    about = {
        "submission": item.name,
        "title": item.info.title,
        "rank": list(entry.rank) if entry.rank else None,
        "status": entry.status,
        "selection": item.selection,
        "deterministic": item.first.deterministic,
        "data_beyond_id": item.info.data_beyond_id,
        "method": item.first.method,
    }
    return about | row_json(item.scores.headline, item.scores.suite, item.scores.usable)


def _csv_rows(board: Board) -> list[dict[str, Any]]:
    about = {"suite": board.first.first.suite, "start": board.first.first.start.name}
    return [about | _entry_json(entry) for entry in board.entries]
