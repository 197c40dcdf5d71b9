"""What a folder of images holds, kept in the store: listing 1.3 million files takes a minute, reading the list back a second.

    <store>/index/<key>.npz     ids, files, labels and columns of one split in one place

An index is made anew when a folder or file that it was made from has changed (size and time of change).
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from robustbench_ft.datasets import Labels, content_digest
from robustbench_ft.files import canonical_json, digest, write_atomic

FORMAT = 2


class Names(Sequence[str]):
    """Many strings in two arrays: a tenth of the memory of a list, and nothing that workers copy by counting references."""

    def __init__(self, blob: bytes, ends: npt.NDArray[np.int64]) -> None:
        """``blob``: UTF-8, one after the other; ``ends``: int64 [N]."""
        self.blob, self.ends = blob, ends

    @classmethod
    def of(cls, names: Iterable[str]) -> Names:
        """The same strings."""
        return cls.joined([name.encode() for name in names])

    @classmethod
    def joined(cls, parts: Sequence[bytes]) -> Names:
        """The strings of these bytes, UTF-8."""
        return cls(b"".join(parts), np.cumsum([len(part) for part in parts], dtype=np.int64))

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        """One string, or a list of some."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = range(len(self.ends))[index]
        return self.blob[int(self.ends[at - 1]) if at else 0 : int(self.ends[at])].decode()

    def __iter__(self) -> Iterator[str]:
        """All strings, in order."""
        start = 0
        if self.blob.isascii():  # places in bytes are places in the text, and cutting is quicker than decoding
            text = self.blob.decode()
            for end in self.ends.tolist():
                yield text[start:end]
                start = end
            return
        for end in self.ends.tolist():
            yield self.blob[start:end].decode()
            start = end

    def __len__(self) -> int:
        return len(self.ends)

    def __eq__(self, other: object) -> bool:
        """Equal to any sequence of the same strings."""
        return isinstance(other, Sequence) and len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Listing:
    """One split as it lies on disk, in the byte order of its ids."""

    ids: Sequence[str]
    labels: Labels
    """int64 [N]."""
    files: Sequence[str]
    """Path of each image below the set's folder."""
    columns: Mapping[str, Labels] = field(default_factory=dict)
    digest: str = ""
    """``content_digest`` of ids, labels and columns; of files too where not aligned."""
    aligned: bool = True
    """Whether the ids are the official ones."""


def listing(entries: Iterable[tuple[str, int, str]], columns: Mapping[str, Sequence[int]] | None = None) -> Listing:
    """The listing of (id, label, file) triples in any order, sorted by the bytes of the ids; ``columns`` in their order."""
    keys, answers, paths = [], array("q"), []
    for key, label, file in entries:  # bytes, not strings or tuples: a million of these are a third of the memory
        keys.append(key.encode())
        answers.append(label)
        paths.append(file.encode())
    order = sorted(range(len(keys)), key=keys.__getitem__)
    ids, files = (Names.joined([parts[i] for i in order]) for parts in (keys, paths))
    labels = np.array(answers, dtype=np.int64)[order]
    sorted_columns = {name: np.array(values, dtype=np.int64)[order] for name, values in (columns or {}).items()}
    return Listing(ids, labels, files, sorted_columns, content_digest(ids, labels, columns=sorted_columns))


def kept(store: Path, key: Any, build: Callable[[], tuple[Listing, Sequence[Path]]]) -> Listing:
    """The listing kept under ``key`` while nothing that it was made from has changed, else ``build()``'s, which is kept.

    ``build`` gives the listing and the folders and files that it was made from.
    """
    path = store / "index" / f"{digest([FORMAT, key])[:32]}.npz"
    found = _read(path)
    if found is not None:
        return found
    begun = time.time_ns()
    made, watched = build()
    _write(path, made, watched, begun)
    return made


def _state(paths: Sequence[str]) -> str:
    """A hash of what changes when one of ``paths`` does: size, time of content; empty where one is not there."""
    state = hashlib.sha256()
    try:
        for path in paths:
            found = os.stat(path)
            state.update(canonical_json([path, found.st_size, found.st_mtime_ns, found.st_ino]))
    except OSError:
        return ""
    return state.hexdigest()


def _read(path: Path) -> Listing | None:
    """The listing in a file, where it is whole and nothing that it was made from has changed."""
    try:
        content = path.read_bytes()
        checksum, _, body = content.partition(b"\n")
        if checksum != hashlib.sha256(body).hexdigest().encode():
            return None
        with np.load(io.BytesIO(body), allow_pickle=False) as kept:
            paths = list(_names(kept, "watched"))
            if str(kept["state"]) != _state(paths):
                return None
            columns = {name[7:]: kept[name] for name in kept.files if name.startswith("column:")}
            return Listing(
                _names(kept, "ids"), kept["labels"], _names(kept, "files"), columns, str(kept["digest"]), bool(kept["aligned"])
            )
    except (OSError, ValueError, KeyError):
        return None


def _names(kept: Any, name: str) -> Names:
    return Names(kept[name].tobytes(), kept[f"{name}-ends"])


def _write(path: Path, made: Listing, watched: Sequence[Path], begun: int) -> None:
    """It only saves time: without space or permission, or where something changed since ``begun``, it is made again next time."""
    paths = [str(path.absolute()) for path in watched]
    with suppress(OSError):
        if any(os.stat(path).st_mtime_ns > begun for path in paths):
            return
    arrays: dict[str, Any] = {"labels": made.labels, "digest": made.digest, "aligned": made.aligned, "state": _state(paths)}
    for name, names in (("ids", made.ids), ("files", made.files), ("watched", paths)):
        held = names if isinstance(names, Names) else Names.of(names)
        arrays |= {name: np.frombuffer(held.blob, np.uint8), f"{name}-ends": held.ends}
    arrays |= {f"column:{name}": values for name, values in made.columns.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    body = buffer.getvalue()
    with suppress(OSError):
        write_atomic(path, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
