"""Which line a row is measured with: ID axis, piece and scale; and how much a value depends on that choice."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fabricated import MATCHED, SETS, make_baseline, make_matched, make_panel, make_suite, printed
from scipy.special import expit, logit, ndtr, ndtri

from robustbench_ft import suites, yardstick
from robustbench_ft.baselines import Baseline
from robustbench_ft.errors import UnknownName, UsageError
from robustbench_ft.lines import SCALES, TransformName
from robustbench_ft.records import Accuracy
from robustbench_ft.robustness import effective_robustness
from robustbench_ft.yardstick import Yardstick

FULL = {"toy-test": "0.800", **dict(zip(SETS[1:], ("0.650", "0.400", "0.500", "0.300", "0.350"), strict=True))}
BOTH = FULL | {"toy-test/toy-rendition": "0.880", "toy-test/toy-a": "0.870"}


def by(baseline: Baseline | None = None, scale: TransformName | None = None) -> Yardstick:
    return Yardstick(make_panel(), baseline or make_matched(make_panel()), scale)


def test_a_row_stands_on_the_class_matched_axis_where_it_has_it() -> None:
    matched, full = (by().measured([printed(values, 2000)]) for values in (BOTH, FULL))
    assert {name: shift.line.axis for name, shift in matched.items()} == {
        name: "class-matched" if name in MATCHED else "full" for name in SETS[1:]
    }
    assert {shift.line.axis for shift in full.values()} == {"full"} and list(full) == list(SETS[1:])
    assert [counts.accuracy for counts in matched["toy-a"].id] == [0.87]
    assert [counts.accuracy for counts in full["toy-a"].id] == [counts.accuracy for counts in matched["toy-v2"].id] == [0.8]
    assert effective_robustness(matched["toy-a"]).id == 0.87


def test_without_a_line_on_its_axis_a_row_stands_on_the_other() -> None:
    baseline = make_baseline(make_panel())
    assert by(baseline).measured([printed(BOTH, 2000)])["toy-a"].line.axis == "full"


def test_all_seeds_stand_on_one_axis() -> None:
    seeds = [printed(BOTH, 2000), printed(FULL, 2000)]
    shift = by().measured(seeds)["toy-a"]
    assert shift.line.axis == "full" and [counts.accuracy for counts in shift.id] == [0.8, 0.8]


def test_without_id_or_ood_accuracy_there_is_nothing_to_measure() -> None:
    assert by().measured([printed({name: FULL[name] for name in SETS[1:]})]) == {}
    no_id = {name: value for name, value in BOTH.items() if name != "toy-test"}
    assert list(by().measured([printed(no_id)])) == list(MATCHED)
    assert list(by().measured([printed(FULL | {"toy-test/toy-a": "0.9"})])) == list(SETS[1:])
    assert list(by().measured([printed({"toy-test": "0.8", "toy-v2": "0.7"})])) == ["toy-v2"]
    assert Yardstick(make_panel()).measured([printed(BOTH)]) == {} == Yardstick(make_panel()).lines


@pytest.mark.parametrize(("above", "piece"), [(0.0, 0), (0.0005, 1), (-0.0005, 0)])
def test_the_piece_is_that_of_the_row_s_place(above: float, piece: int) -> None:
    baseline = make_baseline(make_panel(), filtered={"toy-a": "scratch-6"})
    x0 = baseline.models[6].counts["toy-test"].accuracy
    line = by(baseline).lines["toy-a"]["full"]
    seeds = [printed(FULL | {"toy-test": f"{x0 + above:.4f}"}, 2000)]
    assert by(baseline).measured(seeds)["toy-a"].line.id_range == line.pieces[piece].id_range


def test_seeds_on_both_sides_of_a_split_use_the_piece_of_their_mean() -> None:
    baseline = make_baseline(make_panel(), filtered={"toy-a": "scratch-6"})
    x0 = baseline.models[6].counts["toy-test"].accuracy
    seeds = [printed(FULL | {"toy-test": f"{x0 + d:.4f}"}, 2000) for d in (0.02, -0.01)]
    shift = by(baseline).measured(seeds)["toy-a"]
    assert shift.line.id_range[0] == pytest.approx(x0) and len(shift.id) == 2


@pytest.mark.parametrize(
    ("place", "expected"),
    [("pool low", -0.006), ("pool low", -0.004), ("split", -0.03), ("split", 0.03), ("pool high", 0.004), ("pool high", 0.006)],
)
def test_only_beyond_the_whole_pool_is_a_value_extrapolated(place: str, expected: float) -> None:
    """Between the pieces there may be a gap: that is inside the pool (DESIGN 7.3)."""
    baseline = make_baseline(make_panel(), filtered={"toy-a": "scratch-6"})
    ids = [model.counts["toy-test"].accuracy for model in baseline.models]
    at = {"pool low": ids[0], "split": ids[6], "pool high": ids[-1]}[place] + expected
    shift = by(baseline).measured([printed(FULL | {"toy-test": f"{at:.6f}"}, 2000)])["toy-a"]
    assert effective_robustness(shift).extrapolated is (abs(expected) > 0.005 and place != "split")


INVERSE: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "logit": (lambda p: float(logit(p)), lambda x: float(expit(x))),
    "probit": (lambda p: float(ndtri(p)), lambda x: float(ndtr(x))),
    "linear": (float, float),
}


def rho_of(baseline: Baseline, values: dict[str, str], shift: str, how: tuple[str, str]) -> float:
    """One rho by numpy's polyfit: a scale, an ID key, one or two pieces."""
    scale, key = how
    to, back = INVERSE[scale]
    place, pool = float(values[key]), baseline.models
    if shift in baseline.filtered:
        x0 = next(m.counts[key].accuracy for m in pool if m.name == baseline.filtered[shift])
        side = [m for m in pool if (m.counts[key].accuracy <= x0) == (place <= x0)]
        pool = tuple(m for m in side if m.name != baseline.filtered[shift])
    x, y = ([to(m.counts[name].accuracy) for m in pool] for name in (key, shift))
    return float(values[shift]) - back(float(np.polyval(np.polyfit(x, y, 1), to(place))))


@pytest.mark.parametrize("chosen", [None, "linear"])
def test_sensitivity_is_the_range_over_three_scales_and_two_axes(chosen: TransformName | None) -> None:
    baseline = make_matched(make_panel(), filtered={"toy-a": "scratch-9"})
    names = ("toy-v2", "toy-rendition", "toy-a")
    ranges, means = by(baseline, chosen).sensitivity([printed(BOTH, 2000)], [SETS[1:], names, ()])
    found = {
        (scale, matched): {
            name: rho_of(baseline, BOTH, name, (scale, f"toy-test/{name}" if matched and name in MATCHED else "toy-test"))
            for name in SETS[1:]
        }
        for scale in SCALES
        for matched in (True, False)
    }
    for name in SETS[1:]:
        values = [one[name] for one in found.values()]
        assert ranges[name] == pytest.approx((min(values), max(values)), abs=1e-9)
        assert len({round(value, 9) for value in values}) == (6 if name in MATCHED else 3)
    for over in (SETS[1:], names):
        values = [sum(one[name] for name in over) / len(over) for one in found.values()]
        assert means[over] == pytest.approx((min(values), max(values)), abs=1e-9)
    assert set(means) == {SETS[1:], names}


def test_without_class_matched_figures_only_the_scales_are_tried() -> None:
    ranges, _ = by().sensitivity([printed(FULL, 2000)])
    values = [rho_of(make_matched(make_panel()), FULL, "toy-a", (scale, "toy-test")) for scale in SCALES]
    assert ranges["toy-a"] == pytest.approx((min(values), max(values)), abs=1e-9)
    assert Yardstick(make_panel()).sensitivity([printed(FULL)], [()]) == ({}, {})


def test_sensitivity_is_of_the_mean_over_seeds() -> None:
    seeds: list[dict[str, Accuracy]] = [printed(BOTH, 2000), printed(BOTH | {"toy-v2": "0.600"}, 2000)]
    one, both = (by().sensitivity(s)[0]["toy-v2"] for s in (seeds[:1], seeds))
    assert (both.low, both.high) == pytest.approx((one.low - 0.025, one.high - 0.025))


@pytest.mark.parametrize("scale", SCALES)
def test_rows_are_measured_on_the_scale_that_is_asked_for(scale: TransformName) -> None:
    baseline = make_matched(make_panel())
    shift = by(baseline, scale).measured([printed(FULL, 2000)])["toy-sketch"]
    assert shift.line.scale == scale
    assert effective_robustness(shift).value == pytest.approx(rho_of(baseline, FULL, "toy-sketch", (scale, "toy-test")), abs=1e-9)


def test_a_baseline_s_own_scale_is_the_default() -> None:
    baseline = make_baseline(make_panel(), transform="probit")
    assert {axes["full"].pieces[0].scale for axes in by(baseline).lines.values()} == {"probit"}
    assert {axes["full"].pieces[0].scale for axes in by(baseline, "logit").lines.values()} == {"logit"}


def test_the_panel_s_own_baseline_unless_another_is_named() -> None:
    imagenet = suites.panel("imagenet")
    assert isinstance(imagenet, suites.Panel)
    found = yardstick.of(imagenet, scale="probit")
    assert found.baseline and (found.baseline.id, found.scale) == ("imagenet-testbed@1", "probit")
    assert yardstick.of(make_panel()).baseline is None
    with pytest.raises(UnknownName, match="mini@9"):
        yardstick.of(imagenet, "mini@9")


def test_a_baseline_of_another_id_set_is_refused() -> None:
    imagenet = suites.panel("imagenet")
    assert isinstance(imagenet, suites.Panel)
    with pytest.raises(UsageError, match="mini@1"):
        yardstick.of(imagenet, "mini@1")


def test_the_imagenet_lines_are_the_testbed_s() -> None:
    """85 models, R2 0.996 on V2 (issue 3); ImageNet-A in two pieces at the ResNet-50's ID accuracy."""
    imagenet = suites.panel("imagenet")
    assert isinstance(imagenet, suites.Panel)
    lines = yardstick.of(imagenet).lines
    (v2,) = lines["imagenet-v2"]["full"].pieces
    assert v2.m == 85 and round(v2.r2, 3) == 0.996
    assert round(lines["objectnet"]["class-matched"].pieces[0].r2, 2) == 0.95
    a = lines["imagenet-a"]["full"]
    assert [len(piece.names) for piece in a.pieces] == [33, 51] and a.split == 0.7613
    assert "resnet50" not in {name for piece in a.pieces for name in piece.names}
    assert [bool(piece.unusable) for piece in a.pieces] == [True, False] and not math.isnan(a.pieces[1].s)


def test_a_suite_is_a_panel(tmp_path: Path) -> None:
    suite = make_suite(tmp_path)
    baseline = make_baseline(suite)
    assert set(Yardstick(suite, baseline).lines) == set(SETS[1:])
