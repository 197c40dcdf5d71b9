import csv
import io
import json
from pathlib import Path

import pytest
from fabricated import FT, SETS, make_baseline, make_record, make_run, make_suite, mix
from test_score import counts, unusable_sketch

from robustbench_ft.errors import UnknownName
from robustbench_ft.score import Scores, score
from robustbench_ft.statistics import Interval
from robustbench_ft.tables import CHOICES, baseline_table, curve, latex, percent, plus_minus, render


@pytest.fixture
def scores(tmp_path: Path) -> Scores:
    suite = make_suite(tmp_path, 2000)
    path = {f"alpha={a / 10:g}": mix(a / 10) for a in range(1, 11) if a != 5}
    run = make_run(tmp_path / "run", suite, mix(0.5), path, method="wiseft", headline="alpha=0.5")
    return score([run], suite, make_baseline(suite))


def test_numbers_as_text() -> None:
    assert [percent(v) for v in (0.849, 1.0, 0.0)] == ["84.9", "100.0", "0.0"]
    assert [percent(v, signed=True) for v in (0.031, -0.2, 0.0, -0.0001)] == ["+3.1", "-20.0", "0.0", "0.0"]
    assert plus_minus(Interval(0.5, 0.45, 0.52)) == "50.0 ±5.0"
    assert (plus_minus(None), plus_minus(Interval(0, 0, 0), signed=True)) == ("-", "0.0")


def test_the_terminal_table_fits_and_holds_every_number(scores: Scores) -> None:
    text = render(scores, "table")
    assert max(len(line) for line in text.splitlines()) <= 120
    line = next(line for line in text.splitlines() if line.startswith("→ alpha=0.5"))
    row = scores.headline
    for shift in row.scores.values():
        assert f" {percent(shift.value)} " in line
    for interval, signed in ((row.ood_mean, False), (row.effective_mean, True), (row.relative_mean, True)):
        assert plus_minus(interval, signed=signed) in line
    assert "mean over 5" in text
    assert "z " + f"{row.effective['toy-a'].z:.1f}" in text


def test_extrapolated_values_are_marked_in_each_format(scores: Scores) -> None:
    row = next(row for row in scores.rows if row.alpha == 1)
    text = plus_minus(row.effective_mean, signed=True)
    assert row.extrapolated(scores.usable)
    assert f"{text}~" in render(scores, "table")
    assert f"*{text}*" in render(scores, "markdown")
    assert rf"\textit{{{text.replace('±', chr(36) + chr(92) + 'pm' + chr(36))}}}" in render(scores, "latex")
    start = plus_minus(scores.rows[0].effective_mean, signed=True)
    assert f"*{start}*" not in render(scores, "markdown")


def test_lines_that_say_nothing_are_marked_and_counted(tmp_path: Path) -> None:
    suite = make_suite(tmp_path)
    run = make_record(suite, {"start": counts((70, 60, 90, 80, 40, 50)), "ft": counts((80, 70, 80, 70, 30, 50))}, "ft")
    marked = score([run], suite, unusable_sketch(suite))
    text = render(marked, "table")
    assert "mean over 4 of 5" in text
    assert max(len(line) for line in text.splitlines()) <= 120
    assert f"({plus_minus(Interval(*marked.rows[0].effective['toy-sketch'][:3]), signed=True)})" in text
    assert "toy-sketch: the line says nothing (R2" in text
    assert r"\textcolor{gray}{" in render(marked, "latex")


def test_partial_and_no_baseline_say_so(tmp_path: Path) -> None:
    suite = make_suite(tmp_path)
    run = make_record(suite, {"start": counts((70, 60)), "ft": counts((80, 70))}, "ft", missing=SETS[2:])
    text = render(score([run], suite), "table")
    assert f"partial: no images of {', '.join(SETS[2:])}; no OOD mean, no rank." in text
    assert "suite toy has no baseline line" in text
    assert "effective" not in text.splitlines()[2]


def test_csv_has_fractions_and_both_ends(scores: Scores) -> None:
    rows = list(csv.DictReader(io.StringIO(render(scores, "csv"))))
    assert len(rows) == len(scores.rows) == 11
    found = next(row for row in rows if row["headline"] == "True")
    row = scores.headline
    assert row.ood_mean
    assert float(found["ood_mean_interval.low"]) == row.ood_mean.low
    assert float(found["scores.toy-a.high"]) == row.scores["toy-a"].high
    assert float(found["effective_robustness.toy-a.z"]) == row.effective["toy-a"].z
    assert "effective_robustness_mean" not in found


def test_baseline_table_and_json(tmp_path: Path) -> None:
    suite = make_suite(tmp_path)
    baseline = unusable_sketch(suite)
    text, document = baseline_table(baseline, suite), baseline.to_json(suite)
    assert json.loads(json.dumps(document, allow_nan=False))["models"] == 14
    assert baseline.hash in text and "toy@1: 14 reference models for toy, logit axes" in text
    for name, line in baseline.lines(suite).items():
        row = next(row for row in text.splitlines() if row.startswith(name))
        assert row.split()[2:7] == ["14", *(f"{v:.3f}" for v in (line.slope, line.intercept, line.s, line.r2))]
        assert (f"{name}: the line says nothing" in text) is bool(line.unusable)
        assert document["lines"][name]["slope"] == line.slope


def test_unknown_format(scores: Scores) -> None:
    with pytest.raises(UnknownName, match="unknown format 'html'.*csv, latex, markdown, table"):
        render(scores, "html")
    assert all(render(scores, name).endswith("\n") for name in CHOICES)


def test_curve_has_a_line_per_alpha_in_order(scores: Scores, tmp_path: Path) -> None:
    lines = curve(scores).splitlines()
    assert [float(line.split()[0]) for line in lines[1:]] == [a / 10 for a in range(11)]
    assert all(line.count("x") == 1 and line.count("o") == 1 for line in lines[1:])
    places = [line.index("x") for line in lines[1:]]
    ids = [row.id.value for row in sorted(scores.rows, key=lambda row: row.alpha or 0)]
    by_id = [place for _, place in sorted(zip(ids, places, strict=True))]
    assert by_id == sorted(places) and len(set(places)) > 5
    suite = make_suite(tmp_path)
    assert curve(score([make_run(tmp_path / "ft", suite, FT)], suite)) == ""


def test_latex_escapes_what_is_not_its_own() -> None:
    assert latex("a_b & 5% ±1") == r"a\_b \& 5\% $\pm$1"
    assert latex(r"\input{x}") == r"\textbackslash{}input\{x\}"
    assert latex(r"\textit{5% ±1}") == r"\textit{5\% $\pm$1}"
