import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from robustbench_ft import suites
from robustbench_ft.checksums import checksum
from robustbench_ft.datasets import ImageSet, content_digest, open_set
from robustbench_ft.errors import DataError, LeakError, MissingData
from robustbench_ft.seal import sealed
from robustbench_ft.suites import Suite

CIFAR10 = suites.load("cifar10")
SHARED = Path(__file__).parents[2] / "shared" / "data"
HALF = Path(__file__).parents[1] / "docs" / "cifar10-half.toml"
TRAIN_PER_CLASS, TEST_PER_CLASS = 20, 5


def miniature() -> Suite:
    """CIFAR-10's suite with 200 training and 50 test images, of nobody's."""
    sizes = {"train": 180, "val": 20, "test": 50}
    small = {
        name: getattr(CIFAR10, name).model_copy(update={"n": n, "digest": None, "checksums": ()}) for name, n in sizes.items()
    }
    return CIFAR10.model_copy(update=small)


def pixels(n: int, seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


def labels(n: int, seed: int) -> list[int]:
    return [int(k) for k in np.random.default_rng(seed).permutation(np.arange(n) % 10)]


def write_batches(root: Path) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    images, answers = pixels(200, 1), labels(200, 1)
    files = {f"data_batch_{k + 1}": slice(40 * k, 40 * k + 40) for k in range(5)}
    for name, part in files.items():
        write_batch(folder / name, images[part], answers[part])
    write_batch(folder / "test_batch", pixels(50, 2), labels(50, 2))
    return folder


def write_batch(path: Path, images: Any, answers: Any) -> None:
    rows = images.transpose(0, 3, 1, 2).reshape(len(images), 3072)
    path.write_bytes(pickle.dumps({b"data": rows, b"labels": answers, b"batch_label": b"a batch"}, protocol=4))


def write_folders(root: Path) -> None:
    """The images of write_batches as class folders, numbered within the class in the order of the batches."""
    for group, images, answers in (("train", pixels(200, 1), labels(200, 1)), ("test", pixels(50, 2), labels(50, 2))):
        seen = [0] * 10
        for image, label in zip(images, answers, strict=True):
            file = root / group / CIFAR10.classes[label] / f"{seen[label]:04d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)
            seen[label] += 1


def read(suite: Suite, which: str, root: Path | None) -> ImageSet:
    return open_set(suite, getattr(suite, which), root, Path("unused"))


def test_both_layouts_give_the_same_ids_labels_and_images(tmp_path: Path) -> None:
    write_batches(tmp_path / "a")
    write_folders(tmp_path / "b")
    for which in ("train", "val", "test"):
        batches, folders = read(miniature(), which, tmp_path / "a"), read(miniature(), which, tmp_path / "b")
        assert batches.ids == folders.ids == sorted(batches.ids)
        np.testing.assert_array_equal(batches.labels, folders.labels)
        for i in (0, len(batches) // 2, len(batches) - 1):
            assert CIFAR10.classes[batches.labels[i]] == batches.ids[i].split("/")[1]
            np.testing.assert_array_equal(np.asarray(batches.image(i)), np.asarray(folders.image(i)))
        assert batches.aligned and not folders.aligned
        assert batches.digest != folders.digest, "what is kept of one layout is never taken for the other's"


def test_an_ordinal_counts_the_class_in_the_official_order(tmp_path: Path) -> None:
    write_batches(tmp_path)
    found = read(miniature(), "test", tmp_path)
    third_cat = [k for k, label in enumerate(labels(50, 2)) if label == 3][2]
    place = list(found.ids).index("test/cat/0002")
    np.testing.assert_array_equal(np.asarray(found.image(place)), pixels(50, 2)[third_cat])


def test_train_and_its_halves_never_contain_val(tmp_path: Path) -> None:
    write_batches(tmp_path)
    suite, ids = miniature(), {}
    for split, n in (("train", 180), ("val", 20), ("train-a", 90), ("train-b", 90)):
        spec = suite.train.model_copy(update={"part": split, "n": n})
        found = open_set(suite, spec, tmp_path, Path("unused"))
        assert np.bincount(found.labels).tolist() == [n // 10] * 10
        ids[split] = set(found.ids)
    assert not ids["val"] & ids["train"] and not ids["train-a"] & ids["train-b"]
    assert ids["train-a"] | ids["train-b"] == ids["train"]


def test_test_images_are_closed_under_the_seal(tmp_path: Path) -> None:
    write_batches(tmp_path)
    with sealed():
        read(miniature(), "val", tmp_path)
        with pytest.raises(LeakError):
            read(miniature(), "test", tmp_path)


def test_missing_data_is_named_with_what_was_expected_and_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"neither cifar-10-batches-py/ .* nor test/<class>/<number>\.jpg") as caught:
        read(miniature(), "test", tmp_path)
    assert "cifar-10-python.tar.gz" in caught.value.hint and "c58f30108f718f92721af3b95e74349a" in caught.value.hint
    with pytest.raises(MissingData, match="no data folder was given") as caught:
        read(miniature(), "train", None)
    assert "--data" in caught.value.hint


def test_the_official_files_are_checked(tmp_path: Path) -> None:
    folder, suite = write_batches(tmp_path), miniature()
    sums = tuple((file.name, f"md5:{checksum(file, 'md5')}") for file in sorted(folder.iterdir()))
    spec = suite.test.model_copy(update={"checksums": sums})
    found = open_set(suite, spec, tmp_path, Path("unused"))
    assert found.digest == content_digest(found.ids, found.labels), "the checksum vouches for the pixels"
    write_batch(folder / "test_batch", pixels(50, 3), labels(50, 2))
    with pytest.raises(DataError, match="test_batch is not the official file"):
        open_set(suite, spec, tmp_path, Path("unused"))


def test_damaged_batches_are_named(tmp_path: Path) -> None:
    folder = write_batches(tmp_path)
    second, whole = folder / "data_batch_2", (folder / "data_batch_2").read_bytes()
    for damage, message in (
        (lambda: second.write_bytes(whole[:-300]), "data_batch_2 is damaged"),
        (lambda: second.write_bytes(b"cos\nsystem\n(S'true'\ntR."), r"data_batch_2 .* os\.system"),
        (lambda: write_batch(second, pixels(40, 1), labels(30, 1)), "data_batch_2 does not hold"),
        (lambda: write_batch(second, pixels(40, 1), [10] * 40), "data_batch_2: label 10 is not one of 0 to 9"),
        (lambda: write_batch(second, pixels(35, 1), labels(35, 1)), "train has 19 images of airplane, expected 21"),
        (second.unlink, "data_batch_2 is missing"),
    ):
        damage()
        with pytest.raises(DataError, match=message):
            read(miniature(), "train", tmp_path)


def test_damaged_folders_are_named(tmp_path: Path) -> None:
    write_folders(tmp_path)
    cat = tmp_path / "test" / "cat"
    kept = {file: file.read_bytes() for file in cat.iterdir()}
    for damage, message in (
        (lambda: (cat / "0002.png").unlink(), r"cat/0003\.png is where image 0002"),
        (lambda: (cat / "0004.png").unlink(), "test has 4 images of cat, expected 5 as airplane"),
        (lambda: (cat / "0002.jpg").write_bytes(b""), r"cat/0002\.png is where image 0003"),
        (lambda: (cat / "notes.txt").write_text(""), r"cat/notes\.txt is where image 0005"),
        (lambda: (cat / "0003.png").write_bytes(kept[cat / "0003.png"][:-7]), r"cat/0003\.png is truncated"),
        (lambda: (tmp_path / "test" / "cart").mkdir(), "test has a surplus cart"),
    ):
        damage()
        with pytest.raises(DataError, match=message):
            read(miniature(), "test", tmp_path)
        for file in set(cat.iterdir()) - set(kept):
            file.unlink()
        for file, content in kept.items():
            file.write_bytes(content)
    (tmp_path / "test" / "cart").rmdir()
    (cat / ".DS_Store").write_bytes(b"of no concern")
    assert len(read(miniature(), "test", tmp_path)) == 50
    cat.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="test has no cat; expected the folders airplane, automobile"):
        read(miniature(), "test", tmp_path)


def test_an_image_that_does_not_decode_is_named(tmp_path: Path) -> None:
    write_folders(tmp_path)
    (tmp_path / "test" / "frog" / "0001.jpg").write_bytes(b"not an image\xff\xd9")
    (tmp_path / "test" / "frog" / "0001.png").unlink()
    found = read(miniature(), "test", tmp_path)
    with pytest.raises(DataError, match="test/frog/0001 cannot be decoded"):
        found.image(list(found.ids).index("test/frog/0001"))


def official_ids(group: str, per_class: int) -> tuple[list[str], np.ndarray[Any, np.dtype[np.int64]]]:
    return [f"{group}/{name}/{k:04d}" for name in CIFAR10.classes for k in range(per_class)], np.repeat(range(10), per_class)


def test_the_suites_digests_follow_from_the_rule() -> None:
    from robustbench_ft import carve

    ids, answers = official_ids("train", 5000)
    half = suites.load(str(HALF))
    for spec in (CIFAR10.train, CIFAR10.val, half.train, half.val):
        members = np.flatnonzero(carve.part(spec.part, ids, answers))
        assert spec.n == len(members)
        assert spec.digest == content_digest([ids[i] for i in members], answers[members])
    assert half.train.part == "train-b" and half.train.n == 22500
    assert CIFAR10.test.digest == half.test.digest == content_digest(*official_ids("test", 1000))


def test_the_example_suite_differs_in_train_alone() -> None:
    half = suites.load(str(HALF))
    assert (half.classes, half.templates, half.val, half.test, half.shifts) == (
        CIFAR10.classes, CIFAR10.templates, CIFAR10.val, CIFAR10.test, CIFAR10.shifts
    )  # fmt: skip
    assert half.protocol != CIFAR10.protocol


@pytest.mark.skipif(not (SHARED / "cifar10").is_dir(), reason="needs the JPEGs of ../shared/data/cifar10")
def test_the_jpeg_mirror_is_read_whole(tmp_path: Path) -> None:
    with tarfile.open(SHARED / "cifar10" / "test.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    found = read(CIFAR10, "test", tmp_path)
    ids, answers = official_ids("test", 1000)
    assert found.ids == ids and found.labels.tolist() == answers.tolist()
    assert not found.aligned and found.digest != CIFAR10.test.digest
    assert found.image(9999).size == (32, 32) and found.image(9999).mode == "RGB"
