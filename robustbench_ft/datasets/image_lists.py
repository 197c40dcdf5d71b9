"""Images in class folders, of which text lists say who belongs to a split: DTD, Food-101, SUN397, EuroSAT, RESISC45.

    <place>/<class folder>/<image>        class folders may nest: ``c/church/outdoor``
    <list>                                one image a line, in any order

A line is a path below the place (``/a/abbey/sun_x.jpg``, a slash before it or not) or, where it has no slash, a file name
that begins with its class folder's (``sea_ice_001.jpg``). Images that are in no list are passed over.

Options: ``list``: the list, relative to the place, alternatives separated by ``|``; ``suffix``: what the lines lack at
their end (``.jpg``); ``id``: what ids begin with (``images``: ``images/<line>``); ``mirror``: what mirrors call the split
(``robustbench_ft.datasets.mirrors``), which are read where no list is. A list named in the spec's ``checksums`` is checked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from robustbench_ft.checksums import verify
from robustbench_ft.datasets import ImageSet, mirrors, parquet, repair, tar_shards
from robustbench_ft.datasets.images import check_there, image_set
from robustbench_ft.datasets.index import Listing, kept, listing
from robustbench_ft.datasets.places import how, options, place
from robustbench_ft.errors import DataError, MissingData, UsageError
from robustbench_ft.specs import DatasetSpec

NAMED = 3  # of what is wrong, before the rest is counted


def read(spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """The images of the list; DataError says which line, image or folder is wrong, MissingData which list is not there."""
    given = options(spec, "list", "suffix", "id", "mirror")
    if "list" not in given:
        raise UsageError(f"{spec.name}: format {spec.format} needs the option list: where the list of the split lies")
    folder = place(spec, root)
    paths = [Path(os.path.normpath(folder / name)) for name in str(given["list"]).split("|")]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return _mirror(spec, root, store, folder, paths)
    classes, prefix, suffix = spec.folders or spec.classes, mirrors.prefix(spec), str(given.get("suffix", ""))
    expected, hint = dict(spec.checksums).get(path.name), repair(spec, root)

    def build() -> tuple[Listing, Sequence[Path]]:
        if expected:
            verify(path, expected, hint=f"get {path.name} again: {spec.source}")
        members = _members(path, classes, suffix, hint)
        watched = _check_folders(folder, path, classes, hint)
        check_there(folder, sorted(members), hint)
        return listing((f"{prefix}{file}", label, file) for file, label in members.items()), [path, *watched]

    key = ["image lists", str(folder.absolute()), str(path.absolute()), expected, prefix, suffix, classes]
    return image_set(spec, folder, kept(store, key, build))


def _mirror(spec: DatasetSpec, root: Path | None, store: Path, folder: Path, paths: Sequence[Path]) -> ImageSet:
    """What is read where no list is: a mirror; else MissingData says which list is missing and where it comes from."""
    if "mirror" in spec.options:
        if shards := tar_shards.files(spec, folder):
            return tar_shards.read_files(spec, root, store, shards)
        if tables := parquet.files(spec, folder):
            return parquet.read_files(spec, root, store, tables)
    told = f"{spec.name}: {folder} is there, but not {paths[0].name}, the list of its images: nothing at "
    raise MissingData(f"{told}{' or '.join(map(str, paths))}; it comes from {spec.source}", hint=how(spec, root))


def _members(path: Path, classes: Sequence[str], suffix: str, hint: str) -> dict[str, int]:
    """Label by file below the place; DataError for an unknown class, a double line, a class without a line."""
    labels = {name: label for label, name in enumerate(classes)}
    members: dict[str, int] = {}
    for number, line in _lines(path):
        file = PurePosixPath(line.lstrip("/") + suffix)
        if "/" not in line:
            file = line.rpartition("_")[0] / file
        label = labels.get(str(file.parent))
        if label is None:
            raise DataError(f"{path}, line {number}: {line} is in none of the {len(classes)} class folders", hint=hint)
        if str(file) in members:
            raise DataError(f"{path}, line {number}: {line} stands there twice", hint=hint)
        members[str(file)] = label
    present = set(members.values())
    if absent := [name for name, label in labels.items() if label not in present]:
        raise DataError(f"{path}: no image of {_some(absent)}; expected some of all {len(classes)} classes", hint=hint)
    return members


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that say something, with their numbers."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text file: {error}", hint=f"get {path.name} again") from error
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, line.strip()


def _check_folders(folder: Path, path: Path, classes: Sequence[str], hint: str) -> list[Path]:
    """DataError names class folders that are missing, empty or unknown; gives back all folders that hold images or folders."""
    known = {Path(name) for name in classes}
    inner = sorted({parent for name in known for parent in name.parents})
    missing = [name for name in classes if not (folder / name).is_dir()]
    empty = [name for name in classes if name not in missing and not any((folder / name).iterdir())]
    found = {parent / name for parent in inner for name in _folders(folder / parent)}
    unknown = sorted(str(name) for name in found - known - set(inner) if folder / name not in path.parents)
    faults = [f"{what} {_some(names)}" for what, names in (("no", missing), ("unknown", unknown), ("empty", empty)) if names]
    if faults:
        raise DataError(f"{folder}: {', '.join(faults)}; expected {len(classes)} class folders with images", hint=hint)
    return [*(folder / parent for parent in inner), *(folder / name for name in classes)]


def _folders(folder: Path) -> list[str]:
    """Names of the folders in a folder, hidden ones and what systems leave behind aside."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))]


def _some(names: Sequence[str]) -> str:
    """The first few names and how many more there are."""
    shown = ", ".join(names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"
