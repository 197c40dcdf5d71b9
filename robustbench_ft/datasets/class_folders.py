"""Class folders of images, as ImageNet and most sets of its kind are handed out: ``<place>/<folder>/<class folder>/<image>``.

What the class folders are called, and the order of the classes, is the spec's to say (``folders``), never the disk's: a
folder that is missing, empty or not of the list is an error that names it. Names are compared whole, so that the folders
``0`` to ``999`` of ImageNetV2 are numbers and not text to be sorted.

Beside class folders files that are no images (``README.txt``) may lie. In a class folder everything has to be an image by
its suffix, in any case (``.JPEG``); files that systems leave behind (``.DS_Store``, ``Thumbs.db``) are passed over.
Links are followed.

Options: ``folder``: the folder below the place that holds the class folders, alternatives separated by ``|`` (none: the
place itself); ``id``: what ids begin with, whatever that folder is called here (``val``: ``val/<class folder>/<image>``);
``mirror``: what mirrors call the split (``robustbench_ft.datasets.mirrors``), which are read where no class folder is.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

from robustbench_ft.datasets import ImageSet, mirrors, parquet, repair, tar_shards
from robustbench_ft.datasets.images import SUFFIXES, image_set
from robustbench_ft.datasets.index import Listing, kept, listing
from robustbench_ft.datasets.places import how, options, place
from robustbench_ft.errors import DataError, MissingData
from robustbench_ft.specs import DatasetSpec

LEFT_BEHIND = ("Thumbs.db", "desktop.ini", "__MACOSX")
NAMED = 3  # folders that an error names before it counts the others


def read(spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """The images of all class folders, else those of a mirror; DataError names what is missing, foreign or empty."""
    given = options(spec, "folder", "id", "mirror")
    base = place(spec, root)
    classes = spec.folders or spec.classes
    candidates = [base / name for name in str(given.get("folder", "")).split("|")]
    found = next((folder for folder in candidates if _has_classes(folder, classes)), None)
    if found is None:
        if shards := tar_shards.files(spec, base):
            return tar_shards.read_files(spec, root, store, shards)
        if tables := parquet.files(spec, base):
            return parquet.read_files(spec, root, store, tables)
        found = _without_classes(spec, root, candidates)
    folder = found

    def build() -> tuple[Listing, Sequence[Path]]:
        return scan(folder, classes, mirrors.prefix(spec), hint=repair(spec, root))

    key = ["class folders", str(folder.absolute()), mirrors.prefix(spec), classes]
    return image_set(spec, folder, kept(store, key, build))


def scan(
    folder: Path, classes: Sequence[str], prefix: str, *, dropped: Container[str] = (), hint: str = ""
) -> tuple[Listing, list[Path]]:
    """The listing of ``folder``, whose class folders are ``classes``, by label, and the folders that it was made from.

    Ids are ``<prefix><class folder>/<image>``. ``dropped``: class folders that are known and not read. DataError names
    class folders that are missing, unknown or empty, an image outside of one, and what is no image in one.
    """
    folders, loose = _children(folder)
    missing = [name for name in classes if name not in folders]
    unknown = sorted(folders - set(classes) - {name for name in folders if name in dropped})
    images = {name: _images(folder, name, hint) for name in classes if name in folders}
    empty = [name for name in classes if name in images and not images[name]]
    faults = [f"{what} {_some(names)}" for what, names in (("no", missing), ("unknown", unknown), ("empty", empty)) if names]
    if faults:
        raise DataError(f"{folder}: {', '.join(faults)}; expected {len(classes)} class folders with images", hint=hint)
    if loose:
        raise DataError(f"{folder}: images outside of the class folders: {_some(sorted(loose))}", hint=hint)
    labels = {name: label for label, name in enumerate(classes)}

    def entries() -> Iterator[tuple[str, int, str]]:
        for name in sorted(images, key=lambda name: f"{name}/".encode()):
            for file in images.pop(name):  # a list that is in order sorts in no time, and goes when it has been read
                yield f"{prefix}{name}/{file}", labels[name], f"{name}/{file}"

    watched = [folder, *(folder / name for name in classes)]
    return listing(entries()), watched


def _has_classes(folder: Path, classes: Sequence[str]) -> bool:
    """Whether one of the class folders is there."""
    return folder.is_dir() and not _children(folder)[0].isdisjoint(classes)


def _children(folder: Path) -> tuple[set[str], list[str]]:
    """Names of the folders in a folder, and of the images beside them."""
    folders, images = set(), []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name in LEFT_BEHIND:
                continue
            if entry.is_dir():
                folders.add(entry.name)
            elif entry.name.lower().endswith(SUFFIXES):
                images.append(entry.name)
    return folders, images


def _images(folder: Path, name: str, hint: str) -> list[str]:
    """Names of the images of a class, in byte order; DataError names what is none."""
    found = []
    with os.scandir(folder / name) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name in LEFT_BEHIND:
                continue
            if not entry.name.lower().endswith(SUFFIXES) or not entry.is_file():
                raise DataError(f"{folder / name / entry.name} is no image file and lies in a class folder", hint=hint)
            found.append(entry.name)
    try:
        return sorted(found, key=str.encode)
    except UnicodeEncodeError as error:
        raise DataError(f"{folder / name}: the file name {error.object!r} is not UTF-8", hint=hint) from error


def _some(names: Sequence[str]) -> str:
    """The first few names and how many more there are."""
    shown = ", ".join(names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"


def _without_classes(spec: DatasetSpec, root: Path | None, candidates: Sequence[Path]) -> Path:
    """The folder to complain about where no class folder is: the first that holds other folders; else the complaint."""
    there = [folder for folder in candidates if folder.is_dir()]
    for folder in there:
        folders, loose = _children(folder)
        if loose and not folders:
            raise DataError(f"{folder} holds {len(loose)} images that are not sorted into class folders", hint=how(spec, root))
        if folders:
            return folder
    looked = " or ".join(map(str, candidates))
    wanted = f"class folders ({_some(spec.folders or spec.classes)}), tar shards or parquet of the split"
    raise MissingData(f"{spec.name}: {looked} holds no {wanted}", hint=how(spec, root))
