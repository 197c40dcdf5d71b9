"""The ground of a panel: ticks, limits, reference models, and the line with its band, checked against the fit."""

import itertools

import numpy as np
import pytest
from fabricated import make_baseline, make_panel, unusable_sketch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from robustbench_ft.axes import LINE, PALE, frame, ground, handles, limits, ticks
from robustbench_ft.baselines import Baseline
from robustbench_ft.lines import expit
from robustbench_ft.records import Counts
from robustbench_ft.views import View, logit
from robustbench_ft.yardstick import Yardstick

PANEL = make_panel()
POOL = make_baseline(PANEL, 20, noise=0.05, filtered={"toy-v2": "scratch-10"})
BY = Yardstick(PANEL, POOL)


def panel(view: View, x: tuple[float, float] = (-1.5, 3.0)) -> Axes:
    axes = Figure().add_subplot()
    frame(axes, x, (-4.0, 3.0))
    ground(axes, view)
    return axes


def drawn(axes: Axes, style: str) -> list[np.ndarray]:
    """The baseline line's stretches of one style: ``-`` or ``--``."""
    return [
        np.array(line.get_xydata())
        for line in axes.lines
        if line.get_linestyle() == style and len(line.get_xydata()) > 2 and line.get_marker() == "None"
    ]


@pytest.mark.parametrize(
    ("low", "high", "apart"), [(0.1, 0.95, 0.3), (0.7, 0.9, 0.1), (0.5, 0.52, 0.01), (0.982, 0.997, 0.1), (0.002, 0.9, 0.4)]
)
def test_ticks_are_round_apart_and_inside(low: float, high: float, apart: float) -> None:
    found = ticks(logit(low), logit(high), apart)
    assert len(found) >= 4
    assert all(low <= tick <= high and tick == round(tick, 3) for tick in found)
    assert all(logit(b) - logit(a) >= apart for a, b in itertools.pairwise(found))


def test_limits_hold_all_places_with_a_margin() -> None:
    assert limits([(0.0, 1.0), (2.0, 1.0)]) == (pytest.approx((-0.12, 2.12)), pytest.approx((0.94, 1.06)))
    assert limits([]) == (pytest.approx((-2.24, 2.24)),) * 2


def test_a_line_in_one_piece_and_its_band() -> None:
    """Against scipy: prediction interval of a new model, and dashes beyond the pool."""
    view = View(BY, "toy-a")
    axes, pool = panel(view), np.array(view.pool)
    (inside,), (through,) = drawn(axes, "-"), drawn(axes, "--")
    assert inside[[0, -1], 0] == pytest.approx([pool[:, 0].min(), pool[:, 0].max()])
    assert through[[0, -1], 0] == pytest.approx([-1.5, 3.0])
    fit = stats.linregress(*pool.T)
    assert through[:, 1] == pytest.approx(fit.intercept + fit.slope * through[:, 0], abs=1e-6)
    band = axes.collections[0].get_paths()[0].vertices
    m, x0 = len(pool), pool[:, 0].mean()
    residuals = pool[:, 1] - fit.intercept - fit.slope * pool[:, 0]
    for x in (-1.5, 3.0):
        sd = np.sqrt((residuals**2).sum() / (m - 2) * (1 + 1 / m + (x - x0) ** 2 / ((pool[:, 0] - x0) ** 2).sum()))
        middle, half = fit.intercept + fit.slope * x, stats.t.ppf(0.975, m - 2) * sd
        ends = band[np.isclose(band[:, 0], x), 1]
        assert (min(ends), max(ends)) == pytest.approx((middle - half, middle + half), abs=1e-6)
    assert not any(len(set(line.get_xdata())) == 1 for line in axes.lines)


def test_a_filtered_shift_has_two_pieces_and_a_mark_between() -> None:
    view = View(BY, "toy-v2")
    (line,) = view.lines
    axes = panel(view)
    lower, upper = drawn(axes, "-")
    assert line.split is not None
    assert lower[-1, 0] == upper[0, 0] == pytest.approx(logit(line.split))
    for piece, stretch in zip(line.pieces, (lower, upper), strict=True):
        assert stretch[:, 1] == pytest.approx(piece.intercept + piece.slope * stretch[:, 0], abs=1e-6)
    assert lower[-1, 1] != pytest.approx(upper[0, 1], abs=1e-3)
    assert [set(line.get_xdata()) for line in axes.lines if len(set(line.get_xdata())) == 1] == [{lower[-1, 0]}]
    assert len(drawn(panel(view, (2.0, 3.0)), "--")) == 1


def test_the_line_of_a_mean_is_the_mean_of_the_lines() -> None:
    view = View(BY)
    axes = panel(view)
    for stretch, piece in zip(drawn(axes, "-"), (0, -1), strict=True):
        for x, y in stretch:
            each = [line.pieces[piece](expit(x)) for line in view.lines]
            assert expit(y) == pytest.approx(sum(each) / 5)
    assert not any(len(set(line.get_xdata())) == 1 for line in axes.lines)


def test_a_piece_that_says_nothing_is_pale() -> None:
    dead = panel(View(Yardstick(PANEL, unusable_sketch(PANEL)), "toy-sketch"))
    colours = {line.get_color() for line in dead.lines if len(line.get_xydata()) > 20 and line.get_marker() == "None"}
    assert colours == {PALE} and LINE["color"] != PALE
    dull = [m.model_copy(update={"counts": m.counts | {"toy-v2": Counts(k=100, n=2000)}}) for m in POOL.models[:10]]
    half: Baseline = POOL.model_copy(update={"models": (*dull, *POOL.models[10:])})
    axes = panel(View(Yardstick(PANEL, half), "toy-v2"))
    solid = [line.get_color() for line in axes.lines if line.get_linestyle() == "-" and len(line.get_xydata()) > 2]
    assert [colour for colour in solid if colour in (PALE, LINE["color"])] == [PALE, LINE["color"]]


def test_without_lines_there_is_y_equals_x() -> None:
    view = View(Yardstick(PANEL))
    axes = panel(view)
    diagonal = [line for line in axes.lines if len(line.get_xydata())]
    assert [line.get_xydata().tolist() for line in diagonal] == [[[-1.5, -1.5], [3, 3]]]
    assert list(handles(view, [])) == ["y = x"]
    assert list(handles(View(BY), [])) == [
        "reference models",
        "baseline line (mean over 5 shifts)",
        "95% of ordinary models",
        "y = x",
    ]
    assert "baseline line" in handles(view, [View(BY, "toy-a")])
