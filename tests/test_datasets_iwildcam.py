from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from miniatures import wilds as miniature

from robustbench_ft import datafiles, suites
from robustbench_ft.datasets import ImageSet, open_spec
from robustbench_ft.errors import DataError, MissingData, UnknownName
from robustbench_ft.specs import DatasetSpec

SHARED = Path(__file__).parents[2] / "shared" / "data"
DATASET = datafiles.load("iwildcam")
SPLITS = tuple(DATASET.splits)
Rows = list[dict[str, str]]


def opened(split: str, root: Path) -> ImageSet:
    return open_spec(spec_of(split), root, root / "store")


def spec_of(split: str) -> DatasetSpec:
    """The split's own, but for the size of the miniature."""
    return DatasetSpec.model_validate(DATASET.table(split) | {"n": 12})


def table(root: Path) -> Path:
    return root / "iwildcam_v2.0" / "metadata.csv"


def rows(root: Path) -> Rows:
    with open(table(root), newline="") as file:
        return list(csv.DictReader(file))


def write(root: Path, changed: Rows) -> None:
    with open(table(root), "w", newline="") as file:
        writer = csv.DictWriter(file, list(changed[0]))
        writer.writeheader()
        writer.writerows(changed)


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_is_what_its_rows_say_in_the_byte_order_of_its_files(split: str, tmp_path: Path) -> None:
    miniature.write_iwildcam(tmp_path)
    found, of = opened(split, tmp_path), [row for row in rows(tmp_path) if row["split"] == split]
    of.sort(key=lambda row: row["filename"])
    assert list(found.ids) == [f"train/{row['filename']}" for row in of] and found.aligned
    assert found.labels.tolist() == [int(row["y"]) for row in of]
    assert found.columns["unit"].tolist() == [int(row["location_remapped"]) for row in of]
    assert set(found.columns["unit"].tolist()) == set(miniature.CAMERAS[split]) and set(found.columns) == {"unit"}
    assert {found.image(i).size for i in range(12)} == {(44, 36)}


def test_val_is_of_other_cameras_than_train_and_id_val_is_not(tmp_path: Path) -> None:
    miniature.write_iwildcam(tmp_path)
    cameras = {split: set(opened(split, tmp_path).columns["unit"].tolist()) for split in SPLITS}
    assert cameras["id_val"] <= cameras["train"] and cameras["id_test"] <= cameras["train"], "one camera in several splits"
    assert not cameras["val"] & (cameras["train"] | cameras["test"]) and not cameras["test"] & cameras["train"]
    suite = suites.load("iwildcam")
    assert [spec.split for spec in (suite.train, suite.val, *suite.read)] == ["train", "id_val", "id_test", "test"]


def test_the_order_of_the_rows_is_of_no_concern(tmp_path: Path) -> None:
    miniature.write_iwildcam(tmp_path)
    before = opened("test", tmp_path)
    write(tmp_path, rows(tmp_path)[::-1])
    after = opened("test", tmp_path)
    assert after.ids == before.ids and after.digest == before.digest
    assert after.columns["unit"].tolist() == before.columns["unit"].tolist()


def changed(field: str, value: str, *, splits: tuple[str, ...] = SPLITS) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        found = rows(root)
        next(row for row in found if row["split"] in splits)[field] = value
        write(root, found)

    return change


def first(root: Path) -> str:
    return min(row["filename"] for row in rows(root) if row["split"] == "test")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (changed("y", "182"), r"metadata\.csv: row 0 has y '182' .*from 0 to 181"),
        (changed("y", ""), "row 0 has y '' "),
        (changed("location_remapped", "x"), "camera 'x'"),
        (changed("y", "7"), r"row \d+ has y \d, rows before it y \d for the same category \d+"),
        (changed("y", "7", splits=("train",)), "for the same category"),
        (changed("split", "train", splits=("test",)), "11 examples, expected 12"),
        (lambda root: write(root, [*rows(root), *[rows(root)[0] | {"split": "test"}] * 2]), "in an earlier row"),
        (lambda root: write(root, [{k: row[k] for k in row if k != "y"} for row in rows(root)]), "has no column y; expected"),
        (lambda root: table(root).write_text(table(root).read_text()[:-90]), "row 59 ends early, expected 11 fields"),
        (lambda root: table(root).write_bytes(b"split,\xff"), "is no csv table"),
        (lambda root: (table(root).parent / "train" / first(root)).unlink(), "1 of 12 images are missing, the first"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(damage: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    miniature.write_iwildcam(tmp_path)
    opened("test", tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        opened("test", tmp_path)
    assert "rbft data verify iwildcam" in caught.value.hint


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    miniature.write_iwildcam(tmp_path)
    found = opened("test", tmp_path)
    path = tmp_path / "iwildcam_v2.0" / found.ids[3]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=f"{path.name} cannot be decoded"):
        found.image(3)


def test_absent_data_are_missing_and_an_unknown_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="nothing at .*iwildcam_v2.0") as caught:
        opened("test", tmp_path)
    assert "rbft data prepare iwildcam" in caught.value.hint
    (tmp_path / "iwildcam_v2.0").mkdir()
    with pytest.raises(MissingData, match=r"no file .*metadata\.csv"):
        opened("test", tmp_path)
    with pytest.raises(UnknownName, match=r"'ood'.*id_test"):
        open_spec(spec_of("test").model_copy(update={"split": "ood"}), tmp_path, tmp_path)


def test_names_and_prompts_are_the_references() -> None:
    suite = suites.load("iwildcam")
    assert len(suite.classes) == 182 and suite.classes[0] == "empty" and suite.classes[1] == "white-lipped peccary"
    twice = {
        name: [k for k, other in enumerate(suite.classes) if other == name]
        for name in suite.classes
        if suite.classes.count(name) > 1
    }
    assert twice == {
        "lowland paca": [3, 148],
        "jaguarundi": [19, 174],
        "unknown bird": [82, 178],
        "central american red brocket": [153, 181],
    }
    assert suite.test.folders == tuple(map(str, range(182)))
    assert suite.templates == ("a photo of {}.", "{} in the wild.")
    names = SHARED / "metadata" / "iwildcam" / "labels.csv"
    if not names.is_file():
        pytest.skip(f"no class names at {names}")
    with open(names, newline="", encoding="utf-8") as file:
        given = {int(row["y"]): row["english"].lower() for row in csv.DictReader(file) if int(row["y"]) < 99999}
    assert suite.classes == tuple(given[y] for y in range(182))


def test_wilds_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its class wants the marker of the release, which ours does not."""
    monkeypatch.setitem(os.environ, "OUTDATED_IGNORE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from wilds.datasets.iwildcam_dataset import IWildCamDataset

        miniature.write_iwildcam(tmp_path)
        (tmp_path / "iwildcam_v2.0" / "RELEASE_v2.0.txt").touch()
        theirs = IWildCamDataset(version="2.0", root_dir=str(tmp_path), download=False)
        for split in SPLITS:
            ours, subset = opened(split, tmp_path), theirs.get_subset(split)
            order = np.argsort([f"train/{theirs._input_array[i]}" for i in subset.indices])
            assert len(ours) == len(subset)
            assert ours.labels.tolist() == subset.y_array[order].tolist()
            assert (
                ours.columns["unit"].tolist() == subset.metadata_array[order, theirs.metadata_fields.index("location")].tolist()
            )
            for i in (0, 5, 11):
                np.testing.assert_array_equal(np.asarray(ours.image(i)), np.asarray(subset[order[i]][0]))
