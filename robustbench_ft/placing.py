"""How what is in an archive comes to its place in the data folder: whole, or not at all.

    <data>/.rbft-partial-<file>/content     an archive that is being unpacked
    <data>/.rbft-partial-<file>/unpacked    it is out; a step may still have to be done
    <data>/.rbft-partial-<file>/whole       it is done; holds the names of what is moved into place
    <data>/.rbft-unpacked.json              which archives were unpacked, and what came out of them

Files come to their places by renaming, whole folders where nothing is there. Killed anywhere, the next call goes on.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

from robustbench_ft import archives, prepare_steps
from robustbench_ft.archive_files import megabytes
from robustbench_ft.data_show import gigabytes
from robustbench_ft.datafiles import Archive
from robustbench_ft.errors import DataError
from robustbench_ft.files import write_atomic
from robustbench_ft.prepare_steps import PARTIAL
from robustbench_ft.progress import say

UNPACKED = ".rbft-unpacked.json"
MARGIN = 64 << 20  # bytes of the disk that are left free
DECRYPTED = 1e6  # bytes a second of an encrypted zip, in Python, as measured on one core


def put(archive: Archive, file: Path, root: Path) -> None:
    """Unpack or copy an archive, the file at ``file``, into its place under the data root, with its step.

    DataError for an archive that is refused, or that the disk has no room for; OSError where it fills nevertheless.
    """
    target = root / archive.into
    if not archive.unpack:
        _copy(file, target / archive.file)
        return
    partial = root / f"{PARTIAL}{archive.file}"
    content = partial / "content"
    if not (partial / "unpacked").is_file():
        shutil.rmtree(partial, ignore_errors=True)
        _unpack(archive, file, content)
        (partial / "unpacked").touch()
    if archive.step:
        prepare_steps.STEPS[archive.step].run(content, target)
    write_atomic(partial / "whole", json.dumps(sorted(path.name for path in content.iterdir())))
    finish(archive, root)


def finish(archive: Archive, root: Path) -> None:
    """Move into place what was unpacked and not moved yet, if there is such; remove what was only half unpacked."""
    partial, target = root / f"{PARTIAL}{archive.file}", root / archive.into
    if (partial / "whole").is_file():
        names = json.loads((partial / "whole").read_text())
        if (partial / "content").is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
            _move(partial / "content", target)
        noted = unpacked(root) | {key(archive): names}
        write_atomic(root / UNPACKED, json.dumps(noted, indent=1, sort_keys=True))
        shutil.rmtree(partial)
    elif not (partial / "unpacked").is_file():
        shutil.rmtree(partial, ignore_errors=True)


def clear(root: Path) -> None:
    """Remove what is not whole, to give room."""
    for partial in root.glob(f"{PARTIAL}*"):
        if not (partial / "whole").is_file():
            shutil.rmtree(partial, ignore_errors=True)


def key(archive: Archive) -> str:
    """What an archive is noted under: two data sets that share one unpack it once."""
    return os.path.normpath(f"{archive.into}/{archive.file}")


def unpacked(root: Path) -> dict[str, list[str]]:
    """What was unpacked before and is still there, by ``key``: names below the folder that it went into."""
    try:
        noted = json.loads((root / UNPACKED).read_text())
    except (OSError, ValueError):
        return {}
    return {one: names for one, names in noted.items() if all((root / one).parent.joinpath(name).exists() for name in names)}


def _unpack(archive: Archive, file: Path, content: Path) -> None:
    """Unpack a file, with progress; DataError before anything is written where the disk has not the room."""
    root = content.parent.parent
    needed, free = archives.size_unpacked(file), shutil.disk_usage(root).free
    if needed + (MARGIN if needed > MARGIN else 0) > free:
        told = f"unpacking {file} takes {gigabytes(needed)}, and {gigabytes(free)} are free on the disk of {root}"
        raise DataError(told, hint="free some space; the same command continues")
    if archives.is_encrypted(file):
        hours = needed / DECRYPTED / 3600
        say(f"{file.name} is encrypted, and Python decrypts slowly: {hours:.1f} hours or so. Quicker, where unzip is installed:")
        command = f"unzip -q -P {archive.password or 'PASSWORD'} {file} -d {root / archive.into}"
        say(f"  UNZIP_DISABLE_ZIPBOMB_DETECTION=TRUE {command}")
    content.mkdir(parents=True)
    with megabytes(f"unpacking {file.name}", file.stat().st_size) as seen:
        archives.unpack(file, content, name=archive.file, password=archive.password, seen=seen)


def _move(source: Path, target: Path) -> None:
    """Move what is in ``source`` to ``target``: whole folders where there is nothing, files over those that are there."""
    folder = source.is_dir() and not source.is_symlink()
    if not os.path.lexists(target) or not (folder or target.is_dir()):
        _rename(source, target)
        return
    if not (folder and target.is_dir()):
        told = f"{target} is in the way of what the archive holds"
        raise DataError(told, hint=f"move {target} away; the same command continues")
    for child in sorted(source.iterdir()):
        _move(child, target / child.name)
    source.rmdir()


def _rename(source: Path, target: Path) -> None:
    """Rename, by way of a copy where ``target`` is on another disk."""
    try:
        os.replace(source, target)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    beside = target.with_name(f"{PARTIAL}{target.name}")
    _remove(beside)
    try:
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, beside, symlinks=True)
        else:
            shutil.copy2(source, beside, follow_symlinks=False)
        os.replace(beside, target)
    finally:
        _remove(beside)
    _remove(source)


def _copy(file: Path, target: Path) -> None:
    """Copy a file into place, whole or not at all."""
    if target.exists() and target.samefile(file):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f"{PARTIAL}{target.name}")
    try:
        shutil.copyfile(file, beside)
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    """A file, or a folder with all in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
