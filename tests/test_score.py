import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fabricated import (
    FT,
    MATCHED,
    SETS,
    START,
    counts,
    make_baseline,
    make_matched,
    make_record,
    make_run,
    make_suite,
    mix,
    unusable_sketch,
)

from robustbench_ft import suites
from robustbench_ft.errors import DataError, ProtocolError
from robustbench_ft.plots import curve_picture
from robustbench_ft.records import Counts, RunRecord
from robustbench_ft.robustness import Measured, mean_effective_robustness
from robustbench_ft.score import load_run, score, to_json
from robustbench_ft.statistics import wilson
from robustbench_ft.suites import Suite
from robustbench_ft.yardstick import Yardstick

PATH = {"alpha=0.1": mix(0.1), "alpha=1": FT}


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return make_suite(tmp_path)


def test_numbers_by_hand(suite: Suite) -> None:
    run = make_record(suite, {"start": counts((70, 60, 90, 80, 40, 50)), "ft": counts((85, 70, 80, 70, 30, 50))}, "ft")
    start, ft = score([run], Yardstick(suite)).rows
    assert (start.model, ft.model, ft.headline) == ("start", "ft", True)
    assert ft.id and ft.id[:3] == pytest.approx(wilson(0.85, 100))
    assert ft.scores["toy-v2"].n == 100
    assert ft.ood_mean and ft.id_ood_mean and ft.relative_mean
    assert ft.ood_mean.value == pytest.approx(0.6)
    assert ft.id_ood_mean.value == pytest.approx((0.85 + 0.6) / 2)
    assert ft.relative["toy-sketch"].value == pytest.approx(-0.1)
    assert ft.relative_mean.value == pytest.approx(0.6 - 0.64)
    assert start.relative_mean == (0, 0, 0)
    lows = [0.2 * (k / 100 - wilson(k / 100, 100).low) for k in (70, 80, 70, 30, 50)]
    assert ft.ood_mean.value - ft.ood_mean.low == pytest.approx(math.hypot(*lows))


def test_effective_robustness_is_measured_shift_by_shift(suite: Suite) -> None:
    baseline = make_baseline(suite)
    run = make_record(suite, {"start": counts((70, 60, 90, 80, 40, 50)), "ft": counts((80, 70, 80, 70, 30, 50))}, "ft")
    scores = score([run], Yardstick(suite, baseline))
    row, lines = scores.headline, {name: axes["full"].pieces[0] for name, axes in baseline.lines(suite).items()}
    for name, k in zip(SETS[1:], (70, 80, 70, 30, 50), strict=True):
        assert row.effective[name].value == pytest.approx(k / 100 - lines[name](0.8))
    measured = [Measured(lines[n], [Counts(k=80, n=100)], [run.headline.counts[f"{n}/own"]]) for n in SETS[1:]]
    assert row.effective_mean and row.effective_mean[:3] == pytest.approx(mean_effective_robustness(measured))
    assert row.effective_mean.value == pytest.approx(np.mean([rho.value for rho in row.effective.values()]))


def test_a_line_that_says_nothing_is_left_out_of_every_mean(suite: Suite) -> None:
    run = make_record(suite, {"start": counts((70, 60, 90, 80, 40, 50)), "ft": counts((80, 70, 80, 70, 30, 50))}, "ft")
    scores = score([run], Yardstick(suite, unusable_sketch(suite)))
    assert scores.used == tuple(name for name in SETS[1:] if name != "toy-sketch")
    for row in scores.rows:
        used = [rho.value for name, rho in row.effective.items() if name != "toy-sketch"]
        assert row.effective_mean and row.effective_mean.value == pytest.approx(np.mean(used))
        assert "toy-sketch" in row.effective
        assert row.effective_mean.over == scores.used
    for row in to_json(scores)["rows"]:
        assert [name for name, rho in row["effective_robustness"].items() if rho["unusable"]] == ["toy-sketch"]


def test_partial_runs_have_no_ood_mean(suite: Suite) -> None:
    partial = {"start": counts((70, 60, 90)), "ft": counts((80, 70, 80))}
    run = make_record(suite, partial, "ft", missing=SETS[3:])
    scores = score([run], Yardstick(suite, make_baseline(suite)))
    row = scores.headline
    assert (row.ood_mean, row.id_ood_mean, row.effective_mean, row.relative_mean) == (None, None, None, None)
    assert set(row.scores) == set(row.effective) == set(row.relative) == {"toy-v2", "toy-sketch"}
    document = to_json(scores)
    assert document["partial"] == document["rows"][1]["partial"] == list(SETS[3:])
    assert document["rows"][1]["ood_mean"] is None
    no_id = make_record(suite, {"start": {}, "ft": {}}, "ft", missing=SETS)
    with pytest.raises(DataError, match="no answers on toy-test"):
        score([no_id], Yardstick(suite))


def test_seeds_are_averaged(suite: Suite) -> None:
    start = counts((70, 60, 90, 80, 40, 50))
    runs = [
        make_record(suite, {"start": start, "ft": counts((k, k, k, k, k, k))}, "ft", seed=seed)
        for seed, k in enumerate((78, 80, 85))
    ]
    row, one = score(runs, Yardstick(suite)).headline, score(runs[1:2], Yardstick(suite)).headline
    assert row.id and (row.seeds, row.id.n) == (3, 100)
    assert row.id.value == pytest.approx(0.81)
    assert row.ood_mean and one.ood_mean
    assert row.ood_mean.high - row.ood_mean.low > one.ood_mean.high - one.ood_mean.low


def test_intervals_stay_within_0_and_1_and_can_be_drawn(suite: Suite, tmp_path: Path) -> None:
    start = counts((70, 60, 90, 80, 40, 50))
    ks = ((100, 0, 0, 0, 0, 0), (90, 9, 9, 9, 9, 9))
    points = [{"start": start, "ft": counts(k)} for k in ks]
    scores = score([make_record(suite, p, "ft", seed=i) for i, p in enumerate(points)], Yardstick(suite))
    row = scores.headline
    assert row.ood_mean and row.id and (row.ood_mean.low, row.id.high) == (0.0, 1.0)
    curve_picture(scores, tmp_path / "edge.svg")


@pytest.mark.parametrize("change", [{"method": "lp"}, {"config": {"lr": 1}}, {"selection": {}}, {"seed": 0}])
def test_records_that_are_not_seeds_of_one_row(suite: Suite, change: dict[str, object]) -> None:
    points = {"start": counts((70,) * 6), "ft": counts((80,) * 6)}
    runs = [make_record(suite, points, "ft"), make_record(suite, points, "ft", **({"seed": 1} | change))]
    with pytest.raises(DataError, match="differ in|same seed"):
        score(runs, Yardstick(suite))


def test_records_without_a_point_that_others_have(suite: Suite) -> None:
    points = {"start": counts((70,) * 6), "ft": counts((80,) * 6)}
    other = make_record(suite, points | {"more": counts((1,) * 6)}, "ft")
    with pytest.raises(DataError, match="seed 1 has no point 'more'"):
        score([other, make_record(suite, points, "ft", seed=1)], Yardstick(suite))


def test_protocols_never_meet(suite: Suite) -> None:
    points = {"start": counts((70,) * 6), "ft": counts((80,) * 6)}
    with pytest.raises(ProtocolError, match="this record has protocol older"):
        score([make_record(suite, points, "ft", protocol="older")], Yardstick(suite))
    with pytest.raises(ProtocolError, match="this baseline has protocol older"):
        score([make_record(suite, points, "ft")], Yardstick(suite, make_baseline(suite, protocol="older")))


def test_load_run_takes_a_folder_a_file_or_a_submission(suite: Suite, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"sub/seed-{seed}", suite, FT, seed=seed) for seed in (10, 2)]
    assert load_run(tmp_path / "sub/seed-2") == [runs[1]]
    assert load_run(tmp_path / "sub/seed-2/record.json") == [runs[1]]
    assert load_run(tmp_path / "sub") == runs[::-1]
    with pytest.raises(DataError, match="holds neither record.json"):
        load_run(tmp_path)


def test_json_schema(suite: Suite, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", suite, mix(0.5), PATH, method="wiseft", headline="alpha=0.5")
    document = to_json(score([run], Yardstick(suite, make_baseline(suite))))
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["baseline"] == "toy@1"
    row = next(row for row in document["rows"] if row["headline"])
    assert (row["model"], row["alpha"], row["partial"]) == ("wiseft alpha=0.5", 0.5, [])
    assert 0 <= row["ood_mean"] <= 1 and row["id"] == row["scores"]["toy-test"]["value"]
    assert set(row["scores"]) == set(SETS)
    assert set(row["scores"]["toy-a"]) == {"value", "low", "high", "n"}
    assert {"value", "low", "high", "axis", "extrapolated", "z"} <= set(row["effective_robustness"]["toy-a"])
    assert set(row["relative_robustness"]) == set(SETS[1:])
    assert row["effective_robustness_mean"]["over"] == list(SETS[1:])


def test_the_scorer_never_imports_torch_or_scipy_stats(suite: Suite, tmp_path: Path) -> None:
    """A run scored and rendered in a fresh process."""
    base = tmp_path / "toy.json"
    make_baseline(suite).save(base)
    make_run(tmp_path / "run", suite, FT)
    code = (
        "import sys; from pathlib import Path\n"
        "from robustbench_ft import baselines, boards, leaderboard, score, score_tables, suites, yardstick\n"
        f"runs = score.load_run(Path({str(tmp_path / 'run')!r}))\n"
        f"scores = score.score(runs, yardstick.of(suites.load({str(suite.file)!r}), {str(base)!r}))\n"
        "assert 'effective' in score_tables.render(scores, 'table', score_tables.title(scores))\n"
        "print([m for m in ('torch', 'scipy.stats', 'matplotlib', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_zero_shot_equals_its_start(suite: Suite, tmp_path: Path) -> None:
    run: RunRecord = make_run(tmp_path / "run", suite, START, method="zeroshot")
    assert score([run], Yardstick(suite)).headline.relative_mean == (0, 0, 0)


def test_the_suite_s_own_baseline_is_the_default() -> None:
    mini = suites.load("mini")
    counted = {f"{spec.name}/own": Counts(k=900, n=2000) for spec in mini.tests}
    scores = score([make_record(mini, {"start": counted, "ft": counted}, "ft")])
    assert scores.baseline and scores.baseline.id == mini.baseline == to_json(scores)["baseline"]
    assert set(scores.headline.effective) == {spec.name for spec in mini.shifts}


def test_a_run_stands_on_the_class_matched_axis(tmp_path: Path) -> None:
    """Packs hold ID answers under every grouping of the suite, so records have ID accuracy on each shift's classes."""
    suite = make_suite(tmp_path, extra={name: f"class_groups = {[[i] for i in range(15)]}" for name in MATCHED})
    points = counts((70, 60, 50, 40, 40, 50)) | {f"toy-test/{name}": Counts(k=60, n=75) for name in MATCHED}
    run = make_record(suite, {"start": points, "ft": points}, "ft")
    scores = score([run], Yardstick(suite, make_matched(suite)))
    rho = scores.headline.effective["toy-a"]
    assert rho.axis == "class-matched" and rho.id == 0.8
    assert rho.sensitivity and rho.sensitivity.low <= rho.value <= rho.sensitivity.high
    assert scores.headline.effective["toy-v2"].axis == "full"
