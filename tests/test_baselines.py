"""Pools of reference models: which of them a line is fitted to, on which axis and in how many pieces; files and errors."""

import json
from pathlib import Path

import pytest
import scipy.stats
from fabricated import MATCHED, SETS, make_baseline, make_matched, make_panel, make_suite
from scipy.special import logit

from robustbench_ft import baselines, suites
from robustbench_ft.baselines import Baseline, Reference
from robustbench_ft.errors import DataError, UnknownName
from robustbench_ft.lines import Line
from robustbench_ft.records import Counts, Figure
from robustbench_ft.suites import Suite


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return make_suite(tmp_path)


def test_class_matched_axis_where_the_pool_has_it(tmp_path: Path) -> None:
    suite = make_suite(tmp_path, extra={"toy-a": "class_groups = [[3], [1, 2], []]"})
    baseline = make_baseline(suite)
    assert set(baseline.lines(suite)["toy-a"]) == {"full"}
    models = tuple(
        Reference(name=m.name, counts=m.counts | {"toy-test/toy-a": Counts(k=m.counts["toy-test"].k // 2, n=1500)})  # type: ignore[union-attr]
        for m in baseline.models
    )
    axes = baseline.model_copy(update={"models": models}).lines(suite)["toy-a"]
    line = axes["class-matched"].pieces[0]
    assert (line.axis, axes["full"].pieces[0].axis) == ("class-matched", "full")
    assert line.id_range[1] == pytest.approx((baseline.models[-1].counts["toy-test"].k // 2) / 1500)  # type: ignore[union-attr]


def test_each_axis_is_fitted_on_its_own_figures() -> None:
    panel = make_panel()
    baseline = make_matched(panel)
    assert {name: set(axes) for name, axes in baseline.lines(panel).items()} == {
        name: {"class-matched", "full"} if name in MATCHED else {"full"} for name in SETS[1:]
    }
    for name in MATCHED:
        for axis, key in (("class-matched", f"toy-test/{name}"), ("full", "toy-test")):
            (line,) = baseline.lines(panel)[name][axis].pieces  # type: ignore[index]
            x, y = (logit([m.counts[k].accuracy for m in baseline.models]) for k in (key, name))
            theirs = scipy.stats.linregress(x, y)
            assert (line.slope, line.intercept) == pytest.approx((theirs.slope, theirs.intercept), abs=1e-9)


def test_an_axis_that_few_models_have_leaves_the_other(suite: Suite) -> None:
    baseline = make_matched(make_panel())
    models = tuple(
        m.model_copy(update={"counts": {k: v for k, v in m.counts.items() if k != "toy-test/toy-a" or i < 2}})
        for i, m in enumerate(baseline.models)
    )
    found = baseline.model_copy(update={"models": models}).lines(make_panel())
    assert set(found["toy-a"]) == {"full"} and set(found["toy-rendition"]) == {"class-matched", "full"}


def test_shifts_with_fewer_than_three_models_have_no_line(suite: Suite) -> None:
    baseline = make_baseline(suite)
    models = tuple(
        Reference(name=m.name, counts={k: v for k, v in m.counts.items() if k != "toy-a" or i < 2})
        for i, m in enumerate(baseline.models)
    )
    assert set(baseline.model_copy(update={"models": models}).lines(suite)) == set(SETS[1:5])


def filtered_line(baseline: Baseline) -> Line:
    return baseline.lines(make_panel())["toy-a"]["full"]


def test_a_filtered_set_has_two_pieces() -> None:
    """The filter model leaves the fit; a model with exactly its ID accuracy is on the lower piece (DESIGN 7.3)."""
    plain = make_baseline(make_panel())
    x0 = plain.models[6].counts["toy-test"]
    twin = Reference(name="twin", counts=plain.models[6].counts | {"toy-a": Counts(k=321, n=2000)})
    baseline = Baseline.model_validate(dict(plain) | {"filtered": {"toy-a": "scratch-6"}, "models": (*plain.models, twin)})
    line = filtered_line(baseline)
    lower, upper = line.pieces
    assert line.split == x0.accuracy
    assert lower.names == (*(f"scratch-{i}" for i in range(6)), "twin")
    assert upper.names == tuple(f"scratch-{i}" for i in range(7, 14))
    assert lower.id_range == (plain.models[0].counts["toy-test"].accuracy, x0.accuracy)
    assert upper.id_range == (x0.accuracy, plain.models[-1].counts["toy-test"].accuracy)
    for piece in line.pieces:
        members = [model for model in baseline.models if model.name in piece.names]
        x, y = (logit([m.counts[k].accuracy for m in members]) for k in ("toy-test", "toy-a"))
        theirs = scipy.stats.linregress(x, y)
        assert (piece.slope, piece.intercept) == pytest.approx((theirs.slope, theirs.intercept), abs=1e-9)
    others = baseline.lines(make_panel())
    assert all(len(others[name]["full"].pieces) == 1 and others[name]["full"].split is None for name in SETS[1:5])
    assert "scratch-6" in others["toy-v2"]["full"].pieces[0].names


def test_each_axis_is_split_at_the_filter_model_s_place_on_it() -> None:
    baseline = make_matched(make_panel(), filtered={"toy-a": "scratch-6"})
    axes = baseline.lines(make_panel())["toy-a"]
    six = baseline.models[6].counts
    assert axes["class-matched"].split == six["toy-test/toy-a"].accuracy != axes["full"].split == six["toy-test"].accuracy


def test_where_the_filter_model_s_place_is_not_known_there_is_no_line() -> None:
    """One piece over both sides would be a line of another kind."""
    baseline = make_matched(make_panel(), filtered={"toy-a": "scratch-6"})
    six = baseline.models[6].model_copy(update={"counts": {k: v for k, v in baseline.models[6].counts.items() if "/" not in k}})
    found = baseline.model_copy(update={"models": (*baseline.models[:6], six, *baseline.models[7:])}).lines(make_panel())
    assert set(found["toy-a"]) == {"full"} and len(found["toy-a"]["full"].pieces) == 2
    assert set(found["toy-rendition"]) == {"full", "class-matched"}


def test_a_piece_of_two_models_is_no_line() -> None:
    plain = make_baseline(make_panel())
    assert len(filtered_line(plain.model_copy(update={"filtered": {"toy-a": "scratch-3"}})).pieces) == 2
    for number in (2, 11):
        baseline = plain.model_copy(update={"filtered": {"toy-a": f"scratch-{number}"}})
        assert "toy-a" not in baseline.lines(make_panel())


def test_models_of_one_id_accuracy_are_no_line_and_spoil_no_other() -> None:
    plain = make_matched(make_panel())
    models = tuple(m.model_copy(update={"counts": m.counts | {"toy-test/toy-a": Counts(k=900, n=1500)}}) for m in plain.models)
    found = plain.model_copy(update={"models": models}).lines(make_panel())
    assert set(found["toy-a"]) == {"full"} and set(found) == set(SETS[1:])


def test_a_filter_model_that_the_pool_lacks_is_refused() -> None:
    values = make_baseline(make_panel()).model_dump()
    with pytest.raises(ValueError, match="resnet"):
        Baseline.model_validate(values | {"filtered": {"toy-a": "resnet"}})


def test_round_trip_hash_and_errors(suite: Suite, tmp_path: Path) -> None:
    baseline = make_baseline(suite)
    path = tmp_path / "toy@1.json"
    baseline.save(path)
    assert baselines.load(str(path)) == baseline
    assert baselines.load(str(path)).hash == baseline.hash
    assert make_baseline(suite, source="another").hash != baseline.hash
    path.write_text(path.read_text().replace('"source"', '"sauce"'))
    with pytest.raises(DataError, match=r"toy@1\.json: "):
        baselines.load(str(path))
    with pytest.raises(DataError, match="no baseline at"):
        baselines.load(str(tmp_path / "none.json"))
    with pytest.raises(UnknownName, match="unknown baseline 'nope@1'"):
        baselines.load("nope@1")


def test_printed_figures_keep_their_decimals_in_a_file(tmp_path: Path) -> None:
    plain = make_baseline(make_panel())
    first = plain.models[0].model_copy(update={"counts": {"toy-test": Figure(value="0.410"), "toy-a": Figure(value="0.1", n=9)}})
    baseline = plain.model_copy(update={"models": (first, *plain.models[1:]), "filtered": {"toy-a": "scratch-6"}})
    baseline.save(tmp_path / "toy@1.json")
    again = baselines.load(str(tmp_path / "toy@1.json"))
    assert again == baseline and again.hash == baseline.hash
    assert str(again.models[0].counts["toy-test"].value) == "0.410"  # type: ignore[union-attr]
    assert (tmp_path / "toy@1.json").read_text().count("\n") == 14 + len(baseline.model_dump(exclude_defaults=True)) + 3


def test_what_decides_a_line_is_in_the_hash() -> None:
    baseline = make_baseline(make_panel())
    fewer = baseline.model_copy(update={"models": baseline.models[1:]})
    changes = [
        baseline.model_copy(update=c) for c in ({"transform": "probit"}, {"filtered": {"toy-a": "scratch-6"}}, {"classes": 9})
    ]
    assert len({one.hash for one in (baseline, fewer, *changes)}) == 5


def test_a_model_listed_twice_is_refused(suite: Suite) -> None:
    values = make_baseline(suite).model_dump()
    with pytest.raises(ValueError, match="listed twice"):
        Baseline.model_validate(values | {"models": [values["models"][0]] * 3})


def test_json_of_a_baseline_has_every_piece() -> None:
    baseline = make_matched(make_panel(), filtered={"toy-a": "scratch-6"})
    document = baseline.to_json([make_panel()])
    assert json.loads(json.dumps(document, allow_nan=False))["models"] == 14
    assert (document["id"], document["hash"], document["filtered"]) == ("toy@1", baseline.hash, {"toy-a": "scratch-6"})
    for name, axes in baseline.lines(make_panel()).items():
        for axis, line in axes.items():
            shown = document["lines"][name][axis]
            assert shown["split"] == line.split
            assert [(p["m"], p["slope"], p["r2"], p["id_range"]) for p in shown["pieces"]] == [
                (p.m, p.slope, p.r2, p.id_range) for p in line.pieces
            ]


def test_shipped_baselines_load_and_are_named_like_their_files() -> None:
    for name in baselines.names():
        assert baselines.load(name).id == name


def test_shipped_suites_name_baselines_of_their_own_id_set() -> None:
    for name in suites.panel_names():
        panel = suites.panel(name)
        if isinstance(panel, suites.Panel) and panel.baseline:
            baseline = baselines.load(panel.baseline)
            assert baseline.id_set == panel.test.name
            assert baseline.lines(panel)
            assert set(baseline.filtered.values()) <= {model.name for model in baseline.models}
