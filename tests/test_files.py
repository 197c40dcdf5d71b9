from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from robustbench_ft.files import canonical_json, default_folder, digest, file_digest, readable_json, write_atomic


def test_canonical_json_is_the_same_for_equal_values() -> None:
    assert (
        canonical_json({"b": [1, 2.5], "a": "é"}) == '{"a":"é","b":[1,2.5]}'.encode() == canonical_json({"a": "é", "b": (1, 2.5)})
    )
    assert digest({"x": 1, "y": 2}) == digest({"y": 2, "x": 1}) != digest({"x": 1, "y": 3})


@pytest.mark.parametrize("items", [[], [{"b": 1, "a": "é"}], [{"x": [1, {"y": None}]}, 3, "z\n"]])
def test_readable_json_is_the_value_with_a_line_an_item(items: list[Any]) -> None:
    value = {"rows": items, "name": "ü", "about": {"b": 2.5, "a": [1, 2]}}
    text = readable_json(value, rows="rows")
    assert json.loads(text) == value
    lines = text.splitlines()
    assert [line.split(":")[0].strip() for line in lines if line.startswith(' "')] == ['"about"', '"name"', '"rows"']
    found = [json.loads(line.removesuffix(",")) for line in lines if line.startswith("  ") and line.strip()]
    assert found == items
    assert "\\u" not in text and text.endswith("}\n")
    assert text == readable_json(dict(reversed(value.items())), rows="rows")


def test_readable_json_refuses_what_json_cannot_say() -> None:
    for value in ({"rows": [float("nan")]}, {"rows": [], "x": float("inf")}):
        with pytest.raises(ValueError, match="JSON compliant"):
            readable_json(value, rows="rows")


def test_finished_work_is_kept_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RBFT_STORE", str(tmp_path / "a"))
    assert default_folder() == tmp_path / "a"
    monkeypatch.setenv("RBFT_STORE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert default_folder() == tmp_path / "b" / "rbft"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "c"))
    assert default_folder() == tmp_path / "c" / ".cache" / "rbft"


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
