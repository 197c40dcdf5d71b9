"""Data sets: one module per on-disk format, each with ``read(spec, root, store) -> ImageSet``."""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from robustbench_ft.errors import DataError, UnknownName
from robustbench_ft.seal import require_open
from robustbench_ft.suites import DatasetSpec, Suite

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImageSet:
    """A data set that is there: ids in byte order, labels, and a way to each image.

    ``labels`` is int64 [N]; ``image(i)`` decodes example i (PIL, any size and mode). ``aligned`` is False where the layout on
    disk is not the official one: scored, but never packed, paired or submitted.
    """

    name: str
    ids: Sequence[str]
    labels: Labels
    image: Callable[[int], Image.Image]
    digest: str
    """The content digest that predictions and packs are filed under."""
    aligned: bool = True

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.labels)


def content_digest(ids: Sequence[str], labels: Labels, pixels: npt.NDArray[np.uint8] | None = None) -> str:
    """SHA-256 over ids, labels and, where they are part of the definition, pixels (uint8 [N, H, W, 3])."""
    state = hashlib.sha256("\n".join(ids).encode())
    state.update(labels.astype("<i8").tobytes())
    if pixels is not None:
        state.update(np.ascontiguousarray(pixels).data)
    return state.hexdigest()


def open_set(suite: Suite, spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """Open one set of a suite; LeakError under the seal unless it is train or val, DataError when missing or short."""
    if spec.name not in (suite.train.name, suite.val.name):
        require_open(spec.name)
    known = [module.name for module in pkgutil.iter_modules(__path__)]
    if spec.format not in known:
        raise UnknownName("data format", spec.format, known, hint=f"the suite file is {suite.file}")
    reader = importlib.import_module(f"{__name__}.{spec.format}")
    found: ImageSet = reader.read(suite, spec, root, store)
    if len(found) != spec.n:
        raise DataError(f"{spec.name}: {len(found)} examples, expected {spec.n}", hint="unpack the archive again")
    if found.aligned and spec.digest is not None and found.digest != spec.digest:
        raise DataError(f"{spec.name}: the content is {found.digest[:12]}, expected {spec.digest[:12]}")
    return found
