from pathlib import Path

import pytest

from robustbench_ft.checksums import checksum, verify
from robustbench_ft.errors import DataError, UsageError


def test_known_digests(tmp_path: Path) -> None:
    file = tmp_path / "hello"
    file.write_bytes(b"hello\n")
    assert checksum(file, "md5") == "b1946ac92492d2347c6235b4d2611184"
    assert checksum(file, "sha256") == "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    assert checksum(file, "git") == "ce013625030ba8dba906f756967f9e9ca394464a", "as git hash-object prints it"
    verify(file, "git:ce013625030ba8dba906f756967f9e9ca394464a")


def test_a_difference_names_the_file_and_both_digests(tmp_path: Path) -> None:
    file = tmp_path / "test_batch"
    file.write_bytes(b"hello")
    with pytest.raises(DataError, match=r"test_batch is not the official file: 5 bytes .* expected 0000") as caught:
        verify(file, "md5:0000", hint="download again")
    assert caught.value.hint == "download again"


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="md5, sha256, git"):
        checksum(tmp_path, "crc32")
