"""Data sets that are handed out as arrays, small, in their official layouts: CIFAR, MNIST, SVHN, STL-10, PatchCamelyon.

A writer writes every split. ``SIZES`` says how many images train, val and test of the suite then have. Images are noise, each
another one, so that a test can tell which was read.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robustbench_ft import suites, words
from robustbench_ft.suites import Suite

Array = np.ndarray[Any, Any]
TRAIN, TEST = 20, 3
"""Images of a class, of which 2 are carved for val."""
SIZES = {
    "cifar100": (1800, 200, 300),
    "mnist": (180, 20, 30),
    "svhn": (180, 20, 30),
    "stl10": (180, 20, 30),
    "pcam": (40, 6, 6),
}
CIFAR100 = tuple(row.folder for row in words.class_table("cifar100"))


def small(name: str, sizes: tuple[int, int, int]) -> Suite:
    """The suite of that name with train, val and test of these sizes, and no checksum or digest of the real files."""
    suite, about = suites.load(name), {"digest": None, "checksums": ()}
    specs = (suite.train, suite.val, suite.test)
    train, val, test = (spec.model_copy(update={"n": n, **about}) for spec, n in zip(specs, sizes, strict=True))
    shifts = [spec.model_copy(update={"n": test.n, **about}) if spec.images_of else spec for spec in suite.shifts]
    return suite.model_copy(update={"train": train, "val": val, "test": test, "shifts": tuple(shifts)})


def labels(classes: int, per_class: int, seed: int) -> Array:
    """Labels in an order of their own, int64 [N]."""
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(classes), per_class))


def noise(shape: Sequence[int], seed: int) -> Array:
    """Pixels, uint8."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def cifar100_batch(path: Path, fine: Array, seed: int) -> None:
    """A batch of CIFAR-100 as it is pickled: coarse labels and file names stand beside the fine labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        b"filenames": [f"image_s_{k:06d}.png".encode() for k in range(len(fine))],
        b"batch_label": b"training batch 1 of 1",
        b"fine_labels": [int(k) for k in fine],
        b"coarse_labels": [int(k) % 20 for k in fine],
        b"data": noise((len(fine), 3072), seed),
    }
    path.write_bytes(pickle.dumps(content, protocol=4))


def write_cifar100(root: Path, train: int = TRAIN, test: int = TEST) -> None:
    """``cifar-100-python/train``, ``test`` and ``meta``; images a class."""
    folder = root / "cifar-100-python"
    cifar100_batch(folder / "train", labels(100, train, 1), 1)
    cifar100_batch(folder / "test", labels(100, test, 2), 2)
    meta = {b"fine_label_names": [name.encode() for name in CIFAR100], b"coarse_label_names": [b"aquatic_mammals"]}
    (folder / "meta").write_bytes(pickle.dumps(meta, protocol=4))


def idx(content: Array) -> bytes:
    """An IDX file of bytes."""
    return struct.pack(f">4B{content.ndim}i", 0, 0, 8, content.ndim, *content.shape) + content.astype(np.uint8).tobytes()


def write_mnist(root: Path, train: int = TRAIN, test: int = TEST) -> None:
    """``MNIST/raw`` with its four unpacked files; images a class."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for start, per_class, seed in (("train", train, 3), ("t10k", test, 4)):
        answers = labels(10, per_class, seed)
        (folder / f"{start}-images-idx3-ubyte").write_bytes(idx(noise((len(answers), 28, 28), seed)))
        (folder / f"{start}-labels-idx1-ubyte").write_bytes(idx(answers))


def write_svhn(root: Path, train: int = TRAIN, test: int = TEST) -> None:
    """``svhn/train_32x32.mat`` and ``test_32x32.mat``, where the digit 0 has the label 10; images a class."""
    from scipy.io import savemat

    (root / "svhn").mkdir(parents=True)
    for split, per_class, seed in (("train", train, 5), ("test", test, 6)):
        digits = labels(10, per_class, seed)
        pixels = noise((len(digits), 32, 32, 3), seed)
        told = np.where(digits == 0, 10, digits).astype(np.uint8)[:, None]
        savemat(root / "svhn" / f"{split}_32x32.mat", {"X": np.moveaxis(pixels, 0, 3), "y": told})


def write_stl10(root: Path, train: int = TRAIN, test: int = TEST) -> None:
    """``stl10_binary`` with columns before rows and labels from 1; images a class."""
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    for split, per_class, seed in (("train", train, 7), ("test", test, 8)):
        answers = labels(10, per_class, seed)
        pixels = noise((len(answers), 96, 96, 3), seed)
        (folder / f"{split}_X.bin").write_bytes(pixels.transpose(0, 3, 2, 1).tobytes())
        (folder / f"{split}_y.bin").write_bytes((answers + 1).astype(np.uint8).tobytes())
    (folder / "class_names.txt").write_text("\n".join(suites.load("stl10").classes) + "\n")
    (folder / "fold_indices.txt").write_text("0 1 2\n")


def write_pcam(root: Path, train: int = TRAIN, test: int = TEST) -> None:
    """``pcam`` with x and y of train, valid and test; images a class (valid as test)."""
    import h5py

    (root / "pcam").mkdir(parents=True)
    for split, per_class, seed in (("train", train, 9), ("valid", test, 10), ("test", test, 11)):
        answers = labels(2, per_class, seed).astype(np.uint8)
        for name, content in (("x", noise((len(answers), 96, 96, 3), seed)), ("y", answers.reshape(-1, 1, 1, 1))):
            with h5py.File(root / "pcam" / f"camelyonpatch_level_2_split_{split}_{name}.h5", "w") as file:
                file.create_dataset(name, data=content)


WRITERS = {
    "cifar100": write_cifar100,
    "mnist": write_mnist,
    "svhn": write_svhn,
    "stl10": write_stl10,
    "pcam": write_pcam,
}
