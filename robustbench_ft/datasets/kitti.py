"""KITTI's distance to the closest vehicle, as VTAB made it out of the detection set.

    <place>/training/image_2/000000.png ...      <place>/training/label_2/000000.txt ...
    <place>/devkit/mapping/train_rand.txt        for each image a line of train_mapping.txt, from 1
    <place>/devkit/mapping/train_mapping.txt     date, drive and frame: the drive is the video

The label of an image is how far the nearest car, van or truck is (z, in metres): not over 8, not over 20, over 20, none.
Images of one video stay in one split: a tenth of the videos, rounded down, are test and as many val, chosen by numpy's legacy
generator under seed 123 (so tensorflow_datasets). An id is ``training/image_2/000000.png``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from robustbench_ft.datasets import ImageSet, repair
from robustbench_ft.datasets.images import check_there, image_set
from robustbench_ft.datasets.index import Listing, kept, listing
from robustbench_ft.datasets.places import how, official, options, place
from robustbench_ft.errors import DataError
from robustbench_ft.specs import DatasetSpec

VEHICLES = ("Car", "Van", "Truck")
BEYOND = (8.0, 20.0, 999.0)
"""A label is the number of these that the distance is over."""
NO_VEHICLE = 10_000.0
Z = 13  # the place of z in a line: type, truncation, occlusion, angle, 4 of the box, 3 of the size, x, y, z, rotation
PERCENT, SEED = 10, 123  # of the videos


def read(spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """The split ``train``, ``val`` or ``test``; DataError names what is missing or cannot be understood."""
    options(spec)
    folder, hint = place(spec, root), repair(spec, root)

    def build() -> tuple[Listing, Sequence[Path]]:
        names = ("train_rand.txt", "train_mapping.txt")
        order, mapping = (official(spec, folder / "devkit" / "mapping" / name, how(spec, root)) for name in names)
        numbers = split(_videos(order, mapping, hint))[spec.split]
        files = [f"training/image_2/{number:06d}.png" for number in numbers]
        labels = [folder / "training" / "label_2" / f"{number:06d}.txt" for number in numbers]
        watched = check_there(folder, files, hint)
        entries = [(file, label_of(path, hint), file) for file, path in zip(files, labels, strict=True)]
        return listing(entries), [order, mapping, *watched, *labels]

    return image_set(spec, folder, kept(store, ["kitti", str(folder.absolute()), spec.split], build))


def split(videos: Sequence[str]) -> dict[str, list[int]]:
    """Which images, by number, are in each split; ``videos``: the video of each image."""
    names = sorted(set(videos))
    count, draw = max(1, len(names) * PERCENT // 100), np.random.RandomState(SEED)
    test = {names[i] for i in draw.choice(len(names), count, replace=False).tolist()}
    rest = [name for name in names if name not in test]
    val = {rest[i] for i in draw.choice(len(rest), count, replace=False).tolist()}
    found: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for number, video in enumerate(videos):
        found["test" if video in test else "val" if video in val else "train"].append(number)
    return found


def _videos(order: Path, mapping: Path, hint: str) -> list[str]:
    """The video of each image, in the order of their numbers."""
    try:
        drives = [line.split()[1] for line in mapping.read_text(encoding="ascii").splitlines() if line.strip()]
        lines = [int(number) for number in order.read_text(encoding="ascii").split(",")]
    except (ValueError, IndexError) as error:
        raise DataError(f"{order} or {mapping.name} beside it cannot be understood: {error}", hint=hint) from error
    if min(lines) < 1 or max(lines) > len(drives):
        told = f"{order}: numbers from {min(lines)} to {max(lines)}, expected lines of {mapping.name}, 1 to {len(drives)}"
        raise DataError(told, hint=hint)
    return [drives[line - 1] for line in lines]


def label_of(path: Path, hint: str) -> int:
    """The label of an image from its file of objects; DataError where that is missing or cannot be understood."""
    try:
        rows = [line.split() for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
        nearest = min((float(row[Z]) for row in rows if row[0] in VEHICLES), default=NO_VEHICLE)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: the objects of an image", hint=hint) from error
    except (ValueError, IndexError) as error:
        raise DataError(f"{path} is no list of objects: {error}", hint=hint) from error
    return sum(nearest > bound for bound in BEYOND)
