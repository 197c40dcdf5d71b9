"""GTSRB, Flowers-102, Stanford Cars and KITTI, read from miniatures in their official layouts."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniatures import arrays, labelled
from PIL import Image
from scipy.io import loadmat, savemat
from torchvision import datasets as torchvision_sets

from robustbench_ft import suites
from robustbench_ft.datasets import ImageSet, kitti, open_spec
from robustbench_ft.errors import DataError, MissingData
from robustbench_ft.suites import Suite

SETS = tuple(labelled.WRITERS)
RAM = "Ram C/V Cargo Van Minivan 2012"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    for write in labelled.WRITERS.values():
        write(folder)
    return folder


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one data set, to damage."""

    def made(folder: str) -> Path:
        shutil.copytree(root / folder, tmp_path / folder)
        return tmp_path / folder

    return made


def small(name: str) -> Suite:
    return arrays.small(name, labelled.SIZES[name])


def read(name: str, which: str, root: Path) -> ImageSet:
    return open_spec(getattr(small(name), which), root, root / "store")


@pytest.mark.parametrize("name", SETS)
def test_every_split_is_read_whole_and_none_meets_another(name: str, root: Path) -> None:
    found = [read(name, which, root) for which in ("train", "val", "test")]
    ids = [key for images in found for key in images.ids]
    assert len(set(ids)) == len(ids)
    for images in found:
        assert images.aligned and list(images.ids) == sorted(images.ids, key=str.encode)
        assert set(images.labels.tolist()) == set(range(len(suites.load(name).classes)))
        assert images.image(len(images) - 1).convert("RGB").size[0] > 1
    again = [read(name, which, root) for which in ("train", "val", "test")]
    assert [images.digest for images in again] == [images.digest for images in found], "the index that is kept is the same"


# GTSRB


def test_gtsrbs_test_labels_come_from_the_table_and_ids_are_paths(root: Path) -> None:
    found = read("gtsrb", "test", root)
    with open(root / "gtsrb" / "GT-final_test.csv", newline="") as file:
        told = {row["Filename"]: int(row["ClassId"]) for row in csv.DictReader(file, delimiter=";")}
    assert {
        key.removeprefix("GTSRB/Final_Test/Images/"): label for key, label in zip(found.ids, found.labels, strict=True)
    } == told
    assert [label for _, label in torchvision_sets.GTSRB(root, split="test")] == found.labels.tolist()
    with Image.open(root / "gtsrb" / found.ids[5]) as image:
        np.testing.assert_array_equal(np.asarray(found.image(5)), np.asarray(image))


def test_frames_of_one_track_stay_together(root: Path) -> None:
    train, val = (read("gtsrb", which, root) for which in ("train", "val"))

    def tracks(found: ImageSet) -> set[str]:
        assert [int(key.split("/")[3][:5]) for key in found.ids] == found.columns["track"].tolist()
        return {key.rpartition("_")[0] for key in found.ids}

    assert not tracks(train) & tracks(val) and len(tracks(val)) == 43
    assert np.bincount(val.labels).tolist() == [5] * 43


def test_the_sizes_of_gtsrbs_parts_follow_from_tracks_of_thirty() -> None:
    suite = suites.load("gtsrb")
    per_class = min(26_640 // 10, 5_000) // 43
    assert 26_640 % 30 == 0 and suite.val.n == 43 * 30 * -(-per_class // 30) and suite.train.n + suite.val.n == 26_640


GTSRB_DAMAGE: list[tuple[Callable[[Path], Any], str, str]] = [
    (lambda base: (base / "GTSRB/Training/00007/00001_00002.ppm").unlink(), "train", r"00007/00001_00002\.ppm is missing"),
    (
        lambda base: (base / "GTSRB/Training/00007/00000_00000.ppm").rename(base / "GTSRB/Training/00008/00009_00000.ppm"),
        "train",
        r"00007/00000_00000\.ppm is missing",
    ),
    (lambda base: labelled.draw(base / "GTSRB/Training/00003/00077_00000.ppm"), "train", r"00077_00000\.ppm does not belong"),
    (lambda base: shutil.rmtree(base / "GTSRB/Training/00042"), "train", "no class folder 00042"),
    (lambda base: (base / "GTSRB/Training/00043").mkdir(), "train", "an unknown folder 00043"),
    (
        lambda base: [path.unlink() for path in (base / "GTSRB/Training/00004").iterdir()],
        "train",
        "00004 holds no images",
    ),
    (lambda base: (base / "GTSRB/Final_Test/Images/00003.ppm").unlink(), "test", r"1 of 86 images are missing.*00003\.ppm"),
    (
        lambda base: shutil.copy(base / "GTSRB/Final_Test/Images/GT-final_test.test.csv", base / "GT-final_test.csv"),
        "test",
        r"expected \['ClassId', 'Filename'\]",
    ),
]


@pytest.mark.parametrize(("damage", "which", "message"), GTSRB_DAMAGE)
def test_gtsrbs_damage_is_named(
    damage: Callable[[Path], Any], which: str, message: str, copy: Callable[[str], Path], tmp_path: Path
) -> None:
    damage(copy("gtsrb"))
    with pytest.raises(DataError, match=message):
        read("gtsrb", which, tmp_path)


def test_a_class_out_of_range_is_refused(copy: Callable[[str], Path], tmp_path: Path) -> None:
    table = copy("gtsrb") / "GT-final_test.csv"
    with open(table, "a", newline="") as file:
        file.write("00086.ppm;12;10;1;1;11;9;43\r\n")
    with pytest.raises(DataError, match=r"00086\.ppm has the class '43'"):
        read("gtsrb", "test", tmp_path)


# Flowers-102


def test_flowers_splits_are_the_official_keys_and_labels_count_from_one(root: Path) -> None:
    base = root / "flowers-102"
    labels = loadmat(base / "imagelabels.mat")["labels"][0].astype(int)
    numbers = loadmat(base / "setid.mat")
    for which, key in (("train", "trnid"), ("val", "valid"), ("test", "tstid")):
        found = read("flowers102", which, root)
        members = sorted(numbers[key][0].tolist())
        assert list(found.ids) == [f"jpg/image_{k:05d}.jpg" for k in members]
        assert found.labels.tolist() == [int(labels[k - 1]) - 1 for k in members]
    suite = suites.load("flowers102")
    assert (suite.train.n, suite.val.n, suite.test.n) == (1020, 1020, 6149), (
        "test is the largest: trnid and tstid are not swapped"
    )
    assert (suite.classes[0], suite.classes[15], suite.classes[92]) == ("pink primrose", "globe flower", "air plant")


def test_flowers_are_also_scored_by_class_from_the_same_answers() -> None:
    suite = suites.load("flowers102")
    extra = suite.spec("flowers102-mean-per-class")
    assert (extra.images, extra.metric, extra.headline, extra.n) == ("flowers102", "mean-per-class", False, 6149)
    assert suite.read == (suite.test,) and suite.headline_shifts == ()


def test_flowers_damage_is_named(copy: Callable[[str], Path], tmp_path: Path) -> None:
    base = copy("flowers-102")
    last = read("flowers102", "test", tmp_path).ids[-1]
    (base / last).unlink()
    with pytest.raises(DataError, match=rf"1 of 306 images are missing, the first is {last}"):
        read("flowers102", "test", tmp_path)
    answers = loadmat(base / "imagelabels.mat")["labels"]
    savemat(base / "imagelabels.mat", {"labels": answers - 1})
    with pytest.raises(DataError, match=r"imagelabels\.mat: expected labels from 1 to 102"):
        read("flowers102", "test", tmp_path)
    (base / "imagelabels.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(DataError, match=r"imagelabels\.mat is damaged"):
        read("flowers102", "val", tmp_path)
    with pytest.raises(DataError, match=r"(imagelabels|setid)\.mat is not the official file"):
        open_spec(suites.load("flowers102").val, tmp_path, tmp_path)


# Stanford Cars


def test_cars_are_in_the_devkits_order_and_one_name_has_a_slash(root: Path) -> None:
    classes = suites.load("cars").classes
    assert len(set(classes)) == 196 and classes[1:6:2] == (
        "Acura RL Sedan 2012",
        "Acura TL Type-S 2008",
        "Acura Integra Type R 2001",
    )
    assert RAM in classes and classes != tuple(sorted(classes)) and classes.index(RAM) == 173
    found = read("cars", "test", root)
    table = loadmat(root / "stanford_cars" / "cars_test_annos_withlabels.mat", squeeze_me=True)["annotations"]
    told = {f"cars_test/{row['fname']}": int(row["class"]) - 1 for row in table}
    assert dict(zip(found.ids, found.labels.tolist(), strict=True)) == told


def test_cars_test_labels_are_not_the_devkits_file_without_classes(copy: Callable[[str], Path], tmp_path: Path) -> None:
    base = copy("stanford_cars")
    shutil.copy(base / "devkit" / "cars_test_annos.mat", base / "cars_test_annos_withlabels.mat")
    with pytest.raises(DataError, match="without fname or class: not the file with labels"):
        read("cars", "test", tmp_path)
    (base / "cars_test_annos_withlabels.mat").unlink()
    with pytest.raises(MissingData, match=r"no file .*cars_test_annos_withlabels\.mat") as caught:
        read("cars", "test", tmp_path)
    assert "rbft data prepare cars" in caught.value.hint
    assert len(read("cars", "train", tmp_path)) == 3528


def test_labels_of_cars_from_zero_and_missing_images_are_refused(copy: Callable[[str], Path], tmp_path: Path) -> None:
    base = copy("stanford_cars")
    (base / "cars_test" / "00017.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 392 images are missing, the first is cars_test/00017\.jpg"):
        read("cars", "test", tmp_path)
    labelled.annotations(base / "cars_test_annos_withlabels.mat", ["00001.jpg", "00002.jpg"], [0, 195])
    with pytest.raises(DataError, match="classes from 0 to 195, expected 1 to 196"):
        read("cars", "test", tmp_path)


def test_a_grey_car_is_read_in_its_own_mode(root: Path) -> None:
    found = read("cars", "test", root)
    assert found.image(list(found.ids).index("cars_test/00008.jpg")).mode == "L"


# KITTI


def test_kittis_label_is_the_distance_of_the_nearest_vehicle_and_bounds_belong_to_the_nearer(root: Path) -> None:
    lines = (root / "kitti/raw/devkit/mapping/train_rand.txt").read_text().split(",")
    for which in ("train", "val", "test"):
        found = read("kitti", which, root)
        for key, label in zip(found.ids, found.labels.tolist(), strict=True):
            line = int(lines[int(key[-10:-4])]) - 1
            assert label == (0, 0, 1, 1, 2, 2, 3, 3)[line % 8]


def test_a_video_of_kitti_is_in_one_split(root: Path) -> None:
    base = root / "kitti/raw/devkit/mapping"
    drives = [line.split()[1] for line in (base / "train_mapping.txt").read_text().splitlines()]
    lines = (base / "train_rand.txt").read_text().split(",")
    seen = {
        which: {drives[int(lines[int(key[-10:-4])]) - 1] for key in read("kitti", which, root).ids}
        for which in ("train", "val", "test")
    }
    assert [len(seen[which]) for which in ("train", "val", "test")] == [16, 2, 2]
    assert len(set.union(*seen.values())) == 20


def test_kittis_split_is_numpys_legacy_choice_under_seed_123() -> None:
    videos = [f"video-{k % 141:03d}" for k in range(600)]
    names = sorted(set(videos))
    state = np.random.get_state()
    np.random.seed(123)
    test = set(np.random.choice(names, 14, replace=False).tolist())
    val = set(np.random.choice(sorted(set(names) - test), 14, replace=False).tolist())
    np.random.set_state(state)
    found = kitti.split(videos)
    assert {videos[k] for k in found["test"]} == test and {videos[k] for k in found["val"]} == val
    assert sorted(k for part in found.values() for k in part) == list(range(600))


def test_kittis_prompts_are_in_the_order_of_the_labels() -> None:
    suite = suites.load("kitti")
    assert [name.split()[-1] for name in suite.classes] == ["side.", "nearby.", "distance.", "car."]
    assert suite.templates == ("{}",) and suite.train.n + suite.val.n + suite.test.n == 7481


def test_kittis_damage_is_named_and_noticed_after_it_was_read(copy: Callable[[str], Path], tmp_path: Path) -> None:
    copy("kitti")
    base = tmp_path / "kitti" / "raw"
    found = read("kitti", "test", tmp_path)
    number = found.ids[3][-10:-4]
    objects = base / "training" / "label_2" / f"{number}.txt"
    objects.write_text("Car 0.00 0\n")
    with pytest.raises(DataError, match=rf"{number}\.txt is no list of objects"):
        read("kitti", "test", tmp_path)
    objects.unlink()
    with pytest.raises(DataError, match=rf"{number}\.txt is missing"):
        read("kitti", "test", tmp_path)
    (base / "training" / "image_2" / f"{number}.png").unlink()
    with pytest.raises(DataError, match=rf"1 of 16 images are missing.*{number}\.png"):
        read("kitti", "test", tmp_path)
    (base / "devkit" / "mapping" / "train_rand.txt").write_text("1,2,161")
    with pytest.raises(DataError, match="numbers from 1 to 161, expected lines of"):
        read("kitti", "test", tmp_path)
    (base / "devkit" / "mapping" / "train_mapping.txt").unlink()
    with pytest.raises(MissingData, match=r"no file .*train_mapping\.txt"):
        read("kitti", "test", tmp_path)


@pytest.mark.parametrize("name", SETS)
def test_absence_is_not_damage_and_says_how_to_get_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(MissingData) as caught:
        read(name, "test", tmp_path)
    assert f"rbft data prepare {name} --data {tmp_path}" in caught.value.hint


@pytest.mark.parametrize("name", SETS)
def test_a_short_set_says_both_numbers(name: str, root: Path) -> None:
    spec = suites.load(name).test.model_copy(update={"checksums": ()})
    with pytest.raises(DataError, match=rf"{name}: {labelled.SIZES[name][2]} examples, expected {spec.n}"):
        open_spec(spec, root, root / "store")
