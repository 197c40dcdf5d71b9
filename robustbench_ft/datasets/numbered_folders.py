"""CIFAR-10 as mirrors hand it out: class folders of images numbered in the official order, ``test/cat/0000.jpg`` and so on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from robustbench_ft.datasets import Labels
from robustbench_ft.datasets.images import decoded
from robustbench_ft.errors import DataError

ENDINGS = {".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9", ".png": b"IEND\xae\x42\x60\x82"}
AGAIN = "unpack the archive again"


def contents(folder: Path, group: str, classes: Sequence[str]) -> tuple[list[str], Labels, list[bytes]]:
    """Ids in byte order, labels int64 [N] and the bytes of each file of ``folder``; DataError says what is wrong with it."""
    have = {path.name for path in _listed(folder)}
    if wrong := sorted(have ^ set(classes)):
        verb = "has no" if wrong[0] in classes else "has a surplus"
        raise DataError(f"{folder} {verb} {wrong[0]}; expected the folders {', '.join(classes)}", hint=AGAIN)
    paths = {name: _numbered(folder / name) for name in classes}
    files = sorted((f"{group}/{name}/{path.stem}", label, path) for label, name in enumerate(classes) for path in paths[name])
    labels = np.array([label for _, label, _ in files], dtype=np.int64)
    return [key for key, _, _ in files], labels, [_whole(path) for _, _, path in files]


def decode(content: bytes, name: str) -> Image.Image:
    """The image in a file's bytes, RGB; DataError where it is none."""
    return decoded(content, name).convert("RGB")


def _listed(folder: Path) -> list[Path]:
    """What a folder holds, in byte order, files that start with a dot aside."""
    return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=lambda path: path.name.encode())


def _numbered(folder: Path) -> list[Path]:
    """The images of one class folder; DataError unless they are 0000, 0001 and so on without a gap."""
    paths = _listed(folder) if folder.is_dir() else []
    if not paths:
        raise DataError(f"{folder} holds no images", hint=AGAIN)
    for k, path in enumerate(paths):
        if path.suffix.lower() not in ENDINGS or path.stem != f"{k:04d}":
            raise DataError(f"{path} is where image {k:04d} of its class was expected: a file is missing, double or foreign")
    return paths


def _whole(path: Path) -> bytes:
    """A file's bytes; DataError when its image format's end is not there."""
    content = path.read_bytes()
    if not content.endswith(ENDINGS[path.suffix.lower()]):
        raise DataError(f"{path} is truncated: {len(content)} bytes without the end of an image", hint=AGAIN)
    return content
