"""Images and labels in IDX files, as MNIST is handed out: ``train-images-idx3-ubyte`` and so on, unpacked.

A file is a big-endian header (0, 0, 8 for bytes, the number of dimensions, then each dimension as 4 bytes) and the bytes. The
test set's files begin with ``t10k``. An id is ``<split>/<index>``, zero padded to five digits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from robustbench_ft.datasets import ImageSet
from robustbench_ft.datasets.arrays import array_set
from robustbench_ft.datasets.places import how, official, options, place
from robustbench_ft.errors import DataError
from robustbench_ft.specs import DatasetSpec


def read(spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """The split ``train`` or ``test``; DataError names the file that is missing, not the official one, or cut short."""
    options(spec)
    folder, start, hint = place(spec, root), "t10k" if spec.split == "test" else "train", how(spec, root)
    paths = [official(spec, folder / f"{start}-{name}-ubyte", hint) for name in ("images-idx3", "labels-idx1")]
    pixels, labels = (_load(path, dims, hint) for path, dims in zip(paths, (3, 1), strict=True))
    verified = {path.name for path in paths} <= set(dict(spec.checksums))
    where = " and ".join(map(str, paths))
    return array_set(spec, pixels, labels, where, verified=verified, hint=hint, digits=5, grey=True)


def _load(path: Path, dims: int, hint: str) -> npt.NDArray[np.uint8]:
    """The array of a file, of ``dims`` dimensions."""
    content, start = path.read_bytes(), 4 + 4 * dims
    if content[:4] != bytes((0, 0, 8, dims)) or len(content) < start:
        raise DataError(f"{path} is no IDX file of bytes with {dims} dimensions: it begins with {content[:4]!r}", hint=hint)
    shape = np.frombuffer(content, ">i4", count=dims, offset=4).tolist()
    if len(content) - start != np.prod(shape):
        told = f"{path} is truncated or too long: {len(content) - start} bytes of content, expected {np.prod(shape)} for {shape}"
        raise DataError(told, hint=hint)
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
