"""GTSRB, traffic signs: training images in class folders, the test set's labels in a table.

    <place>/GTSRB/Training/00000/00000_00000.ppm ...    named track_frame; GT-00000.csv beside them lists them
    <place>/GTSRB/Final_Test/Images/00000.ppm ...
    <place>/GT-final_test.csv                           Filename;...;ClassId

Ids are paths below the place. The training set has the column ``track``: thirty frames of one approach to one sign, which
look alike and have to be held out together.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from robustbench_ft.datasets import ImageSet, repair
from robustbench_ft.datasets.images import check_there, image_set
from robustbench_ft.datasets.index import Listing, kept, listing
from robustbench_ft.datasets.places import how, official, options, place
from robustbench_ft.errors import DataError, MissingData
from robustbench_ft.specs import DatasetSpec

TRAINING, TEST = "GTSRB/Training", "GTSRB/Final_Test/Images"
FRAME = re.compile(r"(\d{5})_\d{5}\.ppm")


def read(spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """The split ``train`` or ``test``; DataError names class folders, images or rows that are missing or foreign."""
    options(spec)
    folder, classes = place(spec, root), spec.folders or spec.classes

    def build() -> tuple[Listing, Sequence[Path]]:
        if spec.split == "train":
            if not (folder / TRAINING).is_dir():
                raise MissingData(f"{spec.name}: no folder {folder / TRAINING}", hint=how(spec, root))
            return _training(folder, classes, repair(spec, root))
        table = official(spec, folder / "GT-final_test.csv", how(spec, root))
        return _test(folder, table, len(classes), repair(spec, root))

    return image_set(spec, folder, kept(store, ["gtsrb", str(folder.absolute()), spec.split, classes], build))


def _training(folder: Path, classes: Sequence[str], hint: str) -> tuple[Listing, list[Path]]:
    """The images of all class folders with their tracks."""
    base = folder / TRAINING
    found = {path.name for path in base.iterdir() if path.is_dir()}
    for names, fault in ((set(classes) - found, "no class folder"), (found - set(classes), "an unknown folder")):
        if names:
            raise DataError(f"{base}: {fault} {min(names)}; expected {classes[0]} to {classes[-1]}", hint=hint)
    entries, tracks, watched = [], [], [base]
    for label, name in enumerate(classes):
        watched.append(base / name)
        for file in _frames(base / name, hint):
            entries.append((f"{TRAINING}/{name}/{file}", label, f"{TRAINING}/{name}/{file}"))
            tracks.append(int(file[:5]))
    return listing(entries, {"track": tracks}), watched


def _frames(folder: Path, hint: str) -> list[str]:
    """The images of a class folder; DataError where there is none, or not those that the folder's own table lists."""
    there = {path.name for path in folder.iterdir() if path.suffix == ".ppm"}
    table = folder / f"GT-{folder.name}.csv"
    listed = {row["Filename"] for row in _rows(table, hint)} if table.is_file() else there
    if wrong := sorted(there ^ listed) or sorted(name for name in there if not FRAME.fullmatch(name)):
        told = "is missing" if wrong[0] in listed - there else "does not belong there"
        raise DataError(f"{folder / wrong[0]} {told}: {len(there)} images, {len(listed)} listed", hint=hint)
    if not there:
        raise DataError(f"{folder} holds no images", hint=hint)
    return sorted(there)


def _test(folder: Path, table: Path, classes: int, hint: str) -> tuple[Listing, list[Path]]:
    """The images of the table."""
    files: dict[str, int] = {}
    for row in _rows(table, hint, "ClassId"):
        label = row["ClassId"]
        if not label.isdecimal() or int(label) >= classes or f"{TEST}/{row['Filename']}" in files:
            told = f"{table}: {row['Filename']} has the class {label!r}"
            raise DataError(f"{told}, or stands there twice; expected 0 to {classes - 1}, once", hint=hint)
        files[f"{TEST}/{row['Filename']}"] = int(label)
    watched = check_there(folder, list(files), hint)
    return listing((file, label, file) for file, label in files.items()), [table, *watched]


def _rows(table: Path, hint: str, *columns: str) -> list[dict[str, str]]:
    """The rows of a table with semicolons between the fields."""
    with open(table, newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, delimiter=";", skipinitialspace=True)
        wanted = {"Filename", *columns}
        if not wanted <= set(rows.fieldnames or ()):
            raise DataError(f"{table} has the columns {rows.fieldnames}, expected {sorted(wanted)} among them", hint=hint)
        return list(rows)
