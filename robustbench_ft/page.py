"""The text of ``leaderboard.md``: what stands between its markers, per board."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote

from robustbench_ft import score_tables, tables
from robustbench_ft.errors import CheckError
from robustbench_ft.score_tables import mean_cells, mean_headers, rho_cells, rho_headers, short_names
from robustbench_ft.statistics import MIN_SEEDS
from robustbench_ft.tables import ABSENT, Format, layout, percent, plain, plus_minus
from robustbench_ft.yardstick import ranked_by

if TYPE_CHECKING:
    from robustbench_ft.boards import Board, Entry
    from robustbench_ft.lines import Axis
    from robustbench_ft.rows import Scores
    from robustbench_ft.submission import Submission
    from robustbench_ft.suites import Panel

DETAILS = (
    "Effective robustness per shift, with z (distance in SDs of ordinary models), and the range of its mean over logit, probit "
    "and linear axes and, where a row has both, over both ID axes"
)
BEGIN, END = "<!-- rbft:begin -->", "<!-- rbft:end -->"
EMPTY = f"""# Leaderboard

How well fine-tuned models do on the data they were tuned for (**ID**) and under distribution shift (**OOD**).
Rows with status `rescored` are methods with all their seeds, scored again from their predictions; `published` rows are
figures as papers and repositories print them, never ranked. `rbft leaderboard` writes what stands between the two markers
of this file; the rest is kept as it is.

How to read it, in percent, with 95% intervals:

- **ID** is accuracy on the in-distribution test set, **OOD mean** the plain mean over the shifts to its right.
- **ID/OOD mean** is the mean of the two. Rows are ordered and ranked by it.
- **Effective robustness** is OOD accuracy above what an ordinary model of the same ID accuracy has: the distance to
  the baseline line, shift by shift, then the mean. It never ranks alone: the start model, which was not tuned at all,
  often has the most. *Italics*: the ID accuracy lies beyond the reference models, so the line is extrapolated. In
  parentheses: the line says nothing there. `‡`: above or below the line depends on the axes (logit, probit, linear; ID
  accuracy over all classes or the shift's). `†`: on ID accuracy over all classes, where other rows have the shift's.
- **Relative robustness** is the OOD mean minus the start model's: what fine-tuning gave or took under shift. Its interval
  takes the two as tested on images of their own, which is wide; `rbft compare` pairs them.
- **Rank**: `2-4` means that one row is significantly better and that at most three may be (paired tests on the same
  images plus seed noise, 5% after Holm). Ranks in parentheses are those that a row *would* have: `rescored` verifies
  the arithmetic, not that a model made the predictions. `{ABSENT}`: not ranked, as a hyperparameter was chosen on test
  scores (`oracle`) or nobody said how (`unstated`).

{BEGIN}
{END}
"""


def replaced(text: str, body: str, where: str) -> str:
    """``text`` with ``body`` between its markers; CheckError where it does not hold each marker once, in order."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise CheckError(f"{where}: expected one line {BEGIN} and, below it, one line {END}")
    return f"{text[: text.index(BEGIN)]}{BEGIN}\n\n{body}\n{text[text.index(END) :]}"


def contents(sections: Iterable[str]) -> str:
    """Links to the sections, each by its title line."""
    titles = [text.splitlines()[0].removeprefix("## ") for text in sections]
    return "\n".join(f"- [{title}](#{_anchor(title)})" for title in titles) + "\n"


def _anchor(title: str) -> str:
    """As GitHub makes it from a title: lower case, no punctuation, dashes for spaces."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def section(board: Board, picture: str) -> str:
    """One board: title, picture, table, effective robustness per shift, and what the suite can resolve."""
    item = board.first
    suite, start = item.scores.panel, item.first.start
    parts = [
        f"## {suite.name}: {plain(suite.title)}",
        f"Start model: {plain(start.name)} (weights `{start.weights[:12]}`). Protocol `{item.first.protocol[:12]}`."
        + _measured_by(suite),
        *([tables.picture(f"{suite.name}: OOD against ID accuracy of every row", picture)] if board.drawable else []),
        main_table(board, tables.FORMATS["markdown"]),
        *_details(board),
        *_footer(board),
    ]
    return "\n\n".join(parts) + "\n"


def main_table(board: Board, style: Format) -> str:
    """The board's table in a format of ``tables``."""
    scores = board.scores
    header = [["rank"], ["method"], ["seeds"], ["ID"]]
    if scores.panel.headline_shifts:
        header += [["OOD mean"], ["ID/OOD mean"], *mean_headers(scores), ["relative", "robustness", "vs start"]]
    header += [[name] for name in short_names(scores.panel).values()] + [["chosen by"], ["status"]]
    return layout(header, [_cells(entry, scores, style) for entry in board.entries], style, left=2)


def _cells(entry: Entry, scores: Scores, style: Format) -> list[str]:
    item, row = entry.submission, entry.submission.scores.headline
    title = item.info.title
    if style.tablefmt == "pipe":
        title = f"[{plain(title)}](submissions/{quote(item.name)})"
    cells = [_rank(entry), title, _seeds(item), plus_minus(row.id)]
    if scores.panel.headline_shifts:
        cells += [plus_minus(row.ood_mean), plus_minus(row.id_ood_mean), *mean_cells(row, scores, style)]
        cells.append(plus_minus(row.relative_mean, signed=True))
    cells += [percent(row.scores[s.name].value) if s.name in row.scores else ABSENT for s in scores.panel.shifts]
    return [*cells, tables.chosen(item.selection), entry.status]


def _measured_by(panel: Panel) -> str:
    """The metrics of the sets, where one of them is another than top-1; and the ranking of a suite without shifts."""
    by: dict[str, list[str]] = {}
    for spec in panel.tests:
        if spec.metric != "top1":
            by.setdefault(spec.measure, []).append(spec.name)
    told = "".join(f" Measured by {what}: {', '.join(names)}." for what, names in by.items())
    return told + ("" if panel.headline_shifts else f" Rows are ranked by {panel.test.name}.")


def _rank(entry: Entry) -> str:
    """In parentheses: no row of a page is audited yet, so these are the ranks that rows would have."""
    if entry.rank is None:
        return ABSENT
    best, worst = entry.rank
    return f"({best})" if best == worst else f"({best}-{worst})"


def _seeds(item: Submission) -> str:
    count = len(item.runs)
    if item.first.deterministic:
        return "deterministic"
    return str(count) if count >= MIN_SEEDS else f"{count} (few)" if count > 1 else "1 (seed noise unknown)"


def _details(board: Board) -> list[str]:
    """Effective robustness per shift, folded away."""
    scores, style = board.scores, tables.FORMATS["markdown"]
    if not scores.measured:
        return []
    items = [entry.submission for entry in board.entries]
    cells = [[plain(item.info.title), *rho_cells(item.scores.headline, scores, style)] for item in items]
    return [f"<details><summary>{DETAILS}</summary>", layout([["method"], *rho_headers(scores)], cells, style), "</details>"]


def _footer(board: Board) -> list[str]:
    return [*baseline_note(board.scores), *_gap_note(board), *_data_note(board)]


def baseline_note(scores: Scores) -> list[str]:
    """Which line effective robustness is measured against, and which shifts it says nothing about."""
    if scores.baseline is None:
        why = f": {plain(scores.panel.no_baseline)}" if scores.panel.no_baseline else ""
        return [f"This suite has no baseline line, so effective robustness is not known{why}."]
    if not scores.measured:
        return [f"No row has both its ID accuracy and a shift that baseline `{scores.baseline.id}` has a line for."]
    lines = {
        _line(name, axis, scores): line
        for name in scores.measured
        for axis, line in scores.yardstick.lines[name].items()
        if axis in scores.axes[name]
    }
    fits = ", ".join(f"{name} {'/'.join(f'{piece.r2:.3f}' for piece in line.pieces)}" for name, line in lines.items())
    unusable = [f"{name} ({line.unusable})" for name, line in lines.items() if line.unusable]
    text = (
        f"Baseline line `{scores.baseline.id}` (hash `{scores.baseline.hash[:12]}`), fitted to "
        f"those of {len(scores.baseline.models)} models that have the figures, all trained in the standard way on ID alone; "
        f"R2: {fits}."
    )
    if unusable:
        text += f" Left out of the mean, as the line says nothing: {'; '.join(unusable)}."
    return [" ".join([text, *score_tables.line_notes(scores)])]


def _line(name: str, axis: Axis, scores: Scores) -> str:
    """``r (full ID)``: the axis is told where the shift has two."""
    subset = next(spec.subset for spec in scores.panel.shifts if spec.name == name)
    return short_names(scores.panel)[name] + (f" ({axis} ID)" if subset else "")


def _gap_note(board: Board) -> list[str]:
    if board.gap is None:
        return []
    gap, n = board.gap, board.scores.panel.test.n
    points = f"{100 * gap.value:.2f}"
    seed = "unknown (no row has three seeds; ranks count image noise alone)"
    if gap.seed:
        seed = f"{100 * gap.seed.variance**0.5:.2f} points (pooled, {gap.seed.df:.0f} degrees of freedom)"
    image = f"{100 * gap.image_variance**0.5:.2f} points"
    what = ranked_by(board.scores.panel)
    return [
        f"Smallest gap this board can resolve: **{points} points** in {what}, found with 80% probability by one "
        f"paired test at 5% of two rows with 3 seeds each: (t_0.975 + t_0.8) sqrt(V_img + 2/3 s^2). sqrt(V_img) = "
        f"{image} is the image noise of a paired difference ({n} ID images; median over pairs of rows); s, the SD of "
        f"one seed, is {seed}. Holm's correction over all rows asks for more."
    ]


def _data_note(board: Board) -> list[str]:
    told = [entry.submission.info for entry in board.entries if entry.submission.info.data_beyond_id != "none"]
    listed = "; ".join(f"{plain(info.title)}: {plain(info.data_beyond_id)}" for info in told)
    return [f"Data beyond the start model and the suite's own train and val: {listed}."] if told else []
