"""CIFAR-10 and CIFAR-100, from their official python batches or from class folders, under the same ids in the same order.

An id is ``<train or test>/<class folder>/<ordinal>``: the image's place within its class in the official order, from 0000.

    <place>/data_batch_1 ...                        the official archive, unpacked: aligned
    <place>/train/<class folder>/<ordinal>.jpg ...  images of a mirror, recompressed: not aligned

Options: ``files``: the batches of the split, separated by ``|`` (none: CIFAR-10's); ``labels``: what the list of labels is
called in them (none: ``labels``; CIFAR-100's are ``fine_labels``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from robustbench_ft.checksums import verify
from robustbench_ft.datasets import ImageSet, Labels, content_digest, numbered_folders
from robustbench_ft.datasets.places import how, options, place
from robustbench_ft.errors import DataError, MissingData
from robustbench_ft.pickles import load_plain
from robustbench_ft.specs import DatasetSpec

FILES = {"train": tuple(f"data_batch_{k}" for k in range(1, 6)), "test": ("test_batch",)}
SIZE = 32


@dataclass(frozen=True)
class Decoder:
    """Images of a set whose encoded bytes are in memory (CIFAR is small: 150 MB)."""

    ids: Sequence[str]
    contents: Sequence[bytes]
    decode: Callable[[bytes, str], Image.Image]

    def __call__(self, index: int) -> Image.Image:
        """Image ``index``, RGB."""
        return self.decode(self.contents[index], self.ids[index])


def read(spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """The split ``train`` or ``test``; DataError names what is missing, short or damaged."""
    given = options(spec, "files", "labels")
    folder, group, classes = place(spec, root), "test" if spec.split == "test" else "train", spec.folders or spec.classes
    names = str(given["files"]).split("|") if "files" in given else FILES[group]
    official = any((folder / name).is_file() for name in names)
    decode: Callable[[bytes, str], Image.Image] = _decode_row
    if official:
        ids, labels, contents = _from_batches(spec, folder, names, f"{group}/", hint=f"unpack again; {_how(spec, root)}")
    elif (folder / group).is_dir():
        ids, labels, contents = numbered_folders.contents(folder / group, group, classes)
        decode = numbered_folders.decode
    else:
        wanted = f"neither {spec.path}/ with {names[0]} (the official archive, unpacked) nor {group}/<class>/<number>.jpg"
        raise MissingData(f"{spec.name}: {root} has {wanted}", hint=_how(spec, root))
    _check_balance(labels, classes, folder, group)
    verified = official and set(names) <= set(dict(spec.checksums))
    pixels = None if verified else np.frombuffer(b"".join(contents), dtype=np.uint8)
    digest = content_digest(ids, labels, pixels)
    return ImageSet(
        spec.name, ids, labels, Decoder(ids, contents, decode), digest, aligned=official, pixels="" if verified else digest
    )


def _check_balance(labels: Labels, classes: Sequence[str], folder: Path, group: str) -> None:
    """DataError unless every class has as many images as the largest, as CIFAR's have."""
    counts = np.bincount(labels, minlength=len(classes)).tolist()
    most = max(counts)
    for name, count in zip(classes, counts, strict=True):
        if count != most:
            raise DataError(
                f"{folder}: {group} has {count} images of {name}, expected {most} as {classes[counts.index(most)]}",
                hint=f"the first that is missing is {group}/{name}/{count:04d}; unpack the archive again",
            )


def _how(spec: DatasetSpec, root: Path | None) -> str:
    told = how(spec, root)
    return f"{told}, or get {spec.source} and unpack it in {root or 'DIR'}" if spec.dataset else told


def _from_batches(
    spec: DatasetSpec, folder: Path, names: Sequence[str], prefix: str, *, hint: str
) -> tuple[list[str], Labels, list[bytes]]:
    """Ids in byte order, labels int64 [N] and pixels of the official pickles, read as plain values and bytes alone."""
    classes, checksums = spec.folders or spec.classes, dict(spec.checksums)
    key = str(spec.options.get("labels", "labels"))
    parts = [_batch(folder / name, key, len(classes), checksums.get(name), hint=hint) for name in names]
    labels = np.concatenate([part[0] for part in parts])
    rows = np.concatenate([part[1] for part in parts])
    seen = [0] * len(classes)
    keys = []
    for spot, label in enumerate(labels.tolist()):
        keys.append((f"{prefix}{classes[label]}/{seen[label]:04d}", spot))
        seen[label] += 1
    keys.sort()
    order = [spot for _, spot in keys]
    return [key for key, _ in keys], labels[order], [rows[spot].tobytes() for spot in order]


def _batch(path: Path, key: str, classes: int, expected: str | None, *, hint: str) -> tuple[Labels, Any]:
    """Labels, int64 [N], and pixels, uint8 [N, 3072], of one batch file."""
    if not path.is_file():
        raise DataError(f"{path} is missing", hint=hint)
    if expected is not None:
        verify(path, expected, hint=hint)
    table = load_plain(path)
    labels, rows = table.get(key), table.get("data")
    shape = rows.shape if isinstance(rows, np.ndarray) else ()
    if not isinstance(labels, list) or shape != (len(labels), 3 * SIZE * SIZE):
        raise DataError(f"{path} does not hold uint8 data [N, 3072] and a list {key} of as many labels", hint=hint)
    if wrong := [value for value in labels if type(value) is not int or not 0 <= value < classes]:
        raise DataError(f"{path}: label {wrong[0]!r} is not one of 0 to {classes - 1}", hint=hint)
    return np.array(labels, dtype=np.int64), rows


def _decode_row(content: bytes, name: str) -> Image.Image:
    """A row of 3072 values, red plane first."""
    return Image.fromarray(np.frombuffer(content, dtype=np.uint8).reshape(3, SIZE, SIZE).transpose(1, 2, 0))
