"""Parts of a training set, decided by hashes of ids: the carved ID validation set, and halves for pretraining.

A part depends on ids and labels alone, not on any order, library or random number generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from robustbench_ft.errors import UnknownName

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int64]

PARTS = ("train", "train-a", "train-b", "val")


def part(name: str, ids: Sequence[str], labels: Labels, *, val_per_class: int | None = None) -> Mask:
    """Which examples of an official training set (ids, labels int64 [N]) are in a part, bool [N]; or UnknownName.

    ``val`` and ``train`` share out the whole set; ``train-a`` and ``train-b`` share out ``train``, class by class.
    """
    if name not in PARTS:
        raise UnknownName("part of a training set", name, PARTS)
    size = default_val_per_class(labels) if val_per_class is None else val_per_class
    val = first(ids, labels, dict.fromkeys(labels.tolist(), size), salt=b"rbft-val-1:")
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
