"""Few-shot variants of suites: ``NAME:16-shot`` and ``NAME:16-shot-seed-3``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from miniatures import imagenet

from robustbench_ft import evaluation, suites
from robustbench_ft.datasets import open_spec
from robustbench_ft.errors import DataError, ProtocolError, UsageError
from robustbench_ft.evaluation import Order
from robustbench_ft.metrics import counts_of, key_of, recount
from robustbench_ft.specs import DatasetSpec


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The file of a suite of twelve classes, 6 training and 2 validation images of each, and its images."""
    folder = tmp_path_factory.mktemp("small")
    imagenet.write_imagenet(folder)
    return str(imagenet.small_suite(folder / "suite")), folder


def test_few_shots_are_balanced_and_val_is_as_large_as_train(small: tuple[str, Path]) -> None:
    file, root = small
    suite = suites.load(f"{file}:2-shot")
    train, val = (open_spec(spec, root, root / "store") for spec in (suite.train, suite.val))
    assert np.bincount(train.labels).tolist() == np.bincount(val.labels).tolist() == [2] * 12
    assert not set(train.ids) & set(val.ids)
    assert [spec.n for spec in suite.tests] == [spec.n for spec in suites.load(file).tests], "tests stay whole"


def test_few_shots_are_nested_and_seeds_differ(small: tuple[str, Path]) -> None:
    file, root = small

    def ids(variant: str) -> set[str]:
        return set(open_spec(suites.load(f"{file}:{variant}").train, root, root / "store").ids)

    assert ids("1-shot") < ids("2-shot") < ids("4-shot") < ids("6-shot")
    assert ids("1-shot-seed-3") < ids("4-shot-seed-3")
    assert ids("4-shot") == ids("4-shot-seed-0") != ids("4-shot-seed-3") != ids("4-shot-seed-4")


def test_a_val_that_has_fewer_of_each_class_stays_whole(small: tuple[str, Path]) -> None:
    file, root = small
    suite = suites.load(f"{file}:5-shot")
    assert (suite.train.n, suite.val.n) == (60, 24)
    assert np.bincount(open_spec(suite.val, root, root / "store").labels).tolist() == [2] * 12


def test_more_shots_than_a_class_has_are_refused(small: tuple[str, Path], tmp_path: Path) -> None:
    file, root = small
    with pytest.raises(UsageError, match=r"imagenet-small: 7 training images of each class asked, expected 1 to 6 \(72 in all\)"):
        suites.load(f"{file}:7-shot")
    with pytest.raises(UsageError, match=r"imagenet: 0 training images of each class asked"):
        suites.load("imagenet:0-shot")
    shutil.copytree(root / "imagenet", tmp_path / "imagenet")
    for path in sorted((tmp_path / "imagenet" / "train" / imagenet.WNIDS[4]).iterdir())[2:]:
        path.unlink()
    with pytest.raises(DataError, match=r"imagenet-train-5-shot: 0 examples of 'goldfinch', expected 5 or more"):
        open_spec(suites.load(f"{file}:5-shot").train, tmp_path, tmp_path / "store")


def test_every_variant_has_a_protocol_of_its_own() -> None:
    names = ["imagenet", "imagenet:4-shot", "imagenet:16-shot", "imagenet:16-shot-seed-3", "imagenet-soups:16-shot"]
    found = [suites.load(name) for name in names]
    assert len({suite.protocol for suite in found}) == len(names) and [suite.name for suite in found] == names
    few = found[3]
    assert (few.train.n, few.val.n, few.train.shots, few.train.shots_seed, few.recipes) == (16_000, 16_000, 16, 3, "few-shot")
    assert suites.load("imagenet:16-shot-seed-0").protocol == found[2].protocol
    assert suites.panel("imagenet:16-shot") == found[2], "scored as what it is"


def test_few_shots_of_generated_pixels_keep_their_world(tmp_path: Path) -> None:
    """Ids are the same in every world: the digest of a part must still tell the worlds apart."""
    digests = set()
    for world in ("7", "8"):
        spec = DatasetSpec(name="s", n=40, format="mini", path=world, split="val", shots=2)
        digests.add(open_spec(spec, None, tmp_path).digest)
    assert len(digests) == 2


def test_a_variant_is_scored_with_the_key_and_the_baseline_of_its_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From ``evaluate`` to effective robustness, on the embedded suite, whose key and baseline have its protocol."""
    monkeypatch.setenv("RBFT_STORE", str(tmp_path / "store"))
    order = Order(method="lp", suite="mini:4-shot", out=tmp_path / "run", overrides=[("recipe.epochs", "1")])
    row = json.loads(evaluation.evaluate(order, as_json=True))["rows"][-1]
    assert len(row["effective_robustness"]) == 5 and row["effective_robustness_mean"]
    few, whole = suites.load("mini:4-shot"), suites.load("mini")
    assert key_of(few).protocol == few.protocol != whole.protocol and key_of(few).digests == key_of(whole).digests
    record, hits = recount(tmp_path / "run", few)
    assert counts_of(hits) == record.headline.counts
    with pytest.raises(ProtocolError):
        recount(tmp_path / "run", whole)
