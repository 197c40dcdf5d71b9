"""The text of ``leaderboard.md`` about published figures: a section per suite and start model, and one per track."""

from __future__ import annotations

from collections.abc import Sequence

from robustbench_ft import score_tables, suites, tables
from robustbench_ft.page import DETAILS, baseline_note
from robustbench_ft.published import STATUS, Evidence, PublishedBoard, TrackRow, disputed, label, origin, shown_sets, title
from robustbench_ft.score_tables import mean_cells, mean_headers, rho_cells, rho_headers, short_names
from robustbench_ft.tables import ABSENT, Format, layout, percent, plain, plus_minus

MARKDOWN = tables.FORMATS["markdown"]


def section(board: PublishedBoard, picture: str | None) -> str:
    """One board: picture, table, and folded away: every shift's rho, a soup's ingredients, where sources disagree."""
    sources = len({one.source.short for one in board.evidence})
    parts = [
        f"## {board.panel.name}, {plain(board.start)}: published figures",
        f"{plain(board.panel.title)}. {len(board.evidence)} rows from {sources} source{'s' * (sources > 1)}, as printed there; "
        "not re-scored, not tested, never ranked. Where an interval is printed, it is binomial, with the rounding of the "
        "figures; seed noise, of which sources rarely tell, is not in it.",
        *(
            [tables.picture(f"{board.panel.name}, {board.start}: OOD against ID accuracy of published rows", picture)]
            if picture
            else []
        ),
        main_table(board, board.listed, MARKDOWN),
        *_folded(DETAILS, _effective(board)),
        *_folded(f"{len(board.pool)} soup ingredients", main_table(board, board.pool, MARKDOWN) if board.pool else ""),
        *_folded("Where sources disagree: the same method, as each source has it", _disputes(board)),
        *_folded("What the sources say of single rows", _row_notes(board)),
        *baseline_note(board.scores),
        *_marks(board),
    ]
    return "\n\n".join(parts) + "\n"


def _folded(summary: str, text: str) -> list[str]:
    return [f"<details><summary>{summary}</summary>", text, "</details>"] if text else []


def main_table(board: PublishedBoard, evidence: Sequence[Evidence], style: Format) -> str:
    """Rows of a board in a format of ``tables``."""
    scores = board.scores
    names = [spec.name for spec in board.panel.shifts if any(spec.name in one.row.scores for one in evidence)]
    short = short_names(board.panel)
    header = [["method"], ["figures from"], ["ID"], ["OOD mean"], ["ID/OOD mean"], *mean_headers(scores)]
    header += [["relative", "robustness", "vs start"], *([short[name]] for name in names), ["chosen by"], ["status"]]
    cells = []
    for one in evidence:
        row = one.row
        means = [plus_minus(row.id), plus_minus(row.ood_mean), plus_minus(row.id_ood_mean), *mean_cells(row, scores, style)]
        shifts = [percent(row.scores[name].value) if name in row.scores else ABSENT for name in names]
        about = [_text(label(one, board), style), _text(origin(one), style)]
        cells.append(
            [*about, *means, plus_minus(row.relative_mean, signed=True), *shifts, tables.chosen(one.record.selection), STATUS]
        )
    return layout(header, cells, style, left=2)


def _text(text: str, style: Format) -> str:
    return plain(text) if style is MARKDOWN else text


def _effective(board: PublishedBoard) -> str:
    scores = board.scores
    if not scores.measured:
        return ""
    cells = [[plain(label(o, board)), plain(origin(o)), *rho_cells(o.row, scores, MARKDOWN)] for o in board.listed]
    return layout([["method"], ["figures from"], *rho_headers(scores)], cells, MARKDOWN, left=2)


def _disputes(board: PublishedBoard) -> str:
    """Groups of rows side by side; below each the spread: highest minus lowest, in points."""
    names = [spec.name for spec in board.panel.tests if any(spec.name in one.record.values for one in board.listed)]
    short = short_names(board.panel) | {board.panel.test.name: "ID"}
    cells = []
    for group in disputed(board):
        values = {name: [one.record.values.get(name) for one in group] for name in names}
        for index, one in enumerate(group):
            found = [values[name][index] for name in names]
            cells.append([plain(label(one, board)), plain(origin(one)), *(percent(f.accuracy) if f else ABSENT for f in found)])
        spreads = [[round(figure.accuracy, 3) for figure in values[name] if figure] for name in names]  # as shown
        told = [percent(max(each) - min(each)) if len(each) > 1 else ABSENT for each in spreads]
        cells.append(["", "**highest minus lowest**", *(f"**{text}**" for text in told)])
    return layout([["method"], ["figures from"], *([short[name]] for name in names)], cells, MARKDOWN, left=2) if cells else ""


def _row_notes(board: PublishedBoard) -> str:
    told = [f"- {plain(label(o, board))}, {plain(origin(o))}: {plain(o.record.note)}" for o in board.listed if o.record.note]
    return "\n".join(told)


def _marks(board: PublishedBoard) -> list[str]:
    """What marks in the tables mean; only those that occur."""
    return [note for note in score_tables.notes(board.scores) if note[0] in score_tables.MARKS]


def track_section(name: str, found: Sequence[TrackRow]) -> str:
    """One track: a column per data set that a row has, and their mean."""
    track, names = suites.track(name), shown_sets(name, [row.record for row in found])
    header = [["method"], ["start model"], ["figures from"], *([each] for each in names), ["mean"], ["chosen by"]]
    cells = []
    for row in found:
        record = row.record
        about = [plain(title(record)), plain(record.start), plain(f"{row.source.short}, {record.table} ({record.provenance})")]
        scores = [plus_minus(row.scores.get(each)) for each in names]
        cells.append([*about, *scores, plus_minus(row.mean), tables.chosen(record.selection)])
    about_it = f"{plain(track.title)}. Each column is a model of its own, tuned on that data set."
    return "\n\n".join([f"## {name}: published figures", about_it, layout(header, cells, MARKDOWN, left=3)]) + "\n"
