"""Labels of a picture: beside their points, over nothing."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from test_plots import BY, figures, many

from robustbench_ft.labels import MARK, around, dotted, free_place, leaders, overlaps
from robustbench_ft.plots import Series, Sheet, sheet_picture

__all__ = ["figures"]  # fixture
WINDOW = np.array([0.0, 0, 1000, 800])
NONE = np.empty((0, 4))


def area(a: np.ndarray, b: np.ndarray) -> float:
    return float(overlaps(a[None], b[None])[0, 0])


def test_overlaps_by_hand() -> None:
    boxes = np.array([[0.0, 0, 2, 2], [2, 0, 3, 2], [0, 0, 1, 1]])
    assert overlaps(boxes[:1], np.array([[1.0, 1, 5, 5]])).tolist() == [[1]]
    assert overlaps(boxes, boxes).tolist() == [[4, 0, 1], [0, 2, 0], [1, 0, 1]]


def test_labels_cover_nothing_that_can_be_avoided() -> None:
    """Eight labels around close points: no two overlap, none covers a point, all inside, no leader crosses a label."""
    at = np.array([(500 + 24 * (i % 4), 400 + 24 * (i // 4)) for i in range(8)], dtype=float)
    solid, labels = around(at, 2 * MARK), np.empty((0, 4))
    for point in at:
        box = free_place(point, (70, 12), solid, NONE, window=WINDOW, scale=2.0)
        assert overlaps(box[None], solid).sum() == 0
        assert overlaps(leaders(point, box[None])[0], labels).sum() == 0
        assert area(box, WINDOW) == pytest.approx((box[2] - box[0]) * (box[3] - box[1]))
        labels, solid = np.concatenate([labels, box[None]]), np.concatenate([solid, box[None]])
    assert not any(area(a, b) for a, b in itertools.combinations(labels, 2))


def test_the_nearest_place_wins() -> None:
    box = free_place(np.array([500.0, 400]), (70, 12), NONE, NONE, window=WINDOW, scale=1.0)
    assert box[:2] == pytest.approx([500 + 7 * 0.5**0.5, 400 + 7 * 0.5**0.5])
    corner = free_place(np.array([999.0, 799]), (70, 12), NONE, NONE, window=WINDOW, scale=1.0)
    assert corner[2] <= 1000 and corner[3] <= 800


def test_a_line_is_crossed_rather_than_a_mark_covered() -> None:
    """A mark to one side and a wall of lines on the others: the label goes over a line."""
    at = np.array([500.0, 400])
    marks = np.array([[x, y, x + 30, y + 30] for x in range(380, 640, 20) for y in range(280, 540, 20) if x > 500 or y < 400])
    lines = around(np.array([[x, 450.0] for x in range(300, 500, 4)]), 1.0)
    box = free_place(at, (70, 12), marks, lines, window=WINDOW, scale=1.0)
    assert overlaps(box[None], marks).sum() == 0


def test_a_line_as_places_on_it() -> None:
    corner = dotted(np.array([[0.0, 0], [8, 0], [8, 3]]), 3.0)
    assert corner.tolist() == [[0, 0], [pytest.approx(8 / 3), 0], [pytest.approx(16 / 3), 0], [8, 0], [8, 3]]
    assert dotted(np.array([[1.0, 2], [1, 2]]), 3.0).tolist() == [[1, 2]]


def boxes_of(texts: list[Text], figure: Figure) -> np.ndarray:
    """Without the leaders of labels."""
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    return np.array([Text.get_window_extent(text, renderer).extents for text in texts if text.get_text()])


@pytest.mark.parametrize(("count", "long"), [(3, 30), (10, 12), (25, 30), (40, 60)])
def test_nothing_written_covers_anything_written(figures: list[Figure], count: int, long: int) -> None:
    """Labels, ticks, titles and legend of a full sheet: no two boxes overlap, all lie on the page."""
    rows = many(count)
    sheet = Sheet("sheet", BY, tuple(Series(f"{row.model} ".ljust(long, "x"), (), row) for row in rows))
    sheet_picture(sheet, Path("a.svg"))
    (figure,) = figures
    figure.canvas.draw()
    written = list(figure.legends[0].get_texts()) + figure.texts
    for axes in figure.axes:
        ticks = [tick for axis in (axes.xaxis, axes.yaxis) for tick in axis.get_ticklabels()]
        written += [axes.title, axes.xaxis.label, axes.yaxis.label, *ticks]
    written += figure.axes[0].texts
    boxes = boxes_of(written, figure)
    for a, b in itertools.combinations(boxes, 2):
        assert min(a[2], b[2]) - max(a[0], b[0]) <= 0 or min(a[3], b[3]) - max(a[1], b[1]) <= 0
    width, height = figure.get_size_inches() * figure.dpi
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2] <= width).all() and (boxes[:, 3] <= height).all()
