"""Several seeds: ``rbft evaluate --seeds``, and the spread over seeds in what ``rbft score`` gives."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest
from fabricated import FT, counts, make_baseline, make_record, make_run, make_suite, mix
from test_cli import QUICK, Rbft, rbft, strict

from robustbench_ft import compare, records, run, scoring
from robustbench_ft.errors import DataError, TrainingError
from robustbench_ft.metrics import RECORD
from robustbench_ft.plots import curve_picture
from robustbench_ft.records import RunRecord
from robustbench_ft.rows import EFFECTIVE
from robustbench_ft.run import Run
from robustbench_ft.score import CHOSEN, score, to_json
from robustbench_ft.scoring import Request
from robustbench_ft.suites import Suite
from robustbench_ft.yardstick import BOTH, OOD, Yardstick

__all__ = ["rbft"]  # a fixture


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return make_suite(tmp_path)


def spread(values: list[float]) -> float:
    """Of a sample: over n - 1."""
    return float(np.std(values, ddof=1))


# rbft evaluate --seeds


def test_seeds_give_one_table_with_mean_interval_and_spread(rbft: Rbft, tiny_file: Path) -> None:
    words = ["evaluate", "--method", "wiseft", "--suite", tiny_file, *QUICK, "--seeds", "0,1,2", "--out", "o"]
    said = rbft(*words)
    assert said.code == 0, said.err
    assert "seeds 0, 1, 2" in said.out and said.out.count("→ alpha=0.5") == 1 and f"rbft score o --suite {tiny_file}" in said.out
    assert [str(path) for path in sorted(Path("o").rglob(RECORD))] == [f"o/seed-{seed}/record.json" for seed in (0, 1, 2)]
    assert Path("o/curve.png").is_file() and not list(Path("o").glob("seed-*/*.png"))
    found = strict(rbft(*words, "--json").out)
    assert found["records"] == [f"o/seed-{seed}/record.json" for seed in (0, 1, 2)] and found["seeds"] == [0, 1, 2]
    assert found["rows"] == strict(rbft("score", "o", "--suite", tiny_file, "--json").out)["rows"]
    ids = [records.load(Path(path)).headline.counts["tiny-test/own"].accuracy for path in found["records"]]
    row = next(row for row in found["rows"] if row["headline"])
    assert row["id"] == pytest.approx(mean(ids)) and row["sd"]["tiny-test"] == pytest.approx(spread(ids))
    assert f"{100 * spread(ids):.2f}, {100 * row['sd'][OOD]:.2f}" in said.out


def test_a_seed_of_several_is_the_run_of_that_seed_alone(rbft: Rbft, tiny_file: Path) -> None:
    words = ["evaluate", "--method", "wiseft", "--suite", tiny_file, *QUICK]
    assert rbft(*words, "--seeds", "0, 1").code == 0
    (folder,) = Path("runs/tiny").iterdir()
    assert rbft(*words, "--seed", "1", "--out", "alone").code == 0
    assert records.load(folder / "seed-1" / RECORD).record_hash == records.load(Path("alone", RECORD)).record_hash


def test_what_is_finished_is_kept_where_a_seed_fails(
    rbft: Rbft, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["evaluate", "--method", "ft", "--suite", tiny_file, "--seeds", "0,1", "--out", "o", "--store", tmp_path / "own"]
    real = run.evaluate

    def fails_at_one(asked: Run) -> RunRecord:
        if asked.seed == 1:
            raise TrainingError("the loss is not a number")
        return real(asked)

    with monkeypatch.context() as patch:
        patch.setattr(run, "evaluate", fails_at_one)
        assert rbft(*words).code != 0
    assert Path("o/seed-0", RECORD).is_file() and not Path("o/seed-1").exists()
    said = rbft(*words)
    assert said.code == 0 and said.err.count("reused ft") == 1 and "seed 1, 2 of 2" in said.err


def test_a_deterministic_method_runs_once_and_says_so(rbft: Rbft, tiny_file: Path) -> None:
    said = rbft("evaluate", "--method", "zeroshot", "--suite", tiny_file, "--seeds", "3,1,2", "--out", "o")
    assert said.code == 0 and "zeroshot is deterministic" in said.err and "seed 3 stands for all" in said.err
    assert [path.name for path in Path("o").iterdir() if path.is_dir()] == ["seed-3"] and "SD over" not in said.out


@pytest.mark.parametrize(
    ("words", "told", "hint"),
    [
        (["--seeds", "0,1", "--seed", "0"], "--seed and --seeds: expected one of them", "--seeds 0,1"),
        (["--seeds", "0,1,1"], "--seeds 0,1,1: expected different whole numbers", "--seeds 0,1,2"),
        (["--seeds", "0,-1"], "--seeds 0,-1: expected", "--seeds 0,1,2"),
        (["--seeds", "0 1"], "--seeds 0 1: expected", "--seeds 0,1,2"),
        (["--seeds", ""], "--seeds : expected", "--seeds 0,1,2"),
        (["--seeds", "0,1", "--out", "one"], "--out one holds the run of one seed", "--out"),
    ],
)
def test_a_mistake_in_seeds_is_named_before_anything_runs(
    words: list[str], told: str, hint: str, rbft: Rbft, tiny_file: Path
) -> None:
    Path("one").mkdir()
    Path("one", RECORD).touch()
    said = rbft("evaluate", "--method", "ft", "--suite", tiny_file, *words)
    assert said.code == 2 and told in said.err and hint in said.err.partition("next:")[2]
    assert not Path("runs").exists()


# The spread in rbft score


def test_the_spread_is_that_of_the_seeds_one_by_one(suite: Suite) -> None:
    ks = [(85, 70, 80, 70, 30, 50), (82, 71, 78, 75, 28, 51), (88, 66, 83, 69, 33, 49)]
    by = Yardstick(suite, make_baseline(suite))
    start = counts((70, 60, 90, 80, 40, 50))
    runs = [make_record(suite, {"start": start, "ft": counts(k)}, "ft", seed=i) for i, k in enumerate(ks)]
    together, alone = score(runs, by), [score([one], by).headline for one in runs]
    sd = together.headline.sd
    assert all(row.sd == {} for row in alone)
    assert sd["toy-test"] == pytest.approx(0.03) and sd["toy-v2"] == pytest.approx(spread([0.70, 0.71, 0.66]))
    assert sd[OOD] == pytest.approx(spread([0.6, 0.606, 0.6])) and sd[BOTH] == pytest.approx(spread([0.725, 0.713, 0.74]))
    assert sd[EFFECTIVE] == pytest.approx(spread([row.effective_mean.value for row in alone if row.effective_mean]))
    assert set(together.rows[0].sd.values()) == {0.0}
    assert to_json(together)["rows"][1]["sd"] == sd and to_json(score(runs[:1], by))["rows"][1]["sd"] == {}


def test_every_format_has_the_spread_and_one_seed_has_none(suite: Suite, tmp_path: Path) -> None:
    for seed in range(3):
        make_run(tmp_path / f"row/seed-{seed}", suite, FT, seed=seed)
    make_run(tmp_path / "one", suite, FT)

    def said(name: str, form: str) -> str:
        return scoring.run(Request(tmp_path / name, str(suite.file), form=form))

    for form in ("table", "markdown", "latex"):
        assert "3 seeds:" in said("row", form) and "SD over" not in said("one", form)
    (row,) = [row for row in csv.DictReader(io.StringIO(said("row", "csv"))) if row["headline"] == "True"]
    values = [records.load(tmp_path / f"row/seed-{seed}" / RECORD).headline.counts["toy-a/own"].accuracy for seed in range(3)]
    assert float(row["sd.toy-a"]) == pytest.approx(spread(values)) and float(row[f"sd.{OOD}"]) >= 0
    assert "sd." not in said("one", "csv").partition("\n")[0]


# Rows whose seeds choose


def chosen_runs(suite: Suite) -> list[RunRecord]:
    """Seed 0 chose alpha 0.5, a point that all have; seed 1 chose 0.65, which is its own."""
    path: dict[str, Any] = {"start": counts((70,) * 6), "alpha=0.5": counts((80,) * 6), "alpha=1": counts((60,) * 6)}
    other = path | {"alpha=0.5": counts((78,) * 6), "alpha=0.65": counts((84,) * 6)}
    return [
        make_record(suite, path, "alpha=0.5", method="paint", seed=0),
        make_record(suite, other, "alpha=0.65", method="paint", seed=1),
    ]


def test_a_row_whose_seeds_chose_different_points_is_the_mean_of_the_chosen(suite: Suite, tmp_path: Path) -> None:
    scores = score(chosen_runs(suite), Yardstick(suite))
    assert [row.point for row in scores.rows] == ["start", "alpha=0.5", "alpha=1", CHOSEN]
    assert [row.point for row in scores.rows if row.headline] == [CHOSEN]
    headline, half = scores.headline, scores.rows[1]
    assert headline.id and headline.id.value == pytest.approx(0.82) and headline.alpha is None
    assert half.id and half.id.value == pytest.approx(0.79)
    assert "chosen: each seed's own choice: alpha=0.5 (seed 0), alpha=0.65 (seed 1)." in scoring.shown(scores)
    assert [row.point for row in score(chosen_runs(suite), Yardstick(suite), brief=True).rows] == [CHOSEN]
    curve_picture(scores, tmp_path / "chosen.png")


def test_equal_choices_are_one_point(suite: Suite) -> None:
    first = chosen_runs(suite)[0]
    scores = score([first, first.model_copy(update={"seed": 1})], Yardstick(suite))
    assert scores.headline.point == "alpha=0.5" and scores.headline.alpha == 0.5


def test_a_point_of_the_path_that_a_seed_lacks_is_still_an_error(suite: Suite) -> None:
    first, second = chosen_runs(suite)
    second = second.model_copy(update={"points": tuple(p for p in second.points if p.name != "alpha=1")})
    with pytest.raises(DataError, match="seed 1 has no point 'alpha=1'"):
        score([first, second], Yardstick(suite))


def test_runs_with_different_choices_are_scored_from_their_folders(suite: Suite, tmp_path: Path) -> None:
    for seed, alpha in enumerate(("alpha=0.5", "alpha=0.6")):
        make_run(tmp_path / f"row/seed-{seed}", suite, mix(0.5), {"alpha=1": FT}, method="paint", headline=alpha, seed=seed)
    assert f"→ {CHOSEN}" in scoring.run(Request(tmp_path / "row", str(suite.file)))


def test_compare_has_the_spread_of_both_rows(suite: Suite, tmp_path: Path) -> None:
    for seed in range(3):
        make_run(tmp_path / f"a/seed-{seed}", suite, FT, seed=seed, method="a")
    make_run(tmp_path / "b", suite, mix(0.5), method="b")
    made = [records.load(tmp_path / f"a/seed-{seed}" / RECORD).headline.counts["toy-v2/own"].accuracy for seed in range(3)]
    found = strict(compare.run(tmp_path / "a", tmp_path / "b", suite=str(suite.file), form="table", as_json=True))
    assert found["a"]["sd"]["toy-v2"] == pytest.approx(spread(made)) and found["b"]["sd"] == {}
    text = compare.run(tmp_path / "a", tmp_path / "b", suite=str(suite.file), form="table", as_json=False)
    assert f"SD over seeds, in points (ID, OOD mean): A {100 * found['a']['sd']['toy-test']:.2f}, " in text
