from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from miniatures import video as miniature
from PIL import Image

from robustbench_ft import datafiles, metrics, suites, words
from robustbench_ft.datasets import ImageSet, open_spec
from robustbench_ft.datasets.ytbb_robust import ANCHORS, CLASSES, anchor_labels
from robustbench_ft.errors import DataError, MissingData
from robustbench_ft.specs import DatasetSpec

SHARED = Path(__file__).parents[2] / "shared" / "data" / "metadata" / "ytbb-robust"
DATASET = datafiles.load("ytbb-robust")
SPEC = DatasetSpec.model_validate(DATASET.table("test"))
MINIATURE = SPEC.model_copy(update={"n": len(miniature.YTBB_FRAMES), "checksums": (), "unconfirmed": False})
METADATA = "ytbb-robust_metadata"
CAR, NONE = 23, 22


def opened(root: Path, spec: DatasetSpec = MINIATURE) -> ImageSet:
    return open_spec(spec, root, root / "store")


def test_the_frames_that_count_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    """Anchors: good and in no pair bad; neighbours: similar and nothing else, at most 10 away, the last review of a pair."""
    miniature.write_ytbb_robust(tmp_path)
    found = opened(tmp_path)
    assert list(found.ids) == list(miniature.YTBB_FRAMES) and found.aligned
    assert found.columns["distance"].tolist() == list(miniature.YTBB_FRAMES.values())
    assert found.columns["anchor"].tolist() == [0, 0, 0, 0, 0, 1, 2, 2, 3, 3]
    for i in (0, 9):
        disk = Image.open(tmp_path / MINIATURE.path / "ytbb_videos" / found.ids[i])
        np.testing.assert_array_equal(np.asarray(found.image(i)), np.asarray(disk))


def test_a_frame_has_its_anchor_s_labels_the_class_of_youtube_bb_first(tmp_path: Path) -> None:
    miniature.write_ytbb_robust(tmp_path)
    found = opened(tmp_path)
    assert found.labels.tolist() == [4] * 5 + [CAR] + [NONE] * 2 + [6] * 2, "22 and 23 are exchanged in the table"
    also = [found.columns[f"also-{k}"].tolist() for k in (1, 2, 3, 4)]
    assert list(zip(*also, strict=True)) == [(0, -1, -1, -1)] * 5 + [(-1,) * 4] * 3 + [(17, 19, 20, 21)] * 2
    assert set(found.columns) == {"anchor", "distance", "also-1", "also-2", "also-3", "also-4"}


def test_an_anchor_is_right_where_each_frame_is_by_the_anchor_s_labels(tmp_path: Path) -> None:
    miniature.write_ytbb_robust(tmp_path)
    found, suite = opened(tmp_path), suites.load("video")
    answers = np.array([0, 4, 4, 0, 5, CAR, NONE, CAR, 19, 21], np.uint16)
    truth = metrics.Truth(found.labels, found.columns)
    hits = metrics.scored(suite, suite.spec(SPEC.name), {"own": answers}, truth).hits
    assert hits["ytbb-robust-pm0/own"].tolist() == [True, True, True, True]
    assert hits["ytbb-robust-pm10/own"].tolist() == [False, True, False, True]


def test_the_flattened_layout_reads_the_same(tmp_path: Path) -> None:
    miniature.write_ytbb_robust(tmp_path / "a")
    miniature.write_ytbb_robust(tmp_path / "b", place="ytbb-robust")
    assert opened(tmp_path / "a").digest == opened(tmp_path / "b").digest


@pytest.mark.parametrize("name", ["pmk_labels.json", "anchor_labels.json", CLASSES])
def test_a_file_of_the_metadata_that_is_missing_is_named_with_where_it_is_to_be_had(name: str, tmp_path: Path) -> None:
    miniature.write_ytbb_robust(tmp_path)
    (tmp_path / METADATA / name).unlink()
    with pytest.raises(MissingData, match=f"no file {tmp_path}/ytbb-robust_metadata/{name}") as caught:
        opened(tmp_path, SPEC.model_copy(update={"checksums": tuple(one for one in SPEC.checksums if one[0] == name)}))
    hint = caught.value.hint
    assert "rbft data prepare ytbb-robust" in hint and dict(SPEC.checksums)[name] in hint
    assert (
        "ytbb-robust_metadata of github.com/mlfoundations/wise-ft at src/datasets and of github.com/modestyachts/imagenet-testbed"
        in hint
    )


def test_the_review_of_pairs_has_to_be_the_authors(tmp_path: Path) -> None:
    miniature.write_ytbb_robust(tmp_path)
    assert dict(SPEC.checksums)["pmk_labels.json"] == "git:1a6c1fc81cba20d704e5b80c2cbb4c8ec3f8ae04"
    spec = MINIATURE.model_copy(update={"checksums": SPEC.checksums[:1]})
    with pytest.raises(
        DataError, match=r"pmk_labels\.json is not the official file: .*expected 1a6c1fc81cba20d704e5b80c2cbb4c8ec3f8ae04"
    ):
        opened(tmp_path, spec)


def review(name: str, tags: tuple[str, ...], *given: tuple[str, tuple[str, ...]]) -> Callable[[Path], None]:
    return lambda root: miniature.write_review(root / METADATA / f"{name}.json", given, tags)


BBB, REVIEW = "bbb_2000/frame-7.jpg", ("good", "bad", "unsure")
COLUMNS = "ytid,time_ms,label"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda root: (root / MINIATURE.path / "ytbb_videos" / "aa_-1_1000" / "frame-33.jpg").unlink(),
            r"ytbb_videos: 1 of 10 images are missing, the first is aa_-1_1000/frame-33\.jpg",
        ),
        (review("pmk_labels", ("similar", "bad-anchor")), "does not know the tag 'background-change'; its tags: sim"),
        (review("anchor_labels", ("good", "bad"), (BBB, ("good",))), r"anchor_labels\.json does not know the tag 'unsure'"),
        (review("anchor_labels", REVIEW, ("xyz_1/frame-1.jpg", ("good",))), r"xyz_1/frame-1\.jpg has class ''"),
        (review("anchor_labels", REVIEW, ("bbb_2000/7.jpg", ("good",))), r"anchor bbb_2000/7\.jpg, expected one like"),
        (lambda root: (root / METADATA / "pmk_labels.json").write_text('{"labels": []}'), r"pmk_labels\.json is no review"),
        (lambda root: (root / METADATA / "pmk_labels.json").write_text("[]"), "holds a list, expected annotations and labels"),
        (lambda root: (root / METADATA / CLASSES).write_text(f"{COLUMNS}\naa_-1,1000,24\n"), "class .24., expected one of 0"),
        (review("anchor_labels", REVIEW, (BBB, ("good",))), "1 examples, expected 10"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(damage: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    miniature.write_ytbb_robust(tmp_path)
    opened(tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        opened(tmp_path)
    assert "rbft data verify ytbb-robust" in caught.value.hint


def test_the_official_review_has_the_counts_that_are_known() -> None:
    if not SHARED.is_dir():
        pytest.skip(f"no metadata at {SHARED}")
    found = anchor_labels(SHARED / CLASSES, SHARED / ANCHORS, SPEC.classes, "")
    assert len(json.loads((SHARED / ANCHORS).read_text())["annotations"]) == 2467 and len(found) == 2169
    assert Counter(map(len, found.values())) == {1: 1321, 2: 703, 3: 114, 4: 30, 5: 1}
    unreachable = {label for label, row in enumerate(DATASET.rows()) if not row.group}
    assert sum(labels[0] in unreachable for labels in found.values()) == 215
    assert sum(unreachable.issuperset(labels) for labels in found.values()) == 78


def test_the_classes_count_the_231_of_the_authors_map_and_five_count_none() -> None:
    rows, imagenet = words.class_table("ytbb-robust"), [row.folder for row in words.class_table("imagenet")]
    groups = suites.load("video").spec(SPEC.name).class_groups
    assert groups is not None and sum(map(len, groups)) == 231 == len({one for group in groups for one in group})
    empty = {rows[label].name: label for label, group in enumerate(groups) if not group}
    assert empty == {"cow": 6, "giraffe": 8, "skateboard": 14, "toilet": 18, "none": NONE} and rows[CAR].name == "car"
    if not SHARED.is_dir():
        pytest.skip(f"no metadata at {SHARED}")
    given = json.loads((SHARED / "class_idx_map.json").read_text())
    assert {imagenet.index(key): label for label, row in enumerate(rows) for key in row.group} == {
        int(k): v for k, v in given.items()
    }
    names = json.loads((SHARED / "ytbb_class_index.json").read_text())
    assert [row.name for row in rows] == [names[str(label)] for label in range(24)]


def test_the_suite_reads_the_frames_once_for_pm_10_and_pm_0() -> None:
    suite = suites.load("video")
    found = {spec.name: (spec.metric, spec.within, spec.headline, spec.images, spec.n) for spec in suite.shifts}
    assert found["ytbb-robust-pm10"] == ("pm", 10, True, "ytbb-robust-pm10", 35718)
    assert found["ytbb-robust-pm0"] == ("pm", 0, False, "ytbb-robust-pm10", 35718)
    assert found["imagenet-vid-robust-pm10"] == ("pm", 10, True, "imagenet-vid-robust-pm10", 22179)
    assert found["imagenet-vid-robust-pm0"] == ("pm", 0, False, "imagenet-vid-robust-pm10", 22179)
    assert [spec.name for spec in suite.read] == ["imagenet-val", "imagenet-vid-robust-pm10", "ytbb-robust-pm10"]
