"""Pictures: OOD against ID accuracy on logit axes, with the baseline line, its band and y = x.

Drawn without pyplot, so nothing global changes. The same input gives the same SVG: a fixed hash salt and no date.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from robustbench_ft.baselines import BaselineLine, clamp
from robustbench_ft.labels import place
from robustbench_ft.robustness import ordinary
from robustbench_ft.score import START, Row, Scores
from robustbench_ft.statistics import Floats, Interval
from robustbench_ft.tables import short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from robustbench_ft.leaderboard import Board

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe and Ito's palette, told apart by colour-blind readers."""
MARKERS = "osD^vPX<"
GREY = "#8a8a8a"
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
NAMED_ALPHAS = (0.2, 0.5, 0.8, 1.0)


Pair = tuple[float, float]


class Spot(NamedTuple):
    """A point of a picture: accuracies with intervals."""

    id: Interval
    ood: Interval


def logit(p: float) -> float:
    """Place on the axes; 0 and 1 are drawn as if one image in 2,000 were different."""
    p = clamp(min(1.0, max(0.0, p)), 1000)
    return math.log(p / (1 - p))


def curve_picture(scores: Scores, path: Path) -> None:
    """One run: OOD mean against ID, and a small panel per shift. ``path`` ends in .svg or .png."""
    shifts = [spec.name for spec in scores.suite.shifts if spec.name in scores.rows[0].scores]
    rows = max(2, math.ceil(len(shifts) / 2))
    height = 2.1 + 1.9 * rows
    figure = _figure((12.5, height))
    figure.subplots_adjust(left=0.06, right=0.985, top=1 - 0.8 / height, bottom=1.35 / height)
    grid = figure.add_gridspec(rows, 4, width_ratios=(1.25, 1.25, 1, 1), wspace=0.35, hspace=0.5)
    mean = figure.add_subplot(grid[:, :2])
    spots = [_mean_spot(row) for row in scores.rows]
    _panel(mean, scores, spots, _mean_lines(scores), _pool_means(scores), labels=True)
    if not any(row.ood_mean for row in scores.rows):
        mean.text(0.5, 0.5, "no OOD mean: a shift is missing", transform=mean.transAxes, ha="center", color=GREY)
    mean.set_xlabel(f"ID accuracy, {scores.suite.test.name} (%)")
    mean.set_ylabel(_mean_label(scores))
    for number, name in enumerate(shifts):
        axes = figure.add_subplot(grid[number // 2, 2 + number % 2])
        _shift_panel(axes, scores, name)
    handles, texts = mean.get_legend_handles_labels()
    figure.legend(handles, texts, loc="lower center", ncols=3, frameon=False, fontsize=9)
    figure.suptitle(f"{scores.record.method} on {scores.suite.name}: accuracy under shift against ID accuracy", y=0.975)
    _save(figure, path)


def _mean_spot(row: Row) -> Spot | None:
    return Spot(Interval(*row.id[:3]), row.ood_mean) if row.ood_mean else None


def _mean_lines(scores: Scores) -> list[BaselineLine]:
    """The lines behind the OOD mean: of all its shifts, usable or not, as the points are means over all; or none."""
    names = [spec.name for spec in scores.suite.headline_shifts]
    return [scores.lines[name] for name in names] if set(names) <= set(scores.lines) else []


def _mean_label(scores: Scores) -> str:
    return f"OOD mean over {len(scores.suite.headline_shifts)} shifts (%)"


def _shift_panel(axes: Axes, scores: Scores, name: str) -> None:
    """One shift; ID accuracy on the axis of its line."""
    line = scores.lines.get(name)
    spots = []
    for row in scores.rows:
        x = row.effective[name].id if name in row.effective else row.id.value
        spots.append(Spot(Interval(x, x, x), Interval(*row.scores[name][:3])))
    _panel(axes, scores, spots, [line] if line else [], _pool(line, scores, name) if line else [], labels=False)
    axes.set_title(short_names(scores.suite)[name], fontsize=10)
    if line and line.unusable:
        axes.text(0.03, 0.95, "line says nothing", transform=axes.transAxes, va="top", fontsize=8, color=GREY)


def _pool(line: BaselineLine, scores: Scores, name: str) -> list[tuple[float, float]]:
    """(ID, OOD) accuracies of the reference models on one shift."""
    assert scores.baseline
    id_set = scores.baseline.id_set if line.axis == "full" else f"{scores.baseline.id_set}/{name}"
    models = [model for model in scores.baseline.models if model.name in line.names]
    return [(m.counts[id_set].accuracy, m.counts[name].accuracy) for m in models]


def _pool_means(scores: Scores) -> list[tuple[float, float]]:
    """(ID, OOD mean) of the reference models that have every headline shift."""
    if not scores.baseline:
        return []
    names = [spec.name for spec in scores.suite.headline_shifts]
    models = [m for m in scores.baseline.models if {scores.baseline.id_set, *names} <= m.counts.keys()]
    ood = [sum(model.counts[name].accuracy for name in names) / len(names) for model in models]
    return [(m.counts[scores.baseline.id_set].accuracy, mean) for m, mean in zip(models, ood, strict=True)]


def _panel(
    axes: Axes,
    scores: Scores,
    spots: Sequence[Spot | None],
    lines: Sequence[BaselineLine],
    pool: Sequence[Pair],
    *,
    labels: bool,
) -> None:
    """Background and curve of one run; rows without a spot are left out."""
    present = [(row, spot) for row, spot in zip(scores.rows, spots, strict=True) if spot]
    _background(axes, lines, pool, [spot for _, spot in present])
    _curve(axes, present, labels=labels)


def _background(axes: Axes, lines: Sequence[BaselineLine], pool: Sequence[Pair], spots: Sequence[Spot]) -> None:
    """Reference models, line with band, y = x, ticks; the limits hold all of it."""
    x, y = _limits([*pool, *((spot.id.value, spot.ood.value) for spot in spots)], 0.4)
    _frame(axes, x, y)
    if pool:
        xs, ys = ([logit(pair[side]) for pair in pool] for side in (0, 1))
        axes.scatter(xs, ys, s=16, color=GREY, alpha=0.75, label="reference models", zorder=2)
    if lines:
        _line(axes, lines, x)
    axes.plot(x, x, color=GREY, lw=0.9, ls=":", label="y = x", zorder=1)


def _limits(pairs: Sequence[Pair], margin: float) -> tuple[Pair, Pair]:
    """Limits of both axes (logits) that hold ``pairs`` (accuracies) with a margin in logits."""
    if not pairs:
        return (logit(0.1), logit(0.9)), (logit(0.1), logit(0.9))
    x, y = ([logit(pair[side]) for pair in pairs] for side in (0, 1))
    return (min(x) - margin, max(x) + margin), (min(y) - margin, max(y) + margin)


def _frame(axes: Axes, x: Pair, y: Pair) -> None:
    """Limits, grid, and ticks at round percentages about a fifth of an inch apart or more."""
    box, size = axes.get_position(), axes.figure.get_size_inches()  # type: ignore[union-attr]
    sides = ((axes.xaxis, x, box.width * size[0], 0.3), (axes.yaxis, y, box.height * size[1], 0.2))
    for axis, (low, high), inches, apart in sides:
        ticks = _ticks(low, high, apart / inches * (high - low))
        axis.set_ticks([logit(tick) for tick in ticks], [f"{100 * tick:g}" for tick in ticks])
    axes.set_xlim(x)
    axes.set_ylim(y)
    axes.grid(color="#e4e4e4", lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)


def _ticks(low: float, high: float, apart: float) -> list[float]:
    """Round accuracies between two logits, at least ``apart`` logits from each other."""
    choices = TICKS if high - low > 1.5 else [percent / 100 for percent in range(1, 100)]
    step = 1 if high - low > 1.5 else next(s for s in (1, 2, 5, 10) if logit(0.5 + s / 100) >= apart or s == 10)
    kept: list[float] = []
    for tick in choices[step - 1 :: step]:
        if low <= logit(tick) <= high and (not kept or logit(tick) - logit(kept[-1]) >= apart):
            kept.append(tick)
    return kept


def _line(axes: Axes, lines: Sequence[BaselineLine], limits: tuple[float, float]) -> None:
    """The mean of ``lines`` with the band of ordinary models; dashed beyond the pool's ID range."""
    grid = np.linspace(*limits, 80)
    values = [ordinary(lines, 1 / (1 + math.exp(-x))) for x in grid]
    low, high = (np.array([logit(max(0.0, min(1.0, v[side]))) for v in values]) for side in (1, 2))
    middle: Floats = np.array([logit(v.value) for v in values])
    inside = [max(line.id_range[0] for line in lines), min(line.id_range[1] for line in lines)]
    within = (grid >= logit(inside[0])) & (grid <= logit(inside[1]))
    name = "baseline line" if len(lines) == 1 else f"baseline line: mean of the lines of {len(lines)} shifts"
    name += f" ({dead} unusable)" if (dead := sum(bool(line.unusable) for line in lines)) else ""
    axes.fill_between(grid, low, high, color="#bdbdbd", alpha=0.35, lw=0, label="95% of ordinary models", zorder=1)
    axes.plot(grid, middle, color="#555555", lw=1.1, ls="--", zorder=2)
    axes.plot(grid[within], middle[within], color="#555555", lw=1.8, label=name, zorder=2)


def _curve(axes: Axes, rows: Sequence[tuple[Row, Spot]], *, labels: bool) -> None:
    """The points of a run: those with an alpha are connected, start and headline have their intervals."""
    path = sorted((row.alpha, *_middle(spot)) for row, spot in rows if row.alpha is not None)
    if path:
        _, xs, ys = zip(*path, strict=True)
        size = 3.5 if labels else 2.5
        axes.plot(xs, ys, "-o", color=COLOURS[0], ms=size, lw=1.3, label="weight-space ensembles", zorder=3)
    named, avoid = [], _dense([(x, y) for _, x, y in path])
    for row, spot in rows:
        kind = 0 if row.point == START else 1 if row.headline else 2
        if kind == 2 and row.alpha is not None:
            if any(math.isclose(row.alpha, alpha) for alpha in NAMED_ALPHAS):
                named.append((spot, f"alpha {row.alpha:g}"))
            continue
        marker, colour, size = (("s", COLOURS[2], 7), ("*", COLOURS[1], 12), ("o", COLOURS[5], 6))[kind]
        label = ("start model", f"headline: {row.model}", row.point)[kind]
        avoid += _mark(axes, spot, marker, colour, size=size if labels else size * 0.7, label=label, bars=labels)
        named.append((spot, "start" if kind == 0 else row.point.replace("alpha=", "alpha ")))
    if labels:
        place(axes, [_middle(spot) for spot, _ in named], [text for _, text in named], avoid)


def _middle(spot: Spot) -> Pair:
    return logit(spot.id.value), logit(spot.ood.value)


def _mark(axes: Axes, spot: Spot, marker: str, colour: str, *, size: float, label: str, bars: bool) -> list[Pair]:
    """Draw one point; the places that its error bars cover."""
    (x, x_low, x_high), (y, y_low, y_high) = ([logit(v) for v in interval] for interval in spot)
    errors: dict[str, Any] = {}
    if bars:
        errors = {"xerr": [[x - x_low], [x_high - x]], "yerr": [[y - y_low], [y_high - y]], "elinewidth": 0.9}
    edge: dict[str, Any] = {"ms": size, "mec": "white", "mew": 0.6}
    axes.errorbar([x], [y], fmt=marker, color=colour, ecolor=colour, label=label, zorder=4, **edge, **errors)
    across = [(float(v), y) for v in np.linspace(x_low, x_high, 9)]
    return across + [(x, float(v)) for v in np.linspace(y_low, y_high, 5)]


def board_picture(board: Board, path: Path) -> None:
    """All rows of a board: left with the reference models and their line, right enlarged, each row with its name."""
    items = [entry.submission for entry in board.entries if entry.submission.scores.headline.ood_mean]
    scores = board.first.scores
    spots = [spot for item in items if (spot := _mean_spot(item.scores.headline))]
    curves = [sorted(_alphas(item.scores.rows)) for item in items]
    figure = _figure((13, 6.2))
    figure.subplots_adjust(left=0.055, right=0.99, top=0.92, bottom=0.095)
    overview, near = figure.subplots(1, 2, width_ratios=(1, 1.6))
    _background(overview, _mean_lines(scores), _pool_means(scores), spots)
    ends = [(interval.id[i], interval.ood[j]) for interval in spots for i, j in ((1, 0), (2, 0), (0, 1), (0, 2))]
    _frame(near, *_limits(ends, 0.12))
    avoid: list[Pair] = []
    for number, (spot, curve) in enumerate(zip(spots, curves, strict=True)):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        along = [(x, y) for _, x, y in curve]
        for axes, size in ((overview, 4.0), (near, 8.0)):
            axes.plot([x for x, _ in along], [y for _, y in along], color=colour, lw=0.9, alpha=0.7, zorder=3)
            bars = _mark(axes, spot, marker, colour, size=size, label="_", bars=axes is near)
        avoid += _dense(along) + bars
    place(near, [_middle(spot) for spot in spots], [item.info.title for item in items], avoid)
    for axes in (overview, near):
        axes.set_xlabel(f"ID accuracy, {scores.suite.test.name} (%)")
    overview.set_ylabel(_mean_label(scores))
    overview.set_title(f"{scores.suite.name}: rows of the board and reference models", fontsize=10)
    near.set_title("the same rows enlarged, with 95% intervals", fontsize=10)
    overview.legend(loc="lower right", frameon=False, fontsize=7.5)
    _save(figure, path)


def _dense(curve: Sequence[Pair]) -> list[Pair]:
    """Eight places on every piece of a curve."""
    pieces = itertools.pairwise(curve)
    return [(a + (c - a) * i / 8, b + (d - b) * i / 8) for (a, b), (c, d) in pieces for i in range(9)]


def _alphas(rows: Iterable[Row]) -> list[tuple[float, float, float]]:
    return [(r.alpha, logit(r.id.value), logit(r.ood_mean.value)) for r in rows if r.alpha is not None and r.ood_mean]


def _figure(size: tuple[float, float]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    import matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "rbft"}):
        figure.savefig(path, dpi=130, metadata=metadata)
