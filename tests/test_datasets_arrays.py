from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustbench_ft import suites
from robustbench_ft.checksums import checksum
from robustbench_ft.datasets import ImageSet, content_digest, open_set
from robustbench_ft.errors import DataError, MissingData
from robustbench_ft.suites import Suite

CIFAR10 = suites.load("cifar10")
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(12, dtype=np.int32) % 10
SHARED = Path(__file__).parents[2] / "shared" / "data" / "cifar10.1"


def miniature(name: str, **fields: Any) -> Suite:
    """The suite with its shift `name` cut down to twelve images of nobody's."""
    spec = next(s for s in CIFAR10.shifts if s.name == name)
    small = spec.model_copy(update={"n": 12, "digest": None, "checksums": (), **fields})
    return CIFAR10.model_copy(update={"shifts": (small,)})


def write_pair(root: Path, pixels: Any = PIXELS, labels: Any = LABELS) -> Path:
    folder = root / "CIFAR-10.1" / "datasets"
    folder.mkdir(parents=True)
    np.save(folder / "cifar10.1_v6_data.npy", pixels)
    np.save(folder / "cifar10.1_v6_labels.npy", labels)
    return folder


def write_npz(root: Path) -> Path:
    (root / "cifar-10.2").mkdir()
    content: dict[str, Any] = {
        "images": PIXELS,
        "labels": LABELS.astype(np.int64),
        "label_names": np.array([["a"], "b"], dtype=object),
    }
    np.savez(root / "cifar-10.2" / "cifar102_test.npz", **content)
    return root / "cifar-10.2" / "cifar102_test.npz"


def read(suite: Suite, root: Path | None) -> ImageSet:
    return open_set(suite, suite.shifts[0], root, Path("unused"))


def test_cifar10_1_is_a_pair_of_npy_files(tmp_path: Path) -> None:
    write_pair(tmp_path)
    found = read(miniature("cifar10.1"), tmp_path)
    assert list(found.ids[:2]) == ["v6/0000", "v6/0001"] and found.aligned
    np.testing.assert_array_equal(found.labels, LABELS)
    np.testing.assert_array_equal(np.asarray(found.image(11)), PIXELS[11])


def test_cifar10_2_is_an_npz_whose_object_arrays_are_never_read(tmp_path: Path) -> None:
    write_npz(tmp_path)
    found = read(miniature("cifar10.2"), tmp_path)
    assert list(found.ids[-2:]) == ["test/0010", "test/0011"]
    np.testing.assert_array_equal(found.labels, LABELS)
    np.testing.assert_array_equal(np.asarray(found.image(3)), PIXELS[3])


def test_the_digest_holds_pixels_unless_checksums_vouch_for_them(tmp_path: Path) -> None:
    file = write_npz(tmp_path)
    ids = [f"test/{k:04d}" for k in range(12)]
    assert read(miniature("cifar10.2"), tmp_path).digest == content_digest(ids, LABELS.astype(np.int64), PIXELS)
    sums = ((file.name, f"git:{checksum(file, 'git')}"),)
    assert read(miniature("cifar10.2", checksums=sums), tmp_path).digest == content_digest(ids, LABELS.astype(np.int64))
    write = miniature("cifar10.2", checksums=((file.name, "git:00"),))
    with pytest.raises(DataError, match=r"cifar102_test\.npz is not the official file"):
        read(write, tmp_path)


def test_a_missing_file_is_named_with_its_source_and_what_goes_on(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"no file .*cifar10\.1_v6_data\.npy") as caught:
        read(miniature("cifar10.1"), tmp_path)
    assert "https://github.com/modestyachts/CIFAR-10.1" in caught.value.hint and "partial" in caught.value.hint
    with pytest.raises(MissingData, match="no data folder was given") as caught:
        read(miniature("cifar10.2"), None)
    assert "--data" in caught.value.hint


def test_half_a_pair_is_damage_and_not_absence(tmp_path: Path) -> None:
    (write_pair(tmp_path) / "cifar10.1_v6_labels.npy").unlink()
    with pytest.raises(DataError, match=r"no file .*cifar10\.1_v6_labels\.npy") as caught:
        read(miniature("cifar10.1"), tmp_path)
    assert type(caught.value) is DataError


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (PIXELS[:11], LABELS, "expected 11 integers"),
        (PIXELS[:11], LABELS[:11], "11 examples, expected 12"),
        (PIXELS.astype(np.float32), LABELS, "images are float32"),
        (PIXELS[..., 0], LABELS, r"expected uint8 \[N, H, W, 3\]"),
        (PIXELS, LABELS + 1, "labels from 0 to 9"),
        (PIXELS, LABELS.astype(float), "labels are float64"),
        (PIXELS, LABELS.astype(object), "cannot be loaded|can be read"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(pixels: Any, labels: Any, message: str, tmp_path: Path) -> None:
    write_pair(tmp_path, pixels, labels)
    with pytest.raises(DataError, match=message):
        read(miniature("cifar10.1"), tmp_path)


def test_truncated_files_are_named(tmp_path: Path) -> None:
    data = write_pair(tmp_path) / "cifar10.1_v6_data.npy"
    data.write_bytes(data.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"cifar10\.1_v6_data\.npy"):
        read(miniature("cifar10.1"), tmp_path)
    archive = write_npz(tmp_path)
    archive.write_bytes(archive.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"cifar102_test\.npz"):
        read(miniature("cifar10.2"), tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the labels of CIFAR-10.1 in ../shared/data/cifar10.1")
@pytest.mark.parametrize("name", ["cifar10.1", "cifar10.1-v4"])
def test_the_official_labels_of_cifar10_1_have_the_suites_digest_and_checksum(name: str) -> None:
    spec = next(s for s in CIFAR10.shifts if s.name == name)
    file = SHARED / f"cifar10.1_{spec.split}_labels.npy"
    assert dict(spec.checksums)[file.name] == f"sha256:{checksum(file, 'sha256')}"
    labels = np.load(file).astype(np.int64)
    assert spec.digest == content_digest([f"{spec.split}/{k:04d}" for k in range(spec.n)], labels)
