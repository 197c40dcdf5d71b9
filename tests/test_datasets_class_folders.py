from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from miniatures.folders import encoded, write_class_folders
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from robustbench_ft import carve
from robustbench_ft.datasets import class_folders, content_digest, index, open_spec
from robustbench_ft.datasets.index import Listing
from robustbench_ft.errors import DataError, MissingData, UnknownName
from robustbench_ft.preprocess import Preprocess
from robustbench_ft.specs import DatasetSpec

CLASSES = ("n02", "n01", "n10", "zoë")
SHARED = Path(__file__).parents[2] / "shared" / "data" / "imagenet-samples"


def spec(**fields: Any) -> DatasetSpec:
    base: dict[str, Any] = {
        "name": "made-up", "n": 8, "format": "class_folders", "path": "place", "split": "val", "classes": CLASSES,
        "folders": CLASSES, "options": {"folder": "val|val_in_folder", "id": "val"}, "source": "nowhere",
    }  # fmt: skip
    return DatasetSpec.model_validate(base | fields)


def write(root: Path, folder: str = "val") -> Path:
    write_class_folders(root / "place" / folder, CLASSES)
    return root / "place" / folder


def test_ids_are_official_paths_in_byte_order_and_labels_the_spec_s(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b", "val_in_folder")
    a, b = (open_spec(spec(), tmp_path / root, tmp_path / "store") for root in "ab")
    assert list(a.ids[:3]) == ["val/n01/n01_0.JPEG", "val/n01/n01_1.JPEG", "val/n02/n02_0.JPEG"]
    assert list(a.ids) == sorted(a.ids, key=str.encode) and a.ids[-1] == "val/zoë/zoë_1.JPEG"
    assert a.labels.tolist() == [1, 1, 0, 0, 2, 2, 3, 3] and a.aligned
    assert a.ids == b.ids and a.digest == b.digest == content_digest(a.ids, a.labels)
    np.testing.assert_array_equal(
        np.asarray(b.image(2)), np.asarray(Image.open(tmp_path / "b/place/val_in_folder/n02/n02_0.JPEG"))
    )


def test_numbered_folders_are_numbers_and_not_sorted_as_text(tmp_path: Path) -> None:
    numbers = tuple(map(str, range(12)))
    write_class_folders(tmp_path / "place", numbers, 1, name="{k}.jpeg")
    wanted = spec(n=12, classes=numbers, folders=numbers, options={"id": "matched-frequency"})
    found = open_spec(wanted, tmp_path, tmp_path / "store")
    assert {key.split("/")[1]: label for key, label in zip(found.ids, found.labels.tolist(), strict=True)} == {
        str(label): label for label in range(12)
    }
    (tmp_path / "place" / "2").rename(tmp_path / "place" / "02")
    with pytest.raises(DataError, match="no 2, unknown 02"):
        open_spec(wanted, tmp_path, tmp_path / "store")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: shutil.rmtree(f / "n01"), "val: no n01; expected 4 class folders"),
        (lambda f: (f / "n03").mkdir(), "val: unknown n03"),
        (lambda f: [(f / f"x{k}").mkdir() for k in range(5)], "unknown x0, x1, x2 and 2 more"),
        (lambda f: [(f / "n10" / f"n10_{k}.JPEG").unlink() for k in (0, 1)], "val: empty n10"),
        (lambda f: (f / "n10").rename(f / "N10"), "val: no n10, unknown N10"),
        (lambda f: (f / "n10" / "notes.txt").write_text(""), r"n10/notes\.txt is no image file"),
        (lambda f: (f / "n10" / "deeper").mkdir(), "n10/deeper is no image file"),
        (lambda f: (f / "n10" / "n10_9.jpg").symlink_to("gone.jpg"), r"n10/n10_9\.jpg is no image file"),
        (lambda f: shutil.copy(f / "n10" / "n10_0.JPEG", f), r"images outside of the class folders: n10_0\.JPEG"),
        (lambda f: (f / "n10" / "n10_1.JPEG").unlink(), "7 examples, expected 8"),
        (lambda f: shutil.copy(f / "n10" / "n10_0.JPEG", f / "n01"), "9 examples, expected 8"),
    ],
)
def test_folders_that_do_not_fit_are_named(damage: Any, message: str, tmp_path: Path) -> None:
    damage(write(tmp_path))
    with pytest.raises(DataError, match=message) as caught:
        open_spec(spec(dataset="made-up"), tmp_path, tmp_path / "store")
    assert caught.value.hint == f"rbft data verify made-up --data {tmp_path}" and type(caught.value) is DataError


def test_what_systems_and_archives_leave_behind_is_passed_over(tmp_path: Path) -> None:
    folder = write(tmp_path)
    for name in ("README.txt", ".DS_Store", "n01/.DS_Store", "n01/._n01_0.JPEG", "n02/Thumbs.db"):
        (folder / name).write_bytes(b"of no concern")
    (folder / "__MACOSX").mkdir()
    assert len(open_spec(spec(), tmp_path, tmp_path / "store")) == 8


def test_a_flat_folder_is_not_taken_for_a_set_without_classes(tmp_path: Path) -> None:
    folder = tmp_path / "place" / "val"
    folder.mkdir(parents=True)
    for k in range(3):
        (folder / f"ILSVRC2012_val_{k:08}.JPEG").write_bytes(encoded(k))
    with pytest.raises(DataError, match="val holds 3 images that are not sorted into class folders") as caught:
        open_spec(spec(dataset="imagenet"), tmp_path, tmp_path / "store")
    assert caught.value.hint == f"rbft data prepare imagenet --data {tmp_path}"


def test_what_is_not_there_is_missing_and_foreign_folders_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="nothing at"):
        open_spec(spec(), tmp_path, tmp_path / "store")
    (tmp_path / "place").mkdir()
    with pytest.raises(MissingData, match="place/val or .*place/val_in_folder holds no class folders"):
        open_spec(spec(), tmp_path, tmp_path / "store")
    write_class_folders(tmp_path / "place" / "val_in_folder", ("cat", "dog"))
    with pytest.raises(DataError, match="val_in_folder: no n02, n01, n10 and 1 more, unknown cat, dog"):
        open_spec(spec(), tmp_path, tmp_path / "store")
    with pytest.raises(UnknownName, match="'crop'.*Known: folder, id, mirror"):
        open_spec(spec(options={"crop": 2}), tmp_path, tmp_path / "store")


def test_a_file_in_the_wrong_class_is_seen_by_the_pinned_digest_alone(tmp_path: Path) -> None:
    folder = write(tmp_path)
    pinned = spec(digest=open_spec(spec(), tmp_path, tmp_path / "store").digest)
    assert open_spec(pinned, tmp_path, tmp_path / "store").digest == pinned.digest
    one, other = folder / "n01" / "n01_0.JPEG", folder / "n02" / "n02_0.JPEG"
    one.rename(folder / "n02" / one.name)
    other.rename(folder / "n01" / other.name)
    assert len(open_spec(spec(), tmp_path, tmp_path / "store")) == 8
    with pytest.raises(DataError, match="a file or label differs"):
        open_spec(pinned, tmp_path, tmp_path / "store")


def test_a_truncated_image_is_named_when_it_is_opened(tmp_path: Path) -> None:
    folder = write(tmp_path)
    file = folder / "n01" / "n01_1.JPEG"
    file.write_bytes(file.read_bytes()[:-300])
    (folder / "n02" / "n02_0.JPEG").write_bytes(b"no image")
    found = open_spec(spec(), tmp_path, tmp_path / "store")
    with pytest.raises(DataError, match=r"n01/n01_1\.JPEG cannot be decoded: image file is truncated") as caught:
        found.image(1)
    assert "rbft data verify" in caught.value.hint
    with pytest.raises(DataError, match=r"n02/n02_0\.JPEG cannot be decoded"):
        found.image(2)
    (folder / "n10" / "n10_0.JPEG").unlink()
    with pytest.raises(DataError, match=r"n10/n10_0\.JPEG cannot be read: No such file"):
        found.image(4)


@pytest.mark.parametrize(
    ("mode", "name"), [("RGB", "a.JPG"), ("L", "a.jpeg"), ("CMYK", "a.JPEG"), ("P", "a.png"), ("LA", "a.PNG")]
)
def test_images_of_any_mode_and_suffix_come_out_as_open_clip_s_transform_makes_them(mode: str, name: str, tmp_path: Path) -> None:
    file = tmp_path / "place" / "only" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(encoded(7, file.suffix, mode, (61, 47)))
    found = open_spec(spec(n=1, classes=("only",), folders=("only",), options={}), tmp_path, tmp_path / "store")
    assert found.image(0).mode == mode and list(found.ids) == [f"only/{name}"]
    config = PreprocessCfg(size=(32, 32))
    ours, theirs = Preprocess(config), image_transform_v2(config, is_train=False)
    with Image.open(file) as image:
        assert torch.equal(ours.normalise(ours.eval(found.image(0))[None])[0], theirs(image))


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the JPEGs of ../shared/data/imagenet-samples")
def test_real_images_behind_links_are_read(tmp_path: Path) -> None:
    files = sorted(SHARED.glob("*.JPEG"))[:40]
    wnids = tuple(file.name.partition("_")[0] for file in files)
    for wnid, file in zip(wnids, files, strict=True):
        (tmp_path / "place" / wnid).mkdir(parents=True)
        (tmp_path / "place" / wnid / file.name).symlink_to(file)
    found = open_spec(spec(n=40, classes=wnids, folders=wnids, options={}), tmp_path, tmp_path / "store")
    config = PreprocessCfg(size=(224, 224))
    ours, theirs = Preprocess(config), image_transform_v2(config, is_train=False)
    for i, file in enumerate(files):
        with Image.open(file) as image:
            assert torch.equal(ours.normalise(ours.eval(found.image(i))[None])[0], theirs(image))


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    folder = write(tmp_path, "elsewhere")
    (tmp_path / "place" / "val").mkdir()
    for name in CLASSES:
        (tmp_path / "place" / "val" / name).symlink_to(folder / name)
    assert len(open_spec(spec(), tmp_path, tmp_path / "store")) == 8


@pytest.mark.parametrize(
    "change",
    [
        lambda f: shutil.copy(f / "n01" / "n01_0.JPEG", f / "n01" / "n01_2.JPEG"),
        lambda f: (f / "n01" / "n01_0.JPEG").unlink(),
        lambda f: (f / "n01" / "n01_0.JPEG").rename(f / "n01" / "n01_7.JPEG"),
        lambda f: (f.rename(f.with_name("old")), write_class_folders(f, CLASSES, 3)),
        lambda f: (f / "n01").rename(f.parent / "n01") and os.symlink(_other(f), f / "n01"),
    ],
    ids=["added", "removed", "renamed", "replaced", "linked"],
)
def test_a_kept_index_is_used_until_a_folder_changes(change: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, scans = write(tmp_path), []

    def counted(*args: Any, **kwargs: Any) -> tuple[Listing, list[Path]]:
        scans.append(args)
        return scan(*args, **kwargs)

    scan = class_folders.scan
    monkeypatch.setattr(class_folders, "scan", counted)
    first, again = (class_folders.read(spec(), tmp_path, tmp_path / "store") for _ in range(2))
    assert len(scans) == 1 and first.ids == again.ids and again.labels.tolist() == first.labels.tolist()
    change(folder)
    after = class_folders.read(spec(), tmp_path, tmp_path / "store")
    assert len(scans) == 2 and list(after.ids) != list(first.ids)
    for file in (tmp_path / "store" / "index").iterdir():
        file.write_bytes(file.read_bytes()[:-9])
    assert class_folders.read(spec(), tmp_path, tmp_path / "store").ids == after.ids and len(scans) == 3


def _other(folder: Path) -> Path:
    other = folder.parent / "other"
    other.mkdir()
    (other / "another.JPEG").write_bytes(encoded(3))
    return other


def test_what_changes_while_it_is_listed_is_not_kept(tmp_path: Path) -> None:
    folder = write(tmp_path)

    def build() -> tuple[Listing, list[Path]]:
        made = class_folders.scan(folder, CLASSES, "")
        (folder / "n01" / "late.JPEG").write_bytes(b"")
        os.utime(folder / "n01", (2e9, 2e9))
        return made

    index.kept(tmp_path / "store", "key", build)
    assert not (tmp_path / "store" / "index").exists()


def test_the_carving_of_a_large_set_is_kept_and_a_damaged_copy_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    part, carved = carve.part, []
    monkeypatch.setattr(carve, "part", lambda *args, **fields: (carved.append(args), part(*args, **fields))[1])
    monkeypatch.setattr(carve, "LARGE", 8)
    wanted = spec(n=4, part="val", val_per_class=1)

    def ids() -> list[str]:
        return list(open_spec(wanted, tmp_path, tmp_path / "store").ids)

    first = ids()
    assert ids() == first and len(carved) == 1
    assert open_spec(spec(n=4, part="train", val_per_class=1), tmp_path, tmp_path / "store").ids[0] not in first
    for file in (tmp_path / "store" / "parts").iterdir():
        file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    assert ids() == first and len(carved) == 3
