"""Parts of a training set, decided by hashes of ids: the carved ID validation set, and halves for pretraining.

A part depends on ids and labels alone, not on any order, library or random number generator.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robustbench_ft.checksums import verify
from robustbench_ft.errors import DataError, MissingData, UnknownName
from robustbench_ft.files import digest, write_atomic
from robustbench_ft.specs import DatasetSpec

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int64]

PARTS = ("train", "train-a", "train-b", "val")
VAL = b"rbft-val-1:"
LARGE = 200_000  # examples from which on a part is kept


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
    """Whole tracks, ordered by the hash of their first id by bytes, until each class has ``per_class`` examples: bool [N].

    A track is the examples of one class with one number in ``tracks``.
    """
    chosen = np.zeros(len(ids), dtype=bool)
    for label in np.unique(labels).tolist():
        members = np.flatnonzero(labels == label)
        numbers = np.unique(tracks[members])
        heads = [min(ids[i] for i in members[tracks[members] == number].tolist()) for number in numbers]
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


def split_by_hash(ids: Sequence[str], labels: Labels, shares: Sequence[int], place: int) -> Mask:
    """Of a set without official splits, who is in split ``place``, bool [N]; ``shares``: what each gets, in percent.

    Each class is ordered by ``blake2b(b"rbft-split-1:" + id, digest_size=8)`` and cut where the shares before, and with it,
    end, rounded down.
    """
    counts = np.bincount(labels).tolist()
    ends = [{label: n * sum(shares[:k]) // 100 for label, n in enumerate(counts)} for k in (place, place + 1)]
    before, until = (first(ids, labels, end, salt=b"rbft-split-1:") for end in ends)
    return until & ~before


def kept(store: Path, key: object, n: int, make: Callable[[], Mask]) -> Mask:
    """The mask, bool [n], that is kept under ``key``, else ``make()``'s, which is: hashing a million ids takes seconds."""
    file = store / "parts" / f"{digest(key)[:32]}.mask"
    with suppress(OSError):
        checksum, _, bits = file.read_bytes().partition(b"\n")
        if checksum == hashlib.sha256(bits).hexdigest().encode():
            return np.unpackbits(np.frombuffer(bits, np.uint8), count=n).astype(bool)
    made = make()
    bits = np.packbits(made).tobytes()
    with suppress(OSError):  # it only saves time
        write_atomic(file, hashlib.sha256(bits).hexdigest().encode() + b"\n" + bits)
    return made


def from_mask(spec: DatasetSpec, root: Path | None, ids: Sequence[str]) -> Mask:
    """Which examples of an official training set a mask file gives to ``spec.part``, bool [N]: those at 1 are val.

    The file is checked by its checksum and against ``spec.mask_check``; DataError where it is missing, another file, of
    another length, or where the member that the check names is another one, so that files are missing or in another order.
    """
    name, expected = spec.mask or ("", "")
    path = (root or Path(".")) / name
    hint = f"get {path.name} of {spec.mask_source or spec.source} and put it at {path}"
    if not path.is_file():
        raise MissingData(f"{spec.name}: no mask file at {path}", hint=hint)
    verify(path, expected, hint=hint)
    try:
        mask = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise DataError(f"{path} is not a .npy array: {error}", hint=hint) from error
    if mask.shape != (len(ids),):
        raise DataError(f"{path}: {mask.shape} values, expected one for each of {len(ids)} training images", hint=hint)
    held: Mask = mask == 1
    _check_member(spec, path, [ids[i] for i in np.flatnonzero(held).tolist()])
    return held if spec.part == "val" else ~held


def _check_member(spec: DatasetSpec, path: Path, members: Sequence[str]) -> None:
    """DataError unless the member of a mask that ``spec.mask_check`` names is the one that stands there."""
    place, ending = spec.mask_check or (0, "")
    found = members[place] if place < len(members) else "none"
    if not found.endswith(ending):
        told = f"{path}: member {place + 1} of the mask is {found}, expected {ending}: a training image is missing or misnamed"
        raise DataError(told, hint=f"compare the file names of {spec.path} with the official archive's")
