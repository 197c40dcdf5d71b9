"""SVHN, cropped digits: ``train_32x32.mat`` and ``test_32x32.mat``; the set of extra images is never read.

In the file ``X`` is uint8 [32, 32, 3, N], and ``y`` says 10 for the digit 0. An id is ``<split>/<index>``, zero padded to five
digits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robustbench_ft.datasets import ImageSet
from robustbench_ft.datasets.arrays import array_set
from robustbench_ft.datasets.matlab import variable
from robustbench_ft.datasets.places import how, official, options, place
from robustbench_ft.errors import DataError
from robustbench_ft.specs import DatasetSpec

DIGITS = 10


def read(spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """The split ``train`` or ``test``; DataError names the file that is missing, not the official one, or damaged."""
    options(spec)
    hint = how(spec, root)
    path = official(spec, place(spec, root) / f"{spec.split}_32x32.mat", hint)
    pixels, told = (variable(path, name, hint) for name in ("X", "y"))
    if pixels.ndim != 4 or told.ndim != 1 or not np.isin(told, np.arange(1, DIGITS + 1)).all():
        raise DataError(f"{path}: expected X [32, 32, 3, N] and y of 1 to {DIGITS}, found X {list(pixels.shape)}", hint=hint)
    labels = told.astype(np.int64) % DIGITS
    return array_set(
        spec, np.moveaxis(pixels, 3, 0), labels, str(path), verified=path.name in dict(spec.checksums), hint=hint, digits=5
    )
