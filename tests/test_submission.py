import shutil
from pathlib import Path

import numpy as np
import pytest
from fabricated import FT, START, make_baseline, make_key, make_run, make_suite, mix, shares

from robustbench_ft import yardstick
from robustbench_ft.errors import CheckError, DataError, PartialError, ProtocolError
from robustbench_ft.metrics import score
from robustbench_ft.packs import load as load_pack
from robustbench_ft.records import Counts, RunRecord
from robustbench_ft.records import load as load_record
from robustbench_ft.score import load_run as load_runs
from robustbench_ft.score import score as score_runs
from robustbench_ft.submission import Shelf, load, read_all
from robustbench_ft.suites import Suite

INFO = """
title = "Fine-tuning"
authors = ["A. Author", "B. Author"]
paper = "https://example.org/paper"
date = 2026-11-22
licence = "MIT"
"""


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return make_suite(tmp_path)


@pytest.fixture
def folder(suite: Suite, tmp_path: Path) -> Path:
    """A submission of seeds 2 and 10."""
    for seed in (2, 10):
        make_run(tmp_path / f"all/ft/seed-{seed}", suite, FT, seed=seed)
    (tmp_path / "all/ft/submission.toml").write_text(INFO)
    return tmp_path / "all/ft"


def resave(path: Path, **changes: object) -> None:
    load_record(path).model_copy(update=changes).save(path)


def test_reads_seeds_in_order_and_their_mean(folder: Path, suite: Suite) -> None:
    found = load(folder, Shelf(lambda name: suite))
    assert [run.seed for run in found.runs] == [2, 10]
    assert (found.name, found.info.title, found.info.data_beyond_id) == ("ft", "Fine-tuning", "none")
    assert found.scores.headline.seeds == 2
    hits = [score(load_pack(folder / f"seed-{s}/pack.safetensors"), make_key(suite), suite).hits for s in (2, 10)]
    expected = (hits[0]["toy-a/own"].astype(float) + hits[1]["toy-a/own"]) / 2
    assert np.array_equal(shares(found)["toy-a/own"], expected) and set(expected) == {0, 0.5, 1}


def test_selection_drops_the_reason(folder: Path, suite: Suite) -> None:
    for seed in (2, 10):
        resave(folder / f"seed-{seed}/record.json", selection={"alpha": "id_val:best on val"})
    assert load(folder, Shelf(lambda name: suite)).selection == {"alpha": "id_val"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('title = "Fine-tuning"', "", r"submission\.toml: title: Field required"),
        ('"A. Author", "B. Author"', "", r"authors: "),
        ("2026-11-22", "2026-13-22", r"submission\.toml: "),
        ("licence", "license", r"licence|license"),
        ('title = "Fine-tuning"', "title = 3", r"title: "),
    ],
)
def test_info_errors_name_the_field(folder: Path, suite: Suite, old: str, new: str, said: str) -> None:
    (folder / "submission.toml").write_text(INFO.replace(old, new))
    with pytest.raises(DataError, match=said):
        load(folder, Shelf(lambda name: suite))


def test_missing_files(folder: Path, suite: Suite) -> None:
    (folder / "seed-2/pack.safetensors").unlink()
    with pytest.raises(DataError, match="no pack at"):
        load(folder, Shelf(lambda name: suite))
    (folder / "submission.toml").unlink()
    with pytest.raises(DataError, match=r"no submission\.toml at"):
        load(folder, Shelf(lambda name: suite))
    (folder / "submission.toml").write_text(INFO)
    for seed in (2, 10):
        shutil.rmtree(folder / f"seed-{seed}")
    with pytest.raises(DataError, match="no seed-<k> folder"):
        load(folder, Shelf(lambda name: suite))


def test_what_may_be_scored_but_not_submitted(folder: Path, suite: Suite) -> None:
    path = folder / "seed-2/record.json"
    resave(path, missing=("toy-a",))
    with pytest.raises(PartialError, match="seed-2: no images of toy-a"):
        load(folder, Shelf(lambda name: suite))
    resave(path, missing=(), unaligned=("toy-a",))
    with pytest.raises(PartialError, match="seed-2: unaligned: toy-a"):
        load(folder, Shelf(lambda name: suite))
    resave(path, unaligned=(), seed=3)
    with pytest.raises(DataError, match="the record's seed is 3, so the folder must be seed-3"):
        load(folder, Shelf(lambda name: suite))
    resave(path, seed=2, config={"lr": 1})
    with pytest.raises(DataError, match="ft: these records are not seeds of one row: they differ in config"):
        load(folder, Shelf(lambda name: suite))
    resave(path, protocol="older")
    with pytest.raises(ProtocolError):
        load(folder, Shelf(lambda name: suite))


def test_start_models_of_one_name_must_agree(folder: Path, suite: Suite) -> None:
    """Their counts have no pack; one image in 1,000 (here one of 400) is the flip budget."""
    other = folder.parent / "other"
    record = make_run(other / "seed-0", suite, START, method="zeroshot")
    (other / "submission.toml").write_text(INFO)

    def with_start(k: int) -> RunRecord:
        counts = record.points[0].counts | {"toy-v2/own": Counts(k=k, n=400)}
        return record.model_copy(update={"points": (record.points[0].model_copy(update={"counts": counts}), record.points[1])})

    k = record.points[0].counts["toy-v2/own"].k
    with_start(k + 1).save(other / "seed-0/record.json")
    assert [item.name for item in read_all(folder.parent, lambda name: suite)] == ["ft", "other"]
    with_start(k + 2).save(other / "seed-0/record.json")
    with pytest.raises(CheckError, match=rf"toy-v2/own: other/seed-0 gives the start model {k + 2} of 400, ft/seed-2 {k}"):
        read_all(folder.parent, lambda name: suite)


def test_no_folder_is_no_submission(tmp_path: Path, suite: Suite) -> None:
    assert read_all(tmp_path / "none", lambda name: suite) == []


def test_published_figures_are_not_submissions(folder: Path, suite: Suite) -> None:
    (folder.parent / "paper").mkdir()
    with pytest.raises(DataError, match=r"no submission\.toml"):
        read_all(folder.parent, lambda name: suite)
    (folder.parent / "paper/published.json").write_text("{}")
    assert [item.name for item in read_all(folder.parent, lambda name: suite)] == ["ft"]


def test_a_board_measures_the_headline_as_rbft_score_does(tmp_path: Path) -> None:
    """And the points that are drawn beside it stand at the same place."""
    suite = make_suite(tmp_path, baseline=str(tmp_path / "toy.json"))
    make_baseline(suite).save(tmp_path / "toy.json")
    path = {f"alpha={alpha}": mix(alpha) for alpha in (0.25, 0.5, 1.0)}
    make_run(tmp_path / "wise/seed-0", suite, mix(0.5), path, method="wiseft", headline="alpha=0.5")
    (tmp_path / "wise/submission.toml").write_text(INFO)
    item = load(tmp_path / "wise", Shelf(lambda name: suite))
    board, alone = item.scores, score_runs(load_runs(tmp_path / "wise"), yardstick.of(suite))
    assert board.headline == alone.headline and board.headline.effective_mean
    assert (board.used, board.measured, board.extra) == (alone.used, alone.measured, alone.extra)
    assert board.rows == (alone.headline,)
    assert item.curve == alone.rows and [row.alpha for row in item.curve] == [0.0, 0.25, 0.5, 1.0]


def test_a_point_that_one_seed_lacks_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    suite = make_suite(tmp_path)
    for seed, alphas in ((0, (0.25, 0.5)), (1, (0.5,))):
        path = {f"alpha={alpha}": mix(alpha) for alpha in alphas}
        make_run(tmp_path / f"wise/seed-{seed}", suite, mix(0.5), path, method="wiseft", headline="alpha=0.5", seed=seed)
    (tmp_path / "wise/submission.toml").write_text(INFO)
    with pytest.raises(DataError, match="wise: .*point"):
        load(tmp_path / "wise", Shelf(lambda name: suite))
