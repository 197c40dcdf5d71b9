"""The embedded suite's sets: rendered once, checked against the shipped digest, kept in the store."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from robustbench_ft.datasets import ImageSet, content_digest
from robustbench_ft.errors import DataError
from robustbench_ft.mini import world
from robustbench_ft.progress import say
from robustbench_ft.specs import DatasetSpec


def read(spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """The set of world ``spec.path``; ``root`` is not used. DataError when this machine renders other pixels."""
    number, keep = int(spec.path), _kept(spec)
    ids, labels = world.listing(spec.split, keep)
    file = store / "pixels" / f"mini-{number}-{spec.split}-{(spec.digest or 'new')[:16]}.npy"
    pixels = _load(file)
    if pixels is None or spec.digest is None or content_digest(ids, labels, pixels) != spec.digest:
        say(f"rendering {spec.name} ({len(ids)} images)")
        pixels = world.render(number, spec.split, keep).images
        found = content_digest(ids, labels, pixels)
        if spec.digest not in (None, found):
            raise DataError(
                f"{spec.name}: this machine renders {found[:12]}, expected {spec.digest[:12]}",
                hint="please report the processor and the numpy version: rbft doctor",
            )
        _save(file, pixels)
    digest = spec.digest or content_digest(ids, labels, pixels)
    held = pixels
    return ImageSet(spec.name, ids, labels, lambda i: Image.fromarray(held[i]), digest, pixels=digest)


def _kept(spec: DatasetSpec) -> list[int] | None:
    return None if spec.keep is None else [int(line) for line in Path(spec.keep).read_text().split()]


def _load(file: Path) -> npt.NDArray[np.uint8] | None:
    try:
        held: npt.NDArray[np.uint8] = np.load(file, mmap_mode="r", allow_pickle=False)
        return held
    except (OSError, ValueError):
        return None


def _save(file: Path, pixels: npt.NDArray[np.uint8]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as out:
            np.save(out, pixels, allow_pickle=False)
        os.replace(name, file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
