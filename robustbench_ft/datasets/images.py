"""Image sets made of files: what readers of files on disk share."""

from __future__ import annotations

import io
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


def image_set(
    spec: DatasetSpec, folder: Path, listing: Listing, image: Callable[[int], Image.Image] | None = None, *, aligned: bool = True
) -> ImageSet:
    """The set of a listing: ``files`` below ``folder``, decoded as they are unless ``image`` says how."""
    return ImageSet(
        spec.name,
        listing.ids,
        listing.labels,
        image or Files(folder, listing.files),
        listing.digest,
        aligned=aligned,
        columns=listing.columns,
    )
