"""Tiny copies of the sets whose splits are text lists, of Caltech-101 and of Rendered SST2, as they lie after unpacking."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from PIL import Image

from miniatures.folders import encoded
from robustbench_ft.words import class_table

SAMPLES = Path(__file__).parents[3] / "shared" / "data" / "imagenet-samples"


@cache
def photographs() -> tuple[bytes, ...]:
    """A few JPEGs: small real photographs where there are some, else drawn; the last two grey and CMYK."""
    real = sorted(SAMPLES.glob("*.JPEG"), key=lambda path: path.stat().st_size)[:5]
    colour = [path.read_bytes() for path in real] or [encoded(seed) for seed in range(5)]
    return (*colour, encoded(5, mode="L"), encoded(6, mode="CMYK"))


@cache
def disguised() -> tuple[bytes, ...]:
    """A PNG, a GIF and a BMP, as SUN397 has them under the name .jpg."""
    found = []
    for kind in ("PNG", "GIF", "BMP"):
        out = io.BytesIO()
        Image.open(io.BytesIO(photographs()[0])).convert("RGB").resize((40, 30)).save(out, kind)
        found.append(out.getvalue())
    return tuple(found)


def _write(folder: Path, names: list[str], contents: Iterator[bytes]) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(next(contents))


def _list(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_dtd(root: Path, per_class: int = 2) -> None:
    """``dtd/``: ``per_class`` images of each texture in each split of partition 1; in partition 2 they change places."""
    names = [row.folder for row in class_table("dtd")]
    splits = ("train", "val", "test")
    for part in (1, 2):
        for place, split in enumerate(splits):
            first = per_class * ((place + part - 1) % 3) + 2  # numbers have gaps in the official set too
            lines = [f"{name}/{name}_{first + k:04d}.jpg" for name in names for k in range(per_class)]
            _list(root / f"dtd/labels/{split}{part}.txt", lines)
            _write(root / "dtd/images", lines, itertools.cycle(photographs()))
    (root / "dtd/imdb").mkdir()
    (root / "dtd/imdb/imdb.mat").write_bytes(b"not read")


def write_food101(root: Path, train: int = 10, test: int = 2) -> None:
    """``food-101/``: lines without ``.jpg``; 10 of a class to train on leave one for val."""
    names = [row.folder for row in class_table("food101")]
    numbers = itertools.count(1005649, 7)
    for split, count in (("train", train), ("test", test)):
        lines = [f"{name}/{next(numbers)}" for name in names for _ in range(count)]
        _list(root / f"food-101/meta/{split}.txt", lines)
        _write(root / "food-101/images", [f"{line}.jpg" for line in lines], itertools.cycle(photographs()))
    _list(root / "food-101/meta/classes.txt", names)
    _list(root / "food-101/meta/labels.txt", [row.name.capitalize() for row in class_table("food101")])


def write_sun397(root: Path, train: int = 10, test: int = 2) -> None:
    """``SUN397/`` and the lists of its partitions 1 and 2 beside it, in ``Partitions/``; nested folders, more images than
    lists name, and PNG, GIF and BMP under the name ``.jpg``."""
    names = [row.folder for row in class_table("sun397")]
    contents = itertools.cycle((*photographs(), *disguised()))
    number = itertools.count()
    lists: dict[str, list[str]] = {"Training": [], "Testing": []}
    for name in names:
        files = [f"/{name}/sun_{next(number):016x}.jpg" for _ in range(train + test + 1)]
        _write(root / "SUN397", [file[1:] for file in files], contents)
        lists["Training"] += files[:train]
        lists["Testing"] += files[train:-1]
    for kind, other in (("Training", "Testing"), ("Testing", "Training")):
        _list(root / f"Partitions/{kind}_01.txt", lists[kind])
        _list(root / f"Partitions/{kind}_02.txt", lists[other])
    _list(root / "Partitions/ClassName.txt", [f"/{name}" for name in names])


def write_eurosat(root: Path, per_class: int = 2) -> None:
    """``eurosat/2750/`` and the three lists beside it, of bare names in no order."""
    names = [row.folder for row in class_table("eurosat")]
    for place, split in enumerate(("train", "val", "test")):
        lines = [f"{name}_{per_class * place + k + 1}.jpg" for k in range(per_class) for name in reversed(names)]
        _list(root / f"eurosat/eurosat-{split}.txt", lines)
        files = [f"{line.rpartition('_')[0]}/{line}" for line in lines]
        _write(root / "eurosat/2750", files, itertools.cycle(photographs()))


def write_resisc45(root: Path, per_class: int = 2) -> None:
    """``resisc45/NWPU-RESISC45/`` and the three lists beside it, of bare names."""
    names = [row.folder for row in class_table("resisc45")]
    for place, split in enumerate(("train", "val", "test")):
        lines = [f"{name}_{per_class * place + k + 1:03d}.jpg" for name in names for k in range(per_class)]
        _list(root / f"resisc45/resisc45-{split}.txt", lines)
        files = [f"{line.rpartition('_')[0]}/{line}" for line in lines]
        _write(root / "resisc45/NWPU-RESISC45", files, itertools.cycle(photographs()))


def write_caltech101(root: Path, per_class: int = 10) -> None:
    """``caltech-101/101_ObjectCategories/``: 10 images a class, of which 6, 2 and 2; some grey; the background beside them."""
    folder = root / "caltech-101/101_ObjectCategories"
    names = [row.folder for row in class_table("caltech101")]
    files = [f"{name}/image_{k:04d}.jpg" for name in (*names, "BACKGROUND_Google") for k in range(1, per_class + 1)]
    _write(folder, files, itertools.cycle(photographs()))
    (folder / "BACKGROUND_Google/tmp").write_bytes(b"a stray file of the official archive")


def write_rendered_sst2(root: Path, per_class: int = 2) -> None:
    """``rendered-sst2/``: PNGs of 448 x 448 in ``train``, ``valid`` and ``test``."""
    for split in ("train", "valid", "test"):
        for name in ("negative", "positive"):
            files = [f"{split}/{name}/{k}.png" for k in range(per_class)]
            _write(root / "rendered-sst2", files, itertools.repeat(encoded(len(name), ".png", size=(448, 448))))
