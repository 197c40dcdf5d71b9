"""Labels of points in a picture, placed so that they cover neither each other nor a point.

Boxes are rows of ``left, bottom, right, top`` in pixels, float [N, 4].
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from robustbench_ft.statistics import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DISTANCES = (7, 12, 18, 26, 36, 48, 64, 82)
"""From a point to its label's near edge, in points; the nearest free place wins."""
ANGLES = (45, 0, 90, 315, 135, 180, 270, 225, 22, 67, 112, 157, 202, 247, 292, 337)
PAD = 1.5
SIZE = 8.5
GAP, THIN = 3.0, 0.75
"""A line counts as a box every ``GAP`` points that reaches ``THIN`` points: to cross one costs little."""
MARK, SOLID = 4.5, 20.0
"""A mark reaches ``MARK`` points; to cover a square pixel of a mark or a label costs like ``SOLID`` points of distance."""
STEPS = 11
"""Small boxes that stand for the line from a point to its label."""

PAPER = {"facecolor": "white", "alpha": 0.7, "pad": 0.6, "lw": 0}
"""Behind a label: what it crosses shows through."""

Pair = tuple[float, float]


def place(axes: Axes, texts: Mapping[Pair, str], marks: Sequence[Pair], lines: Iterable[Sequence[Pair]]) -> None:
    """Write ``texts`` beside their points (data coordinates), joined by a thin line.

    No label covers ``marks``, and it covers ``lines`` only where the nearest free place is far.
    """
    to_pixels = axes.transData.transform
    scale = axes.figure.dpi / 72
    window = np.asarray(axes.get_window_extent().extents)
    solid = around(to_pixels(np.array([*texts, *marks]).reshape(-1, 2)), MARK * scale)
    dots = [dotted(to_pixels(np.array(line)), GAP * scale) for line in lines if line]
    thin = np.concatenate([np.empty((0, 4)), *(around(line, THIN * scale) for line in dots)])
    for point, text in texts.items():
        here = to_pixels(np.array(point))
        box = free_place(here, _size(axes, text), solid, thin, window=window, scale=scale)
        solid = np.concatenate([solid, box[None], leaders(here, box[None])[0]])
        x, y = axes.transData.inverted().transform(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
        arrow = {"arrowstyle": "-", "lw": 0.6, "color": "#777777", "shrinkA": 0, "shrinkB": 3}
        beside = (float(x), float(y))
        axes.annotate(text, point, beside, fontsize=SIZE, ha="center", va="center", arrowprops=arrow, bbox=PAPER, zorder=6)


def _size(axes: Axes, text: str) -> Pair:
    """Width and height of a text in pixels."""
    probe = axes.text(0, 0, text, fontsize=SIZE)
    extent = probe.get_window_extent(axes.figure.canvas.get_renderer())  # type: ignore[attr-defined]
    probe.remove()
    return float(extent.width), float(extent.height)


def dotted(line: Floats, gap: float) -> Floats:
    """A line [N, 2] as places on it, about ``gap`` from each other."""
    pieces = [line[:1]]
    for start, end in itertools.pairwise(line):
        count = math.ceil(np.hypot(*(end - start)) / gap)
        pieces.append(start + np.arange(1, count + 1)[:, None] / max(count, 1) * (end - start))
    return np.concatenate(pieces)


def around(points: Floats, reach: float) -> Floats:
    """The squares that reach ``reach`` pixels from points [N, 2]."""
    return np.concatenate([points - reach, points + reach], axis=1)


def overlaps(a: Floats, b: Floats) -> Floats:
    """Common areas of boxes [A, 4] and boxes [B, 4]: [A, B]."""
    width, height = (
        np.minimum.outer(a[:, side + 2], b[:, side + 2]) - np.maximum.outer(a[:, side], b[:, side]) for side in (0, 1)
    )
    common: Floats = np.maximum(width, 0) * np.maximum(height, 0)
    return common


def leaders(point: Floats, boxes: Floats) -> Floats:
    """The lines from a point to the middles of boxes, as small boxes [N, STEPS, 4]; those inside their box are empty."""
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    share = np.arange(1, STEPS + 1)[:, None] / (STEPS + 1)
    steps = point + share * (middles - point)[:, None]
    inside = ((steps >= boxes[:, None, :2]) & (steps <= boxes[:, None, 2:])).all(axis=2, keepdims=True)
    reach = np.where(inside, 0.0, 1.5)
    return np.concatenate([steps - reach, steps + reach], axis=2)


def free_place(at: Floats, size: Pair, solid: Floats, thin: Floats, *, window: Floats, scale: float) -> Floats:
    """The nearest box [4] of ``size`` beside ``at``, inside ``window``, that covers nothing; else the least bad.

    Its leader crosses no box of ``solid`` either, but for those around ``at``: marks on one place. ``scale``: pixels of a
    point.
    """
    half = np.array(size) / 2 + PAD
    middles, distances = [], []
    for distance, angle in itertools.product(DISTANCES, ANGLES):
        way = np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
        reach = way / max(abs(way))
        middles.append(at + way * distance * scale + reach * half)
        distances.append(distance)
    boxes = np.concatenate([np.array(middles) - half, np.array(middles) + half], axis=1)
    apart = solid[np.abs((solid[:, :2] + solid[:, 2:]) / 2 - at).max(axis=1) > 2 * MARK * scale]
    crossed = overlaps(leaders(at, boxes).reshape(-1, 4), apart).reshape(len(boxes), -1).sum(axis=1)
    outside = 4 * half.prod() - overlaps(boxes, window[None])[:, 0]
    covered = overlaps(boxes, solid).sum(axis=1)
    cost = SOLID * (covered + crossed + outside) + overlaps(boxes, thin).sum(axis=1) + np.array(distances)
    best: Floats = boxes[int(cost.argmin())]
    return best
