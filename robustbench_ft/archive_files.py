"""Which file on disk is which archive of a data set: found by name, or by size and checksum whatever it is called."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from robustbench_ft.archives import Seen
from robustbench_ft.checksums import checksums_of
from robustbench_ft.datafiles import Archive, Dataset
from robustbench_ft.errors import DataError, UsageError
from robustbench_ft.files import digest, write_atomic
from robustbench_ft.progress import progress, say

DOWNLOADS = "downloads"
"""Folder under the data root that fetched files are put into, and where archives are looked for."""
MEGA = 1_000_000
SAID = 100 * MEGA  # hashing that much takes a moment: said before


def find(dataset: Dataset, archive: Archive, root: Path, sources: Sequence[Path], store: Path) -> Path | None:
    """The file that is this archive: in the data root, its ``downloads``, or ``sources`` (files and folders); else None.

    DataError where a file has its name and is another one, and no other file is it.
    """
    wrong: DataError | None = None
    for path in _candidates(dataset, archive, root, sources):
        try:
            if path.is_file():
                check(path, archive, store)
                return path
        except DataError as error:
            wrong = wrong or error
    found = next((path for path in _strangers(archive, sources) if _fits(path, archive, store)), None)
    if found is None and wrong is not None:
        raise wrong
    return found


def _candidates(dataset: Dataset, archive: Archive, root: Path, sources: Iterable[Path]) -> Iterator[Path]:
    """Where a file of the archive's name may lie."""
    for source in sources:
        if not source.exists():
            raise UsageError(f"--from {source}: no such file or folder")
        if source.is_dir():
            yield source / archive.file
        elif source.name == archive.file:
            yield source
    yield from dict.fromkeys(
        folder / archive.file for folder in (root, root / DOWNLOADS, root / archive.into, root / dataset.path)
    )


def _strangers(archive: Archive, sources: Iterable[Path]) -> Iterator[Path]:
    """Files of other names that a user gave and that may be this archive: those in folders only where they are of its size."""
    for source in sources if archive.checksums else ():
        if source.is_file():
            yield source
        elif archive.bytes is not None:
            yield from (path for path in sorted(source.iterdir()) if path.is_file() and path.stat().st_size == archive.bytes)


def _fits(path: Path, archive: Archive, store: Path) -> bool:
    try:
        check(path, archive, store)
        return True
    except DataError:
        return False


def check(path: Path, archive: Archive, store: Path) -> None:
    """DataError unless a file is one of the copies of an archive that are known; what was hashed once is kept in ``store``."""
    size, hint = path.stat().st_size, "remove it and get it again"
    if not archive.checksums:
        if archive.bytes is not None and size != archive.bytes:
            raise DataError(f"{path} is not {archive.file}: {size} bytes, expected {archive.bytes}", hint=hint)
        return
    kinds = list(dict.fromkeys(known.partition(":")[0] for known in archive.checksums))
    found = {f"{kind}:{value}" for kind, value in _hashes(path, kinds, store).items()}
    if found.isdisjoint(archive.checksums):
        told = f"{path} is not {archive.file}: {size} bytes with {', '.join(sorted(found))}"
        raise DataError(f"{told}; expected {' or '.join(archive.checksums)}", hint=hint)


def _hashes(path: Path, kinds: Sequence[str], store: Path) -> dict[str, str]:
    """Checksums of a file as it is now, from the store where it has them."""
    state = path.stat()
    key = digest([str(path.absolute()), state.st_size, state.st_mtime_ns, state.st_ino, *sorted(kinds)])
    kept = store / "checksums" / f"{key[:32]}.json"
    with suppress(OSError, ValueError):
        return dict(json.loads(kept.read_text()))
    with megabytes(f"checking {path.name}", state.st_size) as seen:
        found = checksums_of(path, kinds, seen)
    with suppress(OSError):  # it only saves time
        write_atomic(kept, json.dumps(found))
    return found


@contextmanager
def megabytes(label: str, size: int) -> Iterator[Seen]:
    """A bar in megabytes for ``size`` bytes: gives a function to call with the bytes that were dealt with."""
    if size >= SAID:
        say(f"{label}, {size / 1e9:.1f} GB")
    done = 0
    with progress(f"{label} (MB)", size // MEGA) as bar:

        def seen(count: int) -> None:
            nonlocal done
            before, done = done // MEGA, done + count
            bar.advance(by=done // MEGA - before)

        yield seen
