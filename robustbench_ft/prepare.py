"""``rbft data prepare``: from archives, found on disk or fetched, to the layout that is read. Again: it goes on, or does nothing.

    <data>/downloads/<file>     what was fetched

How what is in an archive comes to its place, whole or not at all: ``robustbench_ft.placing``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from robustbench_ft import archive_files, placing, prepare_steps
from robustbench_ft.archive_files import DOWNLOADS, MEGA
from robustbench_ft.asked import Split, asked, by_dataset
from robustbench_ft.data_show import gigabytes
from robustbench_ft.data_status import State, look
from robustbench_ft.datafiles import Archive, Dataset
from robustbench_ft.errors import DataError, MissingData
from robustbench_ft.fetch import fetch
from robustbench_ft.progress import progress, say


@dataclass(frozen=True)
class Place:
    """Where data sets are prepared, and from what."""

    root: Path
    store: Path
    sources: Sequence[Path] = ()
    """Files and folders that a user gave."""
    fetch: bool = True
    missing: list[str] = field(default_factory=list)
    """What archives could not be had."""


def prepare(splits: Sequence[Split], place: Place) -> list[State]:
    """Prepare what is not complete of ``splits``; gives back their states.

    DataError, after all was done that can be, where an archive is missing or a split is still not complete; at once where a
    file is wrong or the disk is full.
    """
    with _locked(place.root), _disk(place.root):
        for group in by_dataset(splits).values():
            _prepare(group, place)
    states = look(splits, place.root, place.store)
    faults = [state for state in states if state.fault]
    if faults:
        _complain(faults, place)
    return states


def _prepare(splits: Sequence[Split], place: Place) -> None:
    """Prepare one data set."""
    dataset = splits[0].dataset
    lacking: set[str] = set()

    def waiting(left: Sequence[Split]) -> bool:
        """Whether all that is left lacks an archive that cannot be had."""
        return all(split.key in lacking for split in left)

    for archive in dataset.archives if dataset else ():
        placing.finish(archive, place.root)
    left = _left(splits, place)
    if dataset is None or not left:
        return
    if _sort_in_place(dataset, left, place):
        left = _left(splits, place)
    needed = [archive for archive in _ordered(dataset) if _needed(archive, left, dataset, place)]
    todo = [archive for archive in needed if not _done(archive, place)]
    for archive in todo or needed:  # all were unpacked and still it is not whole: they are unpacked again
        if _needed(archive, left, dataset, place) and not (waiting(left) and _in_use(archive, dataset, place)):
            file = _file(dataset, archive, place)
            if file is None:
                lacking.update(archive.splits)
            elif _ready(archive, place):
                placing.put(archive, file, place.root)
                left = _left(splits, place)


def _ordered(dataset: Dataset) -> list[Archive]:
    """Single files first, for they are quick; last those with a step that needs what others brought."""
    return sorted(dataset.archives, key=lambda archive: (archive.unpack, bool(archive.step)))


def _left(splits: Sequence[Split], place: Place) -> list[Split]:
    """The splits that are not complete."""
    return [state.split for state in look(splits, place.root, place.store) if not state.complete]


def _needed(archive: Archive, left: Sequence[Split], dataset: Dataset, place: Place) -> bool:
    """Whether a split that is not complete is read from it; an optional one only where asked by name, or where it is there."""
    of = [split for split in left if not archive.splits or split.key in archive.splits]
    if not archive.optional:
        return any(not split.extra for split in of)
    by_name = any(not split.extra for split in of) if archive.splits else False
    return bool(of) and (by_name or archive_files.find(dataset, archive, place.root, place.sources, place.store) is not None)


def _in_use(archive: Archive, dataset: Dataset, place: Place) -> bool:
    """Whether a split that is read from it is complete, so that it was unpacked, by whomever."""
    own = asked([f"{dataset.file}/{key}" for key in archive.splits]) if archive.splits else []
    return any(state.complete for state in look(own, place.root, place.store))


def _done(archive: Archive, place: Place) -> bool:
    """Whether what came out of it is there, or its copy; DataError where another file is in the place of that."""
    if archive.unpack:
        return placing.key(archive) in placing.unpacked(place.root)
    target = place.root / archive.into / archive.file
    if target.is_file():
        archive_files.check(target, archive, place.store)
    return target.is_file()


def _ready(archive: Archive, place: Place) -> bool:
    """Whether all is there that its step needs; MissingData where that is not said already."""
    try:
        if archive.step:
            prepare_steps.STEPS[archive.step].needs(place.root / archive.into)
        return True
    except MissingData:
        if not place.missing:
            raise
        return False


def _file(dataset: Dataset, archive: Archive, place: Place) -> Path | None:
    """The archive on this machine, fetched where that is possible; None and a note where it cannot be had."""
    found = archive_files.find(dataset, archive, place.root, place.sources, place.store)
    if found is not None:
        return found
    if not archive.url or not place.fetch:
        place.missing.append(_wanted(archive))
        return None
    target = place.root / DOWNLOADS / archive.file
    say(f"fetching {archive.url}" + (f", {gigabytes(archive.bytes)}" if archive.bytes else ""))
    told = 0
    with progress(f"{archive.file} (MB)", (archive.bytes or 0) // MEGA) as bar:

        def seen(there: int, total: int) -> None:
            nonlocal told
            bar.total(total // MEGA)
            bar.advance(by=there // MEGA - told)
            told = there // MEGA

        try:
            fetch(archive.url, target, seen=seen, verified=bool(archive.checksums))
        except DataError as error:
            if dataset.how:
                raise DataError(f"{error}. {dataset.how}", hint=error.hint) from error
            raise
    try:
        archive_files.check(target, archive, place.store)
    except DataError as error:
        target.unlink()
        raise DataError(f"{error}. It was fetched from {archive.url} and is removed", hint=_by_hand(dataset, place)) from error
    return target


def _wanted(archive: Archive) -> str:
    """What a user has to bring."""
    size = [f"{archive.bytes:,} bytes"] if archive.bytes else []
    known = ", ".join([*size, *archive.checksums, *([f"from {archive.url}"] if archive.url else [])])
    return f"{archive.file} ({known})" if known else archive.file


def _by_hand(dataset: Dataset, place: Place) -> str:
    return f"rbft data prepare {dataset.name} --data {place.root} --from FILE, once it is on this machine"


def _sort_in_place(dataset: Dataset, left: Sequence[Split], place: Place) -> bool:
    """Do the steps of archives that somebody has unpacked by hand, where these lie; whether there was any."""
    did = False
    for archive in dataset.archives:
        if not archive.step or (archive.splits and not any(split.key in archive.splits for split in left)):
            continue
        step, below = prepare_steps.STEPS[archive.step], os.path.relpath(archive.into, dataset.path)
        for base in (dataset.path, *dataset.also):
            folder = place.root / os.path.normpath(os.path.join(base, below))
            if folder.is_dir() and step.waits(folder):
                say(f"sorting {folder}")
                step.needs(folder)
                step.run(folder, folder)
                did = True
    return did


def _complain(faults: Sequence[State], place: Place) -> None:
    """DataError that says what is missing and what to do."""
    first = faults[0]
    dataset = first.split.dataset
    if not place.missing:
        raise DataError("; ".join(state.message for state in faults), hint=first.hint)
    told = f"{', '.join(state.split.name for state in faults)}: no {'; no '.join(place.missing)} in {place.root}"
    told += f", {place.root / DOWNLOADS}" + "".join(f", {source}" for source in place.sources)
    source = f"get it from {first.split.spec.source} into {place.root / DOWNLOADS}, then the same command"
    raise MissingData(told, hint=(dataset.how if dataset and dataset.how else source))


@contextlib.contextmanager
def _disk(root: Path) -> Iterator[None]:
    """A full disk, as a DataError."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        placing.clear(root)
        free = gigabytes(shutil.disk_usage(root).free)
        told = f"the disk of {root} is full ({free} free): {error.strerror}; what was half unpacked is removed"
        raise DataError(told, hint="free some space; the same command continues") from error


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Nobody else prepares in the same folder meanwhile; DataError where somebody does."""
    with open(root / ".rbft-lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(
                f"another rbft data prepare is at work in {root}", hint="wait for it; then the same command"
            ) from error
        except OSError:  # a file system without locks
            pass
        yield
