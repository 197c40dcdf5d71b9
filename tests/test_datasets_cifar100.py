from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniatures import arrays

from robustbench_ft import carve, suites
from robustbench_ft.checksums import checksum
from robustbench_ft.datasets import content_digest, open_spec
from robustbench_ft.errors import DataError, MissingData

CIFAR100 = suites.load("cifar100")
ANSWERS = Path(__file__).parents[2] / "shared" / "data" / "answer-keys" / "cifar100_test_set_original_labels.npy"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cifar100")
    arrays.write_cifar100(folder)
    return folder


def test_fine_labels_are_read_and_an_ordinal_counts_the_class(root: Path) -> None:
    suite = arrays.small("cifar100", arrays.SIZES["cifar100"])
    found = open_spec(suite.test, root, root / "store")
    fine = arrays.labels(100, arrays.TEST, 2)
    assert found.aligned and list(found.ids) == sorted(found.ids) and np.bincount(found.labels).tolist() == [3] * 100
    second = np.flatnonzero(fine == arrays.CIFAR100.index("aquarium_fish"))[1]
    image = found.image(list(found.ids).index("test/aquarium_fish/0001"))
    expected = arrays.noise((300, 3072), 2)[second].reshape(3, 32, 32).transpose(1, 2, 0)
    np.testing.assert_array_equal(np.asarray(image), expected)
    assert suite.classes[found.labels[list(found.ids).index("test/aquarium_fish/0001")]] == "aquarium fish"


def test_val_is_carved_out_of_train(root: Path) -> None:
    suite = arrays.small("cifar100", arrays.SIZES["cifar100"])
    train, val = (open_spec(spec, root, root / "store") for spec in (suite.train, suite.val))
    assert not set(train.ids) & set(val.ids) and np.bincount(val.labels).tolist() == [2] * 100
    assert len(train) + len(val) == 2000


def official_ids(group: str, per_class: int) -> tuple[list[str], np.ndarray[Any, np.dtype[np.int64]]]:
    """Sorted class folders by sorted ordinals."""
    return [f"{group}/{name}/{k:04d}" for name in arrays.CIFAR100 for k in range(per_class)], np.repeat(range(100), per_class)


def test_the_digests_follow_from_the_rule() -> None:
    ids, answers = official_ids("train", 500)
    assert ids == sorted(ids)
    for spec in (CIFAR100.train, CIFAR100.val):
        members = np.flatnonzero(carve.part(str(spec.part), ids, answers))
        assert (spec.n, spec.digest) == (len(members), content_digest([ids[i] for i in members], answers[members]))
    assert CIFAR100.test.digest == content_digest(*official_ids("test", 100))


@pytest.mark.skipif(not ANSWERS.is_file(), reason="needs the labels of ../shared/data/answer-keys")
def test_the_real_labels_of_the_test_set_have_the_digest_of_the_suite(tmp_path: Path) -> None:
    batch = tmp_path / "cifar-100-python" / "test"
    arrays.cifar100_batch(batch, np.load(ANSWERS, allow_pickle=False), 3)
    spec = CIFAR100.test.model_copy(update={"checksums": (("test", f"md5:{checksum(batch, 'md5')}"),)})
    found = open_spec(spec, tmp_path, tmp_path)
    assert found.ids[:2] == ["test/apple/0000", "test/apple/0001"] and found.digest == CIFAR100.test.digest
    first = np.load(ANSWERS, allow_pickle=False)[0]
    assert suites.load("cifar100").classes[first] == "mountain", "the test set begins with a mountain"
    pixels = arrays.noise((10_000, 3072), 3)[0].reshape(3, 32, 32).transpose(1, 2, 0)
    np.testing.assert_array_equal(np.asarray(found.image(list(found.ids).index("test/mountain/0000"))), pixels)


def test_what_is_not_the_official_file_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match="test is not the official file") as caught:
        open_spec(CIFAR100.test, root, root / "store")
    assert "rbft data prepare cifar100" in caught.value.hint


def test_damage_and_absence_are_named(tmp_path: Path) -> None:
    spec = arrays.small("cifar100", arrays.SIZES["cifar100"]).test
    with pytest.raises(MissingData, match="nothing at .*cifar-100-python"):
        open_spec(spec, tmp_path, tmp_path)
    batch = tmp_path / "cifar-100-python" / "test"
    for make, message in (
        (lambda: arrays.cifar100_batch(batch, arrays.labels(100, 3, 2) + 1, 2), "label 100 is not one of 0 to 99"),
        (lambda: arrays.cifar100_batch(batch, arrays.labels(100, 3, 2)[:-1], 2), r"test has 2 images of \w+, expected 3"),
        (lambda: arrays.cifar100_batch(batch, arrays.labels(100, 2, 2), 2), "cifar100: 200 examples, expected 300"),
        (lambda: batch.write_bytes(batch.read_bytes()[:-200]), "test is damaged"),
    ):
        make()
        with pytest.raises(DataError, match=message):
            open_spec(spec, tmp_path, tmp_path)


def test_cifar10s_file_in_its_place_has_no_fine_labels(root: Path, tmp_path: Path) -> None:
    batch = tmp_path / "cifar-100-python" / "test"
    batch.parent.mkdir()
    batch.write_bytes((root / "cifar-100-python" / "test").read_bytes().replace(b"fine_labels", b"labels_fine"))
    with pytest.raises(DataError, match="does not hold .* a list fine_labels"):
        open_spec(arrays.small("cifar100", arrays.SIZES["cifar100"]).test, tmp_path, tmp_path)
