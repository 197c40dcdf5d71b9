"""The ImageNet family in its official layouts: twelve real classes, a handful of images of each.

Every writer takes the class folders that it writes, so that a set of a thousand classes can be as small as a test likes;
a class table with as many rows has to go with it. ``small_suite`` writes tables, data set files and a suite for ``WNIDS``,
cut out of the package's own, and ``write_family`` the images that they describe.

Images are crops of real ones where the shared samples are there (``SAMPLES``), drawn ones otherwise; no two are the same.
"""

from __future__ import annotations

import hashlib
import io
import json
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from robustbench_ft import datafiles, words
from robustbench_ft.files import DATA

SAMPLES = Path(__file__).parents[3] / "shared" / "data" / "imagenet-samples"

WNIDS = (
    "n01440764", "n01491361", "n01498041", "n01514668", "n01531178", "n02708093",
    "n02769748", "n02948072", "n03196217", "n03773504", "n04008634", "n07753592",
)  # fmt: skip
"""Twelve, so that folders ``0`` to ``11`` sort as text in another order; two of one name, "missile"."""
R_WNIDS = ("n01498041", "n01531178", "n02769748", "n02948072", "n03773504", "n07753592")
A_WNIDS = ("n01498041", "n01531178", "n02948072", "n03196217", "n07753592")
OBJECTNET = ("alarm_clock", "backpack", "banana", "candle")
"""Four folders; an alarm clock is an analog or a digital clock."""
DROPPED = ("air_freshener", "ziploc_bag")
"""Folders of the archive that ImageNet does not share."""
PER_CLASS = {"train": 8, "val": 3, "imagenet-v2": 2, "imagenet-a": 2, "imagenet-sketch": 2, "objectnet": 3}
"""Images a class; of R there are 2 and 3 by turns."""
MINIVAL = 2
STYLES = ("art", "cartoon", "graffiti")
VARIANTS = {
    "matched-frequency": "imagenetv2-matched-frequency-format-val",
    "threshold-0.7": "imagenetv2-threshold0.7-format-val",
    "top-images": "imagenetv2-top-images-format-val",
}
RED = (255, 0, 0)


def photo(wnid: str, key: str, size: tuple[int, int] = (72, 60)) -> Image.Image:
    """An RGB image of a class, decided by ``key``: a crop of the class's real sample, else drawn."""
    seed = int.from_bytes(hashlib.sha256(f"{wnid} {key}".encode()).digest()[:8])
    draw = np.random.default_rng(seed)
    whole = _sample(wnid)
    if whole is None:
        tint = np.random.default_rng(int(wnid[1:])).integers(0, 256, 3)
        noise = np.clip(draw.normal(tint, 40, (size[1], size[0], 3)), 0, 255)
        return Image.fromarray(noise.astype(np.uint8))
    share = draw.uniform(0.6, 0.95)
    box = round(whole.width * share), round(whole.height * share)
    left, top = int(draw.integers(whole.width - box[0])), int(draw.integers(whole.height - box[1]))
    return whole.crop((left, top, left + box[0], top + box[1])).resize(size)


@cache
def _sample(wnid: str) -> Image.Image | None:
    """The real image of a class, at most 200 pixels a side; None where the samples are not there."""
    found = next(iter(sorted(SAMPLES.glob(f"{wnid}_*.JPEG"))), None)
    if found is None:
        return None
    image = Image.open(found).convert("RGB")
    image.thumbnail((200, 200))
    return image


def save(image: Image.Image, path: Path, kind: str = "JPEG") -> None:
    """Write an image in the format ``kind``, whatever the suffix; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    out = io.BytesIO()
    image.save(out, kind)
    path.write_bytes(out.getvalue())


def write_imagenet(
    root: Path,
    wnids: Sequence[str] = WNIDS,
    *,
    train: int = PER_CLASS["train"],
    val: int = PER_CLASS["val"],
    place: str = "imagenet",
    val_folder: str = "val",
) -> None:
    """``imagenet/train/<wnid>/<wnid>_<n>.JPEG`` and ``imagenet/val/<wnid>/ILSVRC2012_val_<n>.JPEG``.

    The first class's first training images are grey, CMYK and a PNG called JPEG, as some of the real ones are; numbers have
    one to five digits, so that paths sorted as text are not sorted by number; val's run across the classes.
    """
    modes = {0: ("L", "JPEG"), 1: ("CMYK", "JPEG"), 2: ("RGB", "PNG")}
    for label, wnid in enumerate(wnids):
        for k in range(train):
            mode, kind = modes.get(k, ("RGB", "JPEG")) if label == 0 else ("RGB", "JPEG")
            name = f"{wnid}_{(k + 1) * 7 ** (k % 5)}.JPEG"
            save(photo(wnid, f"train {k}").convert(mode), root / place / "train" / wnid / name, kind)
        for k in range(val):
            name = f"ILSVRC2012_val_{k * len(wnids) + (5 * label) % len(wnids) + 1:08}.JPEG"
            save(photo(wnid, f"val {k}"), root / place / val_folder / wnid / name)


def write_imagenet_v2(
    root: Path, wnids: Sequence[str] = WNIDS, *, per_class: int = PER_CLASS["imagenet-v2"], folders: dict[str, str] = VARIANTS
) -> None:
    """``imagenetv2-<variant>-format-val/<label>/<hash>.jpeg`` for each variant; folders are numbers without zeros before."""
    for variant, folder in folders.items():
        for label, wnid in enumerate(wnids):
            for k in range(per_class):
                name = hashlib.sha1(f"{variant} {wnid} {k}".encode()).hexdigest()
                save(photo(wnid, f"v2 {variant} {k}"), root / folder / str(label) / f"{name}.jpeg")


def write_imagenet_r(root: Path, wnids: Sequence[str] = R_WNIDS) -> None:
    """``imagenet-r/<wnid>/<style>_<n>.jpg``, two and three a class by turns, and a README.txt beside the classes."""
    for label, wnid in enumerate(wnids):
        for k in range(2 + label % 2):
            save(photo(wnid, f"r {k}"), root / "imagenet-r" / wnid / f"{STYLES[k % len(STYLES)]}_{k}.jpg")
    (root / "imagenet-r" / "README.txt").write_text("ImageNet-R\n")


def write_imagenet_a(root: Path, wnids: Sequence[str] = A_WNIDS, *, per_class: int = PER_CLASS["imagenet-a"]) -> None:
    """``imagenet-a/<wnid>/<n>_<what a net saw>_<how sure>.jpg``: names with blanks; and a README.txt."""
    for label, wnid in enumerate(wnids):
        for k in range(per_class):
            name = f"0.00{label}{k}_sea lion _ stingray_0.8{k}{label}.jpg"
            save(photo(wnid, f"a {k}"), root / "imagenet-a" / wnid / name)
    (root / "imagenet-a" / "README.txt").write_text("ImageNet-A\n")


def write_imagenet_sketch(
    root: Path, wnids: Sequence[str] = WNIDS, *, per_class: int = PER_CLASS["imagenet-sketch"], place: str = "sketch"
) -> None:
    """``sketch/<wnid>/sketch_<n>.JPEG``; the last image of the last class is not there, so that classes are not of a size."""
    for label, wnid in enumerate(wnids):
        for k in range(per_class - (label == len(wnids) - 1)):
            save(photo(wnid, f"sketch {k}").convert("L"), root / place / wnid / f"sketch_{k}.JPEG")


def write_objectnet(root: Path, folders: Sequence[str] = OBJECTNET, *, per_class: int = PER_CLASS["objectnet"]) -> None:
    """``objectnet-1.0/images/<folder>/<hash>.png`` with the red border of one pixel, two folders more, and the mapping."""
    groups = {row.folder: row.group for row in words.class_table("objectnet")}
    labels = {}
    for folder in (*folders, *DROPPED):
        wnids = groups.get(folder, ("n01440764",))
        labels[folder] = folder.replace("_", " ").capitalize()
        for k in range(per_class):
            framed = Image.new("RGB", (72, 60), RED)
            framed.paste(photo(wnids[k % len(wnids)], f"{folder} {k}", (70, 58)), (1, 1))
            name = hashlib.sha1(f"{folder} {k}".encode()).hexdigest()[:15]
            save(framed, root / "objectnet-1.0" / "images" / folder / f"{name}.png", "PNG")
    mapping = root / "objectnet-1.0" / "mappings" / "folder_to_objectnet_label.json"
    mapping.parent.mkdir(parents=True, exist_ok=True)
    mapping.write_text(json.dumps(labels))


def write_family(root: Path) -> None:
    """All of the above, as ``small_suite`` describes it."""
    for write in (write_imagenet, write_imagenet_v2, write_imagenet_r, write_imagenet_a, write_imagenet_sketch, write_objectnet):
        write(root)  # type: ignore[operator]


KEPT = {"imagenet": WNIDS, "imagenet-r": R_WNIDS, "imagenet-a": A_WNIDS, "objectnet": OBJECTNET}
SIZES = {
    "imagenet/train": (PER_CLASS["train"] - MINIVAL) * len(WNIDS),
    "imagenet/minival": MINIVAL * len(WNIDS),
    "imagenet/val": PER_CLASS["val"] * len(WNIDS),
    **{f"imagenet-v2/{variant}": PER_CLASS["imagenet-v2"] * len(WNIDS) for variant in VARIANTS},
    "imagenet-r/test": 5 * len(R_WNIDS) // 2,
    "imagenet-a/test": PER_CLASS["imagenet-a"] * len(A_WNIDS),
    "imagenet-sketch/test": PER_CLASS["imagenet-sketch"] * len(WNIDS) - 1,
    "objectnet/test": PER_CLASS["objectnet"] * len(OBJECTNET),
}
"""Images of each split of the small suite."""


def small_suite(folder: Path, **fields: str) -> Path:
    """Write the suite ``imagenet-small`` with its class tables and data set files into ``folder``; gives back the suite's file.

    All are the package's own, cut down to ``KEPT`` and ``SIZES``; ``fields`` replace some of the suite's, for example
    ``start`` and ``recipes``. ``write_family(root)`` writes the images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, kept in KEPT.items():
        head, *lines = [line for line in (DATA / "classes" / f"{name}.csv").read_text().splitlines() if line[0] != "#"]
        rows = [line for line in lines if line.split(",")[0] in kept]
        (folder / f"{name}.csv").write_text("\n".join([head, *rows]) + "\n")
    for name in {key.partition("/")[0] for key in SIZES}:
        (folder / f"{name}.toml").write_text(_toml(_small_dataset(name)))
    suite = tomllib.loads((DATA / "suites" / "imagenet.toml").read_text())
    for table in (suite["train"], suite["val"], suite["test"], *suite["shifts"]):
        table["set"] = table["set"].replace("/", ".toml/")
        if "subset" in table:
            table["subset"] = len(OBJECTNET)
    suite |= {"name": "imagenet-small", "title": "ImageNet and its shifts, twelve classes"} | fields
    (folder / "suite.toml").write_text(_toml(suite))
    return folder / "suite.toml"


def _small_dataset(name: str) -> dict[str, Any]:
    """The package's data set file of that name with the small class table and sizes, without digests and mask files."""
    table: dict[str, Any] = tomllib.loads((datafiles.FOLDER / f"{name}.toml").read_text())
    table["classes"] += ".csv"
    splits = {key: own for key, own in table["splits"].items() if "mask" not in own}
    for key, own in splits.items():
        own["n"] = SIZES[f"{name}/{key}"]
        own.pop("digest", None)
        if "val_per_class" in own:
            own["val_per_class"] = MINIVAL
    archives = [one for one in table["archives"] if not one.get("splits") or splits.keys() & set(one["splits"])]
    for one in archives:
        one["splits"] = [split for split in one.get("splits", ()) if split in splits]
    return table | {"splits": splits, "archives": archives}


def _toml(table: dict[str, Any]) -> str:
    """A TOML document of strings, numbers, lists and tables, each key on a line of its own."""
    return "".join(f"{json.dumps(key)} = {_value(value)}\n" for key, value in table.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_value(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)
