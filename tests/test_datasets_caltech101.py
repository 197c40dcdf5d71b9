from __future__ import annotations

import shutil
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniatures import lists

from robustbench_ft import carve, datafiles, suites
from robustbench_ft.datasets import open_spec
from robustbench_ft.errors import DataError, UnknownName, UsageError
from robustbench_ft.specs import DatasetSpec

SPLITS = ("train", "val", "test")


def spec(split: str = "test", **fields: Any) -> DatasetSpec:
    return DatasetSpec.model_validate(datafiles.load("caltech101").table(split)).model_copy(update={"digest": None} | fields)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("caltech")
    lists.write_caltech101(root)
    return root


def test_the_splits_share_out_each_class_60_20_20_by_hashes(written: Path, tmp_path: Path) -> None:
    found = {split: open_spec(spec(split, n=n), written, tmp_path) for split, n in zip(SPLITS, (606, 202, 202), strict=True)}
    assert all(one.aligned for one in found.values())
    for split, count in zip(SPLITS, (6, 2, 2), strict=True):
        assert np.bincount(found[split].labels).tolist() == [count] * 101
    every = [f"101_ObjectCategories/lotus/image_{k:04d}.jpg" for k in range(1, 11)]
    by_hash = sorted(every, key=lambda key: blake2b(b"rbft-split-1:" + key.encode(), digest_size=8).digest())
    mine = {split: [key for key in one.ids if "/lotus/" in key] for split, one in found.items()}
    assert mine == {"train": sorted(by_hash[:6]), "val": sorted(by_hash[6:8]), "test": sorted(by_hash[8:])}


def test_cuts_are_rounded_down_and_leave_no_one_out() -> None:
    ids = [f"x/{k:02d}" for k in range(34)]  # 34 of a class, as snoopy nearly: 20.4 and 27.2
    labels = np.zeros(34, dtype=np.int64)
    masks = [carve.split_by_hash(ids, labels, (60, 20, 20), place) for place in range(3)]
    assert [int(mask.sum()) for mask in masks] == [20, 7, 7]
    assert (sum(mask.astype(int) for mask in masks) == 1).all()


def test_background_is_known_and_dropped_and_the_order_of_classes_is_case_sensitive(written: Path, tmp_path: Path) -> None:
    found, wanted = open_spec(spec(n=202), written, tmp_path), spec()
    assert not any("BACKGROUND" in key for key in found.ids) and len(wanted.classes) == 101
    assert wanted.folders[:5] == ("Faces", "Faces_easy", "Leopards", "Motorbikes", "accordion")
    assert wanted.classes[:5] == ("off-center face", "centered face", "leopard", "motorbike", "accordion")
    for key, label in zip(found.ids, found.labels.tolist(), strict=True):
        assert key.split("/")[1] == wanted.folders[label]


def test_names_and_prompts_are_clip_s_without_background() -> None:
    import json

    folder = lists.SAMPLES.parent / "metadata" / "clip-benchmark"
    if not folder.is_dir():
        pytest.skip("shared/data/metadata/clip-benchmark is not here")
    names = json.loads((folder / "en_classnames.json").read_text())["caltech101"]
    prompts = json.loads((folder / "en_zeroshot_classification_templates.json").read_text())["caltech101"]
    assert names[0] == "background" and list(spec().classes) == names[1:]
    assert list(spec().templates) == [line.replace("{c}", "{}") for line in prompts]


def test_grey_images_are_of_mode_l_on_disk(written: Path, tmp_path: Path) -> None:
    found = open_spec(spec("train", n=606), written, tmp_path)
    assert {found.image(place).mode for place in range(len(found))} >= {"L", "RGB"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: shutil.rmtree(f / "lotus"), "no lotus; expected 101 class folders"),
        (lambda f: (f / "lotos").mkdir(), "unknown lotos"),
        (lambda f: [p.unlink() for p in (f / "lotus").iterdir()], "empty lotus"),
        (lambda f: (f / "lotus/image_0011.jpg").write_bytes(b"x"), "caltech101: 203 examples, expected 202"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: Any, message: str) -> None:
    lists.write_caltech101(tmp_path)
    damage(tmp_path / "caltech-101/101_ObjectCategories")
    with pytest.raises(DataError, match=message):
        for split, n in zip(SPLITS, (606, 202, 202), strict=True):
            open_spec(spec(split, n=n), tmp_path, tmp_path / "store")


def test_the_shipped_sizes_follow_from_the_sizes_of_the_classes() -> None:
    """8,677 images of 101 classes."""
    keys = [f"101_ObjectCategories/{name}/image_{k:04d}.jpg" for name, n in COUNTS.items() for k in range(1, n + 1)]
    keys.sort(key=str.encode)
    folders = list(spec().folders)
    labels = np.array([folders.index(key.split("/")[1]) for key in keys])
    assert len(keys) == 8677 and set(COUNTS) == set(folders)
    for place, split in enumerate(SPLITS):
        mask = carve.split_by_hash(keys, labels, (60, 20, 20), place)
        shipped = DatasetSpec.model_validate(datafiles.load("caltech101").table(split))
        assert shipped.n == int(mask.sum())


@pytest.mark.parametrize("fractions", ["60/20", "60/20/30", "60/20/x", ""])
def test_fractions_are_checked(written: Path, tmp_path: Path, fractions: str) -> None:
    with pytest.raises(UsageError, match="expected whole percents that sum to 100"):
        open_spec(spec(options={"fractions": fractions}), written, tmp_path)


def test_splits_and_options_are_checked(written: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="split of caltech101"):
        open_spec(spec(options={"fractions": "50/50", "splits": "train/rest", "dropped": "BACKGROUND_Google"}), written, tmp_path)
    with pytest.raises(UnknownName, match="fraction"):
        open_spec(spec(options={"fraction": "60/20/20"}), written, tmp_path)


def test_clip_s_metric_is_scored_from_the_same_answers() -> None:
    suite = suites.load("caltech101")
    (extra,) = suite.shifts
    assert extra.images == suite.test.name and not extra.headline and extra.metric == "mean-per-class"
    assert [one.name for one in suite.read] == ["caltech101"]


COUNTS = {
    "Faces": 435, "Faces_easy": 435, "Leopards": 200, "Motorbikes": 798, "accordion": 55, "airplanes": 800, "anchor": 42,
    "ant": 42, "barrel": 47, "bass": 54, "beaver": 46, "binocular": 33, "bonsai": 128, "brain": 98, "brontosaurus": 43,
    "buddha": 85, "butterfly": 91, "camera": 50, "cannon": 43, "car_side": 123, "ceiling_fan": 47, "cellphone": 59,
    "chair": 62, "chandelier": 107, "cougar_body": 47, "cougar_face": 69, "crab": 73, "crayfish": 70, "crocodile": 50,
    "crocodile_head": 51, "cup": 57, "dalmatian": 67, "dollar_bill": 52, "dolphin": 65, "dragonfly": 68,
    "electric_guitar": 75, "elephant": 64, "emu": 53, "euphonium": 64, "ewer": 85, "ferry": 67, "flamingo": 67,
    "flamingo_head": 45, "garfield": 34, "gerenuk": 34, "gramophone": 51, "grand_piano": 99, "hawksbill": 100,
    "headphone": 42, "hedgehog": 54, "helicopter": 88, "ibis": 80, "inline_skate": 31, "joshua_tree": 64, "kangaroo": 86,
    "ketch": 114, "lamp": 61, "laptop": 81, "llama": 78, "lobster": 41, "lotus": 66, "mandolin": 43, "mayfly": 40,
    "menorah": 87, "metronome": 32, "minaret": 76, "nautilus": 55, "octopus": 35, "okapi": 39, "pagoda": 47, "panda": 38,
    "pigeon": 45, "pizza": 53, "platypus": 34, "pyramid": 57, "revolver": 82, "rhino": 59, "rooster": 49, "saxophone": 40,
    "schooner": 63, "scissors": 39, "scorpion": 84, "sea_horse": 57, "snoopy": 35, "soccer_ball": 64, "stapler": 45,
    "starfish": 86, "stegosaurus": 59, "stop_sign": 64, "strawberry": 35, "sunflower": 85, "tick": 49, "trilobite": 86,
    "umbrella": 75, "watch": 239, "water_lilly": 37, "wheelchair": 59, "wild_cat": 34, "windsor_chair": 56, "wrench": 39,
    "yin_yang": 60,
}  # fmt: skip
