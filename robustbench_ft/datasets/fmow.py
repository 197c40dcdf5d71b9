"""FMoW of WILDS: row i of ``<place>/rgb_metadata.csv`` is the image ``<place>/images/rgb_img_<i>.png``.

A split is what the column ``split`` says (train, val, test; the rows of ``seq`` are counted and not read) and a range of
years, in UTC, by ``timestamp``, with or without fractions of a second; ``SPLITS`` has both. An id is the image's path.

The column ``region`` is the place in ``REGIONS`` of the region that ``<place>/country_code_mapping.csv`` gives the row's
country (alpha-3), ``NOTHING`` where it gives none.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from robustbench_ft.datasets import NOTHING, ImageSet, repair
from robustbench_ft.datasets.images import check_there, image_set
from robustbench_ft.datasets.index import Listing, kept, listing
from robustbench_ft.datasets.iwildcam import rows
from robustbench_ft.datasets.places import how, official, options, place
from robustbench_ft.errors import DataError, UnknownName
from robustbench_ft.specs import DatasetSpec

REGIONS = ("Asia", "Europe", "Africa", "Americas", "Oceania")
NO_REGION = ("", "Other")
SPLITS = {
    "train": ("train", range(0, 2013)),
    "id_val": ("val", range(0, 2013)),
    "id_test": ("test", range(0, 2013)),
    "val": ("val", range(2013, 2016)),
    "test": ("test", range(2016, 10000)),
}
"""What ``split`` says, and the years."""


def read(spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """The images of the split; DataError names a row that is wrong or the first image that is missing."""
    options(spec)
    if spec.split not in SPLITS:
        raise UnknownName(f"split of {spec.name} (format {spec.format}):", spec.split, SPLITS)
    base, hint = place(spec, root), repair(spec, root)

    def build() -> tuple[Listing, Sequence[Path]]:
        names = "rgb_metadata.csv", "country_code_mapping.csv"
        table, countries = (official(spec, base / name, how(spec, root)) for name in names)
        found = _listing(spec, table, _regions(countries, hint), hint)
        return found, [table, countries, *check_there(base, found.files, hint)]

    key = ["fmow", str(base.absolute()), spec.split, spec.folders, spec.checksums]
    return image_set(spec, base, kept(store, key, build))


def _regions(countries: Path, hint: str) -> dict[str, int]:
    """The place in ``REGIONS`` of each country's region, by the country's code."""
    found = {}
    for number, row in rows(countries, ("alpha-3", "region"), hint):
        region = row["region"].strip()
        if region not in (*REGIONS, *NO_REGION):
            raise DataError(f"{countries}: row {number} has region {region!r}, expected {', '.join(REGIONS)} or none", hint=hint)
        found[row["alpha-3"]] = NOTHING if region in NO_REGION else REGIONS.index(region)
    return found


def _listing(spec: DatasetSpec, table: Path, regions: dict[str, int], hint: str) -> Listing:
    """The split's rows; labels are places in the spec's folders."""
    group, years = SPLITS[spec.split]
    label_of = {folder: label for label, folder in enumerate(spec.folders)}
    entries, region = [], []
    for number, row in rows(table, ("split", "category", "timestamp", "country_code"), hint):
        if row["split"] != group:
            continue
        if row["category"] not in label_of:
            raise DataError(f"{table}: row {number} has category {row['category']!r}, which is none of the classes", hint=hint)
        if _year(row["timestamp"], f"{table}: row {number}", hint) in years:
            image = f"images/rgb_img_{number}.png"
            entries.append((image, label_of[row["category"]], image))
            region.append(regions.get(row["country_code"], NOTHING))
    return listing(entries, {"region": region})


def _year(timestamp: str, where: str, hint: str) -> int:
    """The year in UTC of a time like 2015-12-31T23:59:59.5Z; DataError for another text or one without a time zone."""
    try:
        time = datetime.fromisoformat(timestamp)
    except ValueError:
        time = datetime.min
    if time.tzinfo is None:
        raise DataError(f"{where} has timestamp {timestamp!r}, expected one like 2015-12-31T23:59:59Z", hint=hint)
    return time.astimezone(UTC).year
