from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniatures import video as miniature
from PIL import Image

from robustbench_ft import datafiles, metrics, suites, words
from robustbench_ft.datasets import ImageSet, open_spec
from robustbench_ft.datasets.vid_robust import frames, listing_of
from robustbench_ft.errors import DataError, MissingData
from robustbench_ft.specs import DatasetSpec

METADATA = Path(__file__).parents[2] / "shared" / "data" / "metadata" / "imagenet-vid-robust"
DATASET = datafiles.load("imagenet-vid-robust")
SPEC = DatasetSpec.model_validate(DATASET.table("test"))
MINIATURE = SPEC.model_copy(update={"n": miniature.VID_FRAMES, "digest": None})


def opened(root: Path) -> ImageSet:
    return open_spec(MINIATURE, root, root / "store")


def test_every_frame_is_an_example_with_its_anchor_distance_and_labels(tmp_path: Path) -> None:
    miniature.write_vid_robust(tmp_path)
    found = opened(tmp_path)
    assert list(found.ids) == sorted(miniature.LABELS) and found.aligned
    assert [key.split("/", 1)[1] for key in found.ids] == [
        "ILSVRC2015_val_00000000/000008.JPEG", "ILSVRC2015_val_00000000/000010.JPEG", "ILSVRC2015_val_00000000/000020.JPEG",
        "ILSVRC2015_val_00000007/000004.JPEG", "ILSVRC2015_val_00000007/000005.JPEG", "ILSVRC2015_val_00000007/000006.JPEG",
        "ILSVRC2015_val_00000011/000049.JPEG", "ILSVRC2015_val_00000011/000050.JPEG", "ILSVRC2017_val_00000003/000100.JPEG",
    ]  # fmt: skip
    assert found.labels.tolist() == [26, 26, 26, 10, 4, 10, 7, 7, 0]
    assert {name: values.tolist() for name, values in found.columns.items()} == {
        "anchor": [0, 0, 0, 1, 1, 1, 2, 2, 3],
        "distance": [2, 0, 10, 1, 0, 1, 1, 0, 0],
        "also-1": [-1, -1, -1, -1, 10, 22, -1, -1, -1],
        "also-2": [-1, -1, -1, -1, 16, -1, -1, -1, -1],
    }
    for i in (0, 8):
        disk = Image.open(tmp_path / MINIATURE.path / found.ids[i])
        np.testing.assert_array_equal(np.asarray(found.image(i)), np.asarray(disk))


def test_an_anchor_is_right_where_each_frame_is_by_its_own_labels(tmp_path: Path) -> None:
    miniature.write_vid_robust(tmp_path)
    found, suite = opened(tmp_path), suites.load("video")
    answers = np.array([26, 26, 26, 22, 16, 22, 0, 7, 0], np.uint16)
    truth = metrics.Truth(found.labels, found.columns)
    hits = metrics.scored(suite, suite.spec(SPEC.name), {"own": answers}, truth).hits
    assert hits["imagenet-vid-robust-pm0/own"].tolist() == [True, True, True, True]
    assert hits["imagenet-vid-robust-pm10/own"].tolist() == [True, False, False, True], "22 is right of frame 6, not of frame 4"


def test_the_flattened_layout_reads_the_same(tmp_path: Path) -> None:
    miniature.write_vid_robust(tmp_path / "a")
    miniature.write_vid_robust(tmp_path / "b", place="imagenet-vid-robust")
    assert opened(tmp_path / "a").digest == opened(tmp_path / "b").digest


def edited(name: str, edit: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(place: Path) -> None:
        path = place / "metadata" / f"{name}.json"
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))

    return damage


A8, A10, A30 = (f"{miniature.A}/0000{number}.JPEG" for number in ("08", "10", "30"))
C5 = f"{miniature.C}/000005.JPEG"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda place: (place / A8).unlink(), f"1 of 9 images are missing, the first is {A8}"),
        (edited("labels", lambda labels: labels.pop(A8)), f"{A8} has labels None, expected some of 0 to 29"),
        (edited("labels", lambda labels: labels.update({A8: [30]})), rf"{A8} has labels \[30\]"),
        (edited("labels", lambda labels: labels.update({A8: []})), rf"{A8} has labels \[\]"),
        (edited("labels", lambda labels: labels.update({A30: [3]})), rf"{A30} is in no set of pmsets\.json"),
        (edited("pmsets", lambda sets: sets[A10].append(A8)), f"{A8} about {A10}: expected another frame .*in no other set"),
        (edited("pmsets", lambda sets: sets[A10].append(C5)), f"{C5} about {A10}: expected another frame of its video"),
        (edited("pmsets", lambda sets: sets.pop(C5)), "is in no set"),
        (lambda place: (place / "metadata" / "labels.json").write_text("{"), r"is no JSON \(labels by frame expected\)"),
        (lambda place: (place / "metadata" / "labels.json").write_text("[]"), "holds a list, expected labels by frame"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(damage: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    miniature.write_vid_robust(tmp_path)
    opened(tmp_path)
    damage(tmp_path / MINIATURE.path)
    with pytest.raises(DataError, match=message) as caught:
        opened(tmp_path)
    assert "rbft data verify imagenet-vid-robust" in caught.value.hint


def test_a_neighbour_is_at_most_ten_frames_away(tmp_path: Path) -> None:
    miniature.write_vid_robust(tmp_path)
    place, far = tmp_path / MINIATURE.path, f"{miniature.A}/000021.JPEG"
    edited("pmsets", lambda sets: sets[A10].append(far))(place)
    edited("labels", lambda labels: labels.update({far: [26]}))(place)
    with pytest.raises(DataError, match=f"{far} about {A10}: .* at most 10 away"):
        opened(tmp_path)


def test_absent_data_are_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="nothing at .*imagenet_vid_ytbb_robust/imagenet-vid-robust or .*") as caught:
        opened(tmp_path)
    assert "rbft data prepare imagenet-vid-robust" in caught.value.hint
    (tmp_path / "imagenet-vid-robust").mkdir()
    with pytest.raises(MissingData, match=r"no file .*metadata/labels\.json"):
        opened(tmp_path)


def test_a_missing_frame_is_noticed_in_a_set_that_was_read_before(tmp_path: Path) -> None:
    miniature.write_vid_robust(tmp_path)
    assert opened(tmp_path).digest == opened(tmp_path).digest
    os.remove(tmp_path / MINIATURE.path / A10)
    with pytest.raises(DataError, match=A10):
        opened(tmp_path)


def test_the_official_metadata_have_the_digest_and_the_counts_that_are_known() -> None:
    if not METADATA.is_dir():
        pytest.skip(f"no metadata at {METADATA}")
    found = listing_of(frames(METADATA / "labels.json", METADATA / "pmsets.json", 30, ""))
    assert (len(found.ids), found.digest) == (SPEC.n, SPEC.digest)
    assert set(found.columns) == {"anchor", "distance", "also-1", "also-2"}
    assert [int((found.columns[f"also-{k}"] >= 0).sum()) for k in (1, 2)] == [1463 + 51, 51]
    assert int(found.columns["anchor"].max()) + 1 == int((found.columns["distance"] == 0).sum()) == 1109
    neighbours = Counter(found.columns["anchor"][found.columns["distance"] > 0].tolist())
    assert sum(neighbours.values()) == 21070 and sum(n == 20 for n in neighbours.values()) == 889 and len(neighbours) == 1108


def test_the_classes_count_the_288_of_the_authors_map() -> None:
    rows, imagenet = words.class_table("imagenet-vid-robust"), [row.folder for row in words.class_table("imagenet")]
    groups = suites.load("video").spec(SPEC.name).class_groups
    assert (
        groups is not None and len(rows) == 30 and sum(map(len, groups)) == 288 == len({one for group in groups for one in group})
    )
    assert rows[0].name == "airplane" and groups[0] == (404,) and rows[9].name == "domestic cat" and rows[29].name == "zebra"
    if not METADATA.is_dir():
        pytest.skip(f"no metadata at {METADATA}")
    given = json.loads((METADATA / "class_idx_map.json").read_text())
    assert {imagenet.index(key): label for label, row in enumerate(rows) for key in row.group} == {
        int(k): v for k, v in given.items()
    }
