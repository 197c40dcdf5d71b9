"""Pictures: OOD against ID accuracy of named rows, a large panel for the OOD mean and a small one per shift.

Drawn without pyplot, so nothing global changes. The same input gives the same SVG: a fixed hash salt and no date.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robustbench_ft import views
from robustbench_ft.axes import DARK, frame, ground, handles, limits
from robustbench_ft.labels import place
from robustbench_ft.rows import Row
from robustbench_ft.score import START, RunScores
from robustbench_ft.views import Pair, Spot, View
from robustbench_ft.yardstick import Yardstick

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from robustbench_ft.boards import Board

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe and Ito's palette, told apart by colour-blind readers."""
MARKERS = "osD^vPX<"
FAINT: dict[str, Any] = {"color": "#8fb3cc", "marker": "o", "ls": "", "ms": 4, "mew": 0, "alpha": 0.8}
NAMED = 25
"""Series with a name of their own; those after them are drawn as one crowd."""
LONGEST = 70
"""Characters of a name."""
WRITTEN = 200
"""Characters of all names: up to so many are written beside their marks, else these are numbered."""
WIDTH, PANELS, ABOVE, BELOW = 11.5, 6.3, 0.65, 0.7
"""Inches: width, about what a page shows; height of the panels together, of the title, and below the panels."""
SHARES = (1.0, 1.7, 2.2, 2.4)
"""Width of the large panel over that of a small one, by columns of small ones."""
DOWN = 3
"""Small panels below each other that fit beside the large one; more than three columns of them make the page longer."""
LEGEND = 0.185
"""Height of a line of the legend."""
NAMED_ALPHAS = (0.2, 0.5, 0.8, 1.0)


@dataclass(frozen=True)
class Series:
    """Rows that belong together: those with an alpha are joined in order of alpha, the others are marks."""

    label: str
    rows: tuple[Row, ...]
    headline: Row | None = None
    """The row that stands for the series, beside which the other marks are small; None: no row does more than others."""
    faint: bool = False
    """A background of models, such as a soup's ingredients."""

    @cached_property
    def curve(self) -> list[Row]:
        """The rows with an alpha, by alpha."""
        return sorted((row for row in self.rows if row.alpha is not None), key=lambda row: row.alpha or 0.0)

    @cached_property
    def loose(self) -> list[Row]:
        """The rows without one."""
        return [row for row in self.rows if row.alpha is None]

    @cached_property
    def large(self) -> list[Row]:
        """What is marked with its intervals: the headline; without one, the rows without an alpha."""
        return [self.headline] if self.headline else self.loose

    @cached_property
    def every(self) -> list[Row]:
        """All rows, by how well they stand for the series."""
        return [*self.large, *reversed(self.curve), *(self.loose if self.headline else [])]


@dataclass(frozen=True)
class Sheet:
    """What one picture shows; the series in the order of the legend."""

    title: str
    by: Yardstick
    series: tuple[Series, ...]
    beside: bool = True
    """Whether small panels stand beside the large one."""

    @cached_property
    def mean(self) -> View:
        """The OOD mean."""
        return View(self.by)

    @cached_property
    def shifts(self) -> list[View]:
        """The shifts that a row has a place on."""
        return views.of(self.by, [row for series in self.series for row in series.every])

    @cached_property
    def _drawn(self) -> list[Series]:
        """The series that a panel shows, without backgrounds."""
        panels = (self.mean, *self.shifts)
        seen = [series for series in self.series if any(view.spot(row) for view in panels for row in series.every)]
        return [series for series in seen if not series.faint]

    @cached_property
    def faint(self) -> list[Series]:
        """The backgrounds."""
        return [series for series in self.series if series.faint]

    @cached_property
    def named(self) -> list[Series]:
        """The series that have a mark and a name of their own."""
        return self._drawn[:NAMED]

    @cached_property
    def crowd(self) -> list[Row]:
        """One row of each series after them."""
        return [series.every[0] for series in self._drawn[NAMED:]]

    @property
    def background(self) -> list[Row]:
        """All rows without a name."""
        return self.crowd + [row for series in self.faint for row in series.every]

    @property
    def numbered(self) -> bool:
        """Whether numbers stand beside the marks, as names would be too many."""
        return sum(len(series.label) for series in self.named) > WRITTEN


def sheet_picture(sheet: Sheet, *paths: Path) -> None:
    """Draw a sheet once and write it to every path, which ends in .svg or .png."""
    small = [sheet.mean] * bool(sheet.mean.pool) + sheet.shifts * (len(sheet.mean.shifts) > 1) if sheet.beside else []
    columns = min(len(SHARES) - 1, math.ceil(len(small) / DOWN))
    down = math.ceil(len(small) / columns) if small else 1
    width = WIDTH if small else WIDTH / 1.5
    legend = _legend(sheet)
    across = max(1, int(width / (0.65 + 0.062 * max(len(text) for text, _ in legend))))
    below = BELOW + LEGEND * math.ceil(len(legend) / across)
    height = ABOVE + PANELS * max(1, down / DOWN) + below
    figure = blank((width, height))
    figure.subplots_adjust(
        left=0.75 / width, right=0.988, top=1 - ABOVE / height, bottom=below / height, wspace=0.24, hspace=0.48
    )
    grid = figure.add_gridspec(down, 1 + columns, width_ratios=[SHARES[columns], *[1] * columns])
    _large(figure.add_subplot(grid[:, 0]), sheet)
    for number, view in enumerate(small):
        _small(figure.add_subplot(grid[number // columns, 1 + number % columns]), view, sheet)
    figure.text(0.14 / width, 1 - 0.14 / height, _plain(sheet.title, int(10 * width)), fontsize=12, va="top")
    texts, shown = zip(*legend, strict=True)
    figure.legend(shown, texts, loc="lower center", ncols=across, frameon=False, fontsize=8.5, handlelength=1.8)
    for path in paths:
        save(figure, path)


def _legend(sheet: Sheet) -> list[tuple[str, Artist]]:
    """Text and look of named series, background models, and the ground."""
    from matplotlib.lines import Line2D

    found: list[tuple[str, Artist]] = []
    for number, series in enumerate(sheet.named):
        name = f"{number + 1}  {_plain(series.label)}" if sheet.numbered else _plain(series.label)
        line = Line2D([], [], ls="-" if series.curve else "", lw=1.1, ms=6, mec="white", mew=0.5, **_look(number))
        found.append((name, line))
    faint = [_plain(series.label) for series in sheet.faint] + [f"{len(sheet.crowd)} more rows"] * bool(sheet.crowd)
    return [*found, *((name, Line2D([], [], **FAINT)) for name in faint), *handles(sheet.mean, sheet.shifts).items()]


def _look(number: int) -> dict[str, Any]:
    """How a series is drawn: told apart by colour and by marker."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def _plain(text: str, longest: int = LONGEST) -> str:
    """A name on one short line; matplotlib would read dollars as mathematics and leave out a leading underscore."""
    text = " ".join(text.split()).lstrip("_")
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return text.replace("$", r"\$")


def _large(axes: Axes, sheet: Sheet) -> None:
    """The OOD mean, as large as the named series allow, each mark with its intervals and its name."""
    view = sheet.mean
    spots = _spots(view, [row for series in sheet.named for row in series.every])
    frame(axes, *limits(end for spot in spots for bar in spot.bars for end in bar))
    if spots:
        ground(axes, view)
    else:
        axes.text(0.5, 0.5, "no row has all shifts", transform=axes.transAxes, ha="center", color=DARK)
    marks, lines = _marks(axes, view, sheet, 6.5 if sheet.numbered else 8.0, across=True)
    known = ", with 95% intervals" if any(end != spot.middle for spot in spots for end in spot.bars[0]) else ""
    axes.set_title(f"{view.title}{', enlarged' if view.pool else ''}{known}", fontsize=10)
    test, measures = sheet.by.panel.test, {spec.measure for spec in sheet.by.panel.headline_shifts}
    axes.set_xlabel(f"ID {test.measure}, {test.name} (%)", fontsize=9)
    axes.set_ylabel(f"OOD {' and '.join(sorted(measures))} (%)", fontsize=9)
    place(axes, _alphas(view, sheet) | _names(view, sheet), marks, lines)


def _small(axes: Axes, view: View, sheet: Sheet) -> None:
    """One shift, or the OOD mean, with all reference models and all rows."""
    spots = _spots(view, sheet.background + [row for series in sheet.named for row in series.every])
    frame(axes, *limits([*view.pool, *(end for spot in spots for end in spot.bars[0])]))
    ground(axes, view)
    _marks(axes, view, sheet, 4.5, across=False)
    title = view.title if view.shift else f"{view.title.split(' over')[0]}, all reference models"
    axes.set_title(title, fontsize=9, pad=3)
    axes.set_xlabel(f"{view.id_label}\n{view.silence}".strip(), fontsize=8, labelpad=1)


def _marks(axes: Axes, view: View, sheet: Sheet, size: float, *, across: bool) -> tuple[list[Pair], list[list[Pair]]]:
    """Every row of a panel: its large marks; its curves, intervals and small marks. ``across``: with ID intervals too."""
    background = [spot.middle for spot in _spots(view, sheet.background)]
    _dots(axes, background, zorder=2.5, **FAINT | {"ms": size / 2})
    marks, lines = [], [[place] for place in background]
    for number, series in enumerate(sheet.named):
        look = _look(number)
        small = series.loose if series.headline else []
        curve, loose = ([spot.middle for spot in _spots(view, rows)] for rows in (series.curve, small))
        _dots(axes, curve, lw=1.1, ms=size * 0.4, mew=0, zorder=3, **look)
        _dots(axes, loose, ls="", ms=size * 0.6, mew=0, zorder=3, **look)
        lines += [curve, *([place] for place in loose)]
        for spot in _spots(view, series.large):
            for bar in spot.bars[: 1 + across]:
                _dots(axes, bar, color=look["color"], lw=0.9, alpha=0.6, zorder=3.5)
                lines.append(bar)
            _dots(axes, [spot.middle], ms=size, mec="white", mew=0.5, zorder=4, **look)
            marks.append(spot.middle)
    return marks, lines


def _dots(axes: Axes, places: Sequence[Pair], **look: Any) -> None:
    axes.plot(*np.array(places).reshape(-1, 2).T, **look)


def _names(view: View, sheet: Sheet) -> dict[Pair, str]:
    """Per series its name beside one row; a curve without other rows has a number or, as alphas stand there, nothing."""
    found: dict[Pair, str] = {}
    for number, series in enumerate(sheet.named):
        for spot in _spots(view, series.every if series.large or sheet.numbered else [])[:1]:
            name = str(number + 1) if sheet.numbered else _plain(series.label)
            found[spot.middle] = f"{found[spot.middle]}, {name}" if spot.middle in found else name
    return found


def _alphas(view: View, sheet: Sheet) -> dict[Pair, str]:
    """Where a sheet has one curve, the alphas of some of its points."""
    curves = [series.curve for series in sheet.named if series.curve]
    rows = curves[0] if len(curves) == 1 and not sheet.numbered else []
    named = [row for row in rows if any(math.isclose(row.alpha or 0.0, alpha) for alpha in NAMED_ALPHAS)]
    return {spot.middle: f"alpha {row.alpha:g}" for row in named for spot in _spots(view, [row])}


def _spots(view: View, rows: Iterable[Row]) -> list[Spot]:
    return [spot for row in rows if (spot := view.spot(row))]


def curve_picture(scores: RunScores, *paths: Path) -> None:
    """One run: its start model, its headline, its other points and the curve of its weight-space ensembles."""
    found = [Series("weight-space ensembles", tuple(row for row in scores.rows if row.alpha is not None))]
    for row in scores.rows:
        if row.point == START or row.headline or row.alpha is None:
            found.append(Series("start model" if row.point == START else row.model, (), headline=row))
    title = f"{scores.record.method} on {scores.panel.name}: accuracy under shift against ID accuracy"
    sheet_picture(Sheet(title, scores.yardstick, tuple(series for series in found if series.every)), *paths)


def board_picture(board: Board, *paths: Path) -> None:
    """All rows of a board, those with a name with their curve of weight-space ensembles where they have one."""
    found = []
    for number, item in enumerate(entry.submission for entry in board.entries):
        found.append(Series(item.info.title, item.curve if number < NAMED else (), headline=item.scores.headline))
    by = board.first.scores.yardstick
    sheet_picture(Sheet(f"{by.panel.title}: accuracy under shift against ID accuracy", by, tuple(found)), *paths)


def blank(size: tuple[float, float]) -> Figure:
    """A figure of that size in inches, drawn without pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write it as .svg or .png: the same input gives the same bytes."""
    import matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "rbft"}):
        figure.savefig(path, dpi=130, metadata=metadata)
