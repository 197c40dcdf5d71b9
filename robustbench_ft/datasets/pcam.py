"""PatchCamelyon from its HDF5 files: ``camelyonpatch_level_2_split_<train, valid or test>_<x or y>.h5``.

``x`` is uint8 [N, 96, 96, 3], read image by image (train has 7 GB); ``y`` is [N, 1, 1, 1]: whether the centre of the patch
contains tumour. An id is ``<split>/<index>``, zero padded to six digits. Needs h5py, the package's extra ``hdf5``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from robustbench_ft.datasets import ImageSet, content_digest
from robustbench_ft.datasets.images import BROKEN
from robustbench_ft.datasets.places import how, official, options, place
from robustbench_ft.errors import DataError, UsageError
from robustbench_ft.specs import DatasetSpec

SHAPE = (96, 96, 3)


@dataclass(frozen=True)
class Patches:
    """Image i of ``x``; the file is opened for each, as no open one can be handed to workers."""

    path: Path

    def __call__(self, index: int) -> Image.Image:
        """Image ``index``, RGB."""
        try:
            with _h5py().File(self.path, "r") as file:
                return Image.fromarray(np.asarray(file["x"][index]))
        except OSError as error:
            raise DataError(f"{self.path}: image {index} cannot be read: {error}", hint=BROKEN) from error


def read(spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """The split ``train``, ``valid`` or ``test``; DataError names the file that is missing or damaged."""
    options(spec)
    folder, hint = place(spec, root), how(spec, root)
    images, answers = (official(spec, folder / f"camelyonpatch_level_2_split_{spec.split}_{name}.h5", hint) for name in "xy")
    shape, dtype = _inside(images, "x", hint, lambda x: (x.shape, x.dtype))
    labels = _inside(answers, "y", hint, np.asarray).reshape(-1).astype(np.int64)
    if shape != (len(labels), *SHAPE) or dtype != np.uint8:
        told = (
            f"{images}: x is {dtype} {list(shape)}, expected uint8 {[len(labels), *SHAPE]}, one for each label of {answers.name}"
        )
        raise DataError(told, hint=hint)
    if not np.isin(labels, (0, 1)).all():
        raise DataError(f"{answers}: labels from {labels.min()} to {labels.max()}, expected 0 and 1", hint=hint)
    ids = [f"{spec.split}/{k:06d}" for k in range(len(labels))]
    return ImageSet(spec.name, ids, labels, Patches(images), content_digest(ids, labels))


def _inside(path: Path, key: str, hint: str, look: Callable[[Any], Any]) -> Any:
    """What ``look`` gives of a file's data set; DataError where the file is damaged or has no such."""
    library = _h5py()
    try:
        with library.File(path, "r") as file:
            return look(file[key])
    except (OSError, KeyError) as error:
        raise DataError(f"{path} is truncated, damaged or without {key}: {error}", hint=hint) from error


def _h5py() -> Any:
    """The library; UsageError where it is not installed."""
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        raise UsageError("PatchCamelyon's HDF5 files need h5py to be read", hint="pip install 'robustbench-ft[hdf5]'") from error
