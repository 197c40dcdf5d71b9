"""Submissions in, ``leaderboard.md``, its pictures and its exports out."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robustbench_ft import (
    boards,
    page,
    plots,
    published,
    published_page,
    published_picture,
    start_models,
    submission,
    suites,
    tables,
    track_boards,
    track_page,
)
from robustbench_ft.boards import Board, Entry
from robustbench_ft.errors import CheckError, MissingData, UnknownName
from robustbench_ft.files import printed_json, write_atomic
from robustbench_ft.published import PublishedBoard, TrackRow
from robustbench_ft.rows import row_json
from robustbench_ft.submission import FindSuite
from robustbench_ft.track_boards import TrackBoard

PAGE = "leaderboard.md"
SUBMISSIONS = "submissions"
DOCS = "docs"
START_MODELS = f"{DOCS}/start-models"
FORMATS = ("markdown", "csv", "json", "latex")
SUFFIXES = (".svg", ".png")


@dataclass(frozen=True)
class Contents:
    """All that the page shows."""

    boards: list[Board]
    """Submissions with predictions, re-scored."""
    published: list[PublishedBoard]
    tracks: dict[str, list[TrackRow]]
    """Published figures on tracks."""
    track_boards: list[TrackBoard] = field(default_factory=list)
    """Submissions of suites of a track."""

    def pictures(self) -> Iterator[tuple[str, Callable[..., None]]]:
        """Per picture its path without suffix, relative to the page, and what draws it into files."""
        for board in self.boards:
            if board.drawable:
                yield picture_file(board), functools.partial(plots.board_picture, board)
        for evidence in self.published:
            if evidence.drawable:
                yield picture_file(evidence), functools.partial(published_picture.draw, evidence)
        if self.published:
            yield START_MODELS, start_models.picture

    def text(self) -> str:
        """The page between its markers; the start models stand with the published figures."""
        found = [page.section(board, picture_file(board)) for board in self.boards]
        found += [track_page.section(board) for board in self.track_boards]
        found += [published_page.section(board, picture_file(board) if board.drawable else None) for board in self.published]
        found += [published_page.track_section(name, rows) for name, rows in self.tracks.items()]
        if self.published:
            found.append(start_models.section(START_MODELS))
        return "\n".join([page.contents(found), *found]) if found else "No submissions yet.\n"


def run(root: Path, *, check_only: bool, form: str, as_json: bool) -> str:
    """The verb: regenerate the page below ``root``, or check that it is what the submissions give, or print the boards."""
    if check_only:
        check(root)
        return printed_json({"fresh": True}) if as_json else f"{root / PAGE} is what the submissions give"
    if form:
        return export(read(root), form)
    written = [str(path) for path in write(root)]
    return printed_json({"written": written}) if as_json else "\n".join(f"wrote {path}" for path in written)


def read(root: Path, find: FindSuite = suites.load) -> Contents:
    """Everything below ``root/submissions``; errors name the file."""
    folder = root / SUBMISSIONS
    if not folder.is_dir():
        raise MissingData(f"no {SUBMISSIONS}/ in {root}; expected a checkout, which holds it", hint="rbft leaderboard CHECKOUT")
    publications = published.read_all(folder)
    submissions = submission.read_all(folder, find)
    together = track_boards.boards(submissions, map(suites.track, suites.track_names()))
    return Contents(boards.boards(submissions), published.boards(publications), published.tracks(publications), together)


def picture_file(board: Board | PublishedBoard) -> str:
    """Where the board's picture lies, relative to the page, without suffix."""
    return f"{DOCS}/leaderboard-{board.name}"


def write(root: Path, find: FindSuite = suites.load) -> list[Path]:
    """Regenerate ``leaderboard.md`` (between its markers) and the pictures; the paths written."""
    contents, path = read(root, find), root / PAGE
    text = page.replaced(path.read_text(encoding="utf-8") if path.exists() else page.EMPTY, contents.text(), str(path))
    written = [path]
    for name, draw in contents.pictures():
        files = [root / f"{name}{suffix}" for suffix in SUFFIXES]
        draw(*files)
        written += files
    write_atomic(path, text)
    return written


def check(root: Path, find: FindSuite = suites.load) -> None:
    """CheckError, with a unified diff, where ``leaderboard.md`` is stale or a picture of it is missing."""
    path, hint = root / PAGE, "rbft leaderboard"
    if not path.exists():
        raise CheckError(f"no {path}", hint=hint)
    contents, old = read(root, find), path.read_text(encoding="utf-8")
    new = page.replaced(old, contents.text(), str(path))
    if old != new:
        names = (f"{PAGE} (as it is)", f"{PAGE} (as it should be)")
        diff = "\n".join(difflib.unified_diff(old.splitlines(), new.splitlines(), *names, lineterm=""))
        raise CheckError(f"{path} is stale:\n{diff}", hint=hint)
    for name, _ in contents.pictures():
        for suffix in SUFFIXES:
            if not (root / f"{name}{suffix}").is_file():
                raise CheckError(f"{path} shows {name}{suffix}, which does not exist", hint=hint)


def export(contents: Contents, name: str) -> str:
    """The boards in one of ``FORMATS``; fractions in csv and json."""
    if name == "json":
        found = [to_json(board) for board in contents.boards] + [published.to_json(board) for board in contents.published]
        rows = start_models.rows() if contents.published else []
        tracks = [track_boards.to_json(board) for board in contents.track_boards]
        return printed_json({"boards": found, "tracks": tracks, "start_models": rows}) + "\n"
    if name == "csv":
        return tables.to_csv(_csv_rows(contents))
    if name in tables.FORMATS and name in FORMATS:
        style = tables.FORMATS[name]
        texts = [page.main_table(board, style) for board in contents.boards]
        texts += [track_page.main_table(board, name, style) for board in contents.track_boards for name in board.measures]
        texts += [published_page.main_table(board, board.listed, style) for board in contents.published]
        return "\n\n".join(texts) + "\n"
    raise UnknownName("format", name, FORMATS)


def _csv_rows(contents: Contents) -> Iterator[dict[str, Any]]:
    for board in contents.boards:
        document = to_json(board)
        yield from ({"suite": document["suite"], "start": document["start"]["name"], **row} for row in document["rows"])
    for together in contents.track_boards:
        about = {"suite": together.track.name, "start": together.start.name}
        yield from (about | track_boards.row_json(entry) for entry in together.entries)
    for evidence in contents.published:
        yield from published.rows_json(evidence)


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
    return about | row_json(item.scores.headline, item.scores.panel)
