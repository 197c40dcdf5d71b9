"""The text of ``leaderboard.md``: what stands between its markers, per board."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from robustbench_ft import tables
from robustbench_ft.errors import CheckError
from robustbench_ft.statistics import MIN_SEEDS, Interval
from robustbench_ft.tables import ABSENT, Format, layout, mean_effective, mean_over, percent, plus_minus, short_names

if TYPE_CHECKING:
    from robustbench_ft.leaderboard import Board, Entry
    from robustbench_ft.submission import Submission

BEGIN, END = "<!-- rbft:begin -->", "<!-- rbft:end -->"
EMPTY = f"""# Leaderboard

How well fine-tuned models do on the data they were tuned for (**ID**) and under distribution shift (**OOD**).
Every row is a method with all its seeds, re-scored from its predictions. `rbft leaderboard` writes what stands
between the two markers of this file; the rest is kept as it is.

How to read it, in percent, with 95% intervals:

- **ID** is accuracy on the in-distribution test set, **OOD mean** the plain mean over the shifts to its right.
- **ID/OOD mean** is the mean of the two. Rows are ordered and ranked by it.
- **Effective robustness** is OOD accuracy above what an ordinary model of the same ID accuracy has: the distance to
  the baseline line, shift by shift, then the mean. It never ranks alone: the start model, which was not tuned at all,
  often has the most. *Italics*: the ID accuracy lies beyond the reference models, so the line is extrapolated.
- **Relative robustness** is the OOD mean minus the start model's: what fine-tuning gave or took under shift.
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


def section(board: Board, picture: str) -> str:
    """One board: title, picture, table, effective robustness per shift, and what the suite can resolve."""
    item = board.first
    suite, start = item.scores.suite, item.first.start
    parts = [
        f"## {suite.name}: {plain(suite.title)}",
        f"Start model: {plain(start.name)} (weights `{start.weights[:12]}`). Protocol `{item.first.protocol[:12]}`.",
        f"![{suite.name}: OOD mean against ID of every row]({picture})",
        main_table(board, tables.FORMATS["markdown"]),
        *_details(board),
        *_footer(board),
    ]
    return "\n\n".join(parts) + "\n"


def plain(text: str) -> str:
    """Text of a submitter on one line, without characters that markdown or HTML would read as markup."""
    for character in r"\`*_[]<>|":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


def main_table(board: Board, style: Format) -> str:
    """The board's table in a format of ``tables``."""
    scores = board.first.scores
    header = [["rank"], ["method"], ["seeds"], ["ID"], ["OOD mean"], ["ID/OOD mean"]]
    if scores.usable:
        header.append(["effective", "robustness", mean_over(scores.usable, scores.suite)])
    header.append(["relative", "robustness", "vs start"])
    header += [[name] for name in short_names(scores.suite).values()] + [["chosen by"], ["status"]]
    return layout(header, [_cells(entry, style) for entry in board.entries], style, left=2)


def _cells(entry: Entry, style: Format) -> list[str]:
    item = entry.submission
    scores, row = item.scores, item.scores.headline
    title = item.info.title
    if style.tablefmt == "pipe":
        title = f"[{plain(title)}](submissions/{quote(item.name)})"
    cells = [_rank(entry), title, _seeds(item), plus_minus(Interval(*row.id[:3])), plus_minus(row.ood_mean)]
    cells.append(plus_minus(row.id_ood_mean))
    if scores.usable:
        cells.append(mean_effective(row, scores.usable, style))
    cells.append(plus_minus(row.relative_mean, signed=True))
    cells += [percent(row.scores[s.name].value) if s.name in row.scores else ABSENT for s in scores.suite.shifts]
    return [*cells, _selection(item), entry.status]


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


def _selection(item: Submission) -> str:
    chosen = [f"{field}: {rule}" for field, rule in sorted(item.selection.items()) if rule != "default"]
    return ", ".join(chosen) or "default"


def _details(board: Board) -> list[str]:
    """Effective robustness per shift, folded away."""
    lines = board.first.scores.lines
    if not lines:
        return []
    short, style = short_names(board.first.scores.suite), tables.FORMATS["markdown"]
    cells = []
    for entry in board.entries:
        effective = entry.submission.scores.headline.effective
        rhos = [tables.rho_cell(effective.get(name), line, style) for name, line in lines.items()]
        cells.append([plain(entry.submission.info.title), *rhos])
    table = layout([["method"], *([short[name]] for name in lines)], cells, style)
    summary = "<summary>Effective robustness per shift, with z (distance in SDs of ordinary models)</summary>"
    return [f"<details>{summary}", table, "</details>"]


def _footer(board: Board) -> list[str]:
    return [*_baseline_note(board), *_gap_note(board), *_data_note(board)]


def _baseline_note(board: Board) -> list[str]:
    scores = board.first.scores
    if scores.baseline is None:
        return ["This suite has no baseline line, so effective robustness is not known."]
    short = short_names(scores.suite)
    fits = ", ".join(f"{short[name]} {line.r2:.2f}" for name, line in scores.lines.items())
    unusable = [f"{short[name]} ({line.unusable})" for name, line in scores.lines.items() if line.unusable]
    text = (
        f"Baseline line `{scores.baseline.id}` (hash `{scores.baseline.hash[:12]}`), fitted to "
        f"{len(scores.baseline.models)} models trained in the standard way on ID alone; R2: {fits}."
    )
    if unusable:
        text += f" Left out of the mean, as the line says nothing: {'; '.join(unusable)}."
    return [text]


def _gap_note(board: Board) -> list[str]:
    if board.gap is None:
        return []
    gap, n = board.gap, board.first.scores.headline.id.n
    points = f"{100 * gap.value:.2f}"
    seed = "unknown (no row has three seeds; ranks count image noise alone)"
    if gap.seed:
        seed = f"{100 * gap.seed.variance**0.5:.2f} points (pooled, {gap.seed.df:.0f} degrees of freedom)"
    image = f"{100 * gap.image_variance**0.5:.2f} points"
    return [
        f"Smallest gap this board can resolve: **{points} points** in ID/OOD mean, found with 80% probability by one "
        f"paired test at 5% of two rows with 3 seeds each: (t_0.975 + t_0.8) sqrt(V_img + 2/3 s^2). sqrt(V_img) = "
        f"{image} is the image noise of a paired difference ({n} ID images; median over pairs of rows); s, the SD of "
        f"one seed, is {seed}. Holm's correction over all rows asks for more."
    ]


def _data_note(board: Board) -> list[str]:
    told = [entry.submission.info for entry in board.entries if entry.submission.info.data_beyond_id != "none"]
    listed = "; ".join(f"{plain(info.title)}: {plain(info.data_beyond_id)}" for info in told)
    return [f"Data beyond the start model and the suite's own train and val: {listed}."] if told else []
