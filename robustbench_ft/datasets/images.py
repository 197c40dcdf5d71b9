"""Image sets made of files: what readers of files on disk share."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from robustbench_ft.datasets import ImageSet
from robustbench_ft.datasets.index import Listing
from robustbench_ft.errors import DataError
from robustbench_ft.specs import DatasetSpec

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".webp", ".tif", ".tiff", ".gif")
BROKEN = "rbft data verify finds every broken image; unpack the archive again"


@dataclass(frozen=True)
class Files:
    """Image i of a list of files below ``folder``; DataError names one that cannot be read."""

    folder: Path
    files: Sequence[str]

    def __call__(self, index: int) -> Image.Image:
        """Image ``index``, decoded, in its own mode."""
        path = self.folder / self.files[index]
        try:
            with open(path, "rb") as file:
                return decoded(file.read(), str(path))
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}", hint=BROKEN) from error


def decoded(content: bytes, name: str) -> Image.Image:
    """The image in a file's bytes, in its own mode; DataError names one that is truncated or no image."""
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
        return image
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"image {name} cannot be decoded: {error}", hint=BROKEN) from error


def check_there(folder: Path, files: Sequence[str], hint: str) -> list[Path]:
    """DataError unless all ``files`` are below ``folder``; gives back the folders that hold them. Each is listed once."""
    names: dict[str, set[str]] = {}
    absent = []
    for file in files:
        parent, _, name = file.rpartition("/")
        if parent not in names:
            there = folder / parent
            names[parent] = set(os.listdir(there)) if there.is_dir() else set()
        if name not in names[parent]:
            absent.append(file)
    if absent:
        raise DataError(f"{folder}: {len(absent)} of {len(files)} images are missing, the first is {absent[0]}", hint=hint)
    return [folder / parent for parent in names]


def image_set(
    spec: DatasetSpec, folder: Path, listing: Listing, image: Callable[[int], Image.Image] | None = None, *, aligned: bool = True
) -> ImageSet:
    """The set of a listing: ``files`` below ``folder``, decoded as they are unless ``image`` says how.

    The digest of a listing that is not aligned covers its files, so that no two mirrors are taken for each other.
    """
    return ImageSet(
        spec.name,
        listing.ids,
        listing.labels,
        image or Files(folder, listing.files),
        listing.digest,
        aligned=aligned and listing.aligned,
        pixels="" if listing.aligned else listing.digest,
        columns=listing.columns,
    )
