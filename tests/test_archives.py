from __future__ import annotations

import gzip
import io
import os
import random
import shutil
import stat
import struct
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from miniatures.pets import KINDS, pictures, tar, write_files, zipped

from robustbench_ft import archives
from robustbench_ft.errors import DataError

FILES = pictures()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def file(tmp_path: Path, content: bytes, name: str = "pets.tar") -> Path:
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


def held(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("name", ["pets.tar", "pets.tar.gz", "pets.zip", "pets"])
@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_opens_under_any_name(kind: str, name: str, tmp_path: Path, out: Path) -> None:
    archives.unpack(file(tmp_path, KINDS[kind](FILES), name), out)
    assert held(out) == FILES


def test_a_compressed_file_loses_its_suffix_and_another_file_is_copied(tmp_path: Path, out: Path) -> None:
    labels = bytes(range(250)) * 5
    archives.unpack(file(tmp_path, gzip.compress(labels), "whatever.tar"), out, name="train-labels-idx1-ubyte.gz")
    archives.unpack(file(tmp_path, gzip.compress(labels), "a.h5.gz"), out)
    archives.unpack(file(tmp_path, b"annotations", "cars.mat"), out)
    assert held(out) == {"train-labels-idx1-ubyte": labels, "a.h5": labels, "cars.mat": b"annotations"}


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, link
    return found


@pytest.mark.parametrize(
    ("hostile", "why"),
    [
        (member("/etc/rbft-test"), "absolute"),
        (member("../outside.png"), "outside"),
        (member("pets/../../outside.png"), "outside"),
        (member("pets/link", tarfile.SYMTYPE, "../../outside"), "outside"),
        (member("pets/link", tarfile.SYMTYPE, "/etc/passwd"), "absolute"),
        (member("pets/hard", tarfile.LNKTYPE, "../../outside"), "outside"),
        (member("pets/null", tarfile.CHRTYPE), "device"),
        (member("pets/disk", tarfile.BLKTYPE), "device"),
        (member("pets/pipe", tarfile.FIFOTYPE), "device"),
    ],
    ids=lambda value: f"{value.name} {value.type!r}" if isinstance(value, tarfile.TarInfo) else None,
)
def test_a_hostile_tar_is_refused_and_the_member_named(hostile: tarfile.TarInfo, why: str, tmp_path: Path, out: Path) -> None:
    (tmp_path / "outside").write_text("mine")
    with pytest.raises(DataError, match=f"member '{hostile.name}' is refused: .*{why}"):
        archives.unpack(file(tmp_path, tar(FILES, (hostile,))), out)
    assert {path.name for path in tmp_path.iterdir()} == {"out", "outside", "pets.tar"}
    assert (tmp_path / "outside").read_text() == "mine"


def test_no_file_is_written_through_a_link_that_leaves(tmp_path: Path, out: Path) -> None:
    (tmp_path / "outside").mkdir()
    (out / "pets").mkdir()
    (out / "pets" / "test").symlink_to(tmp_path / "outside")  # as if it had got there
    with pytest.raises(DataError, match="is refused"):
        archives.unpack(file(tmp_path, tar(FILES)), out)
    assert not list((tmp_path / "outside").iterdir())


def test_links_that_stay_inside_are_kept(tmp_path: Path, out: Path) -> None:
    links = (
        member("pets/again.png", tarfile.SYMTYPE, "test/cat/0.png"),
        member("pets/h.png", tarfile.LNKTYPE, "pets/test/cat/0.png"),
    )
    archives.unpack(file(tmp_path, tar(FILES, links)), out)
    for name in ("pets/again.png", "pets/h.png"):
        assert (out / name).read_bytes() == FILES["pets/test/cat/0.png"]


@pytest.mark.parametrize(
    "name", ["/etc/rbft-test", "../outside.png", "pets/../../outside.png", "..\\outside.png", "a\\..\\..\\b.png"]
)
def test_a_hostile_zip_is_refused_before_anything_is_written(name: str, tmp_path: Path, out: Path) -> None:
    with pytest.raises(DataError, match="is refused"):
        archives.unpack(file(tmp_path, zipped(FILES | {name: b"x"})), out)
    assert not held(tmp_path).keys() - {"pets.tar"}


def test_a_link_in_a_zip_is_refused(tmp_path: Path, out: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        link = zipfile.ZipInfo("pets/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="member 'pets/link' is refused: a link"):
        archives.unpack(file(tmp_path, content.getvalue()), out)


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz", "zip", "gz"])
def test_what_is_out_of_proportion_is_refused(kind: str, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "FLOOR", 1 << 20)
    zeros = {"zeros": bytes(8 << 20)}
    content = gzip.compress(zeros["zeros"]) if kind == "gz" else KINDS[kind](zeros)
    with pytest.raises(DataError, match="would unpack to more than"):
        archives.unpack(file(tmp_path, content, "zeros.gz"), out)
    assert sum(len(content) for content in held(out).values()) <= (1 << 20) + archives.CHUNK


def test_a_zip_that_lies_about_its_sizes_is_damaged(tmp_path: Path, out: Path) -> None:
    content = bytearray(zipped({"zeros": bytes(1 << 16)}))
    for signature, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", content, content.index(signature) + place, 16)
    with pytest.raises(DataError, match="truncated or damaged"):
        archives.unpack(file(tmp_path, bytes(content)), out)
    assert sum(map(len, held(out).values())) <= 16


@pytest.mark.parametrize("kind", [*KINDS, "gz"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_archive_is_said_to_be(kind: str, share: float, tmp_path: Path, out: Path) -> None:
    noise = random.Random(0)
    files = FILES | {f"pets/{k}": noise.randbytes(20_000) for k in range(8)}
    content = gzip.compress(files["pets/0"]) if kind == "gz" else KINDS[kind](files)
    with pytest.raises(DataError, match="truncated or damaged"):
        archives.unpack(file(tmp_path, content[: int(share * len(content))], "a.gz"), out)


def test_a_tar_cut_between_members_or_with_a_damaged_header_is_no_whole_tar(tmp_path: Path, out: Path) -> None:
    content = tar({"a": bytes(512), "b": b"x" * 512, "c": bytes(512)})
    for damaged in (content[:2048], content[:2048] + b"\x7f" * 512 + content[2560:]):
        with pytest.raises(DataError, match="no end of archive"):
            archives.unpack(file(tmp_path, damaged), out)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_a_flipped_bit_is_found_where_the_format_has_a_checksum(kind: str, place: float, tmp_path: Path, out: Path) -> None:
    content = bytearray(KINDS[kind](FILES))
    content[int(len(content) * place)] ^= 4
    with pytest.raises(DataError, match="damaged"):
        archives.unpack(file(tmp_path, bytes(content)), out)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>log in</html>", "is no archive: it begins with b'<!DOCTYP'"),
        (b"", "is no archive"),
        (gzip.compress(b"no tar" * 100), "is damaged, or no tar: what it holds begins with b'no tarno'"),
        (b"Rar!\x1a\x07\x00rest", "RAR archive"),
        (b"7z\xbc\xaf\x27\x1crest", "7-Zip archive"),
        (tar({}), "holds nothing"),
        (tar({"__MACOSX/pets/._0.png": b"x", "._pets": b"x"}), "holds nothing"),
    ],
)
def test_what_is_no_archive_under_an_archive_s_name_is_refused(content: bytes, message: str, tmp_path: Path, out: Path) -> None:
    with pytest.raises(DataError, match=message):
        archives.unpack(file(tmp_path, content, "pets.tar.gz"), out)
    assert not held(out)


@pytest.mark.parametrize("kind", KINDS)
def test_what_macos_leaves_is_passed_over(kind: str, tmp_path: Path, out: Path) -> None:
    junk = {"__MACOSX/pets/test/cat/._0.png": b"x", "pets/test/cat/._0.png": b"x", "pets/.DS_Store": b"x"}
    archives.unpack(file(tmp_path, KINDS[kind](junk | FILES)), out)
    assert held(out) == FILES


@pytest.fixture
def encrypted(tmp_path: Path) -> Path:
    if shutil.which("zip") is None:
        pytest.skip("no zip command to make an encrypted zip with")
    write_files(tmp_path / "plain", FILES)
    subprocess.run(["zip", "-q", "-r", "-P", "secret", tmp_path / "locked.zip", "pets"], cwd=tmp_path / "plain", check=True)
    return tmp_path / "locked.zip"


def test_an_encrypted_zip_opens_with_its_password(encrypted: Path, out: Path) -> None:
    assert archives.is_encrypted(encrypted)
    archives.unpack(encrypted, out, password="secret")
    assert held(out) == FILES


@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_wrong_password_is_said(password: str, encrypted: Path, out: Path) -> None:
    with pytest.raises(DataError, match="password"):
        archives.unpack(encrypted, out, password=password)


def test_sizes_are_known_before(tmp_path: Path) -> None:
    assert archives.size_unpacked(file(tmp_path, zipped({"zeros": bytes(100_000)}))) == 100_000
    assert archives.size_unpacked(file(tmp_path, b"x" * 77)) == 77
    assert not archives.is_encrypted(file(tmp_path, tar(FILES)))


@pytest.mark.parametrize("kind", KINDS)
def test_progress_ends_near_the_size_of_the_archive(kind: str, tmp_path: Path, out: Path) -> None:
    noise = random.Random(1)
    path = file(tmp_path, KINDS[kind]({str(k): noise.randbytes(1 << 19) for k in range(9)}))
    told: list[int] = []
    archives.unpack(path, out, seen=told.append)
    assert len(told) > 1 and path.stat().st_size - (2 << 20) < sum(told) <= path.stat().st_size


def test_a_full_disk_stays_an_error_of_the_system(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "extract", full)
    with pytest.raises(OSError, match="No space left"):
        archives.unpack(file(tmp_path, tar(FILES)), out)


def test_many_members_are_not_kept_in_memory(tmp_path: Path, out: Path) -> None:
    kept = []
    original = tarfile.TarFile.extract

    def counting(self: Any, *args: Any, **kwargs: Any) -> None:
        kept.append(len(self.members))
        original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tarfile.TarFile, "extract", counting)
        archives.unpack(file(tmp_path, tar({f"{k}.txt": b"x" for k in range(50)})), out)
    assert len(kept) == 50 and max(kept) <= 1 and len(os.listdir(out)) == 50
