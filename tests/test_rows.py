"""Accuracies in, rows out: means, relative robustness, which shifts the mean of rho is over, and the JSON document."""

import json
import math

import numpy as np
import pytest
from fabricated import MATCHED, SETS, make_baseline, make_matched, make_panel, printed, unusable_sketch

from robustbench_ft import score_tables
from robustbench_ft.baselines import Baseline
from robustbench_ft.lines import SCALES, TransformName
from robustbench_ft.records import Counts, Figure
from robustbench_ft.robustness import mean_effective_robustness
from robustbench_ft.rows import Row, Scores, Subject, score, to_json
from robustbench_ft.specs import TestSet
from robustbench_ft.statistics import wilson
from robustbench_ft.suites import Panel
from robustbench_ft.tallies import Tallies, interval
from robustbench_ft.yardstick import Yardstick

SHIFTS = SETS[1:]
FULL = {"toy-test": "0.800", **dict(zip(SHIFTS, ("0.650", "0.400", "0.500", "0.300", "0.350"), strict=True))}
BOTH = FULL | {"toy-test/toy-rendition": "0.880", "toy-test/toy-a": "0.870"}
START = {"toy-test": "0.700", **dict(zip(SHIFTS, ("0.600", "0.500", "0.600", "0.400", "0.450"), strict=True))}


def scored(*rows: dict[str, str], baseline: Baseline | None = None, panel: Panel | None = None, n: int | None = 2000) -> Scores:
    subjects = [Subject(f"m{number}", [printed(values, n)]) for number, values in enumerate(rows)]
    return score(subjects, Yardstick(panel or make_panel(), baseline))


def test_printed_figures_by_hand() -> None:
    (row,) = scored(FULL).rows
    assert row.id and row.ood_mean and row.id_ood_mean
    exact = wilson(0.8, 2000)
    rounding = 1.959964 * 0.0005 / math.sqrt(3)
    ends = (0.8 - math.hypot(0.8 - exact.low, rounding), 0.8 + math.hypot(exact.high - 0.8, rounding))
    assert row.id == pytest.approx((0.8, *ends, 2000))
    assert row.ood_mean.value == pytest.approx((0.65 + 0.4 + 0.5 + 0.3 + 0.35) / 5)
    assert row.id_ood_mean.value == pytest.approx((0.8 + 0.44) / 2)
    lows = [0.2 * (float(FULL[name]) - wilson(float(FULL[name]), 2000).low) for name in SHIFTS]
    assert row.ood_mean.low == pytest.approx(0.44 - math.hypot(*lows, *[0.2 * rounding] * 5))
    half = [*(low / 2 for low in lows), 0.5 * (0.8 - exact.low), *[0.1 * rounding] * 5, 0.5 * rounding]
    assert row.id_ood_mean.low == pytest.approx(0.62 - math.hypot(*half))


@pytest.mark.parametrize(("value", "half"), [("0.8", 0.05), ("0.80", 0.005), ("0.8000", 0.00005)])
def test_fewer_digits_widen_an_interval(value: str, half: float) -> None:
    (row,) = scored(FULL | {"toy-test": value}).rows
    exact, rounding = wilson(0.8, 2000), 1.959964 * half / math.sqrt(3)
    assert row.id and row.id.low == pytest.approx(0.8 - math.hypot(0.8 - exact.low, rounding))
    assert row.id.high == pytest.approx(0.8 + math.hypot(exact.high - 0.8, rounding))


def test_intervals_of_figures_stay_within_0_and_1() -> None:
    (row,) = scored(FULL | {"toy-test": "1.00", "toy-a": "0.0"}).rows
    assert row.id and row.id.high == 1.0 and row.id.low < 0.995
    assert row.scores["toy-a"].low == 0.0 and row.scores["toy-a"].high > 0.05


def test_counts_have_no_rounding() -> None:
    seeds = [{f"{name}/own": Counts(k=3, n=8) for name in SETS}]
    (row,) = score([Subject("m", seeds)], Yardstick(make_panel())).rows
    assert row.id == pytest.approx((*wilson(0.375, 8), 8))


def test_a_set_of_unknown_size_has_a_value_and_no_interval() -> None:
    """Macro-F1, or a size that nobody says: values stay, ends are NaN, and null in JSON."""
    values = printed(FULL, 2000) | {"toy-a/own": Figure(value="0.350")}
    panel = make_panel(shifts=[*make_panel().shifts[:4], TestSet(name="toy-a", metric="macro-f1")])
    scores = score([Subject("m", [values], [printed(START)])], Yardstick(panel, make_baseline(panel)))
    (row,) = scores.rows
    assert row.scores["toy-a"][::3] == (0.35, None) and math.isnan(row.scores["toy-a"].low)
    assert not math.isnan(row.scores["toy-v2"].high)
    for found in (row.ood_mean, row.id_ood_mean, row.effective["toy-a"], row.effective_mean, row.relative["toy-a"]):
        assert found and not math.isnan(found.value) and math.isnan(found.low) and math.isnan(found.high)
    assert row.ood_mean and row.ood_mean.value == pytest.approx(0.44)
    assert not panel.shifts[-1].binomial and panel.shifts[0].binomial
    document = to_json(scores)["rows"][0]
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["scores"]["toy-a"] == {"value": 0.35, "low": None, "high": None, "n": None}
    assert document["effective_robustness"]["toy-a"]["low"] is None
    assert document["effective_robustness"]["toy-a"]["value"] == row.effective["toy-a"].value
    assert document["ood_mean_interval"] == {"value": row.ood_mean.value, "low": None, "high": None}


def test_without_id_there_is_no_rho_and_no_mean_with_it() -> None:
    values = {name: FULL[name] for name in SHIFTS}
    scores = scored(values, FULL, baseline=make_matched(make_panel()))
    row, other = scores.rows
    assert (row.id, row.id_ood_mean, row.effective, row.effective_mean, row.effective_all) == (None, None, {}, None, None)
    assert row.ood_mean == other.ood_mean != None and other.effective_mean  # noqa: E711
    document = to_json(scores)["rows"][0]
    assert document["id"] is None and document["effective_robustness"] == {} and document["partial"] == []
    assert set(document["scores"]) == set(SHIFTS)


def test_a_shift_that_is_missing_leaves_no_mean() -> None:
    values = {name: value for name, value in BOTH.items() if name != "toy-v2"}
    scores = scored(values, FULL, baseline=make_matched(make_panel()))
    row, other = scores.rows
    assert (row.ood_mean, row.id_ood_mean, row.effective_mean) == (None, None, None)
    assert set(row.effective) == set(SHIFTS) - {"toy-v2"} and other.effective_mean
    assert to_json(scores)["rows"][0]["partial"] == ["toy-v2"] and to_json(scores)["rows"][1]["partial"] == []


def test_shifts_beside_the_headline_are_scored_and_in_no_mean() -> None:
    panel = make_panel()
    panel = make_panel(shifts=[s if s.name != "toy-a" else s.model_copy(update={"headline": False}) for s in panel.shifts])
    (row,) = scored(FULL, baseline=make_baseline(panel), panel=panel).rows
    assert row.ood_mean and row.ood_mean.value == pytest.approx((0.65 + 0.4 + 0.5 + 0.3) / 4)
    assert row.effective_mean and row.effective_mean.over == SHIFTS[:4] and "toy-a" in row.effective
    assert row.effective_all is None
    no_a = {name: value for name, value in FULL.items() if name != "toy-a"}
    (partial,) = scored(no_a, baseline=make_baseline(panel), panel=panel).rows
    assert partial.ood_mean == row.ood_mean


# relative robustness


def with_start(values: dict[str, str], start: dict[str, str]) -> Row:
    return score([Subject("m", [printed(values, 2000)], [printed(start, 2000)])], Yardstick(make_panel())).rows[0]


def test_relative_robustness_by_hand() -> None:
    row = with_start(FULL, START)
    for name in SHIFTS:
        a, b = (wilson(float(values[name]), 2000) for values in (FULL, START))
        rounding = 1.959964 * 0.0005 / math.sqrt(3)
        low = a.value - b.value - math.hypot(a.value - a.low, b.high - b.value, rounding, rounding)
        assert row.relative[name].value == pytest.approx(a.value - b.value)
        assert row.relative[name].low == pytest.approx(low)
    assert row.relative_mean and row.relative_mean.value == pytest.approx(0.44 - 0.51)


def test_the_start_model_s_own_row_is_0_without_an_interval() -> None:
    row = with_start(START, START)
    assert row.relative == {name: (0, 0, 0) for name in SHIFTS} and row.relative_mean == (0, 0, 0)
    other = with_start(START | {"toy-a": "0.451"}, START)
    assert other.relative["toy-v2"].high > 0.02 and other.relative_mean and other.relative_mean.low < 0


def test_relative_robustness_is_over_what_both_have() -> None:
    row = with_start(FULL, {name: value for name, value in START.items() if name != "toy-a"})
    assert set(row.relative) == set(SHIFTS) - {"toy-a"} and row.relative_mean is None
    row = with_start({name: value for name, value in FULL.items() if name != "toy-v2"}, START)
    assert set(row.relative) == set(SHIFTS) - {"toy-v2"} and row.relative_mean is None
    assert scored(FULL).rows[0].relative == {} and scored(FULL).rows[0].relative_mean is None


# which shifts the mean of rho is over


def test_a_line_that_says_nothing_is_left_out_of_every_row() -> None:
    scores = scored(FULL, START, baseline=unusable_sketch(make_panel()))
    assert scores.used == tuple(name for name in SHIFTS if name != "toy-sketch") and scores.extra == ()
    for row in scores.rows:
        assert row.effective["toy-sketch"].unusable and row.effective_mean and row.effective_mean.over == scores.used
        used = [row.effective[name].value for name in scores.used]
        assert row.effective_mean.value == pytest.approx(sum(used) / 4) and row.effective_all is None


REST = tuple(name for name in SHIFTS if name != "toy-v2")


def one_dead_piece(dead: str = "lower") -> Baseline:
    """``toy-v2`` was filtered against scratch-6; below it (or above) all models answer 5%, which is chance."""
    plain = make_baseline(make_panel(), filtered={"toy-v2": "scratch-6"})
    low = range(6) if dead == "lower" else range(7, 14)
    models = [
        m.model_copy(update={"counts": m.counts | {"toy-v2": Counts(k=100 + i % 2, n=2000)}}) if i in low else m
        for i, m in enumerate(plain.models)
    ]
    return plain.model_copy(update={"models": tuple(models)})


@pytest.mark.parametrize("dead", ["lower", "upper"])
def test_a_dead_piece_takes_its_shift_out_of_every_mean(dead: str) -> None:
    """The second mean, which holds the filtered shift too, is only for rows whose own piece says something."""
    low, high = FULL | {"toy-test": "0.500"}, FULL
    scores = scored(low, high, baseline=one_dead_piece(dead))
    assert scores.used == REST and scores.extra == SHIFTS
    on_dead, on_live = scores.rows if dead == "lower" else scores.rows[::-1]
    assert on_dead.effective["toy-v2"].unusable and not on_live.effective["toy-v2"].unusable
    assert on_dead.effective_all is None and on_live.effective_all
    assert on_live.effective_all.over == SHIFTS
    assert on_live.effective_all.value == pytest.approx(sum(rho.value for rho in on_live.effective.values()) / 5)
    for row in scores.rows:
        assert row.effective_mean and row.effective_mean.over == REST
        assert row.effective_mean.value == pytest.approx(sum(row.effective[name].value for name in REST) / 4)


def test_the_rule_is_the_same_where_no_row_stands_on_the_dead_piece() -> None:
    alone = scored(FULL, baseline=one_dead_piece())
    assert alone.used == REST and alone.rows[0].effective_all and alone.extra == SHIFTS
    assert scored(FULL | {"toy-test": "0.500"}, baseline=one_dead_piece()).extra == ()


def test_a_filtered_shift_is_aside_even_where_its_line_says_something() -> None:
    """The mean is printed without it and with it (DESIGN 7.3)."""
    baseline = make_baseline(make_panel(), filtered={"toy-v2": "scratch-6"})
    scores = scored(FULL, FULL | {"toy-test": "0.500"}, baseline=baseline)
    assert len(scores.yardstick.lines["toy-v2"]["full"].pieces) == 2
    assert not any(line.unusable for axes in scores.yardstick.lines.values() for line in axes.values())
    assert scores.used == REST and scores.extra == SHIFTS
    for row in scores.rows:
        assert row.effective_mean and row.effective_all and (row.effective_mean.over, row.effective_all.over) == (REST, SHIFTS)
        assert row.effective_mean.value == pytest.approx(sum(row.effective[name].value for name in REST) / 4)
        assert row.effective_all.value == pytest.approx(sum(rho.value for rho in row.effective.values()) / 5)


def test_only_the_axes_that_rows_stand_on_decide() -> None:
    """``toy-a`` has a class-matched line that says nothing and a full one that does."""
    baseline = make_matched(make_panel())
    models = [
        m.model_copy(update={"counts": m.counts | {"toy-test/toy-a": Counts(k=1200 + 20 * (i % 3), n=1500)}})
        for i, m in enumerate(baseline.models)
    ]
    baseline = baseline.model_copy(update={"models": tuple(models)})
    assert baseline.lines(make_panel())["toy-a"]["class-matched"].unusable
    assert scored(FULL, baseline=baseline).used == SHIFTS
    mixed = scored(FULL, BOTH, baseline=baseline)
    assert mixed.used == SHIFTS[:4]
    full, matched = mixed.rows
    assert matched.effective["toy-a"].unusable and not full.effective["toy-a"].unusable
    assert full.effective_all and full.effective_all.over == SHIFTS and matched.effective_all is None


def test_means_hold_intervals_sensitivity_and_extrapolation() -> None:
    baseline = make_matched(make_panel())
    scores = scored(BOTH, BOTH | {"toy-test": "0.930"}, baseline=baseline)
    row, beyond = scores.rows
    by, seeds = scores.yardstick, [printed(BOTH, 2000)]
    ranges, means = by.sensitivity(seeds, [SHIFTS])
    assert row.effective_mean and beyond.effective_mean
    assert row.effective_mean[:3] == pytest.approx(mean_effective_robustness(list(by.measured(seeds).values())))
    assert row.effective_mean.sensitivity == pytest.approx(means[SHIFTS])
    assert {name: rho.sensitivity for name, rho in row.effective.items()} == ranges
    assert not row.effective_mean.extrapolated and beyond.effective_mean.extrapolated
    assert {name for name, rho in beyond.effective.items() if rho.extrapolated} == set(SHIFTS) - set(MATCHED)


# the document of issue 3


def test_the_document_is_the_one_that_was_asked_for() -> None:
    baseline = make_matched(make_panel())
    subjects = [
        Subject("start", [printed(START, 2000)], [printed(START, 2000)]),
        Subject("m", [printed(BOTH, 2000)], [printed(START, 2000)]),
    ]
    document = to_json(score(subjects, Yardstick(make_panel(), baseline)))
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert {"baseline", "rows"} <= document.keys() and document["baseline"] == "toy@1" == baseline.id
    assert document["baseline_hash"] == baseline.hash and (document["suite"], document["axes"]) == ("toy", "logit")
    for row in document["rows"]:
        assert {"model", "id", "ood_mean", "scores", "effective_robustness", "relative_robustness"} <= row.keys()
        assert isinstance(row["id"], float) and isinstance(row["ood_mean"], float)
        assert {name: set(score) for name, score in row["scores"].items()} == {n: {"value", "low", "high", "n"} for n in SETS}
        for name in SHIFTS:
            rho = row["effective_robustness"][name]
            assert {"value", "low", "high", "axis", "extrapolated", "z"} <= rho.keys()
            assert rho["axis"] in ("class-matched", "full") and isinstance(rho["extrapolated"], bool)
            assert set(rho["sensitivity"]) == {"low", "high", "changes_sign"}
            assert set(row["relative_robustness"][name]) == {"value", "low", "high"}
    start, row = document["rows"]
    assert (row["model"], row["id"], row["scores"]["toy-test"]["n"]) == ("m", 0.8, 2000)
    assert row["ood_mean"] == pytest.approx(0.44) and row["relative_robustness"]["toy-a"]["value"] == pytest.approx(-0.1)
    assert {name: rho["axis"] == "class-matched" for name, rho in row["effective_robustness"].items()} == {
        name: name in MATCHED for name in SHIFTS
    }
    assert start["relative_robustness_mean"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert row["effective_robustness_mean"]["over"] == list(SHIFTS) and row["effective_robustness_mean_all"] is None


def test_without_a_baseline_the_document_says_so() -> None:
    document = to_json(scored(FULL))
    assert (document["baseline"], document["baseline_hash"], document["axes"]) == (None, None, None)
    (row,) = document["rows"]
    assert row["effective_robustness"] == row["relative_robustness"] == {} and row["effective_robustness_mean"] is None


@pytest.mark.parametrize("scale", SCALES)
def test_the_document_says_the_scale(scale: TransformName) -> None:
    subject, own = Subject("m", [printed(FULL, 2000)]), make_baseline(make_panel(), transform=scale)
    given, kept = (
        score([subject], Yardstick(make_panel(), b, s)) for b, s in ((make_baseline(make_panel()), scale), (own, None))
    )
    assert to_json(given)["axes"] == to_json(kept)["axes"] == scale
    assert given.rows[0].effective == kept.rows[0].effective


def test_id_accuracy_on_the_classes_of_a_shift_stands_beside() -> None:
    scores = scored(FULL, BOTH)
    full, both = scores.rows
    assert full.id_on == {} and set(both.id_on) == set(MATCHED)
    for name in MATCHED:
        value = Figure(value=BOTH[f"toy-test/{name}"]).accuracy
        assert both.id_on[name].value == pytest.approx(value)
    assert to_json(scores)["rows"][1]["id_on_classes_of"][MATCHED[0]]["value"] == pytest.approx(both.id_on[MATCHED[0]].value)
    text = score_tables.render(scores, "table", "a table")
    assert "ID accuracy on the classes of each shift that has not all" in text
    assert "ID accuracy on the classes" not in score_tables.render(scored(FULL), "table", "a table")


def test_metrics_without_a_share_of_right_answers_have_intervals_from_predictions_alone() -> None:
    """The bootstrap's, whole, where it is the row's only error; with seeds it joins their noise."""
    tallies = [Tallies(metric="mean-per-class", right=(r, 3), of=(10, 10)) for r in (6, 8)]
    panel = Panel(name="toy", title="", test=TestSet(name="toy-test", metric="mean-per-class"))
    draws = [t.accuracy + np.random.default_rng(k).standard_normal(1000) for k, t in enumerate(tallies)]
    draws = [d - d.mean() + t.accuracy for d, t in zip(draws, tallies, strict=True)]
    seeds, hits = [{"toy-test/own": t} for t in tallies], [{"toy-test/own": d} for d in draws]
    alone = score([Subject("m", seeds[:1])], Yardstick(panel)).rows[0].id
    assert alone and alone.value == pytest.approx(0.45) and math.isnan(alone.low) and alone.n is None
    one = score([Subject("m", seeds[:1], hits=hits[:1])], Yardstick(panel)).rows[0].id
    assert one and (one.low, one.high) == pytest.approx(tuple(interval(0.45, draws[0]))[1:])
    two = score([Subject("m", seeds, hits=hits)], Yardstick(panel)).rows[0].id
    assert two and two.value == pytest.approx(0.5) and two.high - two.low > one.high - one.low, "two seeds that differ by 0.1"
