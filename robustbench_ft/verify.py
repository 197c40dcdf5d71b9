"""``rbft data verify``: counts, ids and labels, and whether every image opens; in parallel, and not again what is known.

    <store>/verified/<key>.json     of one set of images: which chunks opened, what their files were like, which images did not

A chunk is looked at again when the size or time of one of its files has changed, or when an image in it did not open.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

from robustbench_ft import archive_files
from robustbench_ft.archive_files import DOWNLOADS
from robustbench_ft.asked import Split, by_dataset
from robustbench_ft.data_status import State, look
from robustbench_ft.datasets import ImageSet, whole
from robustbench_ft.datasets.images import Files
from robustbench_ft.datasets.places import how
from robustbench_ft.errors import DataError
from robustbench_ft.files import digest, write_atomic
from robustbench_ft.progress import progress, say

CHUNK = 128
SAVE = 5.0  # seconds between two notes of how far it is
NAMED = 10  # broken images that an error names
DAY = 86400


@dataclass(frozen=True)
class How:
    """How thoroughly, and where what is known is kept."""

    store: Path
    workers: int = 1
    quick: bool = False
    """Counts, ids and labels alone."""
    again: bool = False
    """Open every image, whatever is known."""


@dataclass
class Opened:
    """What is known of the images of one set: for each chunk what its files were like, and what did not open."""

    chunks: dict[str, str] = field(default_factory=dict)
    broken: dict[str, dict[str, str]] = field(default_factory=dict)
    """By chunk: id to what was said of it."""
    when: float = 0.0
    """Time of the newest look, in seconds since 1970."""

    @property
    def faults(self) -> dict[str, str]:
        """Every image that did not open."""
        return {name: told for chunk in self.broken.values() for name, told in chunk.items()}


@dataclass(frozen=True)
class Verdict:
    """What was found of one split."""

    state: State
    opened: Opened | None = None
    """None: no image was opened."""


def verify(splits: Sequence[Split], root: Path, how: How) -> tuple[list[Verdict], list[str]]:
    """A verdict for each split, and what is wrong with archives that still lie in the data folder."""
    states = look(splits, root, how.store)
    known: dict[str, Opened] = {}
    verdicts = []
    for state in states:
        key = state.split.whole
        if state.there in ("yes", "short") and not how.quick and key not in known:
            known[key] = _open_all(state.split, whole(state.split.spec, root, how.store), how)
        verdicts.append(Verdict(state, known.get(key)))
    return verdicts, [] if how.quick else _archives(splits, root, how.store)


def _open_all(split: Split, images: ImageSet, how: How) -> Opened:
    """Open what is not known to open; what was found is noted as it goes."""
    path = how.store / "verified" / f"{digest([images.digest, images.pixels, split.spec.options, split.spec.path])[:32]}.json"
    known = Opened() if how.again else _read(path)
    count = -(-len(images) // CHUNK)
    stamps = {str(chunk): _stamp(images, chunk) for chunk in range(count)}
    same = {key for key, stamp in stamps.items() if known.chunks.get(key) == stamp and key not in known.broken}
    found = Opened({key: stamps[key] for key in same}, {}, known.when)
    todo = [chunk for chunk in range(count) if str(chunk) not in same]
    if not todo:
        say(f"{split.name}: every image was opened {ago(known.when)}; --again opens them once more")
        return found
    saved = time.monotonic()
    try:
        with progress(f"opening {split.name}", len(images), done=min(len(same) * CHUNK, len(images))) as bar:
            for chunk, broken in _opening(images, todo, how.workers):
                found.chunks[str(chunk)] = stamps[str(chunk)]
                found.when = time.time()
                if broken:
                    found.broken[str(chunk)] = broken
                bar.advance(f"{len(found.faults)} broken" if found.broken else "", by=len(_members(images, chunk)))
                if time.monotonic() - saved > SAVE:
                    _write(path, found)
                    saved = time.monotonic()
    finally:  # interrupted: it goes on from here
        _write(path, found)
    return found


def _members(images: ImageSet, chunk: int) -> range:
    return range(chunk * CHUNK, min((chunk + 1) * CHUNK, len(images)))


def _stamp(images: ImageSet, chunk: int) -> str:
    """A hash of what changes when a file of the chunk does; empty for images that are not files of their own."""
    if not isinstance(images.image, Files):
        return ""
    state = hashlib.blake2b(digest_size=8)
    for index in _members(images, chunk):
        with suppress(OSError):
            found = os.stat(images.image.folder / images.image.files[index])
            state.update(f"{index} {found.st_size} {found.st_mtime_ns};".encode())
    return state.hexdigest()


_images: ImageSet | None = None  # for the processes below, which get it by forking: readers need not be picklable


def _opening(images: ImageSet, chunks: Sequence[int], workers: int) -> Iterator[tuple[int, dict[str, str]]]:
    """For each chunk, as they are done, what did not open."""
    with _shared(images):
        if workers < 2 or len(chunks) < 2:
            yield from map(_open_chunk, chunks)
            return
        with multiprocessing.get_context("fork").Pool(min(workers, len(chunks))) as pool:
            yield from pool.imap_unordered(_open_chunk, chunks)


@contextmanager
def _shared(images: ImageSet) -> Iterator[None]:
    global _images
    _images = images
    try:
        yield
    finally:
        _images = None


def _open_chunk(chunk: int) -> tuple[int, dict[str, str]]:
    """Decode every image of a chunk; gives back what was said of those that did not open."""
    images, broken = _images, {}
    assert images is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow: odd EXIF, palettes
        for index in _members(images, chunk):
            try:
                images.image(index).convert("RGB")
            except Exception as error:  # whatever a decoder may raise: it is the image's fault
                broken[images.ids[index]] = str(error) or type(error).__name__
    return chunk, broken


def _read(path: Path) -> Opened:
    try:
        return Opened(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return Opened()


def _write(path: Path, found: Opened) -> None:
    with suppress(OSError):  # it only saves time
        write_atomic(path, json.dumps(vars(found)))


def _archives(splits: Sequence[Split], root: Path, store: Path) -> list[str]:
    """What is wrong with archives that lie in the data folder or its downloads."""
    told = []
    for group in by_dataset(splits).values():
        dataset = group[0].dataset
        for archive in dataset.archives if dataset else ():
            folders = (root, root / DOWNLOADS, root / archive.into)
            for path in dict.fromkeys(folder / archive.file for folder in folders):
                try:
                    if path.is_file():
                        archive_files.check(path, archive, store)
                except DataError as error:
                    told.append(str(error))
    return told


def fault(verdicts: Sequence[Verdict], archives: Sequence[str], root: Path) -> DataError | None:
    """One error for all that is wrong, with the command that mends it; None where all is well."""
    told, hint = [], ""
    seen: set[str] = set()
    for verdict in verdicts:
        split = verdict.state.split
        if verdict.state.fault:
            told.append(verdict.state.message)
            hint = hint or how(split.spec, root)
        faults = verdict.opened.faults if verdict.opened else {}
        if faults and split.whole not in seen:
            seen.add(split.whole)
            names = ", ".join(list(faults)[:NAMED]) + (f" and {len(faults) - NAMED} more" if len(faults) > NAMED else "")
            told.append(f"{split.name}: {len(faults)} broken image{'s' if len(faults) > 1 else ''}: {names}")
            hint = f"remove them, then {how(split.spec, root)}"
    told += archives
    return DataError("; ".join(told), hint=hint or "remove the file; rbft data prepare gets it again") if told else None


def as_json(verdicts: Sequence[Verdict], archives: Sequence[str]) -> dict[str, Any]:
    """All that was found."""
    sets = [
        {
            "set": verdict.state.split.name,
            "there": verdict.state.there,
            "found": verdict.state.found,
            "expected": verdict.state.split.spec.n,
            "message": verdict.state.message,
            "digest": verdict.state.images.digest if verdict.state.images else None,
            "pinned": verdict.state.split.spec.digest,
            "broken": verdict.opened.faults if verdict.opened else None,
            "opened": verdict.opened.when if verdict.opened else None,
        }
        for verdict in verdicts
    ]
    return {"sets": sets, "archives": list(archives)}


def table(verdicts: Sequence[Verdict]) -> str:
    """A row per split."""
    return tabulate([_row(verdict) for verdict in verdicts], headers="keys")


def _row(verdict: Verdict) -> dict[str, str]:
    state, opened = verdict.state, verdict.opened
    spec = state.split.spec
    broken = "not opened" if opened is None else f"{len(opened.faults)} broken" if opened.faults else "all open"
    ids = "-" if state.images is None else "as pinned" if spec.digest and state.images.aligned else "not pinned"
    return {
        "data set": state.split.name,
        "there": state.there,
        "images": f"{0 if state.found is None else state.found:,} of {spec.n:,}",
        "ids and labels": ids,
        "opened": broken,
        "last": ago(opened.when) if opened else "",
    }


def ago(when: float) -> str:
    """How long ago a time is."""
    days = int((time.time() - when) // DAY)
    return "today" if days < 1 else f"{days} day{'s' if days > 1 else ''} ago"
