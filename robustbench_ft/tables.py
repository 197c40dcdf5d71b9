"""Scores as text: for the terminal, markdown, LaTeX and csv. Percent with one decimal, but fractions in csv."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from robustbench_ft.baselines import Baseline, BaselineLine
from robustbench_ft.errors import UnknownName
from robustbench_ft.robustness import Rho
from robustbench_ft.score import Row, Scores, row_json
from robustbench_ft.statistics import Interval
from robustbench_ft.suites import Suite

ABSENT = "-"
WIDTH = 118
LATEX = (
    {"\\": r"\textbackslash{}", "±": r"$\pm$", "~": r"\textasciitilde{}"}
    | {"→": r"$\rightarrow$"}
    | {c: f"\\{c}" for c in "&%#_${}"}
)


class Format(NamedTuple):
    """How a format writes what must stand out."""

    tablefmt: str
    newline: str
    """Between the lines of a column's header."""
    extrapolated: str
    grey: str
    """A value against a line that says nothing."""


FORMATS = {
    "table": Format("simple", "\n", "{}~", "({})"),
    "markdown": Format("pipe", "<br>", "*{}*", "({})"),
    "latex": Format("latex_raw", " ", r"\textit{{{}}}", r"\textcolor{{gray}}{{{}}}"),
}
CHOICES = (*FORMATS, "csv")


def percent(value: float, *, signed: bool = False) -> str:
    """``0.849`` as ``84.9``; signed: ``+84.9``. Zero has no sign."""
    rounded = round(100 * value, 1) + 0.0
    return f"{rounded:+.1f}" if signed and rounded else f"{rounded:.1f}"


def plus_minus(interval: Interval | None, *, signed: bool = False) -> str:
    """``84.9 ±0.8``: the longer side of the 95% interval, in percent; json and csv give both ends."""
    if interval is None:
        return ABSENT
    value, low, high = interval
    if low == high:
        return percent(value, signed=signed)
    return f"{percent(value, signed=signed)} ±{percent(max(high - value, value - low))}"


def short_names(suite: Suite) -> dict[str, str]:
    """Shift names without the ``<suite>-`` that they all begin with: what column headers show."""
    prefix = f"{suite.name}-"
    cut = all(spec.name.startswith(prefix) for spec in suite.shifts)
    return {spec.name: spec.name.removeprefix(prefix) if cut else spec.name for spec in suite.shifts}


def mean_over(used: Sequence[str], suite: Suite) -> str:
    """What the mean of rho is over: ``mean over 5``, or ``mean over 4 of 5`` where a line says nothing."""
    total = len(suite.headline_shifts)
    return f"mean over {total}" if len(used) == total else f"mean over {len(used)} of {total}"


def layout(header: Sequence[Sequence[str]], cells: Iterable[Sequence[str]], style: Format, *, left: int = 1) -> str:
    """A table; ``header``: per column, its lines; the first ``left`` columns are left-aligned, the others right."""
    from tabulate import tabulate

    columns = [style.newline.join(line for line in lines if line) for lines in header]
    body = [list(row) for row in cells]
    if style.tablefmt == "latex_raw":
        columns, body = [latex(text) for text in columns], [[latex(text) for text in row] for row in body]
    align = ["left"] * left + ["right"] * (len(columns) - left)
    return str(tabulate(body, columns, style.tablefmt, disable_numparse=True, colalign=align))


def latex(text: str) -> str:
    """Escape what LaTeX would read as markup, inside the two commands that this module writes itself."""
    if text.startswith((r"\textit{", r"\textcolor{gray}{")):
        command, _, rest = text.rpartition("{")
        return f"{command}{{{latex(rest[:-1])}}}"
    return "".join(LATEX.get(character, character) for character in text)


def render(scores: Scores, name: str) -> str:
    """The whole answer of ``rbft score`` in one of ``CHOICES``; UnknownName otherwise."""
    if name == "csv":
        return to_csv(row_json(row, scores.suite, scores.usable) for row in scores.rows)
    if name not in FORMATS:
        raise UnknownName("format", name, CHOICES)
    style = FORMATS[name]
    say = latex if name == "latex" else _wrap if name == "table" else str
    parts = [say(title(scores)), main_table(scores, style)]
    if scores.lines:
        parts.append(say("Effective robustness per shift, with 95% interval and z:"))
        parts.append(effective_table(scores, style))
    return "\n\n".join([*parts, *(say(note) for note in notes(scores))]) + "\n"


def _wrap(text: str) -> str:
    """Lines that fit the terminal."""
    return textwrap.fill(text, WIDTH)


def title(scores: Scores) -> str:
    """What the tables are about, in one line."""
    seeds = f"seed{'s' * (len(scores.seeds) > 1)} {', '.join(str(seed) for seed in scores.seeds)}"
    line = f"baseline {scores.baseline.id}" if scores.baseline else "no baseline"
    return f"{scores.record.method} on {scores.suite.name}, start model {scores.record.start.name}, {seeds}, {line}"


def main_table(scores: Scores, style: Format) -> str:
    """One line a point: ID, every shift, OOD mean, effective and relative robustness."""
    short = short_names(scores.suite)
    header = [["point"], ["ID"], *([name] for name in short.values()), ["OOD mean"]]
    if scores.usable:
        header.append(["effective", "robustness", mean_over(scores.usable, scores.suite)])
    header.append(["relative", "robustness", "vs start"])
    return layout(header, [_main_cells(row, scores, style) for row in scores.rows], style)


def _main_cells(row: Row, scores: Scores, style: Format) -> list[str]:
    names = [spec.name for spec in scores.suite.shifts]
    shifts = [percent(row.scores[name].value) if name in row.scores else ABSENT for name in names]
    cells = [_point(row), plus_minus(Interval(*row.id[:3])), *shifts, plus_minus(row.ood_mean)]
    if scores.usable:
        cells.append(mean_effective(row, scores.usable, style))
    return [*cells, plus_minus(row.relative_mean, signed=True)]


def _point(row: Row) -> str:
    return f"→ {row.point}" if row.headline else row.point


def mean_effective(row: Row, used: Sequence[str], style: Format) -> str:
    """The mean of rho, marked where it holds an extrapolated value."""
    text = plus_minus(row.effective_mean, signed=True)
    return style.extrapolated.format(text) if row.effective_mean and row.extrapolated(used) else text


def effective_table(scores: Scores, style: Format) -> str:
    """One line a point, one column a shift that has a line."""
    short = short_names(scores.suite)
    header = [["point"], *([short[name]] for name in scores.lines)]
    cells = [
        [
            _point(row),
            *(rho_cell(row.effective.get(name), line, style) for name, line in scores.lines.items()),
        ]
        for row in scores.rows
    ]
    return layout(header, cells, style)


def rho_cell(rho: Rho | None, line: BaselineLine, style: Format) -> str:
    """One shift's rho with its interval and z, marked as the format marks what stands out."""
    if rho is None:
        return ABSENT
    text = plus_minus(Interval(*rho[:3]), signed=True)
    text += "" if line.unusable else f" z {rho.z:.1f}"
    text = style.extrapolated.format(text) if rho.extrapolated else text
    return style.grey.format(text) if line.unusable else text


def notes(scores: Scores) -> list[str]:
    """What a reader of the tables must know, each a line; only what applies."""
    found = ["→ the headline: the point that stands for the run."] if len(scores.rows) > 2 else []
    if scores.missing:
        ood = " no OOD mean, no rank" if set(scores.missing) & {s.name for s in scores.suite.headline_shifts} else ""
        found.append(f"partial: no images of {', '.join(scores.missing)};{ood or ' the rest is complete'}.")
    if scores.record.unaligned:
        found.append(f"unaligned: {', '.join(scores.record.unaligned)}: not the official files; scored, never submitted.")
    if scores.baseline is None:
        found.append(f"suite {scores.suite.name} has no baseline line: no effective robustness.")
    for name, line in scores.lines.items():
        if line.unusable:
            found.append(f"{name}: the line says nothing ({line.unusable}); in parentheses, and left out of the mean.")
    if any(rho.extrapolated for row in scores.rows for rho in row.effective.values()):
        found.append("~ or italics: ID accuracy beyond the reference models' range; the line is extrapolated.")
    return found


def curve(scores: Scores, width: int = 44) -> str:
    """One line per alpha: ID and OOD mean as numbers and as marks on one scale; empty without a curve."""
    rows = [row for row in scores.rows if row.alpha is not None]
    points = sorted((row.alpha or 0.0, row.ood_mean.value, row.id.value) for row in rows if row.ood_mean)
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


def baseline_table(baseline: Baseline, suite: Suite) -> str:
    """What ``rbft show mini@1`` prints: the pool, and per shift its line."""
    header = ["shift", "ID axis", "models", "slope", "intercept", "s", "R2", "pool's ID (%)"]
    cells: list[list[str]] = []
    unusable: list[str] = []
    for name, line in baseline.lines(suite).items():
        low, high = (percent(end) for end in line.id_range)
        numbers = [str(line.m), *(f"{v:.3f}" for v in (line.slope, line.intercept, line.s, line.r2))]
        cells.append([name, line.axis, *numbers, f"{low} to {high}"])
        unusable += [_wrap(f"{name}: the line says nothing: {line.unusable}.")] if line.unusable else []
    about = f"{baseline.id}: {len(baseline.models)} reference models for {baseline.suite}, {baseline.transform} axes"
    table = layout([[name] for name in header], cells, FORMATS["table"], left=2)
    source = _wrap(f"source: {baseline.source}")
    return "\n\n".join([f"{about}\nhash {baseline.hash}\n{source}", table, *unusable]) + "\n"


def to_csv(rows: Iterable[dict[str, Any]]) -> str:
    """Rows of the JSON document, flattened: ``scores.mini-v2.low`` is one column; fractions, empty where absent."""
    flat = [dict(_flatten(row)) for row in rows]
    out = io.StringIO()
    names = dict.fromkeys(name for row in flat for name in row)
    columns = [name for name in names if not any(other.startswith(f"{name}.") for other in names)]
    writer = csv.DictWriter(out, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()


def _flatten(value: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _flatten(item, f"{prefix}{key}.")
        else:
            yield prefix + key, ";".join(str(part) for part in item) if isinstance(item, list) else item
