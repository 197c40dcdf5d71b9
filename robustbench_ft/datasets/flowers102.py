"""Oxford Flowers-102: images in one folder, labels and splits in MATLAB files.

    <place>/jpg/image_00001.jpg ...
    <place>/imagelabels.mat             ``labels``: of image 1, 2 ..., from 1
    <place>/setid.mat                   ``trnid``, ``valid``, ``tstid``: numbers of images; the test set is the largest

An id is ``jpg/image_00001.jpg``.
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

NUMBERS = {"train": "trnid", "val": "valid", "test": "tstid"}


def read(spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """The split ``train``, ``val`` or ``test``; DataError names what is missing, not the official file, or out of range."""
    options(spec)
    folder, hint = place(spec, root), repair(spec, root)

    def build() -> tuple[Listing, Sequence[Path]]:
        answers, splits = (official(spec, folder / f"{name}.mat", how(spec, root)) for name in ("imagelabels", "setid"))
        labels, numbers = variable(answers, "labels", hint), variable(splits, NUMBERS[spec.split], hint)
        if not np.isin(numbers, np.arange(1, len(labels) + 1)).all() or len(np.unique(numbers)) != len(numbers):
            raise DataError(f"{splits}: expected numbers of images from 1 to {len(labels)}, each once", hint=hint)
        if not np.isin(labels, np.arange(1, len(spec.classes) + 1)).all():
            raise DataError(f"{answers}: expected labels from 1 to {len(spec.classes)}", hint=hint)
        files = {f"jpg/image_{number:05d}.jpg": int(labels[number - 1]) - 1 for number in numbers.tolist()}
        watched = check_there(folder, list(files), hint)
        return listing((file, label, file) for file, label in files.items()), [answers, splits, *watched]

    return image_set(spec, folder, kept(store, ["flowers102", str(folder.absolute()), spec.split, spec.checksums], build))
