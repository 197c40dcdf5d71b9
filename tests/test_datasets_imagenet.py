"""The ImageNet family, from the package's own data set files cut down to twelve classes, in the official layouts."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from miniatures import imagenet

from robustbench_ft import datafiles, suites
from robustbench_ft.datasets import content_digest, open_set, open_spec
from robustbench_ft.errors import DataError, MissingData
from robustbench_ft.suites import Suite

KEYS = Path(__file__).parents[2] / "shared" / "data" / "answer-keys"
VAL = next(spec for spec in datafiles.load("imagenet").specs() if spec.name == "imagenet-val")


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with all of the family; tests leave it as it is."""
    root = tmp_path_factory.mktemp("family")
    imagenet.write_family(root)
    return root


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return suites.load(str(imagenet.small_suite(tmp_path_factory.mktemp("suite"))))


def test_every_set_is_read_with_the_labels_that_its_folders_say(family: Path, small: Suite, tmp_path: Path) -> None:
    for spec in (small.train, small.val, *small.tests):
        found = open_spec(spec, family, tmp_path / "store")
        assert found.aligned and list(found.ids) == sorted(found.ids, key=str.encode) and len(found) == spec.n
        folder = [key.split("/")[-2] for key in found.ids]
        assert [spec.folders[label] for label in found.labels.tolist()] == folder
        assert set(found.labels.tolist()) == set(range(len(spec.classes)))
        assert len({np.asarray(found.image(i).convert("RGB")).tobytes() for i in range(len(found))}) == spec.n, "no image twice"


def test_the_small_suite_is_the_real_one_with_fewer_classes(small: Suite) -> None:
    real = suites.load("imagenet")
    assert [spec.name for spec in small.tests] == [spec.name for spec in real.tests]
    for few, many in zip((small.train, *small.tests), (real.train, *real.tests), strict=True):
        same = {"format", "path", "also", "split", "part", "options", "metric", "headline", "head", "templates"}
        assert few.model_dump(include=same) == many.model_dump(include=same)
        assert set(few.classes) <= set(many.classes)
    assert [len(group) for group in small.spec("objectnet").class_groups or ()] == [2, 1, 1, 1]
    assert small.classes.count("missile") == 2


def test_v2_s_folders_are_numbers_and_not_text(family: Path, small: Suite, tmp_path: Path) -> None:
    spec = small.spec("imagenet-v2")
    found = open_spec(spec, family, tmp_path / "store")
    in_text_order = sorted({key.split("/")[1] for key in found.ids})
    assert in_text_order[:3] == ["0", "1", "10"], "as torchvision's ImageFolder would label them"
    assert all(int(key.split("/")[1]) == label for key, label in zip(found.ids, found.labels.tolist(), strict=True))
    tenth = next(i for i, key in enumerate(found.ids) if key.startswith("matched-frequency/10/"))
    assert found.labels[tenth] == 10 and spec.classes[10] == "missile" and spec.folders[10] == "10"


PLACES = [(spec.name, place) for spec in datafiles.load("imagenet-v2").specs() for place in (spec.path, *spec.also)]


@pytest.mark.parametrize(("name", "place"), PLACES)
def test_v2_is_found_under_every_name_that_it_goes_by(name: str, place: str, family: Path, small: Suite, tmp_path: Path) -> None:
    spec = small.spec(name)
    official = open_spec(spec, family, tmp_path / "store")
    shutil.copytree(family / spec.path, tmp_path / "data" / place)
    assert open_spec(spec, tmp_path / "data", tmp_path / "store").digest == official.digest


def test_v2_knows_the_s3_spelling_and_the_folder_that_imagenetv2_pytorch_makes() -> None:
    assert ("imagenet-v2-threshold-0.7", "imagenetv2-threshold-0.7-format-val") in PLACES
    for name, variant in (
        ("imagenet-v2", "matched-frequency"),
        ("imagenet-v2-threshold-0.7", "threshold-0.7"),
        ("imagenet-v2-top-images", "top-images"),
    ):
        assert (name, f"ImageNetV2-{variant}") in PLACES


@pytest.mark.parametrize("folder", ["val_in_folder", "val_dirs"])
def test_val_under_another_folder_s_name_has_the_same_ids(folder: str, family: Path, small: Suite, tmp_path: Path) -> None:
    official = open_spec(small.test, family, tmp_path / "store")
    imagenet.write_imagenet(tmp_path, train=1, place="ILSVRC2012", val_folder=folder)
    found = open_spec(small.test, tmp_path, tmp_path / "store")
    assert found.ids[0] == "val/n01440764/ILSVRC2012_val_00000001.JPEG" and found.digest == official.digest


def test_val_as_its_archive_unpacks_is_not_taken_for_sorted(small: Suite, tmp_path: Path) -> None:
    imagenet.write_imagenet(tmp_path, train=1)
    flat = tmp_path / "imagenet" / "val"
    for path in list(flat.glob("*/*")):
        path.rename(flat / path.name)
    for wnid in imagenet.WNIDS:
        (flat / wnid).rmdir()
    with pytest.raises(DataError, match="36 images that are not sorted into class folders") as caught:
        open_spec(small.test, tmp_path, tmp_path / "store")
    assert caught.value.hint == f"rbft data prepare imagenet --data {tmp_path}"
    (flat.parent / "val_in_folder").mkdir()
    imagenet.write_imagenet(tmp_path, train=1, val_folder="val_in_folder")
    assert len(open_spec(small.test, tmp_path, tmp_path / "store")) == 36, "the sorted one beside it is read"


def test_grey_cmyk_and_misnamed_images_of_train_are_read(family: Path, small: Suite, tmp_path: Path) -> None:
    held = [open_spec(spec, family, tmp_path / "store") for spec in (small.train, small.val)]
    modes = {key: found.image(i).mode for found in held for i, key in enumerate(found.ids) if "n01440764" in key}
    assert sorted(modes.values()) == ["CMYK", "L", *["RGB"] * 6]


def test_a_and_r_are_scored_over_their_own_classes(family: Path, small: Suite, tmp_path: Path) -> None:
    for name, wnids in (("imagenet-r", imagenet.R_WNIDS), ("imagenet-a", imagenet.A_WNIDS)):
        spec = small.spec(name)
        assert spec.class_groups == tuple((imagenet.WNIDS.index(wnid),) for wnid in wnids)
        assert (family / spec.path / "README.txt").is_file(), "passed over"
        assert spec.subset == len(wnids) == len(spec.classes)
    found = open_spec(small.spec("imagenet-r"), family, tmp_path / "store")
    assert np.bincount(found.labels).tolist() == [2, 3, 2, 3, 2, 3], "not balanced: the mean is over images"


def test_objectnet_loses_its_border_and_the_folders_that_imagenet_lacks(family: Path, small: Suite, tmp_path: Path) -> None:
    for name in ("objectnet", "objectnet-own-names"):
        found = open_spec(small.spec(name), family, tmp_path / "store")
        assert not [key for key in found.ids if key.split("/")[1] in imagenet.DROPPED]
        for i in range(len(found)):
            assert found.image(i).size == (68, 56)
            edge = np.asarray(found.image(i))[[0, -1]].reshape(-1, 3)
            assert not (edge == imagenet.RED).all(1).all()
    whole = open_spec(small.spec("objectnet").model_copy(update={"options": {"crop": 0}}), family, tmp_path / "store")
    assert (np.asarray(whole.image(0))[0] == imagenet.RED).all(), "the border is in the files"


def test_objectnet_under_its_own_names_is_another_head_on_the_same_images(small: Suite) -> None:
    own, shared = small.spec("objectnet-own-names"), small.spec("objectnet")
    assert (own.head, own.class_groups, shared.head) == ("own", None, "suite") and own.classes == shared.classes
    assert own.classes[0] == "alarm clock" and not own.headline and shared.headline


def test_no_split_of_objectnet_can_be_trained_or_selected_on() -> None:
    assert [(spec.split, spec.part) for spec in datafiles.load("objectnet").specs()] == [("test", None)]


def one_less(root: Path) -> None:
    next(iter((root / "imagenet" / "val" / imagenet.WNIDS[3]).iterdir())).unlink()


def one_more(root: Path) -> None:
    folder = root / "imagenet" / "val" / imagenet.WNIDS[3]
    shutil.copy(next(iter(folder.iterdir())), folder / "ILSVRC2012_val_00099999.JPEG")


def one_class_less(root: Path) -> None:
    shutil.rmtree(root / "imagenet" / "val" / imagenet.WNIDS[3])


def swapped(root: Path) -> None:
    a, b = (root / "imagenet" / "val" / wnid for wnid in imagenet.WNIDS[:2])
    first, second = next(iter(sorted(a.iterdir()))), next(iter(sorted(b.iterdir())))
    first.rename(b / first.name)
    second.rename(a / second.name)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (one_less, "imagenet-val: 35 examples, expected 36"),
        (one_more, "imagenet-val: 37 examples, expected 36"),
        (one_class_less, "val: no n01514668; expected 12 class folders"),
        (swapped, "ids and labels have the hash .* expected .*: a file or label differs"),
    ],
)
def test_a_val_that_is_not_the_official_one_is_refused(
    damage: Callable[[Path], None], message: str, family: Path, small: Suite, tmp_path: Path
) -> None:
    pinned = small.test.model_copy(update={"digest": open_spec(small.test, family, tmp_path / "store").digest})
    shutil.copytree(family / "imagenet", tmp_path / "imagenet")
    damage(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        open_spec(pinned, tmp_path, tmp_path / "store")
    assert caught.value.hint == f"rbft data verify imagenet --data {tmp_path}"


@pytest.mark.parametrize("name", ["imagenet-val", "imagenet-v2", "imagenet-r", "imagenet-sketch", "objectnet", "imagenet-a"])
def test_a_set_that_is_not_there_is_missing_with_the_command_that_gets_it(name: str, small: Suite, tmp_path: Path) -> None:
    spec = small.spec(name)
    with pytest.raises(MissingData, match=f"{name}: nothing at {tmp_path / spec.path}") as caught:
        open_spec(spec, tmp_path, tmp_path / "store")
    assert caught.value.hint.startswith("rbft data prepare ")


@pytest.mark.parametrize("place", ["sketch", "ImageNet-Sketch/sketch", "imagenet-sketch"])
def test_sketch_is_found_where_its_zip_or_its_mirrors_put_it(place: str, family: Path, small: Suite, tmp_path: Path) -> None:
    spec = small.spec("imagenet-sketch")
    imagenet.write_imagenet_sketch(tmp_path, place=place)
    found = open_spec(spec, tmp_path, tmp_path / "store")
    assert found.digest == open_spec(spec, family, tmp_path / "store").digest
    assert np.bincount(found.labels).tolist() == [2] * 11 + [1], "not balanced"


def official_val() -> tuple[list[str], list[int]]:
    """Paths and labels of ImageNet's val as an independent project lists them."""
    with gzip.open(KEYS / "imagenet_val_set_index_to_filepath.json.gz") as file:
        paths: list[str] = json.load(file)
    labels = np.load(KEYS / "imagenet_val_set_original_labels.npy", allow_pickle=False)
    return paths, [int(label) for label in labels]


@pytest.mark.skipif(not KEYS.is_dir(), reason="shared/data/answer-keys is not there")
def test_the_digest_of_val_is_that_of_the_official_paths_and_labels() -> None:
    paths, labels = official_val()
    order = sorted(range(len(paths)), key=lambda i: paths[i].encode())
    ids, answers = [paths[i] for i in order], np.array([labels[i] for i in order], dtype=np.int64)
    assert [VAL.folders[label] for label in answers.tolist()] == [key.split("/")[1] for key in ids]
    assert content_digest(ids, answers) == VAL.digest and len(ids) == VAL.n == 50_000
    assert ids[0] == "val/n01440764/ILSVRC2012_val_00000293.JPEG" and np.bincount(answers).tolist() == [50] * 1000


@pytest.mark.skipif(not KEYS.is_dir(), reason="shared/data/answer-keys is not there")
def test_all_of_val_by_name_is_read_and_one_missing_image_is_noticed(tmp_path: Path) -> None:
    """50,000 empty files under the official names: nothing is decoded."""
    paths, _ = official_val()
    for folder in {path.rpartition("/")[0] for path in paths}:
        (tmp_path / "imagenet" / folder).mkdir(parents=True)
    for path in paths:
        (tmp_path / "imagenet" / path).touch()
    found = open_spec(VAL, tmp_path, tmp_path / "store")
    assert found.aligned and len(found) == 50_000 and found.digest == VAL.digest
    (tmp_path / "imagenet" / paths[12_345]).unlink()
    with pytest.raises(DataError, match="imagenet-val: 49999 examples, expected 50000"):
        open_spec(VAL, tmp_path, tmp_path / "store")


def test_an_image_that_cannot_be_read_names_the_command_that_finds_all_of_them(tmp_path: Path) -> None:
    imagenet.write_family(tmp_path / "data")
    suite = suites.load(str(imagenet.small_suite(tmp_path / "suite")))
    found = open_set(suite, suite.spec("imagenet-r"), tmp_path / "data", tmp_path / "store")
    path = tmp_path / "data" / "imagenet-r" / found.ids[3]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=f"{path.name} cannot be decoded: .*; there may be more") as caught:
        found.image(3)
    assert caught.value.hint == f"rbft data verify imagenet-r --data {tmp_path / 'data'}"
