import csv
import io
import json
from pathlib import Path

import pytest
from fabricated import (
    FT,
    SETS,
    counts,
    make_baseline,
    make_matched,
    make_panel,
    make_record,
    make_run,
    make_suite,
    mix,
    unusable_sketch,
)

from robustbench_ft.errors import UnknownName
from robustbench_ft.lines import SCALES
from robustbench_ft.score import RunScores, score
from robustbench_ft.score_tables import baseline_table, curve, title
from robustbench_ft.score_tables import render as rendered
from robustbench_ft.statistics import Interval
from robustbench_ft.tables import CHOICES, FORMATS, latex, percent, plus_minus, to_csv
from robustbench_ft.yardstick import Yardstick


def render(scores: RunScores, name: str) -> str:
    return rendered(scores, name, title(scores))


@pytest.fixture
def scores(tmp_path: Path) -> RunScores:
    suite = make_suite(tmp_path, 2000)
    path = {f"alpha={a / 10:g}": mix(a / 10) for a in range(1, 11) if a != 5}
    run = make_run(tmp_path / "run", suite, mix(0.5), path, method="wiseft", headline="alpha=0.5")
    return score([run], Yardstick(suite, make_baseline(suite)))


def test_numbers_as_text() -> None:
    assert [percent(v) for v in (0.849, 1.0, 0.0)] == ["84.9", "100.0", "0.0"]
    assert [percent(v, signed=True) for v in (0.031, -0.2, 0.0, -0.0001)] == ["+3.1", "-20.0", "0.0", "0.0"]
    assert plus_minus(Interval(0.5, 0.45, 0.52)) == "50.0 ±5.0"
    assert (plus_minus(None), plus_minus(Interval(0, 0, 0), signed=True)) == ("-", "0.0")


def test_the_terminal_table_fits_and_holds_every_number(scores: RunScores) -> None:
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


def test_extrapolated_values_are_marked_in_each_format(scores: RunScores) -> None:
    row = next(row for row in scores.rows if row.alpha == 1)
    text = plus_minus(row.effective_mean, signed=True)
    assert row.effective_mean and row.effective_mean.extrapolated
    assert f"{text}~" in render(scores, "table")
    assert f"*{text}*" in render(scores, "markdown")
    assert rf"\textit{{{text.replace('±', chr(36) + chr(92) + 'pm' + chr(36))}}}" in render(scores, "latex")
    start = plus_minus(scores.rows[0].effective_mean, signed=True)
    assert f"*{start}*" not in render(scores, "markdown")


def test_lines_that_say_nothing_are_marked_and_counted(tmp_path: Path) -> None:
    suite = make_suite(tmp_path)
    run = make_record(suite, {"start": counts((70, 60, 90, 80, 40, 50)), "ft": counts((80, 70, 80, 70, 30, 50))}, "ft")
    marked = score([run], Yardstick(suite, unusable_sketch(suite)))
    text = render(marked, "table")
    assert "mean over 4 of 5" in text
    assert max(len(line) for line in text.splitlines()) <= 120
    assert f"({plus_minus(Interval(*marked.rows[0].effective['toy-sketch'][:3]), signed=True)})" in text
    assert "toy-sketch: the line says nothing (R2" in text
    assert r"\textcolor{gray}{" in render(marked, "latex")


def test_partial_and_no_baseline_say_so(tmp_path: Path) -> None:
    suite = make_suite(tmp_path)
    run = make_record(suite, {"start": counts((70, 60)), "ft": counts((80, 70))}, "ft", missing=SETS[2:])
    text = render(score([run], Yardstick(suite)), "table")
    assert f"partial: no images of {', '.join(SETS[2:])}; no OOD mean, no rank." in text
    assert "suite toy has no baseline line" in text
    assert "effective" not in text.splitlines()[2]


def test_a_shift_beside_the_mean_may_be_missing(tmp_path: Path) -> None:
    suite = make_suite(tmp_path, extra={"toy-a": "headline = false"})
    run = make_record(
        suite, {"start": counts((70,) * 5), "ft": counts((80,) * 5)}, "ft", missing=("toy-a",), unaligned=("toy-v2",)
    )
    text = render(score([run], Yardstick(suite, make_baseline(suite))), "table")
    assert "partial: no images of toy-a; the rest is complete." in text and "mean over 4" in text and "mean over 4 of" not in text
    assert "unaligned: toy-v2: not the official files" in text


def test_seeds_are_told_in_the_heading(tmp_path: Path) -> None:
    suite = make_suite(tmp_path)
    runs = [make_record(suite, {"start": counts((70,) * 6), "ft": counts((80,) * 6)}, "ft", seed=seed) for seed in (3, 11)]
    scores = score(runs, Yardstick(suite))
    assert title(scores) == "ft on toy, start model toy-clip, seeds 3, 11, no baseline"
    assert render(scores, "markdown").startswith(title(scores)) and title(score(runs[:1], Yardstick(suite))).count("seed 3,") == 1


def test_csv_has_fractions_and_both_ends(scores: RunScores) -> None:
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
    text, document = baseline_table(baseline, [suite]), baseline.to_json([suite])
    assert json.loads(json.dumps(document, allow_nan=False))["models"] == 14
    assert baseline.hash in text and "toy@1: 14 reference models for toy, logit axes" in text
    for name, axes in baseline.lines(suite).items():
        (line,) = axes["full"].pieces
        row = next(row for row in text.splitlines() if row.startswith(name))
        assert row.split()[1] == "full" and row.split()[2:7] == [
            "14",
            *(f"{v:.3f}" for v in (line.slope, line.intercept, line.s, line.r2)),
        ]
        assert (f"{name}, full ID axis: the line says nothing" in text) is bool(line.unusable)
        assert document["lines"][name]["full"]["pieces"][0]["slope"] == line.slope


def test_unknown_format(scores: RunScores) -> None:
    with pytest.raises(UnknownName, match="unknown format 'html'.*csv, latex, markdown, table"):
        render(scores, "html")
    assert [render(scores, name).endswith("\n") for name in CHOICES] == [True, True, True, False]  # csv has no empty line


def test_curve_has_a_line_per_alpha_in_order(scores: RunScores, tmp_path: Path) -> None:
    lines = curve(scores).splitlines()
    assert [float(line.split()[0]) for line in lines[1:]] == [a / 10 for a in range(11)]
    assert all(line.count("x") == 1 and line.count("o") == 1 for line in lines[1:])
    places = [line.index("x") for line in lines[1:]]
    ids = [row.id.value for row in sorted(scores.rows, key=lambda row: row.alpha or 0) if row.id]
    by_id = [place for _, place in sorted(zip(ids, places, strict=True))]
    assert by_id == sorted(places) and len(set(places)) > 5
    suite = make_suite(tmp_path)
    assert curve(score([make_run(tmp_path / "ft", suite, FT)], Yardstick(suite))) == ""


def test_latex_escapes_what_is_not_its_own() -> None:
    assert latex("a_b & 5% ±1") == r"a\_b \& 5\% $\pm$1"
    assert latex(r"\input{x}") == r"\textbackslash{}input\{x\}"
    assert latex(r"\textit{5% ±1}") == r"\textit{5\% $\pm$1}"
    assert latex("f^2 {x} #1 $ ~") == r"f\textasciicircum{}2 \{x\} \#1 \$ \textasciitilde{}"


def test_latex_marks() -> None:
    assert latex("+1.0 ±2.0 z 1.0‡†") == r"+1.0 $\pm$2.0 z 1.0\ddag{}\dag{}"
    assert latex("→ alpha=0.5") == r"$\rightarrow$ alpha=0.5"


def test_latex_marks_nest() -> None:
    """A value on a line that says nothing may be extrapolated too."""
    both = FORMATS["latex"].grey.format(FORMATS["latex"].extrapolated.format("5% ±1‡"))
    assert latex(both) == r"\textcolor{gray}{\textit{5\% $\pm$1\ddag{}}}"


def test_csv_flattens_what_json_nests() -> None:
    text = to_csv([{"a": {"b": {"c": 1, "d": None}}, "l": ["x", "y"], "e": None}, {"a": {"b": None}, "e": {"f": 0.5}, "l": []}])
    assert text == "a.b.c,a.b.d,l,e.f\n1,,x;y,\n,,,0.5"


def test_baseline_table_of_two_axes_and_two_pieces() -> None:
    baseline = make_matched(make_panel(), filtered={"toy-a": "scratch-6"})
    text = baseline_table(baseline, [make_panel()])
    lines = [line.split()[:3] for line in text.splitlines() if line.startswith("toy-a  ")]
    assert [(axis, m) for _, axis, m in lines] == [("class-matched", "6"), ("class-matched", "7"), ("full", "6"), ("full", "7")]
    assert "toy-a was filtered against scratch-6" in text
    assert [line.split()[1] for line in text.splitlines() if line.startswith("toy-v2 ")] == ["full"]


def test_a_heading_says_axes_that_are_not_the_baseline_s_own(tmp_path: Path) -> None:
    suite = make_suite(tmp_path)
    run = make_record(suite, {"start": counts((70, 60, 90, 80, 40, 50)), "ft": counts((80, 70, 80, 70, 30, 50))}, "ft")
    told = {scale: title(score([run], Yardstick(suite, make_baseline(suite), scale))) for scale in (None, *SCALES)}
    assert told[None] == told["logit"] and told["logit"].endswith("baseline toy@1")
    assert told["probit"].endswith("baseline toy@1, probit axes") and told["linear"].endswith("baseline toy@1, linear axes")
    assert title(score([run], Yardstick(suite))).endswith("no baseline")
