from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from robustbench_ft.datasets import open_spec
from robustbench_ft.errors import DataError, MissingData, UnknownName, UsageError
from robustbench_ft.preprocess import Preprocess
from robustbench_ft.specs import DatasetSpec

FOLDERS, OTHERS = ("air_freshener", "t-shirt", "alarm_clock"), ("basket_ball", "zucchini")
RED = (255, 0, 0)


def spec(**fields: Any) -> DatasetSpec:
    base: dict[str, Any] = {
        "name": "objectnet", "n": 6, "format": "objectnet", "path": "objectnet-1.0", "split": "test", "classes": FOLDERS,
        "folders": FOLDERS, "options": {"crop": 2}, "source": "objectnet.dev",
    }  # fmt: skip
    return DatasetSpec.model_validate(base | fields)


def write(root: Path) -> Path:
    """Images with a red border of one pixel in all folders, and the mapping that names them."""
    place = root / "objectnet-1.0"
    for number, folder in enumerate((*FOLDERS, *OTHERS)):
        (place / "images" / folder).mkdir(parents=True)
        for k in range(2):
            inner = np.random.default_rng(10 * number + k).integers(0, 256, (34, 42, 3), dtype=np.uint8)
            image = Image.new("RGB", (44, 36), RED)
            image.paste(Image.fromarray(inner), (1, 1))
            image.save(place / "images" / folder / f"{number:x}{k:x}f.png")
    (place / "mappings").mkdir()
    labels = {folder: folder.replace("_", " ").capitalize() for folder in (*FOLDERS, *OTHERS)}
    (place / "mappings" / "folder_to_objectnet_label.json").write_text(json.dumps(labels))
    return place


def test_the_spec_s_folders_are_read_in_its_order_and_the_others_dropped(tmp_path: Path) -> None:
    write(tmp_path)
    found = open_spec(spec(), tmp_path, tmp_path / "store")
    assert [key.split("/")[:2] for key in found.ids] == [
        ["images", f] for f in ("air_freshener", "alarm_clock", "t-shirt") for _ in "ab"
    ]
    assert found.labels.tolist() == [0, 0, 2, 2, 1, 1] and found.aligned
    assert found.ids[0] == "images/air_freshener/00f.png"


@pytest.mark.parametrize(("options", "crop"), [({}, 2), ({"crop": 2}, 2), ({"crop": 1}, 1), ({"crop": 0}, 0)])
def test_the_border_is_gone_before_any_transform(options: dict[str, int], crop: int, tmp_path: Path) -> None:
    place = write(tmp_path)
    found = open_spec(spec(options=options), tmp_path, tmp_path / "store")
    whole = np.asarray(Image.open(place / found.ids[3]))
    expected = whole[crop : len(whole) - crop, crop : whole.shape[1] - crop]
    assert found.image(3).size == (44 - 2 * crop, 36 - 2 * crop)
    np.testing.assert_array_equal(np.asarray(found.image(3)), expected)
    assert (tuple(np.asarray(found.image(3))[0, 0]) == RED) == (crop == 0)
    config = PreprocessCfg(size=(32, 32))
    ours, theirs = Preprocess(config), image_transform_v2(config, is_train=False)
    assert torch.equal(ours.normalise(ours.eval(found.image(3))[None])[0], theirs(Image.fromarray(expected)))


def test_the_crop_is_protocol_and_has_to_be_a_number_of_pixels(tmp_path: Path) -> None:
    write(tmp_path)
    assert spec().decisive() != spec(options={"crop": 0}).decisive()
    for wrong in (-1, "two"):
        with pytest.raises(UsageError, match="crop is .*, expected a number of pixels"):
            open_spec(spec(options={"crop": wrong}), tmp_path, tmp_path / "store")
    with pytest.raises(UnknownName, match="'border'"):
        open_spec(spec(options={"border": 1}), tmp_path, tmp_path / "store")


def test_only_the_archive_s_own_folders_may_be_there(tmp_path: Path) -> None:
    place = write(tmp_path)
    assert len(open_spec(spec(), tmp_path, tmp_path / "store")) == 6
    (place / "images" / "cat").mkdir()
    with pytest.raises(DataError, match="images: unknown cat"):
        open_spec(spec(), tmp_path, tmp_path / "store")
    (place / "mappings" / "folder_to_objectnet_label.json").unlink()
    assert len(open_spec(spec(), tmp_path, tmp_path / "store")) == 6, "nothing says which folders there are"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "images" / "t-shirt").rename(p / "images" / "t_shirt"), "no t-shirt, unknown t_shirt"),
        (lambda p: [file.unlink() for file in (p / "images" / "t-shirt").iterdir()], "empty t-shirt"),
        (lambda p: (p / "images" / "t-shirt" / "11f.png").unlink(), "5 examples, expected 6"),
        (lambda p: (p / "mappings" / "folder_to_objectnet_label.json").write_text("{"), "is no table of folders"),
        (
            lambda p: (p / "mappings" / "folder_to_objectnet_label.json").write_text('{"chair": 1}'),
            "lacks the folder air_freshener",
        ),
    ],
)
def test_what_does_not_fit_is_named(damage: Any, message: str, tmp_path: Path) -> None:
    damage(write(tmp_path))
    with pytest.raises(DataError, match=message):
        open_spec(spec(), tmp_path, tmp_path / "store")


def test_absent_folders_are_missing_and_an_image_smaller_than_its_border_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="nothing at"):
        open_spec(spec(), tmp_path, tmp_path / "store")
    (tmp_path / "objectnet-1.0").mkdir()
    with pytest.raises(MissingData, match=r"no folder .*objectnet-1\.0/images"):
        open_spec(spec(), tmp_path, tmp_path / "store")
    (tmp_path / "objectnet-1.0").rmdir()
    Image.new("RGB", (4, 9)).save(write(tmp_path) / "images" / "t-shirt" / "10f.png")
    found = open_spec(spec(), tmp_path, tmp_path / "store")
    with pytest.raises(DataError, match=r"t-shirt/10f\.png is 4 x 9, no more than a border of 2"):
        found.image(4)
