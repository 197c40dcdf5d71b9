from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniatures import imagenet

from robustbench_ft import carve, datafiles
from robustbench_ft.checksums import checksum
from robustbench_ft.datasets import open_spec
from robustbench_ft.errors import DataError, MissingData, UnknownName
from robustbench_ft.specs import DatasetSpec

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


# tracks: frames of one video stay together

FRAMES = [f"train/{label}/{track:02}_{k:02}" for label in range(2) for track in range(6) for k in range(3 + track)]
of_class = np.array([int(key.split("/")[1]) for key in FRAMES])
TRACKS = np.array([int(key.split("/")[2][:2]) for key in FRAMES])


def by_hash(heads: list[str]) -> list[int]:
    return sorted(range(len(heads)), key=lambda k: blake2b(b"rbft-val-1:" + heads[k].encode(), digest_size=8).digest())


def test_whole_tracks_are_val_by_the_hash_of_their_first_id_until_a_class_has_enough() -> None:
    val = carve.part("val", FRAMES, of_class, val_per_class=7, tracks=TRACKS)
    for label in range(2):
        taken: list[int] = []
        for track in by_hash([f"train/{label}/{track:02}_00" for track in range(6)]):
            if sum(3 + t for t in taken) < 7:
                taken.append(track)
        held = {int(t) for t in TRACKS[val & (of_class == label)]}
        assert held == set(taken) and 7 <= (val & (of_class == label)).sum() < 7 + 8
        assert (val[of_class == label] == np.isin(TRACKS[of_class == label], taken)).all(), "no track in both parts"


def test_tracks_do_not_depend_on_the_order_of_the_ids_and_train_is_the_rest() -> None:
    val, train = (carve.part(name, FRAMES, of_class, val_per_class=7, tracks=TRACKS) for name in ("val", "train"))
    assert (val ^ train).all()
    order = np.random.default_rng(1).permutation(len(FRAMES))
    shuffled = carve.part("val", [FRAMES[i] for i in order], of_class[order], val_per_class=7, tracks=TRACKS[order])
    assert (shuffled == val[order]).all()


def test_tracks_of_two_classes_with_one_number_are_two() -> None:
    val = carve.part("val", FRAMES, of_class, val_per_class=1, tracks=TRACKS)
    assert [len(set(TRACKS[val & (of_class == label)].tolist())) for label in range(2)] == [1, 1]


# shots


def test_shots_are_the_first_by_a_hash_under_the_seed() -> None:
    def rank(i: int, seed: int) -> bytes:
        return blake2b(f"rbft-shots-1:{seed}:".encode() + IDS[i].encode(), digest_size=8).digest()

    for seed in (0, 3):
        expected = {*sorted(range(40), key=lambda i: rank(i, seed))[:4], *sorted(range(40, 80), key=lambda i: rank(i, seed))[:4]}
        assert set(np.flatnonzero(carve.shots(IDS, LABELS, 4, seed=seed)).tolist()) == expected
    assert not (carve.shots(IDS, LABELS, 4, seed=0) == carve.shots(IDS, LABELS, 4, seed=3)).all()


def test_more_shots_hold_the_fewer() -> None:
    few, many = carve.shots(IDS, LABELS, 4, seed=2), carve.shots(IDS, LABELS, 16, seed=2)
    assert (many | ~few).all() and np.bincount(LABELS[many]).tolist() == [16, 16]


# minival, and model soups' own


def test_minival_is_the_first_of_each_class_by_hash_and_train_the_rest(tmp_path: Path) -> None:
    imagenet.write_imagenet(tmp_path)
    small = datafiles.load(imagenet.small_suite(tmp_path / "suite").with_name("imagenet.toml").name, tmp_path / "suite")
    train, val = (open_spec(spec, tmp_path, tmp_path / "store") for spec in small.specs() if spec.split == "train")
    files = {f"train/{path.parent.name}/{path.name}" for path in (tmp_path / "imagenet" / "train").glob("*/*")}
    expected = set()
    for wnid in imagenet.WNIDS:
        of_class = sorted(key for key in files if wnid in key)
        expected |= {of_class[k] for k in by_hash(of_class)[: imagenet.MINIVAL]}
    assert set(val.ids) == expected and set(train.ids) == files - expected
    assert np.bincount(val.labels).tolist() == [imagenet.MINIVAL] * len(imagenet.WNIDS)


def test_imagenet_holds_out_26_of_each_class() -> None:
    specs = {spec.name: spec for spec in datafiles.load("imagenet").specs()}
    train, val = specs["imagenet-train"], specs["imagenet-minival"]
    assert (train.part, val.part, train.val_per_class, val.val_per_class) == ("train", "val", 26, 26)
    assert train.n + val.n == 1_281_167 and val.n == 26 * len(val.classes)
    soups = [specs["imagenet-soups-train"], specs["imagenet-soups-minival"]]
    assert [spec.n for spec in soups] == [train.n, val.n] and soups[0].mask == soups[1].mask is not None


MEMBERS = [f"train/n{label:02}/n{label:02}_{k}.JPEG" for label in range(3) for k in range(4)]
HELD = [1, 2, 6, 9]


def soups(folder: Path, values: Any = None, **fields: Any) -> DatasetSpec:
    """Model soups' val part of ImageNet over ``MEMBERS``, with a mask file of ``values`` (none: ``HELD``) in ``folder``."""
    real = next(spec for spec in datafiles.load("imagenet").specs() if spec.name == "imagenet-soups-minival")
    assert real.mask is not None
    file = folder / real.mask[0]
    np.save(file, np.isin(np.arange(len(MEMBERS)), HELD).astype(float) if values is None else values)
    mask = (real.mask[0], f"git:{checksum(file, 'git')}")
    return real.model_copy(update={"mask": mask, "mask_check": (2, "n01_2.JPEG")} | fields)


def test_a_mask_file_decides_in_place_of_hashes(tmp_path: Path) -> None:
    spec = soups(tmp_path)
    held = carve.from_mask(spec, tmp_path, MEMBERS)
    assert np.flatnonzero(held).tolist() == HELD
    assert (carve.from_mask(spec.model_copy(update={"part": "train"}), tmp_path, MEMBERS) == ~held).all()


def test_the_official_mask_is_known_by_its_blob_id_and_its_1001st_member(tmp_path: Path) -> None:
    for spec in datafiles.load("imagenet").specs():
        if spec.mask is not None:
            assert spec.mask[1] == "git:ef90a85e8a4bea436b76b766846893577d88cf91"
            assert spec.mask_check == (1000, "n01675722_4108.JPEG")
            np.save(tmp_path / spec.mask[0], np.zeros(12))
            with pytest.raises(DataError, match=r"npy is not the official file: .*expected ef90a85e8a4b") as caught:
                carve.from_mask(spec, tmp_path, MEMBERS)
            assert "github.com/mlfoundations/model-soups (commit d5398f1)" in caught.value.hint


def test_a_mask_file_that_is_missing_is_named_with_where_to_get_it(tmp_path: Path) -> None:
    spec = soups(tmp_path)
    (tmp_path / "imagenet_98_idxs.npy").unlink()
    with pytest.raises(MissingData, match=r"imagenet-soups-minival: no mask file at .*imagenet_98_idxs\.npy") as caught:
        carve.from_mask(spec, tmp_path, MEMBERS)
    assert caught.value.hint.startswith(
        "get imagenet_98_idxs.npy of https://github.com/mlfoundations/model-soups (commit d5398f1)"
    )
    assert str(tmp_path / "imagenet_98_idxs.npy") in caught.value.hint


@pytest.mark.parametrize(
    ("values", "ids", "message"),
    [
        (np.zeros(11), MEMBERS, r"\(11,\) values, expected one for each of 12 training images"),
        (
            None,
            [*MEMBERS[:5], "train/n01/n01_11.JPEG", "train/n01/n01_2x.JPEG", *MEMBERS[7:]],
            r"member 3 of the mask is .*n01_2x",
        ),
        (np.zeros(12), MEMBERS, r"member 3 of the mask is none, expected n01_2\.JPEG: a training image is missing"),
    ],
)
def test_a_mask_that_does_not_fit_the_images_is_refused(values: Any, ids: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        carve.from_mask(soups(tmp_path, values), tmp_path, ids)


def test_a_mask_file_of_objects_is_never_unpickled(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"npy is not a \.npy array"):
        carve.from_mask(soups(tmp_path, np.array(["a", None], dtype=object)), tmp_path, MEMBERS)


def test_a_training_set_is_read_under_its_mask(tmp_path: Path) -> None:
    imagenet.write_imagenet(tmp_path, train=3)
    small = [row for row in datafiles.load("imagenet").rows() if row.folder in imagenet.WNIDS]
    names = {"classes": tuple(row.name for row in small), "folders": tuple(row.folder for row in small)}
    held = np.isin(np.arange(36), range(0, 36, 3)).astype(float)
    order = sorted(f"train/{path.parent.name}/{path.name}" for path in (tmp_path / "imagenet" / "train").glob("*/*"))
    spec = soups(tmp_path, held, mask_check=(1, order[3].rpartition("/")[2]), n=12, **names)
    val = open_spec(spec, tmp_path, tmp_path / "store")
    assert list(val.ids) == order[::3] and np.bincount(val.labels).tolist() == [1] * 12
    train = open_spec(spec.model_copy(update={"part": "train", "n": 24}), tmp_path, tmp_path / "store")
    assert not set(train.ids) & set(val.ids) and len(train) == 24
