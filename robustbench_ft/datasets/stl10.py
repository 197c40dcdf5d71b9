"""STL-10 from its binary files: ``train_X.bin`` and ``train_y.bin``, ``test_X.bin`` and ``test_y.bin``, no header.

An image is three planes of 96 x 96 bytes, each column by column; a label is a byte from 1 to 10. The unlabelled images and the
folds of 1,000 are not read. An id is ``<split>/<index>``, zero padded to five digits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robustbench_ft.datasets import ImageSet
from robustbench_ft.datasets.arrays import array_set
from robustbench_ft.datasets.places import how, official, options, place
from robustbench_ft.errors import DataError
from robustbench_ft.specs import DatasetSpec

SIZE = 96


def read(spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """The split ``train`` or ``test``; DataError names the file that is missing, not the official one, or cut short."""
    options(spec)
    folder, hint = place(spec, root), how(spec, root)
    paths = [official(spec, folder / f"{spec.split}_{name}.bin", hint) for name in ("X", "y")]
    planes, told = (np.fromfile(path, np.uint8) for path in paths)
    if len(planes) % (3 * SIZE * SIZE):
        raise DataError(f"{paths[0]} is truncated: {len(planes)} bytes, expected {3 * SIZE * SIZE} an image", hint=hint)
    pixels = planes.reshape(-1, 3, SIZE, SIZE).transpose(0, 3, 2, 1)
    verified = {path.name for path in paths} <= set(dict(spec.checksums))
    labels = told.astype(np.int64) - 1
    return array_set(spec, pixels, labels, " and ".join(map(str, paths)), verified=verified, hint=hint, digits=5)
