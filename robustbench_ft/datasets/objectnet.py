"""ObjectNet: ``<place>/images/<folder>/<image>.png``, of whose 313 folders a spec's classes are some.

The other folders are known from the archive's own ``mappings/folder_to_objectnet_label.json`` and not read; a folder that
is in neither list is an error. Without that file any other folder is passed over.

Option ``crop``: pixels cut off each side of an image before any transform, for the red border of one pixel (none: 2, as
the authors do; 0: nothing is cut off). It is part of the protocol.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from robustbench_ft.datasets import ImageSet, repair
from robustbench_ft.datasets.class_folders import scan
from robustbench_ft.datasets.images import Files, image_set
from robustbench_ft.datasets.index import Listing, kept
from robustbench_ft.datasets.places import how, options, place
from robustbench_ft.errors import DataError, MissingData, UsageError
from robustbench_ft.specs import DatasetSpec

MAPPING = "mappings/folder_to_objectnet_label.json"
CROP = 2


def read(spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """The images of the spec's folders, cropped; DataError names a folder that is missing, empty or not ObjectNet's."""
    crop = options(spec, "crop").get("crop", CROP)
    if not isinstance(crop, int) or crop < 0:
        raise UsageError(f"{spec.name}: crop is {crop!r}, expected a number of pixels, 0 or more")
    base = place(spec, root)
    folder, mapping, hint = base / "images", base / MAPPING, repair(spec, root)
    if not folder.is_dir():
        raise MissingData(f"{spec.name}: no folder {folder}", hint=how(spec, root))

    def build() -> tuple[Listing, Sequence[Path]]:
        all_folders = _known(mapping, spec, hint) if mapping.is_file() else os.listdir(folder)
        found, watched = scan(folder, spec.folders, "images/", dropped=set(all_folders), hint=hint)
        return found, [*watched, *([mapping] if mapping.is_file() else [])]

    key = ["objectnet", str(folder.absolute()), spec.folders, mapping.is_file()]
    found = kept(store, key, build)
    return image_set(spec, folder, found, Cropped(Files(folder, found.files), crop))


def _known(mapping: Path, spec: DatasetSpec, hint: str) -> list[str]:
    """All folders of the archive; DataError when the spec's are not among them."""
    try:
        names = list(dict(json.loads(mapping.read_text(encoding="utf-8"))))
    except (ValueError, TypeError) as error:
        raise DataError(f"{mapping} is no table of folders: {error}", hint=hint) from error
    if foreign := sorted(set(spec.folders) - set(names)):
        raise DataError(f"{mapping} lacks the folder {foreign[0]}", hint=hint)
    return names


@dataclass(frozen=True)
class Cropped:
    """Image i without its border."""

    image: Files
    crop: int

    def __call__(self, index: int) -> Image.Image:
        """Image ``index``, decoded, ``crop`` pixels smaller on each side; DataError names one that has no more than a border."""
        found, crop = self.image(index), self.crop
        if min(found.size) <= 2 * crop:
            size = f"{found.width} x {found.height}"
            raise DataError(f"image {self.image.folder / self.image.files[index]} is {size}, no more than a border of {crop}")
        return found.crop((crop, crop, found.width - crop, found.height - crop)) if crop else found
