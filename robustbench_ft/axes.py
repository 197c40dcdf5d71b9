"""The ground of a panel: logit axes with ticks in percent, reference models, the baseline line with its band, y = x."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from robustbench_ft.lines import Line, expit
from robustbench_ft.robustness import ordinary
from robustbench_ft.views import Pair, View, logit

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

GREY = "#8a8a8a"
DARK = "#555555"
PALE = "#b5b5b5"
DIAGONAL: dict[str, Any] = {"color": DARK, "lw": 0.9, "ls": ":"}
POOL: dict[str, Any] = {"color": GREY, "marker": "o", "ms": 3.2, "mew": 0, "alpha": 0.55, "ls": ""}
LINE: dict[str, Any] = {"color": DARK, "lw": 1.6}
BAND: dict[str, Any] = {"color": "#bdbdbd", "alpha": 0.32, "lw": 0}
TAIL = (1, 2, 5, 10, 20, 50)
ROUND = [k / 1000 for k in (*TAIL, *range(100, 1000, 100), *(1000 - k for k in reversed(TAIL)))]
"""Ticks of a wide axis."""
EVEN = [[k / 1000 for k in range(step, 1000, step)] for step in (1, 2, 5, 10, 20, 50, 100)]
"""Ticks of a narrow one, a tenth of a percent to ten percent from each other."""
DENSITY = 40
"""Places per stretch at which a line is computed."""


def limits(pairs: Iterable[Pair]) -> tuple[Pair, Pair]:
    """Limits of both axes that hold all ``pairs`` with a margin."""
    x, y = zip(*(list(pairs) or [(-2.0, -2.0), (2.0, 2.0)]), strict=True)
    return _widened(x), _widened(y)


def _widened(values: Sequence[float]) -> Pair:
    low, high = min(values), max(values)
    margin = max(0.06, 0.06 * (high - low))
    return low - margin, high + margin


def frame(axes: Axes, x: Pair, y: Pair) -> None:
    """Limits, grid, and ticks at round percentages, far enough from each other to be read."""
    box, size = axes.get_position(), axes.figure.get_size_inches()  # type: ignore[union-attr]
    sides = ((axes.xaxis, x, box.width * size[0], 0.34), (axes.yaxis, y, box.height * size[1], 0.24))
    for axis, (low, high), inches, apart in sides:
        found = ticks(low, high, apart / inches * (high - low))
        axis.set_ticks([logit(tick) for tick in found], [f"{100 * tick:g}" for tick in found])
    axes.set_xlim(x)
    axes.set_ylim(y)
    axes.grid(color="#e8e8e8", lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, length=2.5, pad=2, color=GREY)
    axes.spines[:].set_color(PALE)


def ticks(low: float, high: float, apart: float) -> list[float]:
    """Round accuracies between two logits, at least ``apart`` logits from each other: as many as one rule gives."""
    inside = [[p for p in rule if low <= logit(p) <= high] for rule in (ROUND, *EVEN)]
    return max((found for rule in inside if (found := _thinned(rule, apart)) == rule or rule is inside[0]), key=len)


def _thinned(values: Sequence[float], apart: float) -> list[float]:
    kept: list[float] = []
    for value in values:
        if not kept or logit(value) - logit(kept[-1]) >= apart:
            kept.append(value)
    return kept


def ground(axes: Axes, view: View) -> None:
    """Reference models, line with band, and y = x, within the limits that the panel has."""
    x, lines = axes.get_xlim(), view.lines
    axes.plot(x, x, zorder=1, **DIAGONAL)
    axes.plot(*np.array(view.pool).reshape(-1, 2).T, zorder=2, **POOL)
    inner = sorted({logit(line.split) for line in lines if line.split is not None and x[0] < logit(line.split) < x[1]})
    for ends in itertools.pairwise([x[0], *inner, x[1]]) if lines else ():
        _stretch(axes, lines, ends)
    for split in inner if len(lines) == 1 else ():
        axes.axvline(split, color=GREY, lw=0.7, zorder=1.5)
    axes.set_xlim(x)


def _stretch(axes: Axes, lines: Sequence[Line], ends: Pair) -> None:
    """The mean of ``lines`` where none has a split: dashed beyond the pools' common ID range, pale where it says nothing."""
    pieces = [line.at(expit(sum(ends) / 2)) for line in lines]
    low, high = (logit(pick(piece.id_range[side] for piece in pieces)) for side, pick in ((0, max), (1, min)))
    grid = np.unique([*np.linspace(*ends, DENSITY), *(end for end in (low, high) if ends[0] < end < ends[1])])
    values = [ordinary(pieces, expit(x)) for x in grid]
    middle, lower, upper = (np.array([logit(value[side]) for value in values]) for side in range(3))
    silent = all(piece.unusable for piece in pieces)
    axes.fill_between(grid, lower, upper, zorder=1, **BAND | ({"alpha": 0.15} if silent else {}))
    look = LINE | ({"color": PALE} if silent else {})
    within = (grid >= low) & (grid <= high)
    axes.plot(grid, middle, zorder=2.2, **look | {"lw": 1.0, "ls": (0, (4, 3))})
    axes.plot(grid[within], middle[within], zorder=2.2, **look)


def handles(mean: View, shifts: Sequence[View]) -> dict[str, Artist]:
    """The legend of the ground of all panels, by text."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    found: dict[str, Artist] = {}
    if any(view.lines for view in (mean, *shifts)):
        many = len(mean.lines)
        name = f"baseline line (mean over {many} shifts)" if many > 1 else "baseline line"
        found = {
            "reference models": Line2D([], [], **POOL),
            name: Line2D([], [], **LINE),
            "95% of ordinary models": Patch(**BAND),
        }
    return found | {"y = x": Line2D([], [], **DIAGONAL)}
