from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniatures.pets import N, archive, pictures, tar, write_dataset, write_files

from robustbench_ft import asked, datafiles, verify
from robustbench_ft.verify import How, Opened, Verdict

FILES, TRAIN = pictures(), pictures("train")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(verify, "CHUNK", 2)
    datafiles._parse.cache_clear()
    write_dataset(tmp_path, [archive("pets.tar", tar(FILES))])
    write_files(tmp_path / "data", FILES)
    return tmp_path / "data"


def run(root: Path, **fields: Any) -> tuple[list[Verdict], list[str]]:
    splits = asked.asked([str(root.parent / "pets.toml")])
    return verify.verify(splits, root, How(root.parent / "store", **fields))


def broken(found: Sequence[Verdict]) -> dict[str, str]:
    opened = found[0].opened
    assert opened is not None
    return opened.faults


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_every_image_is_opened_and_the_broken_are_named(workers: int, root: Path) -> None:
    assert verify.fault(*run(root, workers=workers), root) is None
    cut = root / "pets/test/cat/1.png"
    cut.write_bytes(cut.read_bytes()[:60])
    (root / "pets/test/dog/2.png").write_bytes(b"<html>")
    found = run(root, workers=workers)
    assert broken(found[0]).keys() == {"test/cat/1.png", "test/dog/2.png"}
    error = verify.fault(*found, root)
    assert error is not None and error.exit_code == 3
    assert "pets/test: 2 broken images: test/cat/1.png, test/dog/2.png" in str(error)
    assert "rbft data prepare pets" in error.hint


def test_what_opened_is_not_opened_again_until_it_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    original = verify._open_chunk

    def counting(chunk: int) -> tuple[int, dict[str, str]]:
        opened.append(chunk)
        return original(chunk)

    monkeypatch.setattr(verify, "_open_chunk", counting)
    run(root)
    assert sorted(opened) == [0, 1, 2]
    run(root)
    assert len(opened) == 3
    run(root, again=True)
    assert len(opened) == 6
    victim = root / "pets/test/dog/2.png"
    whole = victim.read_bytes()
    victim.write_bytes(whole[:50])
    assert broken(run(root)[0]).keys() == {"test/dog/2.png"} and opened[6:] == [2]
    os.utime(victim, ns=(1, 1))
    assert broken(run(root)[0]) and opened[7:] == [2]
    victim.write_bytes(whole)
    os.utime(victim, ns=(1, 1))
    assert not broken(run(root)[0]) and opened[8:] == [2], "a broken one is always looked at again"


def test_interrupted_it_goes_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, opened = verify._open_chunk, []

    def interrupted(chunk: int) -> tuple[int, dict[str, str]]:
        if chunk == 2:
            raise KeyboardInterrupt
        return original(chunk)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(verify, "_open_chunk", interrupted)
        run(root)
    monkeypatch.setattr(verify, "_open_chunk", lambda chunk: (opened.append(chunk), original(chunk))[1])
    assert not broken(run(root)[0]) and opened == [2]


def test_a_killed_worker_s_image_does_not_hide(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(self: Any, index: int) -> Any:
        raise RuntimeError("a decoder of its own") if index == 1 else SystemError("unknown tile")

    monkeypatch.setattr("robustbench_ft.datasets.images.Files.__call__", odd)
    assert set(broken(run(root)[0]).values()) == {"a decoder of its own", "unknown tile"} and len(broken(run(root)[0])) == N


def test_a_damaged_note_is_made_anew(root: Path) -> None:
    run(root)
    (note,) = (root.parent / "store" / "verified").iterdir()
    for content in ("", "[]", '{"chunks": 1, "odd": 2}'):
        note.write_text(content)
        assert not broken(run(root)[0])
    assert json.loads(note.read_text())["chunks"].keys() == {"0", "1", "2"}


def test_quick_opens_nothing_and_counts(root: Path) -> None:
    (root / "pets/test/dog/2.png").write_bytes(b"x")
    found, archives = run(root, quick=True)
    assert found[0].opened is None and verify.fault(found, archives, root) is None
    (root / "pets/test/dog/2.png").unlink()
    error = verify.fault(*run(root, quick=True), root)
    assert error is not None and "5 examples, expected 6" in str(error)


def test_short_and_broken_are_said_in_one(root: Path) -> None:
    (root / "pets/test/cat/0.png").write_bytes(b"x")
    (root / "pets/test/dog/2.png").unlink()
    found = run(root)
    error = verify.fault(*found, root)
    assert error is not None and "5 examples, expected 6" in str(error) and "1 broken image: test/cat/0.png" in str(error)


def test_an_archive_that_is_still_there_is_checked(root: Path) -> None:
    (root / "downloads").mkdir()
    (root / "downloads" / "pets.tar").write_bytes(tar(FILES))
    assert run(root)[1] == []
    (root / "downloads" / "pets.tar").write_bytes(tar(TRAIN))
    found = run(root)
    error = verify.fault(*found, root)
    assert error is not None and "downloads/pets.tar is not pets.tar" in str(error) and "remove the file" in error.hint


def test_a_label_that_moved_is_found_by_the_pinned_hash(root: Path) -> None:
    file = root.parent / "pets.toml"
    (found,), _ = run(root, quick=True)
    images = found.state.images
    assert images is not None
    file.write_text(file.read_text() + f'digest = "{images.digest}"\n')
    datafiles._parse.cache_clear()
    assert verify.fault(*run(root), root) is None
    assert "as pinned" in verify.table(run(root)[0])
    (root / "pets/test/cat/0.png").rename(root / "pets/test/dog/0a.png")
    error = verify.fault(*run(root), root)
    assert error is not None and "ids and labels have the hash" in str(error)


def test_splits_of_the_same_images_are_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datafiles._parse.cache_clear()
    file = write_dataset(tmp_path, [])
    parts = "".join(
        f'[splits.{p}]\nsplit = "all"\npart = "{p}"\nval_per_class = 1\nn = {n}\noptions = {{ folder = "test" }}\n'
        for p, n in (("train", 4), ("val", 2))
    )
    file.write_text(file.read_text().partition("[splits")[0] + parts)
    write_files(tmp_path / "data", FILES)
    calls: list[int] = []
    monkeypatch.setattr(verify, "_open_chunk", lambda chunk: (calls.append(chunk), (chunk, {}))[1])
    found, _ = verify.verify(asked.asked([str(file)]), tmp_path / "data", How(tmp_path / "store"))
    assert [verdict.state.found for verdict in found] == [4, 2] and calls == [0]


def test_arrays_are_opened_too(tmp_path: Path) -> None:
    datafiles._parse.cache_clear()
    file = write_dataset(tmp_path, [], format="arrays", path="a/pets")
    file.write_text(file.read_text().replace('options = { folder = "test", id = "test" }\n', ""))
    (tmp_path / "data" / "a").mkdir(parents=True)
    np.save(tmp_path / "data/a/pets_data.npy", np.zeros((N, 8, 8, 3), np.uint8))
    np.save(tmp_path / "data/a/pets_labels.npy", np.arange(N) % 2)
    found, _ = verify.verify(asked.asked([str(file)]), tmp_path / "data", How(tmp_path / "store", workers=2))
    assert found[0].state.complete and found[0].opened is not None and found[0].opened.chunks == {"0": ""}


def test_days_are_counted() -> None:
    now = time.time()
    assert [verify.ago(now - days * 86400 - 60) for days in (0, 1, 3)] == ["today", "1 day ago", "3 days ago"]


def test_a_table_row_says_how_much_was_broken(root: Path) -> None:
    (verdict,), _ = run(root)
    assert "all open" in verify.table([verdict]) and "not pinned" in verify.table([verdict])
    assert "2 broken" in verify.table([replace(verdict, opened=Opened({}, {"0": {"a": "x", "b": "y"}}, time.time()))])
