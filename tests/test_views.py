"""The numbers of a picture: where rows, reference models and lines stand in each panel."""

import math

import pytest
from fabricated import SETS, counts, make_baseline, make_matched, make_panel, printed, unusable_sketch

from robustbench_ft import views
from robustbench_ft.records import Counts
from robustbench_ft.rows import Row, Subject, score
from robustbench_ft.specs import TestSet
from robustbench_ft.views import View, logit
from robustbench_ft.yardstick import Figures, Yardstick

PANEL = make_panel()
POOL = make_baseline(PANEL)
KS = (80, 70, 60, 50, 40, 30)


def row(figures: Figures, by: Yardstick) -> Row:
    return score([Subject("a", [figures])], by).rows[0]


def test_logit() -> None:
    assert logit(0.8) == pytest.approx(math.log(4))
    assert [logit(1.0), -logit(0.0)] == pytest.approx([math.log(2001)] * 2)


def test_places_by_hand() -> None:
    by = Yardstick(PANEL, POOL)
    one = row(counts(KS), by)
    mean, sketch = View(by).spot(one), View(by, "toy-sketch").spot(one)
    assert mean and mean.middle == pytest.approx((logit(0.8), logit(0.5)))
    assert sketch and sketch.middle == pytest.approx((logit(0.8), logit(0.6)))
    assert one.id
    assert sketch.bars[0] == [(logit(0.8), logit(end)) for end in one.scores["toy-sketch"][1:3]]
    assert sketch.bars[1] == [(logit(end), logit(0.6)) for end in one.id[1:3]]
    first = POOL.models[0].counts
    ood = [first[name].accuracy for name in SETS[1:]]
    assert View(by).pool[0] == pytest.approx((logit(first[SETS[0]].accuracy), logit(sum(ood) / 5)))
    assert len(View(by).pool) == len(View(by, "toy-a").pool) == 14
    assert (View(by).title, View(by, "toy-a").title) == ("OOD mean over 5 shifts", "toy-a")


def test_a_class_matched_row_stands_on_that_axis_alone() -> None:
    baseline = make_matched(PANEL)
    by = Yardstick(PANEL, baseline)
    matched = row(counts(KS) | {f"{SETS[0]}/toy-a": Counts(k=90, n=100)}, by)
    full = row(counts(KS), by)
    view = next(view for view in views.of(by, [full, matched]) if view.shift == "toy-a")
    spot = view.spot(matched)
    assert view.axis == "class-matched" and "its classes" in view.id_label
    assert spot and spot.middle == pytest.approx((logit(0.9), logit(0.3)))
    assert spot.bars[1] == [spot.middle] * 2
    assert view.spot(full) is None
    assert view.lines == [by.lines["toy-a"]["class-matched"]]
    model = baseline.models[0].counts
    assert view.pool[0] == pytest.approx((logit(model[f"{SETS[0]}/toy-a"].accuracy), logit(model["toy-a"].accuracy)))
    assert {view.axis for view in views.of(by, [full])} == {"full"}


def test_what_is_missing_has_no_place() -> None:
    by = Yardstick(PANEL, POOL)
    no_id = row({name: value for name, value in counts(KS).items() if name != f"{SETS[0]}/own"}, by)
    partial = row(counts(KS[:3]), by)
    assert not any(view.spot(no_id) for view in (View(by), View(by, "toy-v2")))
    assert views.of(by, [no_id]) == []
    assert View(by).spot(partial) is None
    assert [view.shift for view in views.of(by, [partial])] == ["toy-v2", "toy-sketch"]
    models = [m.model_copy(update={"counts": {k: v for k, v in m.counts.items() if k != "toy-v2"}}) for m in POOL.models]
    lacking = View(Yardstick(PANEL, POOL.model_copy(update={"models": tuple(models)})))
    assert lacking.lines == lacking.pool == []


def test_unknown_ends_have_no_length() -> None:
    by = Yardstick(PANEL)
    spot = View(by, "toy-v2").spot(row(printed({SETS[0]: "0.80", "toy-v2": "0.7"}), by))
    assert spot and spot.bars == ([spot.middle] * 2, [spot.middle] * 2)


def test_shifts_beside_the_headline_have_no_panel() -> None:
    panel = PANEL.model_copy(update={"shifts": (*PANEL.shifts[:4], TestSet(name="toy-a", headline=False))})
    by = Yardstick(panel, POOL)
    one = row(counts(KS), by)
    assert [view.shift for view in views.of(by, [one])] == list(SETS[1:5])
    assert View(by).shifts == list(SETS[1:5])


def test_lines_that_say_nothing() -> None:
    by = Yardstick(PANEL, unusable_sketch(PANEL))
    assert View(by, "toy-sketch").silence == "line says nothing"
    assert View(by).silence == "lines that say nothing: 1 of 5"
    assert View(by, "toy-v2").silence == View(Yardstick(PANEL), "toy-v2").silence == ""
    baseline = make_baseline(PANEL, 20, noise=0.005, filtered={"toy-v2": "scratch-10"})
    split = View(Yardstick(PANEL, baseline), "toy-v2")
    assert split.silence == "" and len(split.pool) == 19
    assert len(View(split.by).pool) == 19
    dull = {"toy-v2": Counts(k=100, n=2000)}
    low = [m.model_copy(update={"counts": m.counts | dull}) if i < 10 else m for i, m in enumerate(baseline.models)]
    piece = View(Yardstick(PANEL, baseline.model_copy(update={"models": tuple(low)})), "toy-v2")
    at = split.lines[0].split
    assert at is not None and piece.silence == f"line says nothing up to {100 * at:.0f}"
