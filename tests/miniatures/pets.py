"""A made-up data set with a file of its own, in a folder and in every kind of archive, for the tests of ``rbft data``."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miniatures.folders import encoded

CLASSES = ("cat", "dog")
PER_CLASS = 3
N = PER_CLASS * len(CLASSES)


def pictures(split: str = "test") -> dict[str, bytes]:
    """Path in the archive to content: ``pets/<split>/<class>/<k>.png``, three of each of two classes, no two the same."""
    shift = 100 if split == "test" else 0
    return {
        f"pets/{split}/{name}/{k}.png": encoded(shift + 10 * label + k, ".png")
        for label, name in enumerate(CLASSES)
        for k in range(PER_CLASS)
    }


def write_files(root: Path, files: Mapping[str, bytes]) -> None:
    """Files below ``root``; folders are made."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def tar(files: Mapping[str, bytes], extra: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    """A plain tar of files, then of members without content."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in extra:
            archive.addfile(member)
    return out.getvalue()


def zipped(files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


KINDS = {
    "tar": tar,
    "tar.gz": lambda files: gzip.compress(tar(files), 1),
    "tar.bz2": lambda files: bz2.compress(tar(files)),
    "tar.xz": lambda files: lzma.compress(tar(files)),
    "zip": zipped,
}
"""Every kind of archive, as a function from files to bytes."""


def archive(file: str, content: bytes | None = None, **fields: Any) -> dict[str, Any]:
    """An entry of ``[[archives]]``; with the sha256 of ``content`` where given."""
    known = {} if content is None else {"checksums": [f"sha256:{hashlib.sha256(content).hexdigest()}"], "bytes": len(content)}
    return {"file": file} | known | fields


def write_dataset(folder: Path, archives: list[dict[str, Any]], splits: tuple[str, ...] = ("test",), **fields: Any) -> Path:
    """``pets.toml`` in ``folder``, with these archives and splits; ``fields`` are more lines at its head."""
    head = {
        "title": "Pets", "format": "class_folders", "path": "pets", "classes": list(CLASSES), "templates": ["a photo of a {}"],
        "source": "https://pets.example", "licence": "none stated", "size": "1 MB",
    } | fields  # fmt: skip
    lines = [f"{key} = {json.dumps(value)}" for key, value in head.items()]
    for entry in archives:
        lines += ["[[archives]]", *(f"{key} = {json.dumps(value)}" for key, value in entry.items())]
    for split in splits:
        lines += [f"[splits.{split}]", f"n = {N}", f'options = {{ folder = "{split}", id = "{split}" }}']
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pets.toml").write_text("\n".join(lines) + "\n")
    return folder / "pets.toml"
