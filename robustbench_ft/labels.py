"""Labels of points in a picture, placed so that they cover neither each other nor a point."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DISTANCES = (9, 16, 26, 40, 58, 80)
"""From a point to its label's near edge, in points; the nearest free place wins."""
ANGLES = (45, 0, 90, 315, 135, 180, 270, 225)
PAD = 2.0
SIZE = 8.5

Pair = tuple[float, float]


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """Common area."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, width) * max(0.0, height)

    @property
    def centre(self) -> Pair:
        """Its middle."""
        return (self.left + self.right) / 2, (self.bottom + self.top) / 2

    @property
    def area(self) -> float:
        """Width times height."""
        return (self.right - self.left) * (self.top - self.bottom)


def place(axes: Axes, points: Sequence[Pair], texts: Sequence[str], avoid: Sequence[Pair] = ()) -> None:
    """Write ``texts`` beside ``points`` (data coordinates), joined by a thin line.

    ``avoid``: more places that labels should not cover, such as a curve.
    """
    pixels = axes.figure.dpi / 72
    window = Box(*axes.get_window_extent().extents)
    at = [pixel(axes, point) for point in points]
    taken = [around(pixel(axes, point), 2 * pixels) for point in avoid] + [around(point, 5 * pixels) for point in at]
    labels: list[Box] = []
    for here, point, text in zip(at, points, texts, strict=True):
        others = [around(there, 4 * pixels) for there in at if math.dist(here, there) > 9 * pixels]
        box = free_place(here, _size(axes, text), taken, [*labels, *others], window=window, pixels=pixels)
        labels.append(box)
        taken += [box, *leader(here, box)]
        x, y = axes.transData.inverted().transform(box.centre)
        arrow = {"arrowstyle": "-", "lw": 0.6, "color": "#777777", "shrinkA": 0, "shrinkB": 3}
        beside = (float(x), float(y))
        axes.annotate(text, point, beside, fontsize=SIZE, ha="center", va="center", arrowprops=arrow, zorder=5)


def _size(axes: Axes, text: str) -> Pair:
    """Width and height of a text in pixels."""
    probe = axes.text(0, 0, text, fontsize=SIZE)
    extent = probe.get_window_extent(axes.figure.canvas.get_renderer())  # type: ignore[attr-defined]
    probe.remove()
    return float(extent.width), float(extent.height)


def pixel(axes: Axes, point: Pair) -> Pair:
    """Data coordinates in pixels."""
    x, y = axes.transData.transform(point)
    return float(x), float(y)


def around(point: Pair, reach: float) -> Box:
    """The square that reaches ``reach`` pixels from a point."""
    return Box(point[0] - reach, point[1] - reach, point[0] + reach, point[1] + reach)


def leader(point: Pair, box: Box) -> list[Box]:
    """The line from a point to its label, as small boxes; what lies inside the label is left out."""
    (x, y), (to_x, to_y) = point, box.centre
    steps = [around((x + (to_x - x) * i / 12, y + (to_y - y) * i / 12), 1) for i in range(1, 12)]
    return [step for step in steps if not step.overlap(box)]


def free_place(at: Pair, size: Pair, taken: Sequence[Box], uncrossed: Sequence[Box], *, window: Box, pixels: float) -> Box:
    """The nearest box of ``size`` beside ``at``, inside ``window``, that covers nothing taken; else the least bad.

    Its leader crosses nothing of ``uncrossed`` either. ``pixels``: of one point of distance.
    """
    best: tuple[float, Box] | None = None
    for distance, angle in itertools.product(DISTANCES, ANGLES):
        dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        width, height = size[0] / 2 + PAD, size[1] / 2 + PAD
        x = at[0] + dx * distance * pixels + round(dx) * width
        y = at[1] + dy * distance * pixels + round(dy) * height
        box = Box(x - width, y - height, x + width, y + height)
        crossed = sum(other.overlap(step) for other in uncrossed for step in leader(at, box))
        covered = sum(box.overlap(other) for other in taken) + 4 * (box.area - box.overlap(window)) + 4 * crossed
        if best is None or covered + distance < best[0]:
            best = (covered + distance, box)
    assert best
    return best[1]
