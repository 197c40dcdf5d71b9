"""Class folders of a data set that has no official split: hashes of ids decide who is in which (Caltech-101).

    <place>/<class folder>/<image>

Options: ``fractions``: percent of each class that the splits get, in the order of ``splits`` (``60/20/20``); ``splits``:
their names (``train/val/test``); ``dropped``: class folders that are known and not read, separated by ``|``; ``id``: what
ids begin with.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robustbench_ft import carve
from robustbench_ft.datasets import ImageSet, class_folders, mirrors, repair
from robustbench_ft.datasets.images import image_set
from robustbench_ft.datasets.index import Listing, kept
from robustbench_ft.datasets.places import options, place
from robustbench_ft.errors import UnknownName, UsageError
from robustbench_ft.specs import DatasetSpec


def read(spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """The images of the split; DataError names class folders that are missing, unknown or empty."""
    given = options(spec, "fractions", "splits", "dropped", "id")
    names, shares = _shares(spec)
    folder, classes = place(spec, root), spec.folders or spec.classes
    dropped = str(given.get("dropped", "")).split("|")

    def build() -> tuple[Listing, Sequence[Path]]:
        return class_folders.scan(folder, classes, mirrors.prefix(spec), dropped=dropped, hint=repair(spec, root))

    key = ["class folders", str(folder.absolute()), mirrors.prefix(spec), classes, dropped]
    every = image_set(spec, folder, kept(store, key, build))
    return every.subset(carve.split_by_hash(every.ids, every.labels, shares, names.index(spec.split)))


def _shares(spec: DatasetSpec) -> tuple[list[str], list[int]]:
    """Names of the splits and what each gets, in percent; UsageError where they do not fit, UnknownName for another split."""
    names = str(spec.options.get("splits", "train/val/test")).split("/")
    given = str(spec.options.get("fractions", "")).split("/")
    shares = [int(share) for share in given if share.isdecimal()]
    if len(shares) != len(given) or len(shares) != len(names) or sum(shares) != 100:
        told = f"{spec.name}: fractions {spec.options.get('fractions')!r} for {'/'.join(names)}"
        raise UsageError(f"{told}; expected whole percents that sum to 100, for example 60/20/20")
    if spec.split not in names:
        raise UnknownName(f"split of {spec.name}:", spec.split, names)
    return names, shares
