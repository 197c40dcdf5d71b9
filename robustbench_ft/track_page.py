"""The text of ``leaderboard.md`` about tracks: a section per track and start model that has submissions."""

from __future__ import annotations

from urllib.parse import quote

from robustbench_ft import tables
from robustbench_ft.score import START
from robustbench_ft.tables import ABSENT, Format, layout, percent, plain, plus_minus
from robustbench_ft.track_boards import ID, PLAIN, TrackBoard, TrackEntry

REDUCTION = (
    f"Error reduction is the share of a reference's error on the ID test set that is gone, mean over the suites: of the {START} "
    f"model's, and of that of `{PLAIN}` on the same suite. Negative: error was added. It has no interval."
)


def section(board: TrackBoard) -> str:
    """One board: a table per measure."""
    track, start = board.track, board.start
    missing = [name for name in track.suites if name not in board.suites]
    parts = [
        f"## {track.name}, {plain(start.name)}: mean over suites",
        f"{plain(track.title)}. Start model: {plain(start.name)} (weights `{start.weights[:12]}`). Each column is a model of its "
        "own, tuned on that suite; a row that has every suite has a mean. Rows are ordered by it, never ranked."
        + (f" No row has {', '.join(missing)}." if missing else ""),
    ]
    for measure in board.measures:
        parts += [f"{measure}, per suite:", main_table(board, measure, tables.FORMATS["markdown"])]
    return "\n\n".join(parts + [REDUCTION] * bool(board.references)) + "\n"


def main_table(board: TrackBoard, measure: str, style: Format) -> str:
    """A column per suite and the mean in a format of ``tables``; beside ID, the mean error reductions."""
    references = board.references if measure == ID else ()
    header = [["method"], *([name] for name in board.suites), ["mean"]]
    header += [["error", "reduction", name] for name in references]
    cells = []
    for entry in board.entries:
        title = plain(entry.title) if style.tablefmt == "pipe" else entry.title
        values = [_value(entry, measure, suite, style) for suite in board.suites]
        gone = [entry.mean_reductions.get(name) for name in references]
        reductions = [ABSENT if value is None else percent(value, signed=True) for value in gone]
        cells.append([title, *values, plus_minus(entry.means.get(measure)), *reductions])
    return layout(header, cells, style)


def _value(entry: TrackEntry, measure: str, suite: str, style: Format) -> str:
    """The value of one suite; on the page it links to its submission, where the measure is ID."""
    text = plus_minus(entry.scores[measure].get(suite))
    if suite not in entry.items or measure != ID or style.tablefmt != "pipe":
        return text
    return f"[{text}](submissions/{quote(entry.items[suite].name)})"
