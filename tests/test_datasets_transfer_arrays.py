"""MNIST, SVHN, STL-10 and PatchCamelyon, read from miniatures in their official layouts."""

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniatures import arrays
from torchvision import datasets as torchvision_sets

from robustbench_ft import suites
from robustbench_ft.checksums import checksum
from robustbench_ft.datasets import ImageSet, content_digest, open_set, open_spec
from robustbench_ft.errors import DataError, LeakError, MissingData, UsageError
from robustbench_ft.seal import sealed

ANSWERS = Path(__file__).parents[2] / "shared" / "data" / "answer-keys" / "mnist_test_set_original_labels.npy"
PCAM_X = "camelyonpatch_level_2_split_{}_x.h5"
SETS = ("mnist", "svhn", "stl10", "pcam")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arrays")
    for name in SETS:
        arrays.WRITERS[name](folder)
    return folder


def read(name: str, which: str, root: Path) -> ImageSet:
    return open_spec(getattr(arrays.small(name, arrays.SIZES[name]), which), root, root / "store")


@pytest.mark.parametrize("name", SETS)
def test_every_split_is_read_whole_under_padded_ids(name: str, root: Path) -> None:
    suite = arrays.small(name, arrays.SIZES[name])
    train, val, test = (read(name, which, root) for which in ("train", "val", "test"))
    for found in (train, val, test):
        assert list(found.ids) == sorted(found.ids) and found.aligned
        assert set(found.labels.tolist()) == set(range(len(suite.classes)))
    width = 6 if name == "pcam" else 5
    assert list(test.ids) == [f"test/{k:0{width}d}" for k in range(len(test))]
    assert not set(train.ids) & set(val.ids)
    if name != "pcam":
        assert sorted([*train.ids, *val.ids]) == [f"train/{k:05d}" for k in range(200)]
    assert val.ids[0].startswith("valid/" if name == "pcam" else "train/")


def test_mnist_is_grey_and_rows_come_first(root: Path) -> None:
    found = read("mnist", "test", root)
    np.testing.assert_array_equal(found.labels, arrays.labels(10, 3, 4))
    np.testing.assert_array_equal(np.asarray(found.image(29)), arrays.noise((30, 28, 28), 4)[29])
    theirs = torchvision_sets.MNIST(root, train=False)
    assert [label for _, label in theirs] == found.labels.tolist()
    np.testing.assert_array_equal(np.asarray(theirs[7][0]), np.asarray(found.image(7)))


def test_svhns_label_ten_is_the_digit_zero(root: Path) -> None:
    found = read("svhn", "test", root)
    np.testing.assert_array_equal(found.labels, arrays.labels(10, 3, 6))
    np.testing.assert_array_equal(np.asarray(found.image(12)), arrays.noise((30, 32, 32, 3), 6)[12])
    assert suites.load("svhn").classes[found.labels[0]] == str(arrays.labels(10, 3, 6)[0])


def test_svhns_labels_from_zero_are_refused(tmp_path: Path) -> None:
    from scipy.io import savemat

    (tmp_path / "svhn").mkdir()
    table = {"X": arrays.noise((32, 32, 3, 30), 1), "y": arrays.labels(10, 3, 1).astype(np.uint8)[:, None]}
    savemat(tmp_path / "svhn" / "test_32x32.mat", table)
    with pytest.raises(DataError, match="y of 1 to 10"):
        read("svhn", "test", tmp_path)


def test_svhns_extra_images_are_never_read(root: Path, tmp_path: Path) -> None:
    (tmp_path / "svhn").mkdir()
    for name in ("train_32x32.mat", "test_32x32.mat"):
        (tmp_path / "svhn" / name).symlink_to(root / "svhn" / name)
    (tmp_path / "svhn" / "extra_32x32.mat").write_bytes(b"not read")
    assert len(read("svhn", "train", tmp_path)) == 180


def test_stl10_stores_columns_first_and_labels_from_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read("stl10", "test", root)
    np.testing.assert_array_equal(found.labels, arrays.labels(10, 3, 8))
    np.testing.assert_array_equal(np.asarray(found.image(5)), arrays.noise((30, 96, 96, 3), 8)[5])
    monkeypatch.setattr(torchvision_sets.STL10, "_check_integrity", lambda self: True)
    theirs = torchvision_sets.STL10(root, split="test")
    assert [label for _, label in theirs] == found.labels.tolist()
    np.testing.assert_array_equal(np.asarray(theirs[5][0]), np.asarray(found.image(5)))
    assert tuple(theirs.classes) == suites.load("stl10").classes


def test_patchcamelyon_is_read_image_by_image_and_goes_to_workers(root: Path) -> None:
    found = pickle.loads(pickle.dumps(read("pcam", "test", root)))
    np.testing.assert_array_equal(found.labels, arrays.labels(2, 3, 11))
    np.testing.assert_array_equal(np.asarray(found.image(4)), arrays.noise((6, 96, 96, 3), 11)[4])
    assert [label for _, label in torchvision_sets.PCAM(root, split="test")] == found.labels.tolist()


def test_without_h5py_it_is_said_what_to_install(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UsageError, match="need h5py") as caught:
        read("pcam", "test", root)
    assert "robustbench-ft[hdf5]" in caught.value.hint


def test_patches_without_their_labels_are_refused(root: Path, tmp_path: Path) -> None:
    import h5py

    arrays.write_pcam(tmp_path)
    answers = tmp_path / "pcam" / "camelyonpatch_level_2_split_test_y.h5"
    for content, message in (
        (np.zeros((5, 1, 1, 1), np.uint8), r"expected uint8 \[5, 96, 96, 3\]"),
        (np.full((6, 1, 1, 1), 2), "to 2"),
    ):
        with h5py.File(answers, "w") as file:
            file.create_dataset("y", data=content)
        with pytest.raises(DataError, match=message):
            read("pcam", "test", tmp_path)


def clipped(path: Path, count: int = 100) -> None:
    path.write_bytes(path.read_bytes()[:-count])


DAMAGE: list[tuple[str, str, Callable[[Path], Any], str]] = [
    ("mnist", "MNIST/raw/t10k-images-idx3-ubyte", clipped, "t10k-images-idx3-ubyte is truncated"),
    ("mnist", "MNIST/raw/t10k-labels-idx1-ubyte", lambda path: clipped(path, 30), "truncated or too long: 0 bytes"),
    ("mnist", "MNIST/raw/t10k-labels-idx1-ubyte", lambda path: path.write_bytes(b"\x1f\x8b"), "is no IDX file"),
    ("mnist", "MNIST/raw/t10k-labels-idx1-ubyte", lambda path: path.write_bytes(arrays.idx(np.arange(30))), "labels from 0 to 9"),
    ("svhn", "svhn/test_32x32.mat", clipped, "is damaged or no MATLAB file"),
    ("stl10", "stl10_binary/test_X.bin", clipped, "test_X.bin is truncated"),
    ("stl10", "stl10_binary/test_y.bin", lambda path: path.write_bytes(bytes(30)), "labels from 0 to 9"),
    ("stl10", "stl10_binary/test_y.bin", lambda path: clipped(path, 1), "expected 30 integers"),
    ("pcam", f"pcam/{PCAM_X.format('test')}", lambda path: clipped(path, 2000), "truncated, damaged"),
]


@pytest.mark.parametrize(("name", "file", "damage", "message"), DAMAGE)
def test_damage_is_named_with_the_file(name: str, file: str, damage: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    arrays.WRITERS[name](tmp_path)
    damage(tmp_path / file)
    with pytest.raises(DataError, match=message) as caught:
        read(name, "test", tmp_path)
    assert f"rbft data prepare {name} --data" in caught.value.hint


@pytest.mark.parametrize("name", SETS)
def test_absence_is_not_damage_and_says_how_to_get_it(name: str, root: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingData) as caught:
        read(name, "test", tmp_path)
    assert f"rbft data prepare {name} --data {tmp_path}" in caught.value.hint
    with pytest.raises(MissingData, match="no data folder was given"):
        open_spec(suites.load(name).test, None, tmp_path)


@pytest.mark.parametrize("name", SETS)
def test_a_short_set_says_both_numbers(name: str, root: Path) -> None:
    spec = suites.load(name).test.model_copy(update={"checksums": (), "digest": None})
    with pytest.raises(DataError, match=rf"{name}: \d+ examples, expected {spec.n}"):
        open_spec(spec, root, root / "store")


@pytest.mark.parametrize("name", ["mnist", "svhn", "stl10"])
def test_what_is_not_the_official_file_is_refused(name: str, root: Path) -> None:
    with pytest.raises(DataError, match="is not the official file"):
        open_spec(suites.load(name).test, root, root / "store")


def test_test_images_are_closed_under_the_seal(root: Path) -> None:
    suite = arrays.small("mnist", arrays.SIZES["mnist"])
    with sealed():
        open_set(suite, suite.val, root, root / "store")
        with pytest.raises(LeakError):
            open_set(suite, suite.test, root, root / "store")


@pytest.mark.skipif(not ANSWERS.is_file(), reason="needs the labels of ../shared/data/answer-keys")
def test_mnists_real_labels_have_the_official_checksum_and_the_digest_of_the_suite(tmp_path: Path) -> None:
    folder, spec = tmp_path / "MNIST" / "raw", suites.load("mnist").test
    folder.mkdir(parents=True)
    images = folder / "t10k-images-idx3-ubyte"
    images.write_bytes(arrays.idx(arrays.noise((10_000, 28, 28), 1)))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(arrays.idx(np.load(ANSWERS, allow_pickle=False)))
    sums = {**dict(spec.checksums), images.name: f"md5:{checksum(images, 'md5')}"}
    found = open_spec(spec.model_copy(update={"checksums": tuple(sums.items())}), tmp_path, tmp_path)
    assert found.labels[:5].tolist() == [7, 2, 1, 0, 4] and found.digest == spec.digest
    assert found.digest == content_digest([f"test/{k:05d}" for k in range(10_000)], found.labels)


def test_a_pickle_in_the_place_of_cifar10_2_is_refused(tmp_path: Path) -> None:
    spec = suites.load("cifar10").spec("cifar10.2")
    (tmp_path / "cifar-10.2").mkdir()
    (tmp_path / "cifar-10.2" / "cifar102_test.npy").write_bytes(pickle.dumps({"images": []}))
    with pytest.raises(DataError, match=r"cifar102_test\.npy is a pickle.* no cifar102_test\.npz") as caught:
        open_spec(spec, tmp_path, tmp_path)
    assert not isinstance(caught.value, MissingData) and "rbft data prepare cifar10.2" in caught.value.hint
