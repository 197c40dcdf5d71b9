"""Data sets: one module per on-disk format, each with ``read(spec, root, store) -> ImageSet``.

A reader gives the whole official split; what part of it a suite uses (carved val, few-shot) is decided here.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from robustbench_ft import carve
from robustbench_ft.errors import DataError, UnknownName
from robustbench_ft.progress import say
from robustbench_ft.seal import require_open
from robustbench_ft.specs import DatasetSpec
from robustbench_ft.suites import Suite

Labels = npt.NDArray[np.int64]
NOTHING = -1
"""In a column: this example has no such value."""


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
    pixels: str = ""
    """Where no checksum vouches for the pixels and ``digest`` covers them: that digest of the whole split."""
    columns: Mapping[str, Labels] = field(default_factory=dict)
    """What a metric needs to know beside the label, int64 [N] each, ``NOTHING`` for none (``robustbench_ft.metrics``):
    ``unit`` (sampling unit: camera), ``region``, ``anchor``, ``distance`` (frames from it), ``also-1`` ... (more right labels),
    ``track``."""

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.labels)

    def subset(self, mask: npt.NDArray[np.bool_]) -> ImageSet:
        """The examples where ``mask``, bool [N], is true, in the same order."""
        members = np.flatnonzero(mask)
        ids, labels = list(compress(self.ids, mask.tolist())), self.labels[members]
        columns = {name: values[members] for name, values in self.columns.items()}
        digest = content_digest([*ids, self.pixels] if self.pixels else ids, labels, columns=columns)
        return replace(self, ids=ids, labels=labels, image=_Members(self.image, members), digest=digest, columns=columns)


@dataclass(frozen=True)
class _Told:
    """Image i; an error says which command finds all images that cannot be read."""

    image: Callable[[int], Image.Image]
    hint: str

    def __call__(self, index: int) -> Image.Image:
        try:
            return self.image(index)
        except DataError as error:
            raise DataError(f"{error}; there may be more", hint=self.hint) from error


def nothing() -> ImageSet:
    """A set without an example."""

    def image(index: int) -> Image.Image:
        raise IndexError(index)

    labels = np.zeros(0, np.int64)
    return ImageSet("nothing", (), labels, image, content_digest((), labels))


@dataclass(frozen=True)
class _Members:
    """Image i of a subset."""

    image: Callable[[int], Image.Image]
    members: Labels

    def __call__(self, index: int) -> Image.Image:
        return self.image(int(self.members[index]))


def content_digest(
    ids: Sequence[str],
    labels: Labels,
    pixels: npt.NDArray[np.uint8] | None = None,
    *,
    columns: Mapping[str, Labels] | None = None,
) -> str:
    """SHA-256 over ids, labels, columns and, where they are part of the definition, pixels (uint8 [N, H, W, 3])."""
    state = hashlib.sha256("\n".join(ids).encode())
    state.update(labels.astype("<i8").tobytes())
    for name in sorted(columns or {}):
        state.update(name.encode() + (columns or {})[name].astype("<i8").tobytes())
    if pixels is not None:
        state.update(np.ascontiguousarray(pixels).data)
    return state.hexdigest()


def formats() -> list[str]:
    """The data formats that can be read."""
    shared = ("index", "places", "images", "mirrors", "matlab", "numbered_folders")
    return [module.name for module in pkgutil.iter_modules(__path__) if module.name not in shared]


def open_set(suite: Suite, spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """Open one set of a suite; LeakError under the seal unless it is train or val, DataError when missing or short."""
    if spec.name not in (suite.train.name, suite.val.name):
        require_open(spec.name)
    return open_spec(spec, root, store)


def open_spec(spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """Open a split of a data set as its reader gives it, then the part that ``spec`` asks for; DataError says what is wrong."""
    found = part_of(whole(spec, root, store), spec, root, store)
    check(found, spec, root)
    return replace(found, image=_Told(found.image, repair(spec, root))) if spec.dataset else found


def whole(spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """The official split as its reader gives it, whatever part of it ``spec`` asks for and however many there should be."""
    if spec.format not in formats():
        raise UnknownName("data format", spec.format, formats(), hint=f"the format of {spec.name}")
    reader = importlib.import_module(f"{__name__}.{spec.format}")
    found: ImageSet = reader.read(spec, root, store)
    return found


def check(found: ImageSet, spec: DatasetSpec, root: Path | None) -> None:
    """DataError unless a set has as many examples as ``spec`` says and, where known, its ids and labels.

    A number that nobody confirmed (``DatasetSpec.unconfirmed``) is no reason to refuse.
    """
    if len(found) != spec.n and spec.unconfirmed:
        say(f"{spec.name}: its metadata name {len(found)} images; the number we know is {spec.n}, from hearsay: please report it")
    elif len(found) != spec.n:
        raise DataError(f"{spec.name}: {len(found)} examples, expected {spec.n}", hint=repair(spec, root))
    if found.aligned and spec.digest is not None and found.digest != spec.digest:
        told = f"ids and labels have the hash {found.digest[:12]}, expected {spec.digest[:12]}: a file or label differs"
        raise DataError(f"{spec.name}: {told}", hint=repair(spec, root))


def part_of(found: ImageSet, spec: DatasetSpec, root: Path | None, store: Path | None = None) -> ImageSet:
    """The part of an official split that ``spec`` asks for: carved by hashes or by a mask file, then few-shot.

    ``store``: where the carving of a large set is kept.
    """
    if spec.part is not None:
        if spec.mask is not None:
            found = found.subset(carve.from_mask(spec, root, found.ids))
        else:
            found = found.subset(_carved(found, spec, spec.part, store if len(found) >= carve.LARGE else None))
    if spec.shots is not None:
        _check_shots(found, spec, spec.shots)
        found = found.subset(carve.shots(found.ids, found.labels, spec.shots, seed=spec.shots_seed))
    return found


def _carved(found: ImageSet, spec: DatasetSpec, part: str, store: Path | None) -> npt.NDArray[np.bool_]:
    """Which examples are in a part carved by hashes; kept in ``store``, where there is one, under all that decides it."""
    tracks = found.columns[spec.track] if spec.track else None

    def make() -> npt.NDArray[np.bool_]:
        return carve.part(part, found.ids, found.labels, val_per_class=spec.val_per_class, tracks=tracks)

    key = [carve.VAL.decode(), found.digest, part, spec.val_per_class, spec.track]
    return make() if store is None else carve.kept(store, key, len(found), make)


def _check_shots(found: ImageSet, spec: DatasetSpec, shots: int) -> None:
    """DataError for a class with fewer examples than asked, unless the spec's size says that there are no more."""
    counts = np.bincount(found.labels, minlength=len(spec.classes)).tolist()
    least = min(range(len(counts)), key=counts.__getitem__)
    if counts[least] < shots and spec.n == shots * len(spec.classes):
        name = spec.classes[least]
        raise DataError(f"{spec.name}: {counts[least]} examples of {name!r}, expected {shots} or more", hint="fewer shots")


def repair(spec: DatasetSpec, root: Path | None) -> str:
    """The command that says what is wrong with a data set, or what to do about one that no data set file describes."""
    if spec.dataset:
        return f"rbft data verify {spec.dataset} --data {root or 'DIR'}"
    return f"get {spec.source} and unpack it again" if spec.source else f"look at {spec.path}"
