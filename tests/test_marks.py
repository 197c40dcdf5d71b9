"""What stands out in the tables of figures: ID axes, lines that say nothing, signs that depend on the axes, unknown sizes."""

import csv
import io

import pytest
from fabricated import MATCHED, SETS, make_baseline, make_matched, make_panel, printed
from test_rows import BOTH, FULL, one_dead_piece, scored

from robustbench_ft import rows, score_tables
from robustbench_ft.rows import Scores, Subject
from robustbench_ft.yardstick import Yardstick


def render(scores: Scores, name: str) -> str:
    return score_tables.render(scores, name, "figures")


def cells(text: str, model: str) -> list[str]:
    """The row of the second table, whose columns are the shifts, in markdown."""
    line = [line for line in text.splitlines() if line.startswith(f"| {model} ")][1]
    return [cell.strip() for cell in line.split("|")[2:-1]]


def headers(text: str) -> list[str]:
    line = [line for line in text.splitlines() if line.startswith("| model ")][1]
    return [cell.strip() for cell in line.split("|")[2:-1]]


@pytest.mark.parametrize(("values", "axis"), [(BOTH, "class-matched"), (FULL, "full")])
def test_a_header_says_the_axis_of_shifts_that_have_two(values: dict[str, str], axis: str) -> None:
    text = render(scored(values, values, baseline=make_matched(make_panel())), "markdown")
    names = {name: name.removeprefix("toy-") for name in SETS[1:]}
    shown = [f"{short}<br>{axis} ID" if name in MATCHED else short for name, short in names.items()]
    assert headers(text) == [*shown, "mean,<br>all axes"]
    assert "†" not in text


def test_mixed_axes_are_marked_and_told() -> None:
    """A row with class-matched ID figures beside one without: the latter's cells bear the mark, and no header an axis."""
    text = render(scored(BOTH, FULL, baseline=make_matched(make_panel())), "markdown")
    assert headers(text)[:-1] == [name.removeprefix("toy-") for name in SETS[1:]]
    assert not any("†" in cell for cell in cells(text, "m0"))
    assert ["†" in cell for cell in cells(text, "m1")] == [*(name in MATCHED for name in SETS[1:]), False]
    assert "† on the full ID axis" in text
    assert r"\dag{}" in render(scored(BOTH, FULL, baseline=make_matched(make_panel())), "latex")


def test_a_dead_piece_is_in_parentheses_and_told() -> None:
    low = FULL | {"toy-test": "0.500"}
    both = scored(low, FULL, baseline=one_dead_piece())
    text = render(both, "markdown")
    assert cells(text, "m0")[0].startswith("(") and "z" not in cells(text, "m0")[0]
    assert not cells(text, "m1")[0].startswith("(")
    assert "mean over 4 of 5" in text and "with v2<br>mean over 5" in text
    first = next(line for line in text.splitlines() if line.startswith("| m0 "))
    assert first.split("|")[-2].strip() == "-"
    assert "toy-v2: the line says nothing (" in text


def test_a_shift_left_out_for_a_piece_that_no_row_stands_on_is_told() -> None:
    text = render(scored(FULL, baseline=one_dead_piece()), "table")
    assert "mean over 4 of 5" in text and "toy-v2: the line says nothing (" in text


def test_a_sign_that_depends_on_the_axes_is_marked() -> None:
    """toy-a is put a hair above the logit line: below it on another scale or axis."""
    baseline = make_matched(make_panel())
    at = scored(BOTH, baseline=baseline).rows[0].effective["toy-a"]
    values = BOTH | {"toy-a": f"{0.35 - at.value + 0.001:.4f}"}
    scores = scored(values, BOTH, baseline=baseline)
    marked, plain = scores.rows
    rho = marked.effective["toy-a"]
    assert rho.value == pytest.approx(0.001, abs=1e-4) and rho.sensitivity and rho.sensitivity.changes_sign
    text = render(scores, "markdown")
    signs = [bool(rho.sensitivity and rho.sensitivity.changes_sign) for rho in marked.effective.values()]
    assert ["‡" in cell for cell in cells(text, "m0")[:-1]] == signs and signs[-1]
    mean = marked.effective_mean
    assert mean and cells(text, "m0")[-1] == f"{100 * mean.sensitivity.low:.1f}…{100 * mean.sensitivity.high:.1f}"
    assert ["‡" in cell for cell in cells(text, "m1")[:-1]] == [
        bool(rho.sensitivity and rho.sensitivity.changes_sign) for rho in plain.effective.values()
    ]
    assert "‡ above or below the line depends on the axes" in text
    assert "‡" not in render(scored(FULL, baseline=None), "table")


def test_a_mean_whose_sign_depends_on_the_axes_is_marked() -> None:
    baseline = make_matched(make_panel())
    rows_ = [
        {n: v if n not in SETS[1:] else f"{float(v) + d:.3f}" for n, v in BOTH.items()} for d in (-0.04, -0.02, 0.0, 0.02, 0.04)
    ]
    scores = scored(*rows_, baseline=baseline)
    found = [row.effective_mean.sensitivity.changes_sign for row in scores.rows if row.effective_mean]
    lines = [line for line in render(scores, "markdown").splitlines() if line.startswith("| m")][1:]
    assert [("‡" in line) for line in lines[:5]] == found


def test_a_figure_of_unknown_size_is_printed_without_an_interval() -> None:
    scores = scored(FULL, baseline=make_baseline(make_panel()), n=None)
    text = render(scores, "table")
    assert "nan" not in text and "±" not in text
    assert " 80.0 " in text and " 44.0 " in text
    (row,) = csv.DictReader(io.StringIO(render(scores, "csv")))
    assert (row["scores.toy-test.value"], row["scores.toy-test.low"], row["scores.toy-test.n"]) == ("0.8", "", "")
    assert row["effective_robustness.toy-a.low"] == "" != row["effective_robustness.toy-a.z"]


def test_a_model_s_name_does_not_break_a_table() -> None:
    by = Yardstick(make_panel())
    named = rows.score([Subject("a|b^2_{c} & 5%", [printed(FULL)])], by)
    line = next(line for line in render(named, "markdown").splitlines() if "b^2" in line)
    header = next(line for line in render(named, "markdown").splitlines() if "OOD mean" in line)
    assert line.replace(r"\|", "").count("|") == header.count("|")
    assert r"a|b\textasciicircum{}2\_\{c\} \& 5\%" in render(named, "latex")


def test_csv_of_rows_has_every_sensitivity() -> None:
    scores = scored(BOTH, FULL, baseline=one_dead_piece())
    found = list(csv.DictReader(io.StringIO(render(scores, "csv"))))
    for row, line in zip(scores.rows, found, strict=True):
        for name, rho in row.effective.items():
            assert rho.sensitivity
            assert float(line[f"effective_robustness.{name}.sensitivity.low"]) == rho.sensitivity.low
            assert line[f"effective_robustness.{name}.sensitivity.changes_sign"] == str(rho.sensitivity.changes_sign)
            assert line[f"effective_robustness.{name}.axis"] == rho.axis
        assert row.effective_all and row.effective_mean
        assert line["effective_robustness_mean_all.over"] == ";".join(row.effective_all.over)
        assert float(line["effective_robustness_mean.sensitivity.high"]) == row.effective_mean.sensitivity.high


def test_a_filtered_shift_is_told() -> None:
    """Both pieces say something: the mean stands without the filtered set, and beside it with it (DESIGN 7.3)."""
    scores = scored(FULL, baseline=make_baseline(make_panel(), filtered={"toy-v2": "scratch-6"}))
    text = render(scores, "table")
    assert "mean over 4 of 5" in text and "with v2" in text and "says nothing" not in text
    assert any("toy-v2" in line and "filtered" in line for line in text.splitlines())


def test_a_shift_without_a_line_is_told() -> None:
    baseline = make_baseline(make_panel())
    models = tuple(m.model_copy(update={"counts": {k: v for k, v in m.counts.items() if k != "toy-a"}}) for m in baseline.models)
    text = render(scored(FULL, baseline=baseline.model_copy(update={"models": models})), "table")
    assert "mean over 4 of 5" in text
    assert any(line.startswith("toy-a") and "no line" in line for line in text.splitlines())


def test_a_note_on_a_dead_line_says_the_axis_where_rows_stand_on_both() -> None:
    baseline = make_matched(make_panel(), filtered={"toy-a": "scratch-6"})
    both, one = (render(scored(*values, baseline=baseline), "markdown") for values in ((BOTH, FULL), (FULL, FULL)))
    assert "toy-a, class-matched ID axis: the line says nothing (ID up to 77.5%" in both
    assert "toy-a, full ID axis: the line says nothing (ID up to 64.2%" in both
    assert "toy-a: the line says nothing (ID up to 64.2%" in one and "class-matched" not in one
