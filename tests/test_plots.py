"""Sheets: what is drawn where, what is written, and that nothing written covers anything else."""

import dataclasses
import itertools
import re
import shutil
import struct
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from fabricated import (
    FT,
    MATCHED,
    SETS,
    counts,
    make_baseline,
    make_matched,
    make_panel,
    make_record,
    make_run,
    make_suite,
    mix,
    printed,
    unusable_sketch,
)
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from test_ranks import board_of, root, suite

from robustbench_ft import plots
from robustbench_ft.plots import Series, Sheet, board_picture, curve_picture, sheet_picture
from robustbench_ft.records import Counts
from robustbench_ft.rows import Row, Subject
from robustbench_ft.rows import score as score_rows
from robustbench_ft.score import RunScores, score
from robustbench_ft.suites import Suite
from robustbench_ft.views import View, logit
from robustbench_ft.yardstick import Yardstick

__all__ = ["root", "suite"]  # fixtures
PANEL = make_panel()
BY = Yardstick(PANEL, make_baseline(PANEL))
PATH = {f"alpha={a / 10:g}": mix(a / 10) for a in (1, 2, 8, 10)}


@pytest.fixture
def scores(tmp_path: Path) -> RunScores:
    suite = make_suite(tmp_path)
    run = make_run(tmp_path / "run", suite, mix(0.5), PATH, method="wiseft", headline="alpha=0.5")
    return score([run], Yardstick(suite, make_baseline(suite)))


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is drawn, kept instead of written."""
    found: list[Figure] = []
    monkeypatch.setattr(plots, "save", lambda figure, path: found.append(figure))
    return found


def rows_at(*places: tuple[float, ...], by: Yardstick = BY) -> tuple[Row, ...]:
    """Rows with these accuracies on ``SETS``; one accuracy: the same on every shift as on ID."""
    figures = [counts(tuple(round(1000 * p) for p in (place if len(place) > 1 else place * 6)), 1000) for place in places]
    return score_rows([Subject(f"row {number}", [one]) for number, one in enumerate(figures)], by).rows


def named(rows: tuple[Row, ...]) -> tuple[Series, ...]:
    return tuple(Series(row.model, (), row) for row in rows)


def many(count: int) -> tuple[Row, ...]:
    generator = np.random.default_rng(0)
    return rows_at(*(tuple(generator.uniform(0.55, 0.85, 6)) for _ in range(count)))


def texts(path: Path) -> list[str]:
    """Text of an SVG: matplotlib writes each string as a comment above its glyphs."""
    return re.findall(r"<!-- (.*?) -->", path.read_text(), re.DOTALL)


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def labels(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def marks(axes: Axes, number: int, size: float) -> list[list[float]]:
    """Places of the marks of that size of a series."""
    look = plots._look(number)
    found = [line for line in axes.lines if (line.get_color(), line.get_marker()) == (look["color"], look["marker"])]
    return [place for line in found if line.get_markersize() == pytest.approx(size) for place in line.get_xydata().tolist()]


def test_files_are_deterministic_and_say_what_they_show(scores: RunScores, tmp_path: Path) -> None:
    curve_picture(scores, tmp_path / "new/a.svg", tmp_path / "new/a.png")
    curve_picture(scores, tmp_path / "new/b.png", tmp_path / "new/b.svg")
    first = (tmp_path / "new/a.svg").read_bytes()
    assert first == (tmp_path / "new/b.svg").read_bytes()
    assert (tmp_path / "new/a.png").read_bytes() == (tmp_path / "new/b.png").read_bytes()
    assert ElementTree.fromstring(first).tag.endswith("svg")
    assert b"<dc:date>" not in first
    shown = texts(tmp_path / "new/a.svg")
    for text in ("start model", "alpha 0.2", "wiseft alpha=0.5", "alpha 0.8", "alpha 1", "y = x", "reference models"):
        assert text in shown
    assert {"OOD mean over 5 shifts, enlarged, with 95% intervals", "baseline line (mean over 5 shifts)", *SETS[1:]} <= set(shown)
    assert "alpha 0.1" not in shown and "alpha 0.5" not in shown
    assert len(re.findall(rb'<g id="axes_\d+">', first)) == 1 + 1 + 5


def test_png_has_the_size_of_the_figure(tmp_path: Path) -> None:
    sheet_picture(Sheet("one", BY, named(many(1))), tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">2I", data[16:24])[0] == round(plots.WIDTH * 130)


def test_a_curve_is_joined_in_order_of_alpha(scores: RunScores, figures: list[Figure]) -> None:
    shuffled = dataclasses.replace(scores, rows=scores.rows[::-1])
    curve_picture(shuffled, Path("a.svg"))
    (figure,) = figures
    expected = [(row.alpha, row.id.value, row.ood_mean.value) for row in scores.rows if row.id and row.ood_mean]
    path = [[logit(x), logit(y)] for _, x, y in sorted(expected)]  # type: ignore[type-var]
    for axes in figure.axes[:2]:
        joined = [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "o" and line.get_linestyle() == "-"]
        assert path in joined
    assert legend(figure)[:3] == ["weight-space ensembles", "wiseft alpha=0.5", "start model"]


def test_headlines_have_intervals(figures: list[Figure]) -> None:
    (row,) = rows_at((0.8, 0.7, 0.6, 0.5, 0.4, 0.3))
    sheet_picture(Sheet("one", BY, named((row,))), Path("a.svg"))
    large, overview, v2 = figures[0].axes[:3]
    assert row.id and row.ood_mean
    bars = [line.get_xydata().tolist() for line in large.lines if line.get_alpha() == 0.6]
    x, y = logit(0.8), logit(0.5)
    assert bars == [[[x, logit(end)] for end in row.ood_mean[1:]], [[logit(end), y] for end in row.id[1:3]]]
    assert marks(large, 0, 8.0) == marks(overview, 0, 4.5) == [[pytest.approx(x), pytest.approx(y)]]
    small = [line.get_xydata().tolist() for line in v2.lines if line.get_alpha() == 0.6]
    assert small == [[[x, logit(end)] for end in row.scores["toy-v2"][1:3]]]
    for axes in figures[0].axes:
        inside = [
            place
            for line in axes.lines
            if line.get_alpha() == 0.6
            for place in line.get_xydata()
            if axes.get_ylim()[0] < place[1] < axes.get_ylim()[1]
        ]
        assert len(inside) == 2 * (2 if axes is large else 1)


def test_rows_on_class_matched_axes(figures: list[Figure]) -> None:
    by = Yardstick(PANEL, make_matched(PANEL))
    extra = {f"{SETS[0]}/{name}": Counts(k=90, n=100) for name in MATCHED}
    (row,) = score_rows([Subject("a", [counts((80, 70, 60, 50, 40, 30)) | extra])], by).rows
    sheet_picture(Sheet("matched", by, named((row,))), Path("a.svg"))
    found = {axes.get_title(): axes for axes in figures[0].axes[1:]}
    for name in SETS[1:]:
        assert ("its classes" in found[name].get_xlabel()) == (name in MATCHED)
        assert marks(found[name], 0, 4.5)[0][0] == pytest.approx(logit(0.9 if name in MATCHED else 0.8))


def test_dead_lines_and_no_baseline(tmp_path: Path) -> None:
    suite = make_suite(tmp_path)
    run = make_run(tmp_path / "ft", suite, FT)
    curve_picture(score([run], Yardstick(suite, unusable_sketch(suite))), tmp_path / "dead.svg")
    shown = texts(tmp_path / "dead.svg")
    assert "line says nothing" in shown and "lines that say nothing: 1 of 5" in shown
    assert "ft" in shown and "weight-space ensembles" not in shown
    curve_picture(score([run], Yardstick(suite)), tmp_path / "none.svg")
    assert not {"reference models", "OOD mean, all reference models", "line says nothing"} & set(texts(tmp_path / "none.svg"))


def test_partial_rows_and_rows_without_id(tmp_path: Path, figures: list[Figure]) -> None:
    suite = make_suite(tmp_path)
    run = make_record(suite, {"start": counts((70, 60)), "ft": counts((100, 0))}, "ft", missing=SETS[2:])
    curve_picture(score([run], Yardstick(suite, make_baseline(suite))), Path("part.svg"))
    assert labels(figures[0].axes[0]) == ["no row has all shifts"]
    assert [axes.get_title() for axes in figures[0].axes[1:]] == ["OOD mean, all reference models", "toy-v2"]
    full, lacking = rows_at((0.8,), (0.7,))
    sheet_picture(Sheet("no ID", BY, named((full, dataclasses.replace(lacking, id=None, effective={})))), Path("a.svg"))
    assert legend(figures[1])[:2] == ["row 0", "reference models"]
    sheet_picture(Sheet("empty", BY, ()), Path("a.svg"))
    assert labels(figures[2].axes[0]) == ["no row has all shifts"]
    sheet_picture(Sheet("empty", Yardstick(PANEL), ()), Path("a.svg"))
    assert len(figures[3].axes) == 1


def test_figures_without_intervals(figures: list[Figure]) -> None:
    """Macro-F1 and the like: no bars, and the title does not speak of intervals."""
    panel = make_panel(shifts=PANEL.shifts[:1])
    by = Yardstick(panel)
    (row,) = score_rows([Subject("a", [printed({SETS[0]: "0.80", "toy-v2": "0.7"})])], by).rows
    sheet_picture(Sheet("no n", by, named((row,))), Path("a.svg"))
    (axes,) = figures[0].axes
    assert axes.get_title() == "toy-v2" and labels(axes) == ["a"]
    assert all(len({tuple(place) for place in line.get_xydata()}) == 1 for line in axes.lines if line.get_alpha() == 0.6)


@pytest.mark.parametrize(("shifts", "columns"), [(1, 1), (2, 1), (3, 2), (5, 2)])
def test_a_panel_per_shift(figures: list[Figure], shifts: int, columns: int) -> None:
    panel = make_panel(shifts=PANEL.shifts[:shifts])
    by = Yardstick(panel, make_baseline(PANEL))
    sheet_picture(Sheet("n", by, named(rows_at((0.8,), (0.7,), by=by))), Path("a.svg"))
    large, *small = figures[0].axes
    assert len(small) == 1 + (shifts if shifts > 1 else 0)
    assert len({round(axes.get_position().x0, 3) for axes in small}) == columns
    assert large.get_position().width > 1.5 * small[0].get_position().width


def test_the_background_has_no_names_and_does_not_set_the_scale(figures: list[Figure]) -> None:
    front, *pool = rows_at((0.8,), (0.3,), (0.79,))
    series = (*named((front,)), Series("2 ingredients", tuple(pool), faint=True))
    sheet_picture(Sheet("soup", BY, series), Path("a.svg"))
    large, overview = figures[0].axes[:2]
    assert labels(large) == ["row 0"] and "2 ingredients" in legend(figures[0])
    assert large.get_xlim()[0] > logit(0.7) and overview.get_xlim()[0] < logit(0.3)
    (dots,) = [line.get_xydata() for line in overview.lines if line.get_color() == plots.FAINT["color"]]
    assert dots == pytest.approx(np.array([[logit(p)] * 2 for p in (0.3, 0.79)]))


def test_a_series_without_headline_marks_every_row(figures: list[Figure]) -> None:
    """Two sources' figures of one method: two large marks, one name."""
    by_two = Series("ft (2 rows)", rows_at((0.8,), (0.79,)))
    (head, beside) = rows_at((0.75,), (0.76,))
    sheet_picture(Sheet("two", BY, (by_two, Series("b", (beside,), head))), Path("a.svg"))
    large = figures[0].axes[0]
    assert sorted(labels(large)) == ["b", "ft (2 rows)"]
    assert len(marks(large, 0, 8.0)) == 2
    assert marks(large, 1, 8.0) == [pytest.approx([logit(0.75)] * 2)] and marks(large, 1, 4.8) == [
        pytest.approx([logit(0.76)] * 2)
    ]


def test_a_thousand_series_are_a_crowd(figures: list[Figure]) -> None:
    rows = many(8) * 125
    sheet_picture(Sheet("crowd", BY, tuple(Series(f"submission {i}", (), row) for i, row in enumerate(rows))), Path("a.svg"))
    found = legend(figures[0])
    assert len(labels(figures[0].axes[0])) <= plots.NAMED
    assert found[0] == "1  submission 0" and found[24] == "25  submission 24" and found[25] == "975 more rows"


def test_rows_at_one_place_share_a_label(figures: list[Figure]) -> None:
    (row,) = rows_at((0.8,))
    sheet_picture(Sheet("twins", BY, (Series("a", (), row), Series("a", (), row), Series("b", (), row))), Path("a.svg"))
    assert labels(figures[0].axes[0]) == ["a, a, b"]
    assert legend(figures[0])[:3] == ["a", "a", "b"]


def test_titles_of_strangers(tmp_path: Path) -> None:
    names = (r"$\alpha$ in $0.5", "_hidden\nline", "<b> & x", "w" * 80)
    sheet_picture(Sheet("$x", BY, tuple(Series(n, (), row) for n, row in zip(names, many(4), strict=True))), tmp_path / "a.svg")
    ElementTree.fromstring((tmp_path / "a.svg").read_bytes())
    shown = texts(tmp_path / "a.svg")
    assert any("hidden line" in text for text in shown)
    assert max(len(text) for text in shown) <= plots.LONGEST + 4


def test_series_differ_in_colour_and_in_marker() -> None:
    """Any two of the named series in both or one; neighbours in the legend in both; the palette is Okabe and Ito's."""
    looks = [tuple(plots._look(number).values()) for number in range(plots.NAMED)]
    assert len(set(looks)) == plots.NAMED
    assert all(a[0] != b[0] and a[1] != b[1] for a, b in itertools.pairwise(looks))
    assert {to_hex(colour).upper() for colour in plots.COLOURS} < {
        *("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#000000")
    }


def test_a_board(root: Path, suite: Suite, figures: list[Figure]) -> None:
    make_run(root / "submissions/good/seed-0", suite, mix(0.5), PATH, method="good", headline="alpha=0.5")
    for seed in (1, 2):
        shutil.rmtree(root / f"submissions/good/seed-{seed}")
    board = board_of(root, suite)
    board_picture(board, Path("a.svg"), Path("a.png"))
    assert len(figures) == 2 and figures[0] is figures[1]
    names = [entry.submission.info.title for entry in board.entries]
    assert legend(figures[0])[: len(names)] == names
    large, number = figures[0].axes[0], names.index("Method good")
    assert {*names, "alpha 0.2", "alpha 1"} <= set(", ".join(labels(large)).split(", "))
    curves = [
        line.get_xydata()
        for line in large.lines
        if line.get_linestyle() == "-" and line.get_color() == plots._look(number)["color"]
    ]
    assert max(len(curve) for curve in curves) == 6
    for place, entry in enumerate(board.entries):
        spot = View(board.first.scores.yardstick).spot(entry.submission.scores.headline)
        assert spot and marks(large, place, 8.0) == [pytest.approx(list(spot.middle))]
