"""What has to be done with some archives once they are unpacked, by the name that data set files give it (``step``)."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from robustbench_ft.archives import SUFFIXES, unpack
from robustbench_ft.errors import DataError, MissingData
from robustbench_ft.progress import progress

DEVKIT = "ILSVRC2012_devkit_t12"
VAL_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG$")
PARTIAL = ".rbft-partial-"


class Step(NamedTuple):
    """One way to bring unpacked files into the layout that is read. Doing it again goes on where it was stopped."""

    run: Callable[[Path, Path], None]
    """Called with the folder of the files and with the one that they are for, the same where a user unpacked them."""
    waits: Callable[[Path], bool] = lambda folder: False
    """Whether a folder that a user has unpacked waits for it."""
    needs: Callable[[Path], object] = lambda folder: None
    """MissingData where something is missing that it needs beside; called with the folder that the files are for."""


def tar_per_class(folder: Path, target: Path) -> None:
    """Each ``<name>.tar`` in ``folder`` becomes the folder ``<name>``; the tars go, unless a user put them there."""
    tars = sorted(folder.glob("*.tar"))
    with progress("class archives", len(tars)) as bar:
        for tar in tars:
            if not tar.with_suffix("").exists():
                partial = folder / f"{PARTIAL}{tar.stem}"
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                unpack(tar, partial)
                os.replace(partial, tar.with_suffix(""))
            if folder != target:
                tar.unlink()
            bar.advance(tar.stem)


def inner_archives(folder: Path, target: Path) -> None:
    """Each archive in ``folder`` or below is unpacked where it lies, and goes."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name.lower().endswith(SUFFIXES):
            partial = path.with_name(f"{PARTIAL}{path.name}")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            unpack(path, partial)
            for child in partial.iterdir():
                shutil.rmtree(path.parent / child.name, ignore_errors=True)
                os.replace(child, path.parent / child.name)
            path.unlink()
            partial.rmdir()


def imagenet_val(folder: Path, target: Path) -> None:
    """The images of ImageNet's val go into class folders, by the devkit's ground truth."""
    wnids = _val_wnids(_devkit(target))
    names = sorted(path.name for path in folder.iterdir() if VAL_NAME.match(path.name))
    numbers = [int(VAL_NAME.sub(r"\1", name)) for name in names]
    if beyond := [name for name, number in zip(names, numbers, strict=True) if not 1 <= number <= len(wnids)]:
        raise DataError(f"{folder / beyond[0]}: the devkit's ground truth has {len(wnids)} images", hint="get the devkit again")
    for name, number in zip(names, numbers, strict=True):
        (folder / wnids[number - 1]).mkdir(exist_ok=True)
        os.replace(folder / name, folder / wnids[number - 1] / name)


def _devkit(target: Path) -> Path:
    """The devkit's folder ``data``, near the folder that val goes into; MissingData says where it was looked for."""
    places = [parent / DEVKIT / "data" for parent in list(target.parents)[:2]]
    for place in places:
        if (place / "ILSVRC2012_validation_ground_truth.txt").is_file() and (place / "meta.mat").is_file():
            return place
    told = f"{target}: which class each image is of is in the devkit, and there is none at {' or '.join(map(str, places))}"
    raise MissingData(told, hint=f"put {DEVKIT}.tar.gz beside the other archives; the same command continues")


def _val_wnids(devkit: Path) -> list[str]:
    """The WordNet id of each val image, by number. ILSVRC2012_IDs are not in the order of sorted WordNet ids."""
    from scipy.io import loadmat

    synsets = loadmat(str(devkit / "meta.mat"), squeeze_me=True)["synsets"]
    leaves = {
        int(number): str(wnid)
        for number, wnid, children in zip(synsets["ILSVRC2012_ID"], synsets["WNID"], synsets["num_children"], strict=True)
        if int(children) == 0
    }
    numbers = map(int, (devkit / "ILSVRC2012_validation_ground_truth.txt").read_text().split())
    try:
        return [leaves[number] for number in numbers]
    except KeyError as error:
        raise DataError(
            f"{devkit}: class {error} of the ground truth is no leaf of meta.mat", hint="get the devkit again"
        ) from error


def _has_flat_val(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(VAL_NAME.match(entry.name) for entry in entries)


STEPS = {
    "tar-per-class": Step(tar_per_class, waits=lambda folder: any(folder.glob("n*.tar"))),
    "inner-archives": Step(inner_archives),
    "imagenet-val": Step(imagenet_val, waits=_has_flat_val, needs=_devkit),
}
