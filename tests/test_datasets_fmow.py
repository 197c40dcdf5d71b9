from __future__ import annotations

import csv
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from miniatures import wilds as miniature
from PIL import Image

from robustbench_ft import datafiles, suites, words
from robustbench_ft.datasets import ImageSet, open_spec
from robustbench_ft.datasets.fmow import REGIONS
from robustbench_ft.errors import DataError, MissingData, UnknownName
from robustbench_ft.specs import DatasetSpec

DATASET = datafiles.load("fmow")
SPLITS = tuple(DATASET.splits)


def opened(split: str, root: Path) -> ImageSet:
    return open_spec(spec_of(split), root, root / "store")


def spec_of(split: str) -> DatasetSpec:
    """The split's own, but for the size of the miniature."""
    return DatasetSpec.model_validate(DATASET.table(split) | {"n": 12, "unconfirmed": False})


def file(root: Path, name: str = "rgb_metadata.csv") -> Path:
    return root / "fmow_v1.1" / name


def rows(root: Path) -> list[list[str]]:
    with open(file(root), newline="") as lines:
        return list(csv.reader(lines))[1:]


@pytest.mark.parametrize("fractions", [False, True])
def test_a_split_is_a_group_and_a_range_of_years(fractions: bool, tmp_path: Path) -> None:
    miniature.write_fmow(tmp_path, fractions=fractions)
    given = rows(tmp_path)
    assert any("." in row[2] for row in given) == fractions
    for split in SPLITS:
        found = opened(split, tmp_path)
        numbers = [int(key.removeprefix("images/rgb_img_").removesuffix(".png")) for key in found.ids]
        assert {given[i][0] for i in numbers} == {{"id_val": "val", "id_test": "test"}.get(split, split)}
        times = {time: time.partition(".")[0].removesuffix("Z") + "Z" for time in (given[i][2] for i in numbers)}
        assert set(times.values()) == set(miniature.TIMES[split])
        assert list(found.ids) == sorted(found.ids, key=str.encode) and found.aligned
        assert [DATASET.rows()[label].folder for label in found.labels.tolist()] == [given[i][1] for i in numbers]
        assert {found.image(i).size for i in range(12)} == {(44, 36)}


def test_sequestered_rows_are_not_read_and_still_counted(tmp_path: Path) -> None:
    miniature.write_fmow(tmp_path)
    given = rows(tmp_path)
    sequestered = [i for i, row in enumerate(given) if row[0] == "seq"]
    found = {key for split in SPLITS for key in opened(split, tmp_path).ids}
    assert len(sequestered) == 3 and sequestered[0] < len(given) // 2 and len(found) == 60
    assert not found & {f"images/rgb_img_{i}.png" for i in sequestered}
    last = max(i for i, row in enumerate(given) if row[2].startswith("2017"))
    assert f"images/rgb_img_{last}.png" in found, "numbered with the sequestered rows"


def test_a_region_is_its_country_s_and_none_is_nothing(tmp_path: Path) -> None:
    miniature.write_fmow(tmp_path)
    given, seen = rows(tmp_path), Counter[tuple[str, int]]()
    for split in SPLITS:
        found = opened(split, tmp_path)
        for key, region in zip(found.ids, found.columns["region"].tolist(), strict=True):
            seen[given[int(key[15:-4])][3], region] += 1
    assert seen.keys() == {("CHN", 0), ("DEU", 1), ("KEN", 2), ("USA", 3), ("AUS", 4), ("ATA", -1), ("XKX", -1), ("", -1)}
    assert REGIONS == ("Asia", "Europe", "Africa", "Americas", "Oceania")


def set_row(index: int, field: int, value: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        found = rows(root)
        found[index][field] = value
        with open(file(root), "w", newline="") as out:
            csv.writer(out).writerows([("split", "category", "timestamp", "country_code"), *found])

    return change


def in_text(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        text = file(root, name).read_text()
        assert old in text
        file(root, name).write_text(text.replace(old, new))

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (set_row(0, 1, "castle"), "row 0 has category 'castle', which is none of the classes"),
        (set_row(0, 2, "May 2012"), "row 0 has timestamp 'May 2012', expected one like 2015-12-31T23:59:59Z"),
        (set_row(0, 2, "2012-05-06T10:11:12"), "row 0 has timestamp '2012-05-06T10:11:12', expected one like"),
        (set_row(0, 2, "2013-01-01T00:00:00Z"), "11 examples, expected 12"),
        (set_row(0, 2, "2012-12-31T23:30:00-01:00"), "11 examples, expected 12"),
        (in_text("rgb_metadata.csv", "category", "class"), "has no column category"),
        (in_text("country_code_mapping.csv", "Oceania", "Australia"), "row 4 has region 'Australia', expected Asia"),
        (
            lambda root: file(root, "images/rgb_img_3.png").unlink(),
            r"1 of 12 images are missing, the first is images/rgb_img_3\.png",
        ),
    ],
)
def test_what_is_wrong_is_named(damage: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    miniature.write_fmow(tmp_path)
    opened("train", tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        opened("train", tmp_path)
    assert "rbft data verify fmow" in caught.value.hint


@pytest.mark.parametrize("name", ["rgb_metadata.csv", "country_code_mapping.csv"])
def test_absent_data_are_missing_and_an_unknown_split_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"nothing at .*fmow_v1\.1") as caught:
        opened("test", tmp_path)
    assert "rbft data prepare fmow" in caught.value.hint
    miniature.write_fmow(tmp_path)
    file(tmp_path, name).unlink()
    with pytest.raises(MissingData, match=f"no file .*{name}"):
        opened("test", tmp_path)
    with pytest.raises(UnknownName, match=r"'seq'.*id_test"):
        open_spec(spec_of("test").model_copy(update={"split": "seq"}), tmp_path, tmp_path)


def test_names_and_prompts_are_the_references() -> None:
    suite = suites.load("fmow")
    prompts = [words.prompt(template, "impoverished_settlement") for template in suite.templates]
    assert len(prompts) == 16 and prompts[0] == "satellite photo of a impoverished_settlement."
    assert prompts[2:4] == [f"{what} photo of an impoverished settlement." for what in ("satellite", "aerial")]
    assert (
        prompts[8] == "satellite photo of a impoverished_settlement in the americas."
        and prompts[15] == "impoverished_settlement."
    )
    assert sum("impoverished settlement" in prompt for prompt in prompts) == 2, "blanks with the article alone"


def test_the_suite_scores_the_worst_region_and_shows_the_average_of_the_same_answers() -> None:
    suite = suites.load("fmow")
    assert (suite.test.split, suite.test.metric, suite.val.split) == ("id_test", "top1", "id_val")
    assert [(spec.name, spec.metric, spec.headline, spec.images) for spec in suite.shifts] == [
        ("fmow-test", "worst-region", True, "fmow-test"),
        ("fmow-test-average", "top1", False, "fmow-test"),
    ]


def test_wilds_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as its class can: without fractions of a second and blank regions, on which it breaks or makes up a region."""
    monkeypatch.setitem(os.environ, "OUTDATED_IGNORE", "1")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # importing its module changes it
    monkeypatch.delitem(sys.modules, "wilds.datasets.fmow_dataset", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from wilds.datasets import fmow_dataset

        assert [row.folder for row in DATASET.rows()] == fmow_dataset.categories
        miniature.write_fmow(tmp_path, fractions=False, elsewhere=("XKX",))
        file(tmp_path, "RELEASE_v1.1.txt").touch()
        theirs = fmow_dataset.FMoWDataset(version="1.1", root_dir=str(tmp_path), download=False)
        regions = theirs._metadata_map["region"]
        for split in SPLITS:
            ours, subset = opened(split, tmp_path), theirs.get_subset(split)
            order = np.argsort([f"images/rgb_img_{theirs.full_idxs[i]}.png" for i in subset.indices])
            assert len(ours) == len(subset)
            assert ours.labels.tolist() == subset.y_array[order].tolist()
            named = [regions[k] for k in subset.metadata_array[order, theirs.metadata_fields.index("region")].tolist()]
            assert [REGIONS[k] if k >= 0 else "Other" for k in ours.columns["region"].tolist()] == named
            for i in (0, 5, 11):
                np.testing.assert_array_equal(np.asarray(ours.image(i)), np.asarray(subset[order[i]][0]))
