"""Images in tar shards (webdataset): per example an image and a label under one key.

    <place>/<split>/0.tar, 1.tar ...            any ``*.tar``; beside them ``nshards.txt`` and ``classnames.txt``, here or above
    <place>/<name>-<split>-0000.tar ...         or shards of several splits in one folder

``<key>.jpg`` (jpeg, png, webp) is the image, ``<key>.cls``, ``<key>.cls.txt`` or ``label`` in ``<key>.json`` its label.
A shard is read through once; after that each image is read from its place in the file. Compressed shards have no such
places and are refused. Options: ``id``, ``mirror`` (``robustbench_ft.datasets.mirrors``).
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from robustbench_ft.datasets import ImageSet
from robustbench_ft.datasets.images import decoded, image_set
from robustbench_ft.datasets.mirrors import Sample, by_number, hint, labelling, mirrored, splits
from robustbench_ft.datasets.places import how, options, place
from robustbench_ft.errors import DataError, MissingData
from robustbench_ft.specs import DatasetSpec

KINDS = dict.fromkeys((".jpg", ".jpeg", ".png", ".webp"), "image") | {".cls": "label", ".cls.txt": "label", ".json": "json"}
NUMBER, NAMES = "nshards.txt", "classnames.txt"
Parts = dict[str, tarfile.TarInfo]
"""The members of one key, by kind."""


def read(spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """The examples of the split's shards; DataError names a shard or key that is missing, double or damaged."""
    options(spec, "id", "mirror")
    base = place(spec, root)
    if shards := files(spec, base):
        return read_files(spec, root, store, shards)
    raise MissingData(f"{spec.name}: no tar shards of {' or '.join(splits(spec))} in {base}", hint=how(spec, root))


def files(spec: DatasetSpec, base: Path) -> list[Path]:
    """The split's shards below a place, in the order of their numbers; none where there are none."""
    for split in splits(spec):
        if found := [path for path in (base / split).glob("*.tar") if not path.name.startswith(".")]:
            return sorted(found, key=by_number)
        pattern = re.compile(rf"(.*[-_])?{re.escape(split)}[-_]\d+\.tar")
        if found := [path for path in base.glob("*.tar") if pattern.fullmatch(path.name)]:
            return sorted(found, key=by_number)
    return []


def read_files(spec: DatasetSpec, root: Path | None, store: Path, shards: Sequence[Path]) -> ImageSet:
    """The examples of these shards."""
    help_ = hint(spec, root)
    _check(spec, shards, help_)
    folder = shards[0].parent
    found = mirrored(spec, root, store, shards, samples=lambda: _samples(spec, shards, help_))
    return image_set(spec, folder, found, Members(folder, found.files))


@dataclass(frozen=True)
class Members:
    """Image i, from its place in a shard below ``folder``; DataError names one that cannot be read."""

    folder: Path
    places: Sequence[str]

    def __call__(self, index: int) -> Image.Image:
        """Image ``index``, decoded, in its own mode."""
        shard, offset, size, member = self.places[index].split("\t", 3)
        try:
            with open(self.folder / shard, "rb") as file:
                file.seek(int(offset))
                content = file.read(int(size))
        except OSError as error:
            raise DataError(f"{self.folder / shard} cannot be read: {error.strerror or error}") from error
        return decoded(content, f"{self.folder / shard}: {member}")


def _check(spec: DatasetSpec, shards: Sequence[Path], hint: str) -> None:
    """DataError unless there are as many shards as were written, and they are no archives of single classes."""
    inner = [path for path in shards if path.stem in spec.folders]
    if inner:
        raise DataError(f"{inner[0]} is the archive of one class ({len(inner)} such): not unpacked yet", hint=hint)
    noted = shards[0].parent / NUMBER
    if noted.is_file() and (said := noted.read_text(encoding="utf-8").strip()) != str(len(shards)):
        raise DataError(f"{shards[0].parent}: {len(shards)} tar shards, expected {said} as {NUMBER} says", hint=hint)


def _samples(spec: DatasetSpec, shards: Sequence[Path], hint: str) -> list[Sample]:
    """All examples, in the order of the shards."""
    folder = shards[0].parent
    table = next((path for path in (folder / NAMES, folder.parent / NAMES) if path.is_file()), None)
    names = table.read_text(encoding="utf-8").splitlines() if table else []
    label = labelling(spec, names, str(table or folder), hint)
    found: dict[str, Sample] = {}
    for path in shards:
        for key, (image, number) in _read(path, hint).items():
            if key in found:
                raise DataError(f"{path}: key {key} is in an earlier shard too", hint=hint)
            where = f"{path.name}\t{image.offset_data}\t{image.size}\t{image.name}"
            found[key] = Sample(label(number), image.name.rpartition("/")[2], where)
    return list(found.values())


def _read(path: Path, hint: str) -> dict[str, tuple[tarfile.TarInfo, int]]:
    """Image and label of each key of a shard; DataError for a shard that is not whole."""
    found = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for key, parts in _keys(archive, path, hint).items():
                found[key] = parts["image"], _label(archive, parts, path, hint)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{path} is truncated, or no uncompressed tar: {error}", hint=hint) from error
    return found


def _keys(archive: tarfile.TarFile, path: Path, hint: str) -> dict[str, Parts]:
    """The members of a shard by key and kind; DataError for a key that has two of a kind, no image or no label."""
    found: dict[str, Parts] = {}
    for member in archive:
        suffix = next((suffix for suffix in KINDS if member.name.lower().endswith(suffix)), None)
        if suffix is None or not member.isreg():
            continue
        key = member.name[: -len(suffix)]
        if (other := found.setdefault(key, {}).setdefault(KINDS[suffix], member)) is not member:
            raise DataError(f"{path}: key {key} is there twice: {other.name}, {member.name}", hint=hint)
    _check_end(archive)
    for key, parts in found.items():
        if "image" not in parts or len(parts) == 1:
            lacking = "label (.cls, .json)" if "image" in parts else "image"
            raise DataError(f"{path}: key {key} has no {lacking}", hint=hint)
    return found


def _check_end(archive: tarfile.TarFile) -> None:
    """ReadError unless the mark of its end follows the last member: tarfile takes any damage there for the end."""
    file = archive.fileobj
    assert file is not None
    file.seek(archive.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("no mark of its end after its last whole member")


def _label(archive: tarfile.TarFile, parts: Parts, path: Path, hint: str) -> int:
    member = parts.get("label", parts.get("json"))
    file = archive.extractfile(member) if member else None
    assert member is not None and file is not None
    content = file.read()
    try:
        if member is parts.get("label"):
            return int(content)
        given = json.loads(content)
        return int(given.get("label", given.get("cls")))
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: {member.name} holds no label: {content[:40]!r}", hint=hint) from error
