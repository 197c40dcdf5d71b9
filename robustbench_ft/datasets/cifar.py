"""CIFAR-10, from its official python batches or from class folders of images, under the same ids in the same order.

An id is ``<train or test>/<class>/<ordinal>``: the image's place within its class in the official order, from 0000.

    <data>/cifar-10-batches-py/data_batch_1 ...      the official archive, unpacked: aligned
    <data>/train/<class>/<ordinal>.jpg ...           images of a mirror, recompressed: not aligned
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from robustbench_ft.checksums import verify
from robustbench_ft.datasets import ImageSet, Labels, content_digest
from robustbench_ft.errors import DataError, MissingData
from robustbench_ft.pickles import load_plain
from robustbench_ft.specs import DatasetSpec

BATCHES = "cifar-10-batches-py"
FILES = {"train": tuple(f"data_batch_{k}" for k in range(1, 6)), "test": ("test_batch",)}
ENDINGS = {".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9", ".png": b"IEND\xae\x42\x60\x82"}
SIZE = 32


@dataclass(frozen=True)
class Found:
    """The official train or test set on disk: ids in byte order, labels int64 [N], images as bytes and a decoder."""

    ids: Sequence[str]
    labels: Labels
    content: Callable[[int], bytes]
    decode: Callable[[bytes, str], Image.Image]
    official: bool
    verified: bool = False
    """Whether checksums vouch for the pixels."""


@dataclass(frozen=True)
class Decoder:
    """Images of a set whose encoded bytes are in memory (CIFAR-10 is small: 50 MB as JPEG)."""

    ids: Sequence[str]
    contents: Sequence[bytes]
    decode: Callable[[bytes, str], Image.Image]

    def __call__(self, index: int) -> Image.Image:
        """Image ``index``, RGB."""
        return self.decode(self.contents[index], self.ids[index])


def read(spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """The split ``train`` or ``test``; DataError names what is missing, short or damaged."""
    if root is None:
        raise MissingData(f"{spec.name} is read from disk and no data folder was given", hint=f"--data DIR; {_how(spec, 'DIR')}")
    folder, group = root / spec.path, "test" if spec.split == "test" else "train"
    if (folder / BATCHES).is_dir():
        found = _from_batches(folder / BATCHES, group, spec.classes, spec)
    elif (folder / group).is_dir():
        found = _from_folders(folder / group, group, spec.classes)
    else:
        expected = f"neither {BATCHES}/ (the official archive, unpacked) nor {group}/<class>/<number>.jpg"
        raise MissingData(f"{spec.name}: {folder} has {expected}", hint=_how(spec, str(folder)))
    _check_balance(found.labels, spec.classes, folder, group)
    ids, labels = found.ids, found.labels
    contents = [found.content(i) for i in range(len(ids))]
    pixels = None if found.verified else np.frombuffer(b"".join(contents), dtype=np.uint8)
    digest = content_digest(ids, labels, pixels)
    return ImageSet(
        spec.name, ids, labels, Decoder(ids, contents, found.decode), digest, found.official, "" if found.verified else digest
    )


def _check_balance(labels: Labels, classes: Sequence[str], folder: Path, group: str) -> None:
    """DataError unless every class has as many images as the largest, as CIFAR-10's have."""
    counts = np.bincount(labels, minlength=len(classes)).tolist()
    most = max(counts)
    for name, count in zip(classes, counts, strict=True):
        if count != most:
            raise DataError(
                f"{folder}: {group} has {count} images of {name}, expected {most} as {classes[counts.index(most)]}",
                hint=f"the first that is missing is {group}/{name}/{count:04d}; unpack the archive again",
            )


def _how(spec: DatasetSpec, folder: str) -> str:
    return f"get {spec.source}, then tar xf cifar-10-python.tar.gz -C {folder}"


def _from_folders(folder: Path, group: str, classes: Sequence[str]) -> Found:
    """Class folders of images named by their ordinal: ``cat/0000.jpg`` to ``cat/4999.jpg``."""
    have = {path.name for path in _listed(folder)}
    if wrong := sorted(have ^ set(classes)):
        verb = "has no" if wrong[0] in classes else "has a surplus"
        raise DataError(f"{folder} {verb} {wrong[0]}; expected the folders {', '.join(classes)}", hint="unpack the archive again")
    paths = {name: _numbered(folder / name) for name in classes}
    files = sorted((f"{group}/{name}/{path.stem}", label, path) for label, name in enumerate(classes) for path in paths[name])
    labels = np.array([label for _, label, _ in files], dtype=np.int64)
    return Found([key for key, _, _ in files], labels, lambda i: _whole(files[i][2]), _decode_file, official=False)


def _listed(folder: Path) -> list[Path]:
    """What a folder holds, in byte order, files that start with a dot aside."""
    return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=lambda path: path.name.encode())


def _numbered(folder: Path) -> list[Path]:
    """The images of one class folder; DataError unless they are 0000, 0001 and so on without a gap."""
    paths = _listed(folder) if folder.is_dir() else []
    if not paths:
        raise DataError(f"{folder} holds no images", hint="unpack the archive again")
    for k, path in enumerate(paths):
        if path.suffix.lower() not in ENDINGS or path.stem != f"{k:04d}":
            raise DataError(f"{path} is where image {k:04d} of its class was expected: a file is missing, double or foreign")
    return paths


def _whole(path: Path) -> bytes:
    """A file's bytes; DataError when its image format's end is not there."""
    content = path.read_bytes()
    if not content.endswith(ENDINGS[path.suffix.lower()]):
        raise DataError(f"{path} is truncated: {len(content)} bytes without the end of an image", hint="unpack the archive again")
    return content


def _decode_file(content: bytes, name: str) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content)).convert("RGB")
    except (OSError, SyntaxError) as error:
        raise DataError(f"image {name} cannot be decoded: {error}", hint="unpack the archive again") from error


def _from_batches(folder: Path, group: str, classes: Sequence[str], spec: DatasetSpec) -> Found:
    """The official pickles, read without unpickling anything but plain values and bytes."""
    hint = f"unpack again; {_how(spec, str(folder.parent))}"
    checksums = dict(spec.checksums)
    parts = [_batch(folder / name, len(classes), checksums.get(name), hint) for name in FILES[group]]
    labels = np.concatenate([part[0] for part in parts])
    rows = np.concatenate([part[1] for part in parts])
    seen = [0] * len(classes)
    keys = []
    for place, label in enumerate(labels.tolist()):
        keys.append((f"{group}/{classes[label]}/{seen[label]:04d}", place))
        seen[label] += 1
    keys.sort()
    order = [place for _, place in keys]
    verified = all(name in checksums for name in FILES[group])
    return Found(
        [key for key, _ in keys],
        labels[order],
        lambda i: rows[order[i]].tobytes(),
        _decode_row,
        official=True,
        verified=verified,
    )


def _batch(path: Path, classes: int, expected: str | None, hint: str) -> tuple[Labels, Any]:
    """Labels, int64 [N], and pixels, uint8 [N, 3072], of one batch file."""
    if not path.is_file():
        raise DataError(f"{path} is missing", hint=hint)
    if expected is not None:
        verify(path, expected, hint=hint)
    table = load_plain(path)
    labels, rows = table.get("labels"), table.get("data")
    shape = rows.shape if isinstance(rows, np.ndarray) else ()
    if not isinstance(labels, list) or shape != (len(labels), 3 * SIZE * SIZE):
        raise DataError(f"{path} does not hold uint8 data [N, 3072] and a list of as many labels", hint=hint)
    if wrong := [value for value in labels if type(value) is not int or not 0 <= value < classes]:
        raise DataError(f"{path}: label {wrong[0]!r} is not one of 0 to {classes - 1}", hint=hint)
    return np.array(labels, dtype=np.int64), rows


def _decode_row(content: bytes, name: str) -> Image.Image:
    """A row of 3072 values, red plane first."""
    return Image.fromarray(np.frombuffer(content, dtype=np.uint8).reshape(3, SIZE, SIZE).transpose(1, 2, 0))
