"""What mirrors of image sets have in common: examples in files of many, with a label and sometimes a name each.

Where the names that a mirror keeps give the very ids and labels that the spec's digest is of, the set is aligned. Else an
id is the place in the mirror, ``<split>/<index>``, zero padded, and the set is scored but never paired or submitted.

Option ``mirror``: what mirrors call the split, alternatives separated by ``|`` (none: its own name).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from robustbench_ft.datasets import content_digest, part_of, repair
from robustbench_ft.datasets.images import image_set
from robustbench_ft.datasets.index import Listing, kept, listing
from robustbench_ft.errors import DataError
from robustbench_ft.specs import DatasetSpec

SPELLINGS = (".JPEG", ".jpeg", ".jpg", ".png")
"""Suffixes that a mirror may have changed; which one was right is for the digest to say."""


class Sample(NamedTuple):
    """One example of a mirror, in the mirror's order."""

    label: int
    name: str
    """The file name that the mirror keeps; may be empty."""
    where: str
    """For the reader: which bytes."""


def prefix(spec: DatasetSpec) -> str:
    """What official ids begin with, a slash at its end unless empty."""
    given = str(spec.options.get("id", ""))
    return f"{given}/" if given else ""


def splits(spec: DatasetSpec) -> list[str]:
    """What mirrors may call the split."""
    return str(spec.options.get("mirror", spec.split)).split("|")


def by_number(path: Path) -> list[Any]:
    """A key to sort shards with: ``10`` comes after ``2``."""
    return [(int(part), part) if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def labelling(spec: DatasetSpec, names: Sequence[str], where: str, hint: str) -> Callable[[int], int]:
    """From a mirror's labels to the spec's. ``names``: the mirror's class names, by its labels; none where it keeps none.

    Where they are the spec's class or folder names in another order, labels are translated. DataError for another number
    of names and, from what is given back, for a label out of range.
    """
    size = len(spec.classes)
    if names and len(names) != size:
        raise DataError(f"{where} has {len(names)} class names, expected {size}", hint=hint)
    ours = next((known for known in (spec.folders, spec.classes) if sorted(known) == sorted(names)), None)
    order = [ours.index(name) for name in names] if ours else list(range(size))

    def label(found: int) -> int:
        if not 0 <= found < size:
            raise DataError(f"{where}: label {found} is not one of 0 to {size - 1}", hint=hint)
        return order[found]

    return label


def mirrored(
    spec: DatasetSpec, root: Path | None, store: Path, files: Sequence[Path], *, samples: Callable[[], Sequence[Sample]]
) -> Listing:
    """The listing of a mirror in ``files``, kept while they stay as they are; ``samples`` reads it."""

    def build() -> tuple[Listing, Sequence[Path]]:
        return _listing(spec, root, samples()), [*files, *{file.parent for file in files}]

    decisive = spec.model_dump(mode="json", include={"split", "part", "val_per_class", "track", "mask", "shots", "shots_seed"})
    key = ["mirror", [str(file.absolute()) for file in files], decisive, spec.options, spec.digest, spec.folders, spec.classes]
    return kept(store, key, build)


def _listing(spec: DatasetSpec, root: Path | None, samples: Sequence[Sample]) -> Listing:
    """Under the official ids where the digest says so, else under places in the mirror."""
    stem, folders = prefix(spec), spec.folders or spec.classes
    for names in _spellings(samples, folders) if spec.digest else ():
        pairs = zip(samples, names, strict=True)
        found = listing((f"{stem}{folders[sample.label]}/{name}", sample.label, sample.where) for sample, name in pairs)
        if part_of(image_set(spec, Path(), found), spec, root).digest == spec.digest:
            return found
    width = len(str(max(len(samples) - 1, 0)))
    placed = ((f"{spec.split}/{place:0{width}}", sample.label, sample.where) for place, sample in enumerate(samples))
    found = listing(placed)
    return replace(found, aligned=False, digest=content_digest([*found.ids, *found.files], found.labels))


def _spellings(samples: Sequence[Sample], folders: Sequence[str]) -> Iterator[list[str]]:
    """What the official file names may be: as kept, in other suffixes, without a class folder's name put before the suffix."""
    if not samples or not all(sample.name for sample in samples):
        return
    kept_names = [sample.name for sample in samples]
    stems = [stem or last for stem, _, last in (name.rpartition(".") for name in kept_names)]
    bare = [stem.removesuffix(f"_{folders[sample.label]}") for stem, sample in zip(stems, samples, strict=True)]
    yield kept_names
    for base in (stems, bare) if bare != stems else (stems,):
        for suffix in SPELLINGS:
            yield [stem + suffix for stem in base]


def hint(spec: DatasetSpec, root: Path | None) -> str:
    """What to do about a mirror that is damaged."""
    return f"get the shards again, or the official archives; {repair(spec, root)}"
