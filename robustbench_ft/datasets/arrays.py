"""Labelled images in arrays: ``<path>_data.npy`` and ``<path>_labels.npy``, or ``images`` and ``labels`` in an npz.

An id is ``<split>/<index>``, zero padded to four digits. No pickle is read.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from robustbench_ft.checksums import verify
from robustbench_ft.datasets import ImageSet, content_digest
from robustbench_ft.datasets.places import how
from robustbench_ft.errors import DataError, MissingData
from robustbench_ft.specs import DatasetSpec


class Frames:
    """Image i of an array uint8 [N, H, W, 3] or, grey, [N, H, W]."""

    def __init__(self, pixels: npt.NDArray[np.uint8]) -> None:
        self.pixels = pixels

    def __call__(self, index: int) -> Image.Image:
        """Image ``index``, RGB or grey."""
        return Image.fromarray(self.pixels[index])


def read(spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """All of the arrays; DataError names the file that is missing, not the official one, or of another shape."""
    way = how(spec, root)
    hint = f"{way}{f', or get {spec.source}' if spec.dataset else ''}; without it the run is partial and the other sets go on"
    if root is None:
        raise MissingData(f"{spec.name} is read from disk and no data folder was given", hint=f"--data DIR; {hint}")
    sources, checksums = _sources(root / spec.path), dict(spec.checksums)
    paths = list(dict.fromkeys(path for path, _ in sources))
    for path in paths:
        if not path.is_file():
            raise _absent(spec, path, paths, hint)
        if path.name in checksums:
            verify(path, checksums[path.name], hint=hint)
    pixels, labels = (_load(path, key, hint) for path, key in sources)
    verified = all(path.name in checksums for path in paths)
    return array_set(spec, pixels, labels, " and ".join(map(str, paths)), verified=verified, hint=hint)


def array_set(
    spec: DatasetSpec,
    pixels: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    where: str,
    *,
    verified: bool,
    hint: str,
    digits: int = 4,
    grey: bool = False,
) -> ImageSet:
    """The set of ``pixels``, uint8 [N, H, W, 3] or, ``grey``, [N, H, W], and ``labels``, integers [N]; DataError for others.

    Ids are ``<split>/<index>`` in the order of the arrays, ``digits`` wide. The digest holds the pixels too unless checksums
    vouch for them (``verified``).
    """
    if wrong := _misfit(pixels, labels, len(spec.classes), grey):
        raise DataError(f"{where}: {wrong}", hint=hint)
    ids, labels = [f"{spec.split}/{k:0{digits}d}" for k in range(len(labels))], labels.astype(np.int64)
    digest = content_digest(ids, labels, None if verified else pixels)
    return ImageSet(spec.name, ids, labels, Frames(pixels), digest, pixels="" if verified else digest)


def _misfit(pixels: npt.NDArray[Any], labels: npt.NDArray[Any], classes: int, grey: bool) -> str:
    """What is wrong with the arrays; empty when nothing is."""
    if pixels.dtype != np.uint8 or pixels.ndim < 3 or pixels.shape[3:] != (() if grey else (3,)):
        return f"images are {pixels.dtype} {list(pixels.shape)}, expected uint8 {'[N, H, W]' if grey else '[N, H, W, 3]'}"
    if labels.dtype.kind not in "iu" or labels.shape != pixels.shape[:1]:
        return f"labels are {labels.dtype} {list(labels.shape)}, expected {len(pixels)} integers"
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= classes:
        return f"expected labels from 0 to {classes - 1}, at least one"
    return ""


def _absent(spec: DatasetSpec, path: Path, paths: list[Path], hint: str) -> DataError:
    """What to say of a file that is not there; half a pair is damage, and a pickle in its place is refused."""
    pickled = path.with_suffix(".npy")
    if path.suffix == ".npz" and pickled.is_file():
        told = f"{spec.name}: {pickled} is a pickle, a program that rbft does not run, and there is no {path.name}"
        return DataError(told, hint=hint)
    kind = DataError if any(other.is_file() for other in paths) else MissingData
    return kind(f"{spec.name}: no file {path}", hint=hint)


def _sources(stem: Path) -> tuple[tuple[Path, str], tuple[Path, str]]:
    """Where images and labels lie: (file, key within it); an .npy file has no key."""
    if stem.suffix == ".npz":
        return (stem, "images"), (stem, "labels")
    return (stem.with_name(f"{stem.name}_data.npy"), ""), (stem.with_name(f"{stem.name}_labels.npy"), "")


def _load(path: Path, key: str, hint: str) -> npt.NDArray[Any]:
    try:
        with open(path, "rb") as file:
            if not key:
                return np.lib.format.read_array(file, allow_pickle=False)
            with np.load(file, allow_pickle=False) as archive:
                return np.asarray(archive[key])
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: no {key or 'array'} can be read from it: {error}", hint=hint) from error
