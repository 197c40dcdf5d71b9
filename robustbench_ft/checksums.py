"""Checksums as the sources of data sets publish them: ``md5:``, ``sha256:`` or ``git:`` and a hex digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from robustbench_ft.errors import DataError, UsageError


def checksum(path: Path, kind: str) -> str:
    """Hex digest of a file; ``git`` is git's blob id: SHA-1 over a header with the size, then the bytes."""
    return checksums_of(path, [kind])[kind]


def checksums_of(path: Path, kinds: Iterable[str], seen: Callable[[int], None] = lambda count: None) -> dict[str, str]:
    """Several at once, reading the file once; ``seen`` is told how many bytes more were read."""
    states = {}
    for kind in kinds:
        if kind not in ("md5", "sha256", "git"):
            raise UsageError(f"unknown kind of checksum {kind!r}; known: md5, sha256, git")
        states[kind] = hashlib.new("sha1" if kind == "git" else kind, usedforsecurity=False)
    if "git" in states:
        states["git"].update(b"blob %d\0" % path.stat().st_size)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            for state in states.values():
                state.update(chunk)
            seen(len(chunk))
    return {kind: state.hexdigest() for kind, state in states.items()}


def verify(path: Path, expected: str, *, hint: str = "") -> None:
    """DataError unless the file's checksum is ``expected``, for example ``md5:40351d58...``."""
    kind, _, digest = expected.partition(":")
    found = checksum(path, kind)
    if found != digest:
        raise DataError(
            f"{path} is not the official file: {path.stat().st_size} bytes with {kind} {found}, expected {digest}",
            hint=hint,
        )
