"""iWildCam of WILDS: ``<place>/metadata.csv`` with a row per image, and the images of every split in ``<place>/train``.

Read of a row are ``split``, ``filename``, ``y`` (the label) and ``location_remapped`` (the camera: column ``unit``). The
splits ``val`` and ``test`` are of cameras that ``train`` has not; ``id_val`` and ``id_test`` are other days of its cameras.
An id is ``train/<filename>``. Images that no row names are passed over, and no marker of a release is needed.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from robustbench_ft.datasets import ImageSet, repair
from robustbench_ft.datasets.images import check_there, image_set
from robustbench_ft.datasets.index import Listing, kept, listing
from robustbench_ft.datasets.places import how, official, options, place
from robustbench_ft.errors import DataError, UnknownName
from robustbench_ft.specs import DatasetSpec

SPLITS = ("train", "id_val", "id_test", "val", "test")
Row = dict[str, str]


def read(spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """The images of the split; DataError names a row that is wrong or the first image that is missing."""
    options(spec)
    if spec.split not in SPLITS:
        raise UnknownName(f"split of {spec.name} (format {spec.format}):", spec.split, SPLITS)
    base, hint = place(spec, root), repair(spec, root)

    def build() -> tuple[Listing, Sequence[Path]]:
        table = official(spec, base / "metadata.csv", how(spec, root))
        found = _listing(spec, table, hint)
        return found, [table, *check_there(base, found.files, hint)]

    key = ["iwildcam", str(base.absolute()), spec.split, spec.folders, spec.checksums]
    return image_set(spec, base, kept(store, key, build))


def rows(path: Path, columns: Sequence[str], hint: str) -> Iterator[tuple[int, Row]]:
    """The rows of a table with their numbers, from 0; DataError where a column or the end of a row is missing."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            for column in columns:
                if column not in (reader.fieldnames or ()):
                    raise DataError(f"{path} has no column {column}; expected {', '.join(columns)}", hint=hint)
            for number, row in enumerate(reader):
                if any(row[column] is None for column in columns):
                    raise DataError(f"{path}: row {number} ends early, expected {len(reader.fieldnames or ())} fields", hint=hint)
                yield number, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no csv table: {error}", hint=hint) from error


def _listing(spec: DatasetSpec, table: Path, hint: str) -> Listing:
    """The split's rows. What any row says of the labels is checked: one category has one label in all of the table."""
    label_of = {folder: label for label, folder in enumerate(spec.folders)}
    categories: dict[str, str] = {}
    found: dict[str, tuple[int, int]] = {}
    for number, row in rows(table, ("split", "filename", "y", "location_remapped", "category_id"), hint):
        y, category, camera = row["y"], row["category_id"], row["location_remapped"]
        if y not in label_of or not camera.isdecimal():
            told = f"y {y!r} and camera {camera!r}, expected a y from 0 to {len(label_of) - 1} and a number"
            raise DataError(f"{table}: row {number} has {told}", hint=hint)
        if (other := categories.setdefault(category, y)) != y:
            raise DataError(
                f"{table}: row {number} has y {y}, rows before it y {other} for the same category {category}", hint=hint
            )
        if row["split"] == spec.split:
            if row["filename"] in found:
                raise DataError(f"{table}: row {number}: {row['filename']} is in an earlier row too", hint=hint)
            found[row["filename"]] = label_of[y], int(camera)
    entries = [(f"train/{name}", label, f"train/{name}") for name, (label, _) in found.items()]
    return listing(entries, {"unit": [camera for _, camera in found.values()]})
