"""Stanford Cars: two folders of images, and labels in the devkit's MATLAB files.

    <place>/cars_train/00001.jpg ...    <place>/devkit/cars_train_annos.mat
    <place>/cars_test/00001.jpg ...     <place>/cars_test_annos_withlabels.mat (the devkit's cars_test_annos.mat has no labels)

``annotations`` says ``fname`` and ``class``, from 1 in the order of the devkit's names. An id is ``cars_test/00001.jpg``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from robustbench_ft.datasets import ImageSet, repair
from robustbench_ft.datasets.images import check_there, image_set
from robustbench_ft.datasets.index import Listing, kept, listing
from robustbench_ft.datasets.matlab import variable
from robustbench_ft.datasets.places import how, official, options, place
from robustbench_ft.errors import DataError
from robustbench_ft.specs import DatasetSpec

ANSWERS = {"train": "devkit/cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}


def read(spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """The split ``train`` or ``test``; DataError names what is missing, not the official file, or out of range."""
    options(spec)
    folder, hint = place(spec, root), repair(spec, root)

    def build() -> tuple[Listing, Sequence[Path]]:
        answers = official(spec, folder / ANSWERS[spec.split], how(spec, root))
        files = _labels(answers, f"cars_{spec.split}/", len(spec.classes), hint)
        watched = check_there(folder, list(files), hint)
        return listing((file, label, file) for file, label in files.items()), [answers, *watched]

    return image_set(spec, folder, kept(store, ["cars", str(folder.absolute()), spec.split, spec.checksums], build))


def _labels(path: Path, prefix: str, classes: int, hint: str) -> dict[str, int]:
    """Label by file; DataError where the annotations have no labels, or others than 1 to ``classes``."""
    rows = variable(path, "annotations", hint)
    if not {"fname", "class"} <= set(rows.dtype.names or ()):
        raise DataError(f"{path} has annotations without fname or class: not the file with labels", hint=hint)
    labels = rows["class"].astype(np.int64)
    if labels.min() < 1 or labels.max() > classes:
        raise DataError(f"{path}: classes from {labels.min()} to {labels.max()}, expected 1 to {classes}", hint=hint)
    found = {f"{prefix}{name}": label - 1 for name, label in zip(rows["fname"].tolist(), labels.tolist(), strict=True)}
    if len(found) != len(rows):
        raise DataError(f"{path}: {len(rows)} annotations of {len(found)} files, expected one each", hint=hint)
    return found
