"""Scores as tables: what ``rbft score`` and ``rbft show`` print, and the cells that pages share with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from robustbench_ft.baselines import Baseline
from robustbench_ft.lines import BaselineLine
from robustbench_ft.robustness import Rho, Sensitivity
from robustbench_ft.rows import MeanRho, Row, Scores, row_json
from robustbench_ft.score import CHOSEN, RunScores
from robustbench_ft.statistics import Interval
from robustbench_ft.suites import Panel
from robustbench_ft.tables import ABSENT, FORMATS, Format, check_form, layout, percent, plain, plus_minus, sentence, to_csv
from robustbench_ft.yardstick import OOD

SIGN_CHANGES = "‡"
FULL_AXIS = "†"
MARKS = f"~{SIGN_CHANGES}{FULL_AXIS}"


def short_names(panel: Panel) -> dict[str, str]:
    """Shift names without the ``<suite>-`` that some begin with: what column headers show."""
    return {spec.name: spec.name.removeprefix(f"{panel.name}-") for spec in panel.shifts}


def mean_over(used: Sequence[str], panel: Panel) -> str:
    """What the mean of rho is over: ``mean over 5``, or ``mean over 4 of 5`` where a line says nothing."""
    total = len(panel.headline_shifts)
    return f"mean over {total}" if len(used) == total else f"mean over {len(used)} of {total}"


def mean_headers(scores: Scores) -> list[list[str]]:
    """The columns of the means of rho: over the usable shifts, and with the filtered ones."""
    found = [["effective", "robustness", mean_over(scores.used, scores.panel)]] if scores.used else []
    if scores.extra:
        short = short_names(scores.panel)
        added = ", ".join(short[name] for name in scores.extra if name not in scores.used)
        found.append([f"with {added}", mean_over(scores.extra, scores.panel)])
    return found


def mean_cells(row: Row, scores: Scores, style: Format) -> list[str]:
    """The cells below ``mean_headers``."""
    means = [row.effective_mean] * bool(scores.used) + [row.effective_all] * bool(scores.extra)
    return [mean_cell(mean, style) for mean in means]


def render(scores: Scores, name: str, heading: str) -> str:
    """The whole answer of ``rbft score`` in one of ``CHOICES``; UnknownName otherwise."""
    check_form(name)
    if name == "csv":
        return to_csv(row_json(row, scores.panel) for row in scores.rows)
    style = FORMATS[name]
    parts = [sentence(heading, name), main_table(scores, style)]
    if scores.measured:
        parts.append(sentence("Effective robustness per shift, with 95% interval and z:", name))
        parts.append(effective_table(scores, style))
    if any(row.id_on for row in scores.rows):
        parts.append(sentence("ID accuracy on the classes of each shift that has not all:", name))
        parts.append(companions_table(scores, style))
    return "\n\n".join([*parts, *(sentence(note, name) for note in notes(scores))]) + "\n"


def line_name(scores: Scores) -> str:
    """``baseline mini@1``, with its axes where they are not the baseline's own."""
    if scores.baseline is None:
        return "no baseline"
    other = scores.yardstick.scale not in (None, scores.baseline.transform)
    return f"baseline {scores.baseline.id}" + (f", {scores.yardstick.scale} axes" if other else "")


def title(scores: RunScores) -> str:
    """What the tables of a run are about, in one line."""
    seeds = f"seed{'s' * (len(scores.seeds) > 1)} {', '.join(str(seed) for seed in scores.seeds)}"
    line = line_name(scores)
    return f"{scores.record.method} on {scores.panel.name}, start model {scores.record.start.name}, {seeds}, {line}"


def main_table(scores: Scores, style: Format) -> str:
    """One line a row: ID, every shift, OOD mean, effective and relative robustness."""
    names = [spec.name for spec in scores.panel.shifts if any(spec.name in row.scores for row in scores.rows)]
    short, relative = short_names(scores.panel), any(row.relative for row in scores.rows)
    header = [[_label(scores)], ["ID"], *([short[name]] for name in names), ["OOD mean"], *mean_headers(scores)]
    header += [["relative", "robustness", "vs start"]] * relative
    seeds = max(row.seeds for row in scores.rows)
    header += [["SD over", f"{seeds} seeds:", "ID, OOD mean"]] * (seeds > 1)
    cells = []
    for row in scores.rows:
        shifts = [percent(row.scores[name].value) if name in row.scores else ABSENT for name in names]
        cells.append([_point(row, style), plus_minus(row.id), *shifts, plus_minus(row.ood_mean), *mean_cells(row, scores, style)])
        cells[-1] += [plus_minus(row.relative_mean, signed=True)] * relative
        cells[-1] += [", ".join(spread(row, name) for name in (scores.panel.test.name, OOD))] * (seeds > 1)
    return layout(header, cells, style)


def spread(row: Row, name: str) -> str:
    """A measure's standard deviation over the seeds, in points."""
    return f"{100 * row.sd[name]:.2f}" if name in row.sd else ABSENT


def companions_table(scores: Scores, style: Format) -> str:
    """ID accuracy on each shift's classes, a column a shift."""
    names = [spec.name for spec in scores.panel.shifts if any(spec.name in row.id_on for row in scores.rows)]
    short = short_names(scores.panel)
    cells = [[_point(row, style), *(plus_minus(row.id_on.get(name)) for name in names)] for row in scores.rows]
    return layout([[_label(scores)], *([short[name]] for name in names)], cells, style)


def _label(scores: Scores) -> str:
    return "point" if any(row.point for row in scores.rows) else "model"


def _point(row: Row, style: Format) -> str:
    name = f"→ {row.point}" if row.headline else row.point or row.model
    return plain(name) if style.tablefmt == "pipe" else name


def mean_cell(mean: MeanRho | None, style: Format) -> str:
    """A mean of rho, marked where it holds an extrapolated value or where its sign depends on the axes."""
    if mean is None:
        return ABSENT
    text = plus_minus(mean, signed=True) + SIGN_CHANGES * mean.sensitivity.changes_sign
    return style.extrapolated.format(text) if mean.extrapolated else text


def effective_table(scores: Scores, style: Format) -> str:
    """One line a row, the columns of ``rho_headers``."""
    cells = [[_point(row, style), *rho_cells(row, scores, style)] for row in scores.rows]
    return layout([[_label(scores)], *rho_headers(scores)], cells, style)


def rho_headers(scores: Scores) -> list[list[str]]:
    """A column per shift that has a line, with its ID axis where there are two; and the range of the mean over all axes."""
    short = short_names(scores.panel)
    header = [[short[name], *axis_note(scores, name)] for name in scores.measured]
    return header + [["mean,", "all axes"]] * bool(scores.used and header)


def rho_cells(row: Row, scores: Scores, style: Format) -> list[str]:
    """The cells below ``rho_headers``."""
    cells = [rho_cell(row, name, scores, style) for name in scores.measured]
    if not scores.used or not cells:
        return cells
    ends = row.effective_mean.sensitivity if row.effective_mean else None
    return [*cells, f"{percent(ends.low)}…{percent(ends.high)}" if ends else ABSENT]


def axis_note(scores: Scores, name: str) -> list[str]:
    """What a column's header says of its ID axis: nothing where the shift has all classes, or where cells say it."""
    subset = next(spec.subset for spec in scores.panel.shifts if spec.name == name)
    axes = scores.axes[name]
    return [f"{next(iter(axes))} ID"] if subset and len(axes) == 1 else []


def rho_cell(row: Row, name: str, scores: Scores, style: Format) -> str:
    """One shift's rho with its interval and z, marked as the format marks what stands out."""
    rho = row.effective.get(name)
    if rho is None:
        return ABSENT
    text = plus_minus(Interval(*rho[:3]), signed=True)
    text += "" if rho.unusable else f" z {rho.z:.1f}" + SIGN_CHANGES * _changes_sign(rho)
    text += FULL_AXIS * (rho.axis == "full" and len(scores.axes[name]) > 1)
    text = style.extrapolated.format(text) if rho.extrapolated else text
    return style.grey.format(text) if rho.unusable else text


def _changes_sign(rho: Rho) -> bool:
    return isinstance(rho.sensitivity, Sensitivity) and rho.sensitivity.changes_sign


def notes(scores: Scores) -> list[str]:
    """What a reader of the tables must know, each a line; only what applies."""
    found = ["→ the headline: the point that stands for the run."] if len(scores.rows) > 2 and _label(scores) == "point" else []
    if isinstance(scores, RunScores):
        found += _run_notes(scores)
    found += line_notes(scores)
    if scores.baseline is None:
        why = scores.panel.no_baseline or "no effective robustness"
        found.append(f"suite {scores.panel.name} has no baseline line: {why}.")
    rhos = [rho for row in scores.rows for rho in row.effective.values()]
    means = [mean for row in scores.rows for mean in (row.effective_mean, row.effective_all) if mean]
    for name in scores.measured:
        axes = [axis for axis in scores.yardstick.lines[name] if axis in scores.axes[name]]
        for axis in axes:
            reason, of = scores.yardstick.lines[name][axis].unusable, f", {axis} ID axis" if len(axes) > 1 else ""
            told = f"{name}{of}: the line says nothing ({reason}); in parentheses (LaTeX: grey), and in no mean."
            found += [told] if reason else []
    if any(rho.extrapolated for rho in rhos):
        found.append("~ or italics: ID accuracy beyond the reference models' range; the line is extrapolated.")
    if any(_changes_sign(rho) for rho in rhos if not rho.unusable) or any(m.sensitivity.changes_sign for m in means):
        found.append(
            f"{SIGN_CHANGES} above or below the line depends on the axes (logit, probit, linear; all classes or the shift's)."
        )
    if any(len(scores.axes[name]) > 1 for name in scores.measured):
        found.append(f"{FULL_AXIS} on the full ID axis; the column's other values stand on ID accuracy over the shift's classes.")
    return found


def line_notes(scores: Scores) -> list[str]:
    """Which headline shifts the baseline has no line for, and which it has put aside; none without a baseline."""
    if scores.baseline is None:
        return []
    filtered = scores.baseline.filtered
    told = "was filtered against {}: the mean stands without it and, where the line allows, beside that with it."
    names = [spec.name for spec in scores.panel.headline_shifts]
    found = [f"{name} {told.format(filtered[name])}" for name in names if name in filtered and name in scores.yardstick.lines]
    none = [name for name in names if name not in scores.yardstick.lines]
    return found + [f"{name} has no line in {scores.baseline.id}: it is left out of the mean." for name in none]


def _run_notes(scores: RunScores) -> list[str]:
    found = []
    if len(set(scores.chosen)) > 1:
        told = ", ".join(f"{name} (seed {seed})" for name, seed in zip(scores.chosen, scores.seeds, strict=True))
        found.append(f"{CHOSEN}: each seed's own choice: {told}.")
    if scores.missing:
        ood = " no OOD mean, no rank" if set(scores.missing) & {s.name for s in scores.panel.headline_shifts} else ""
        found.append(f"partial: no images of {', '.join(scores.missing)};{ood or ' the rest is complete'}.")
    if scores.record.unaligned:
        found.append(f"unaligned: {', '.join(scores.record.unaligned)}: not the official files; scored, never submitted.")
    return found


def curve(scores: Scores, width: int = 44) -> str:
    """One line per alpha: ID and OOD mean as numbers and as marks on one scale; empty without a curve."""
    rows = [row for row in scores.rows if row.alpha is not None]
    points = sorted((row.alpha or 0.0, row.ood_mean.value, row.id.value) for row in rows if row.ood_mean and row.id)
    if len(points) < 3:
        return ""
    low, high = min(min(point[1:]) for point in points), max(max(point[1:]) for point in points)
    lines = [f"alpha    ID   OOD   {percent(low)}{'OOD mean o, ID x':^{width - 6}}{percent(high)}"]
    for alpha, ood, id_ in points:
        marks = [" "] * width
        for value, mark in ((ood, "o"), (id_, "x")):
            marks[round((value - low) / ((high - low) or 1) * (width - 1))] = mark
        lines.append(f"{alpha:5.2f}  {percent(id_)}  {percent(ood)}  |{''.join(marks)}|")
    return "\n".join(lines)


def baseline_table(baseline: Baseline, panels: Iterable[Panel]) -> str:
    """What ``rbft show mini@1`` prints: the pool, and the line of every shift of ``panels`` on each ID axis."""
    header = ["shift", "ID axis", "models", "slope", "intercept", "s", "R2", "ID range (%)"]
    cells: list[list[str]] = []
    unusable: list[str] = []
    for panel in panels:
        for name, axes in baseline.lines(panel).items():
            for axis, line in axes.items():
                cells += [[name, axis, *_coefficients(piece)] for piece in line.pieces]
                told = f"{name}, {axis} ID axis: the line says nothing: {line.unusable}."
                unusable += [sentence(told, "table")] if line.unusable else []
    about = f"{baseline.id}: {len(baseline.models)} reference models for {baseline.suite}, {baseline.transform} axes"
    table = layout([[name] for name in header], cells, FORMATS["table"], left=2)
    told = "{} was filtered against {}: that model is left out, and the pool is split at its ID accuracy."
    pieces = [sentence(told.format(name, by), "table") for name, by in baseline.filtered.items()]
    source = sentence(f"source: {baseline.source}", "table")
    return "\n\n".join([f"{about}\nhash {baseline.hash}\n{source}", table, *pieces, *unusable]) + "\n"


def _coefficients(piece: BaselineLine) -> list[str]:
    low, high = (percent(end) for end in piece.id_range)
    numbers = (piece.slope, piece.intercept, piece.s, piece.r2)
    return [str(piece.m), *(f"{number:.3f}" for number in numbers), f"{low} to {high}"]
