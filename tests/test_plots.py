import itertools
import struct
from pathlib import Path
from xml.etree import ElementTree

import pytest
from fabricated import FT, SETS, make_baseline, make_record, make_run, make_suite, mix
from test_score import counts, unusable_sketch

from robustbench_ft import plots
from robustbench_ft.labels import Box, free_place, leader
from robustbench_ft.plots import curve_picture, logit
from robustbench_ft.score import Scores, score

PATH = {f"alpha={a / 10:g}": mix(a / 10) for a in (1, 2, 8, 10)}


@pytest.fixture
def scores(tmp_path: Path) -> Scores:
    suite = make_suite(tmp_path)
    run = make_run(tmp_path / "run", suite, mix(0.5), PATH, method="wiseft", headline="alpha=0.5")
    return score([run], suite, make_baseline(suite))


def texts(path: Path) -> list[str]:
    """Text of an SVG: matplotlib writes each string as a comment above its glyphs."""
    return [line.strip()[5:-4] for line in path.read_text().splitlines() if line.strip().startswith("<!-- ")]


def test_svg_is_deterministic_and_says_what_it_shows(scores: Scores, tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        curve_picture(scores, tmp_path / "new" / name)
    first = (tmp_path / "new/a.svg").read_bytes()
    assert first == (tmp_path / "new/b.svg").read_bytes()
    assert ElementTree.fromstring(first).tag.endswith("svg")
    assert b"<dc:date>" not in first
    shown = texts(tmp_path / "new/a.svg")
    for text in ("start", "alpha 0.2", "alpha 0.5", "alpha 0.8", "alpha 1", "y = x", "reference models"):
        assert text in shown
    assert "baseline line: mean of the lines of 5 shifts" in shown
    assert {name.removeprefix("toy-") for name in SETS[1:]} <= {t.removeprefix("toy-") for t in shown}
    assert "alpha 0.1" not in shown


def test_png_has_the_size_of_the_figure(scores: Scores, tmp_path: Path) -> None:
    curve_picture(scores, tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">2I", data[16:24]) == (1625, round((2.1 + 1.9 * 3) * 130))


def test_a_method_without_a_path_a_dead_line_and_no_baseline(tmp_path: Path) -> None:
    suite = make_suite(tmp_path)
    run = make_run(tmp_path / "ft", suite, FT)
    curve_picture(score([run], suite, unusable_sketch(suite)), tmp_path / "dead.svg")
    shown = texts(tmp_path / "dead.svg")
    assert "line says nothing" in shown and "headline: ft" in shown
    assert "baseline line: mean of the lines of 5 shifts (1 unusable)" in shown
    curve_picture(score([run], suite), tmp_path / "none.svg")
    assert "reference models" not in texts(tmp_path / "none.svg")


def test_a_partial_run_says_why_a_panel_is_empty(tmp_path: Path) -> None:
    suite = make_suite(tmp_path)
    run = make_record(suite, {"start": counts((70, 60)), "ft": counts((100, 0))}, "ft", missing=SETS[2:])
    curve_picture(score([run], suite, make_baseline(suite)), tmp_path / "part.svg")
    assert "no OOD mean: a shift is missing" in texts(tmp_path / "part.svg")


@pytest.mark.parametrize(("low", "high", "apart"), [(0.1, 0.95, 0.3), (0.7, 0.9, 0.1), (0.5, 0.52, 0.01)])
def test_ticks_are_round_apart_and_inside(low: float, high: float, apart: float) -> None:
    ticks = plots._ticks(logit(low), logit(high), apart)
    assert len(ticks) >= 2
    assert all(low <= tick <= high and tick == round(tick, 2) for tick in ticks)
    assert all(logit(b) - logit(a) >= apart for a, b in itertools.pairwise(ticks))


def test_labels_cover_nothing_that_can_be_avoided() -> None:
    """Eight labels around close points: no two overlap, none covers a point, all inside, no leader crosses a label."""
    window = Box(0, 0, 1000, 800)
    points = [(500 + 24 * (i % 4), 400 + 24 * (i // 4)) for i in range(8)]
    taken = [Box(x - 3, y - 3, x + 3, y + 3) for x, y in points]
    labels: list[Box] = []
    for x, y in points:
        box = free_place((x, y), (70, 12), [*taken, *labels], labels, window=window, pixels=2.0)
        assert not any(box.overlap(other) for other in [*taken, *labels])
        assert not any(step.overlap(label) for label in labels for step in leader((x, y), box))
        assert box.overlap(window) == pytest.approx(box.area)
        labels.append(box)


def test_the_nearest_place_wins() -> None:
    box = free_place((500, 400), (70, 12), [], [], window=Box(0, 0, 1000, 800), pixels=1.0)
    assert box.left == pytest.approx(500 + 9 * 0.5**0.5) and box.bottom == pytest.approx(400 + 9 * 0.5**0.5)
    corner = free_place((999, 799), (70, 12), [], [], window=Box(0, 0, 1000, 800), pixels=1.0)
    assert corner.right <= 1000 and corner.top <= 800


def test_box_overlap() -> None:
    assert Box(0, 0, 2, 2).overlap(Box(1, 1, 5, 5)) == 1
    assert Box(0, 0, 2, 2).overlap(Box(2, 0, 3, 2)) == 0
