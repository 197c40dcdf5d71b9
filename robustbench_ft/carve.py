"""Parts of a training set, decided by hashes of ids: the carved ID validation set, and halves for pretraining.

A part depends on ids and labels alone, not on any order, library or random number generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robustbench_ft.checksums import verify
from robustbench_ft.errors import DataError, MissingData, UnknownName
from robustbench_ft.specs import DatasetSpec

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int64]

PARTS = ("train", "train-a", "train-b", "val")
VAL = b"rbft-val-1:"


def part(
    name: str, ids: Sequence[str], labels: Labels, *, val_per_class: int | None = None, tracks: Labels | None = None
) -> Mask:
    """Which examples of an official training set (ids, labels int64 [N]) are in a part, bool [N]; or UnknownName.

    ``val`` and ``train`` share out the whole set; ``train-a`` and ``train-b`` share out ``train``, class by class.
    ``tracks``, int64 [N]: examples of one track (frames of one video) stay together; whole tracks go to val until it has
    at least ``val_per_class`` examples of the class.
    """
    if name not in PARTS:
        raise UnknownName("part of a training set", name, PARTS)
    size = default_val_per_class(labels) if val_per_class is None else val_per_class
    if tracks is None:
        val = first(ids, labels, dict.fromkeys(labels.tolist(), size), salt=VAL)
    else:
        val = first_tracks(ids, labels, tracks, size)
    if name in ("train", "val"):
        return val if name == "val" else ~val
    rest = np.flatnonzero(~val)
    halves = {label: n // 2 for label, n in enumerate(np.bincount(labels[rest]).tolist())}
    a = first([ids[i] for i in rest.tolist()], labels[rest], halves, salt=b"rbft-half-1:")
    chosen = np.zeros(len(ids), dtype=bool)
    chosen[rest[a if name == "train-a" else ~a]] = True
    return chosen


def default_val_per_class(labels: Labels) -> int:
    """10% of the training set or 5,000 examples, whichever is less, shared out over the classes and rounded down."""
    return int(min(len(labels) // 10, 5000) // len(np.unique(labels)))


def first(ids: Sequence[str], labels: Labels, per_class: dict[int, int], *, salt: bytes) -> Mask:
    """The first ``per_class[c]`` ids of each class, ordered by ``blake2b(salt + id, digest_size=8)``: bool [N]."""
    order = np.array([int.from_bytes(blake2b(salt + i.encode(), digest_size=8).digest()) for i in ids], dtype=np.uint64)
    chosen = np.zeros(len(ids), dtype=bool)
    for label, count in per_class.items():
        members = np.flatnonzero(labels == label)
        chosen[members[np.argsort(order[members], kind="stable")[:count]]] = True
    return chosen


def first_tracks(ids: Sequence[str], labels: Labels, tracks: Labels, per_class: int) -> Mask:
    """Whole tracks, ordered by the hash of their first id, until each class has ``per_class`` examples: bool [N].

    A track is the examples of one class with one number in ``tracks``.
    """
    chosen = np.zeros(len(ids), dtype=bool)
    for label in np.unique(labels).tolist():
        members = np.flatnonzero(labels == label)
        numbers, starts = np.unique(tracks[members], return_index=True)
        heads = [ids[i] for i in members[starts].tolist()]
        order = sorted(range(len(numbers)), key=lambda k: blake2b(VAL + heads[k].encode(), digest_size=8).digest())
        taken = 0
        for k in order:
            if taken >= per_class:
                break
            of_track = members[tracks[members] == numbers[k]]
            chosen[of_track] = True
            taken += len(of_track)
    return chosen


def shots(ids: Sequence[str], labels: Labels, per_class: int, *, seed: int = 0) -> Mask:
    """``per_class`` examples of each class, chosen by hashes under ``seed``: bool [N]."""
    salt = f"rbft-shots-1:{seed}:".encode()
    return first(ids, labels, dict.fromkeys(labels.tolist(), per_class), salt=salt)


def from_mask(spec: DatasetSpec, root: Path | None, size: int) -> Mask:
    """Which examples of an official training set a mask file gives to ``spec.part``, bool [N]: those at 1 are val.

    The file is checked by its checksum; DataError where it is missing, another file or of another length.
    """
    name, expected = spec.mask or ("", "")
    path = (root or Path(".")) / name
    hint = f"put {path.name} at {path}; {spec.source}"
    if not path.is_file():
        raise MissingData(f"{spec.name}: no mask file at {path}", hint=hint)
    verify(path, expected, hint=hint)
    try:
        mask = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise DataError(f"{path} is not a .npy array: {error}", hint=hint) from error
    if mask.shape != (size,):
        raise DataError(f"{path}: {mask.shape} values, expected one for each of {size} training images", hint=hint)
    held: Mask = mask == 1
    return held if spec.part == "val" else ~held
