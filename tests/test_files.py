from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from robustbench_ft.files import canonical_json, digest, file_digest, write_atomic


def test_canonical_json_is_the_same_for_equal_values() -> None:
    assert (
        canonical_json({"b": [1, 2.5], "a": "é"}) == '{"a":"é","b":[1,2.5]}'.encode() == canonical_json({"a": "é", "b": (1, 2.5)})
    )
    assert digest({"x": 1, "y": 2}) == digest({"y": 2, "x": 1}) != digest({"x": 1, "y": 3})


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_canonical_json_refuses_what_json_cannot_say(bad: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"x": bad})


def test_a_file_s_digest_is_sha_256(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc" * 100_000)
    assert file_digest(tmp_path / "f") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_a_file_is_written_whole_with_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "f.txt"
    write_atomic(file, "é")
    write_atomic(file, b"two")
    assert file.read_bytes() == b"two" and [f.name for f in file.parent.iterdir()] == ["f.txt"]
    assert file.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("step", ["replace", "fdopen", "chmod"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "f"
    write_atomic(file, "old")

    def fail(*args: object) -> None:
        if step == "fdopen":
            os.close(int(str(args[0])))
        raise OSError("full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="full"):
        patch.setattr(os, step, fail)
        write_atomic(file, "new")
    assert file.read_text() == "old" and [f.name for f in tmp_path.iterdir()] == ["f"]
