"""Unpack archives by what they hold, never by what they are called, and never outside of the folder given.

tar (plain or compressed), zip (also with a password), and a single compressed file; anything else is copied as it is.
Refused, before anything is written of them: members with absolute paths or ``..``, links that leave the folder, devices,
and content that is out of proportion to the file. What macOS leaves in archives is passed over.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

from robustbench_ft.errors import DataError

SUFFIXES = (".tar", ".tgz", ".gz", ".bz2", ".xz", ".zip", ".7z", ".rar")
GZIP, BZIP, XZ = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0"
FOREIGN = {b"Rar!\x1a\x07": "RAR", b"7z\xbc\xaf\x27\x1c": "7-Zip"}
RATIO, FLOOR = 50, 1 << 30
"""Content may be this many times as large as its archive, or this many bytes: images do not shrink, labels do."""
CHUNK = 1 << 20
Seen = Callable[[int], None]


def unpack(path: Path, folder: Path, *, name: str = "", password: str = "", seen: Seen = lambda count: None) -> None:
    """Unpack the file at ``path`` into ``folder``, which exists and is empty.

    ``name``: what the archive is called officially, if not as it is here; ``seen`` is told of bytes of the archive as they
    are dealt with. DataError names the member that is refused, or what is wrong with the file; OSError where the disk is full.
    """
    name = name or path.name
    with open(path, "rb") as file, _damage(path):
        head = file.read(8)
        for magic, kind in FOREIGN.items():
            if head.startswith(magic):
                raise DataError(f"{path} is a {kind} archive, which rbft cannot open", hint="unpack it with 7z, where it belongs")
        if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
            _unpack_zip(path, folder, password, seen)
            return
        file.seek(0)
        limit = max(RATIO * path.stat().st_size, FLOOR)
        stream = cast(BinaryIO, _Counted(_decompressed(file, head), file, seen))
        if _is_tar(stream, name):
            _unpack_tar(stream, path, folder, limit)
        elif head.startswith((GZIP, BZIP, XZ)):
            if _of_tar(name):
                raise DataError(
                    f"{path} is damaged, or no tar: what it holds begins with {stream.read(8)!r}", hint="get it again"
                )
            _copy(stream, folder / PurePosixPath(name).with_suffix("").name, path, limit)
        elif name.lower().endswith(SUFFIXES):
            raise DataError(f"{path} is no archive: it begins with {head!r}", hint="get it again")
        else:
            _copy(stream, folder / name, path, limit)
    if not any(folder.iterdir()):
        raise DataError(f"{path} holds nothing", hint="get it again")


def size_unpacked(path: Path) -> int:
    """Bytes that unpacking will take at least: of a zip what it declares, of others the size of the file."""
    with open(path, "rb") as file, _damage(path):
        if file.read(4) != b"PK\x03\x04":
            return path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            return sum(member.file_size for member in archive.infolist())


def is_encrypted(path: Path) -> bool:
    """Whether it is a zip with a password."""
    with open(path, "rb") as file, _damage(path):
        if file.read(4) != b"PK\x03\x04":
            return False
        with zipfile.ZipFile(path) as archive:
            return any(member.flag_bits & 1 for member in archive.infolist())


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """What libraries say of a damaged archive, as a DataError that names it."""
    damaged = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, KeyError, ValueError)
    try:
        yield
    except tarfile.FilterError as error:
        raise _refused(path, error.tarinfo.name, str(error)) from error
    except damaged as error:
        raise DataError(f"{path} is truncated or damaged: {error}", hint="get it again") from error
    except OSError as error:
        if error.errno is not None:  # of the disk, not of the archive
            raise
        raise DataError(f"{path} is truncated or damaged: {error}", hint="get it again") from error


def _refused(path: Path, member: str, why: str) -> DataError:
    return DataError(f"{path}: member {member!r} is refused: {why}", hint="this is not the official archive; get it again")


def _parts(path: Path, member: str) -> tuple[str, ...]:
    """The parts of a member's name; none for what is passed over; DataError for one that leads outside."""
    if member.startswith("/") or "\0" in member:
        raise _refused(path, member, "an absolute path")
    parts = PurePosixPath(member).parts
    if ".." in parts:
        raise _refused(path, member, "it leads outside of the target folder")
    junk = any(part in ("__MACOSX", ".DS_Store") or part.startswith("._") for part in parts)
    return () if junk else parts


class _Counted:
    """A decompressed stream that knows the last block read, and tells how far the file below it has been read."""

    def __init__(self, stream: IO[bytes], below: BinaryIO, seen: Seen) -> None:
        self.stream, self.below, self.seen = stream, below, seen
        self.told = 0
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        self.last = self.stream.read(size)
        place = self.below.tell()
        if place - self.told >= CHUNK:
            self.seen(place - self.told)
            self.told = place
        return self.last

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        return self.stream.tell()


def _decompressed(file: BinaryIO, head: bytes) -> IO[bytes]:
    if head.startswith(GZIP):
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if head.startswith(BZIP):
        return cast(IO[bytes], bz2.BZ2File(file))
    if head.startswith(XZ):
        return cast(IO[bytes], lzma.LZMAFile(file))
    return file


def _is_tar(stream: BinaryIO, name: str) -> bool:
    """Whether a tar begins here; the stream is at its beginning before and after. One without members has no header to tell."""
    block = stream.read(tarfile.BLOCKSIZE)
    stream.seek(0)
    try:
        tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")
        return True
    except tarfile.HeaderError:
        empty = len(block) == tarfile.BLOCKSIZE and not block.strip(b"\0")
        return empty and _of_tar(name)


def _of_tar(name: str) -> bool:
    return ".tar" in name.lower() or name.lower().endswith(".tgz")


def _unpack_tar(stream: BinaryIO, path: Path, folder: Path, limit: int) -> None:
    written = 0
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # kept by tarfile, and a gigabyte for a million images
            if not _parts(path, member.name):
                continue
            if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
                raise _refused(path, member.name, "a device or a special file")
            if member.issparse():
                raise _refused(path, member.name, "a file with holes")
            written += member.size
            if written > limit:
                raise _bomb(path, limit)
            archive.extract(member, folder, filter="data")
    # tarfile ends without a word at a header that is cut or damaged; the end of a tar is a block of zeros.
    end = cast(_Counted, stream).last
    if len(end) < tarfile.BLOCKSIZE or end.strip(b"\0"):
        raise DataError(f"{path} is truncated or damaged: it has no end of archive", hint="get it again")
    while written <= limit and stream.read(CHUNK):  # to the checksum at the end of a compressed file
        written += CHUNK


def _unpack_zip(path: Path, folder: Path, password: str, seen: Seen) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        limit = max(RATIO * path.stat().st_size, FLOOR)
        if sum(member.file_size for member in members) > limit:
            raise _bomb(path, limit)
        wanted = []
        for member in members:
            mode = member.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused(path, member.filename, "a link, a device or a special file")
            if parts := _parts(path, member.filename.replace("\\", "/")):
                wanted.append((member, folder.joinpath(*parts)))
        for member, target in wanted:
            if member.is_dir() or member.filename.endswith("\\"):
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with _opened(archive, member, password, path) as content, open(target, "wb") as out:
                shutil.copyfileobj(content, out, CHUNK)
            seen(member.compress_size)


def _opened(archive: zipfile.ZipFile, member: zipfile.ZipInfo, password: str, path: Path) -> IO[bytes]:
    """A member of a zip, opened; DataError for a wrong password or an encryption that Python has not."""
    try:
        return archive.open(member, pwd=password.encode() if password else None)
    except NotImplementedError as error:
        raise DataError(f"{path}: {member.filename}: {error}", hint="unpack it with 7z, where it belongs") from error
    except RuntimeError as error:  # of zipfile, for a password
        raise DataError(f"{path}: {error}", hint="get the official archive, whose password rbft knows") from error


def _copy(stream: Any, target: Path, path: Path, limit: int) -> None:
    """The rest of a stream as one file."""
    written = 0
    with open(target, "wb") as out:
        while chunk := stream.read(CHUNK):
            written += len(chunk)
            if written > limit:
                raise _bomb(path, limit)
            out.write(chunk)


def _bomb(path: Path, limit: int) -> DataError:
    told = f"{path} would unpack to more than {limit / 1e9:.0f} GB from {path.stat().st_size / 1e9:.3g} GB: refused"
    return DataError(told, hint="this is not the official archive; get it again")
