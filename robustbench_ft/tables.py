"""Tables as text: for the terminal, markdown, LaTeX and csv. Percent with one decimal, but fractions in csv."""

from __future__ import annotations

import csv
import io
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from robustbench_ft.errors import UnknownName
from robustbench_ft.rows import MeanRho, Score
from robustbench_ft.statistics import Interval

ABSENT = "-"
WIDTH = 118
LATEX = (
    {"\\": r"\textbackslash{}", "±": r"$\pm$", "~": r"\textasciitilde{}"}
    | {"→": r"$\rightarrow$", "‡": r"\ddag{}", "†": r"\dag{}", "…": r"\ldots{}", "<": "$<$", "^": r"\textasciicircum{}"}
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


def plus_minus(interval: Interval | Score | MeanRho | None, *, signed: bool = False) -> str:
    """``84.9 ±0.8``: the longer side of the 95% interval, in percent; json and csv give both ends."""
    if interval is None:
        return ABSENT
    value, low, high = interval[:3]
    if low == high or math.isnan(low):
        return percent(value, signed=signed)
    return f"{percent(value, signed=signed)} ±{percent(max(high - value, value - low))}"


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
    for command in (r"\textit{", r"\textcolor{gray}{"):
        if text.startswith(command) and text.endswith("}"):
            return command + latex(text[len(command) : -1]) + "}"
    return "".join(LATEX.get(character, character) for character in text)


def plain(text: str) -> str:
    """Text of a user on one line, without characters that markdown or HTML would read as markup."""
    for character in r"\`*_[]<>|":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


def chosen(selection: Mapping[str, str]) -> str:
    """Per hyperparameter that is not the recipe's default, the rule (DESIGN 7.5)."""
    return ", ".join(f"{field}: {rule}" for field, rule in sorted(selection.items()) if rule != "default") or "default"


def picture(alt: str, path: str) -> str:
    """Markdown that shows ``path``.svg and links to ``path``.png."""
    return f"![{alt}]({path}.svg)\n\n([PNG]({path}.png))"


def check_form(form: str) -> None:
    """UnknownName where ``form`` is none of ``CHOICES``."""
    if form not in CHOICES:
        raise UnknownName("format", form, CHOICES, hint="--format table")


def sentence(text: str, form: str) -> str:
    """A line of prose beside a table: wrapped for the terminal, escaped for LaTeX."""
    if form == "table":
        return textwrap.fill(text, WIDTH, break_on_hyphens=False, break_long_words=False)
    return latex(text) if form == "latex" else text


def to_csv(rows: Iterable[dict[str, Any]]) -> str:
    """Rows of the JSON document, flattened: ``scores.mini-v2.low`` is one column; fractions, empty where absent."""
    flat = [dict(_flatten(row)) for row in rows]
    out = io.StringIO()
    names = dict.fromkeys(name for row in flat for name in row)
    columns = [name for name in names if not any(other.startswith(f"{name}.") for other in names)]
    writer = csv.DictWriter(out, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue().rstrip("\n")


def _flatten(value: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _flatten(item, f"{prefix}{key}.")
        else:
            yield prefix + key, ";".join(str(part) for part in item) if isinstance(item, list) else item
