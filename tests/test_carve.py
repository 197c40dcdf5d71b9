from hashlib import blake2b

import numpy as np
import pytest

from robustbench_ft import carve
from robustbench_ft.errors import UnknownName

IDS = [f"train/{name}/{k:04d}" for name in ("cat", "dog") for k in range(40)]
LABELS = np.repeat([0, 1], 40)


def test_val_is_the_first_tenth_of_each_class_by_the_hash_of_the_id() -> None:
    def rank(i: int) -> bytes:
        return blake2b(b"rbft-val-1:" + IDS[i].encode(), digest_size=8).digest()

    expected = {*sorted(range(40), key=rank)[:4], *sorted(range(40, 80), key=rank)[:4]}
    assert set(np.flatnonzero(carve.part("val", IDS, LABELS)).tolist()) == expected


def test_parts_are_disjoint_balanced_and_complete() -> None:
    train, val, a, b = (carve.part(name, IDS, LABELS) for name in ("train", "val", "train-a", "train-b"))
    assert not (train & val).any() and (train | val).all()
    assert not (a & b).any() and ((a | b) == train).all()
    assert np.bincount(LABELS[a]).tolist() == np.bincount(LABELS[b]).tolist() == [18, 18]


def test_a_part_does_not_depend_on_the_order_of_the_ids() -> None:
    order = np.random.default_rng(0).permutation(80)
    shuffled = carve.part("train-a", [IDS[i] for i in order], LABELS[order])
    assert (shuffled == carve.part("train-a", IDS, LABELS)[order]).all()


def test_val_of_another_size_per_class() -> None:
    val = carve.part("val", IDS, LABELS, val_per_class=7)
    assert np.bincount(LABELS[val]).tolist() == [7, 7]
    assert (val | ~carve.part("val", IDS, LABELS)).all(), "a larger val holds the smaller one"


def test_val_is_at_most_5000_examples() -> None:
    assert carve.default_val_per_class(np.repeat(np.arange(10), 5000)) == 500
    assert carve.default_val_per_class(np.repeat(np.arange(10), 9000)) == 500
    assert carve.default_val_per_class(np.repeat(np.arange(101), 50)) == 5


def test_an_unknown_part_names_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="train-a, train-b, val"):
        carve.part("train-c", IDS, LABELS)
