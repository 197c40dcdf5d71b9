"""iWildCam and FMoW of WILDS in their official layout, with a few small images of noise."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import numpy as np

from miniatures.folders import encoded
from robustbench_ft.words import class_table

CAMERAS = {"train": (0, 1, 2), "id_val": (0, 1), "id_test": (1, 2), "val": (3,), "test": (4, 5)}
"""The cameras of each split of iWildCam: id_* share train's, val and test have their own."""

TIMES = {
    "train": ("2002-05-01T10:00:00Z", "2012-12-31T23:59:59Z"),
    "id_val": ("2011-07-02T10:00:00Z", "2012-12-31T23:59:59Z"),
    "id_test": ("2010-01-01T00:00:00Z", "2012-12-31T23:59:59Z"),
    "val": ("2013-01-01T00:00:00Z", "2015-12-31T23:59:59Z"),
    "test": ("2016-01-01T00:00:00Z", "2017-08-31T10:00:00Z"),
}
"""Times of the images of each split of FMoW: the first and last second of its years where they are bounded."""
FRACTIONS = {
    "2012-12-31T23:59:59Z": "2012-12-31T23:59:59.999Z",
    "2015-12-31T23:59:59Z": "2015-12-31T23:59:59.643Z",
    "2016-01-01T00:00:00Z": "2016-01-01T00:00:00.001Z",
}
UNUSED = (
    ("train", "2013-01-01T00:00:00Z"),
    ("val", "2016-01-01T00:00:00Z"),
    ("test", "2013-01-01T00:00:00Z"),
    ("test", "2015-12-31T23:59:59Z"),
)
"""Rows of FMoW that are in no split: (what ``split`` says, time)."""
GROUPS = {"train": ("train",), "val": ("id_val", "val"), "test": ("id_test", "test")}
COUNTRIES = {"CHN": "Asia", "DEU": "Europe", "KEN": "Africa", "USA": "Americas", "AUS": "Oceania"}
ELSEWHERE = ("ATA", "XKX", "")
"""A country whose region is blank, one that the table does not have, and none."""


def write_iwildcam(root: Path, *, classes: Sequence[int] = range(6), per_class: int = 2) -> None:
    """``<root>/iwildcam_v2.0``: of each of five splits ``per_class`` images of the classes ``classes`` (of 182).

    Rows are in no order, all images lie in one folder, one of them is in no row, and nothing marks the release.
    """
    folder = root / "iwildcam_v2.0"
    (folder / "train").mkdir(parents=True)
    rows = []
    for number, (split, y, k) in enumerate((s, y, k) for s in CAMERAS for y in classes for k in range(per_class)):
        camera, name = CAMERAS[split][(y + k) % len(CAMERAS[split])], str(UUID(int=(number * 2654435761 + 1) << 64 | number))
        (folder / "train" / f"{name}.jpg").write_bytes(encoded(number, ".jpg", "L" if number % 7 == 0 else "RGB"))
        row = (
            split,
            camera,
            100 + camera,
            number,
            f"seq-{number}",
            y,
            2 * y,
            f"2013-0{1 + k % 9}-05 12:0{y % 10}:00.000",
            f"{name}.jpg",
            name,
        )
        rows.append(row)
    (folder / "train" / "ffffffff-0000-0000-0000-000000000000.jpg").write_bytes(encoded(0))
    columns = (
        "split",
        "location_remapped",
        "location",
        "sequence_remapped",
        "seq_id",
        "y",
        "category_id",
        "datetime",
        "filename",
        "image_id",
    )
    order = np.random.default_rng(0).permutation(len(rows)).tolist()
    _write(folder / "metadata.csv", ("", *columns), [(place, *rows[i]) for place, i in enumerate(order)])


def write_fmow(
    root: Path,
    *,
    classes: Sequence[int] = range(6),
    per_class: int = 2,
    fractions: bool = True,
    elsewhere: Sequence[str] = ELSEWHERE,
) -> None:
    """``<root>/fmow_v1.1``: of each of five splits ``per_class`` images of the classes ``classes`` (of 62).

    ``fractions``: some times have fractions of a second, as some of the official ones. ``elsewhere``: countries beside those
    of the five regions. Sequestered rows, which have no images, stand after those of each other group.
    """
    folder, names = root / "fmow_v1.1", [row.folder for row in class_table("fmow")]
    (folder / "images").mkdir(parents=True)
    countries = (*COUNTRIES, *elsewhere)
    rows: list[tuple[str, str, str, str]] = []
    for group, splits in GROUPS.items():
        for split in splits:
            for y in classes:
                for k in range(per_class):
                    time = TIMES[split][k % len(TIMES[split])]
                    rows.append(
                        (group, names[y], FRACTIONS.get(time, time) if fractions else time, countries[len(rows) % len(countries)])
                    )
        rows += [(group, names[classes[0]], time, "DEU") for other, time in UNUSED if other == group]
        rows.append(("seq", names[classes[-1]], "2010-02-03T04:05:06Z", "DEU"))
    for number, row in enumerate(rows):
        if row[0] != "seq":
            (folder / "images" / f"rgb_img_{number}.png").write_bytes(encoded(number, ".png"))
    _write(folder / "rgb_metadata.csv", ("split", "category", "timestamp", "country_code"), rows)
    regions = [(code, code[:2], code, region) for code, region in COUNTRIES.items()]
    regions += [("Antarctica", "AQ", "ATA", "")] if "ATA" in elsewhere else []
    _write(folder / "country_code_mapping.csv", ("name", "alpha-2", "alpha-3", "region"), regions)


def _write(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
