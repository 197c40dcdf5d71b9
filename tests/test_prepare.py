from __future__ import annotations

import errno
import gzip
import hashlib
import http.server
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniatures.folders import encoded
from miniatures.pets import KINDS, N, archive, pictures, tar, write_dataset, write_files, zipped

from robustbench_ft import asked, datafiles, placing, prepare
from robustbench_ft.data_status import State
from robustbench_ft.errors import DataError, MissingData, UsageError
from robustbench_ft.placing import UNPACKED
from robustbench_ft.prepare import Place
from robustbench_ft.prepare_steps import DEVKIT, PARTIAL

FILES, TRAIN = pictures(), pictures("train")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def run(root: Path, file: Path, *sources: Path, names: tuple[str, ...] = ("",), fetch: bool = True) -> list[State]:
    datafiles._parse.cache_clear()
    splits = asked.asked([f"{file}/{name}" if name else str(file) for name in names])
    return prepare.prepare(splits, Place(root, root.parent / "store", sources, fetch))


def held(folder: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: content for name, content in found.items() if name not in (UNPACKED, ".rbft-lock")}


def states(found: list[State]) -> dict[str, tuple[str, int | None]]:
    return {state.split.name: (state.there, state.found) for state in found}


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_in_the_data_folder_is_unpacked_whatever_it_is(kind: str, root: Path) -> None:
    content = KINDS[kind](FILES)
    file = write_dataset(root.parent, [archive("pets.tar.gz", content)])
    (root / "pets.tar.gz").write_bytes(content)
    assert states(run(root, file)) == {"pets/test": ("yes", N)}
    assert held(root) == FILES | {"pets.tar.gz": content}


def test_the_second_call_does_nothing_even_without_the_archive(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = tar(FILES)
    file = write_dataset(root.parent, [archive("pets.tar", content)])
    (root / "pets.tar").write_bytes(content)
    run(root, file)
    (root / "pets.tar").unlink()
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert states(run(root, file)) == {"pets/test": ("yes", N)}
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.name != ".rbft-lock"} == {
        path: then for path, then in before.items() if path.name != ".rbft-lock"
    }


def test_what_a_user_unpacked_is_left_alone(root: Path) -> None:
    file = write_dataset(root.parent, [archive("pets.tar", tar(FILES))])
    write_files(root, FILES)
    assert states(run(root, file)) == {"pets/test": ("yes", N)} and held(root) == FILES


def test_a_damaged_set_is_mended_from_its_archive(root: Path) -> None:
    content = tar(FILES)
    file = write_dataset(root.parent, [archive("pets.tar", content)])
    (root / "pets.tar").write_bytes(content)
    run(root, file)
    (root / "pets/test/cat/1.png").unlink()
    (root / "pets/test/dog/1.png").write_bytes(b"cut")
    assert states(run(root, file)) == {"pets/test": ("yes", N)}
    assert held(root) == FILES | {"pets.tar": content}


@pytest.mark.parametrize("place", ["downloads/pets.tar", "pets/pets.tar"])
def test_archives_are_found_in_downloads_and_in_the_set_s_own_folder(place: str, root: Path) -> None:
    file = write_dataset(root.parent, [archive("pets.tar", tar(FILES))])
    write_files(root, {place: tar(FILES)})
    assert states(run(root, file)) == {"pets/test": ("yes", N)}


def git(content: bytes) -> str:
    return "git:" + hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.mark.parametrize("kind", ["md5", "sha256", "git"])
@pytest.mark.parametrize("folder", [True, False])
def test_a_file_of_another_name_is_known_by_its_checksum(kind: str, folder: bool, root: Path) -> None:
    content = tar(FILES)
    known = git(content) if kind == "git" else f"{kind}:{hashlib.new(kind, content).hexdigest()}"
    file = write_dataset(root.parent, [archive("pets.tar", checksums=["sha256:00", known], bytes=len(content))])
    write_files(root.parent / "mine", {"from-a-friend": content, "other": b"x" * len(content), "small": b"x"})
    source = root.parent / "mine" if folder else root.parent / "mine" / "from-a-friend"
    assert states(run(root, file, source)) == {"pets/test": ("yes", N)}


def test_a_given_file_that_is_none_of_them_is_said(root: Path) -> None:
    file = write_dataset(root.parent, [archive("pets.tar", tar(FILES))])
    write_files(root.parent, {"other": b"x"})
    with pytest.raises(MissingData, match=r"no pets\.tar \([\d,]+ bytes, sha256:\w+\) in .*/data, .*downloads, .*other"):
        run(root, file, root.parent / "other")
    with pytest.raises(UsageError, match="gone: no such file or folder"):
        run(root, file, root.parent / "gone")


def test_another_file_under_the_right_name_is_refused_with_both_sums(root: Path) -> None:
    file = write_dataset(root.parent, [archive("pets.tar", tar(FILES))])
    (root / "pets.tar").write_bytes(tar(TRAIN))
    with pytest.raises(DataError, match=r"pets\.tar is not pets\.tar: \d+ bytes with sha256:\w+; expected sha256:") as caught:
        run(root, file)
    assert "remove it" in caught.value.hint and not (root / "pets").exists()
    assert states(run(root, file, _written(root.parent / "right.tar", tar(FILES)))) == {"pets/test": ("yes", N)}


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_without_a_checksum_the_size_is_looked_at(root: Path) -> None:
    file = write_dataset(root.parent, [archive("pets.tar", bytes=5)])
    (root / "pets.tar").write_bytes(tar(FILES))
    with pytest.raises(DataError, match=r"\d+ bytes, expected 5"):
        run(root, file)


def test_missing_says_what_to_bring_and_how(root: Path) -> None:
    told = "Ask the authors for pets.tar."
    file = write_dataset(root.parent, [archive("pets.tar", bytes=1234, checksums=["md5:12"])], how=told)
    with pytest.raises(MissingData, match=r"pets/test: no pets\.tar \(1,234 bytes, md5:12\) in .*/data") as caught:
        run(root, file)
    assert caught.value.hint == told and caught.value.exit_code == 3
    file = write_dataset(root.parent, [archive("pets.tar")])
    with pytest.raises(MissingData) as caught:
        run(root, file)
    assert "https://pets.example" in caught.value.hint and "downloads" in caught.value.hint


def test_an_archive_that_does_not_hold_the_set_is_said(root: Path) -> None:
    content = tar({name: FILES[name] for name in list(FILES)[1:]})
    file = write_dataset(root.parent, [archive("pets.tar", content)])
    (root / "pets.tar").write_bytes(content)
    with pytest.raises(DataError, match="5 examples, expected 6"):
        run(root, file)


def test_single_files_are_copied_and_compressed_ones_lose_their_suffix(root: Path) -> None:
    labels, content = b"labels", tar(FILES)
    file = write_dataset(
        root.parent,
        [
            archive("pets.tar", content),
            archive("labels.gz", gzip.compress(labels, mtime=0), into="pets/raw"),
            archive("pmk.json", checksums=[git(b"{}")], into="pets/meta", unpack=False),
        ],
    )
    write_files(root, {"pets.tar": content, "labels.gz": gzip.compress(labels, mtime=0)})
    given = _written(root.parent / "renamed.json", b"{}")
    run(root, file, given)
    assert held(root / "pets/meta") == {"pmk.json": b"{}"}, "single files come first"
    assert held(root / "pets" / "test")


def test_each_split_takes_its_own_archives_and_optional_ones_only_when_asked_for(root: Path) -> None:
    entries = [
        archive("test.tar", tar(FILES), splits=["test"]),
        archive("train.zip", zipped(TRAIN), splits=["train"], optional=True),
    ]
    file = write_dataset(root.parent, entries, splits=("test", "train"))
    (root / "test.tar").write_bytes(tar(FILES))
    found = run(root, file)
    assert states(found) == {"pets/test": ("yes", N), "pets/train": ("no", None)} and not found[1].fault
    with pytest.raises(MissingData, match=r"no train\.zip"):
        run(root, file, names=("train",))
    (root / "train.zip").write_bytes(zipped(TRAIN))
    assert states(run(root, file)) == {"pets/test": ("yes", N), "pets/train": ("yes", N)}, "it is there, so it is taken"


def test_archives_that_share_a_folder_are_joined(root: Path) -> None:
    entries = [archive("a.tar", tar(FILES)), archive("b.tar", tar(TRAIN))]
    file = write_dataset(root.parent, entries, splits=("test", "train"))
    write_files(root, {"a.tar": tar(FILES), "b.tar": tar(TRAIN)})
    assert set(states(run(root, file)).values()) == {("yes", N)}
    assert held(root / "pets").keys() == {name.removeprefix("pets/") for name in FILES | TRAIN}


def test_what_is_there_is_prepared_before_what_is_missing_is_said(root: Path) -> None:
    entries = [archive("b.tar", tar(TRAIN), splits=["train"]), archive("a.tar", tar(FILES), splits=["test"])]
    file = write_dataset(root.parent, entries, splits=("test", "train"))
    (root / "a.tar").write_bytes(tar(FILES))
    with pytest.raises(MissingData, match=r"pets/train: no b\.tar"):
        run(root, file)
    assert held(root / "pets/test")


def test_a_file_in_the_way_of_a_folder_is_left_and_named(root: Path) -> None:
    file = write_dataset(root.parent, [archive("pets.tar", tar(FILES))])
    write_files(root, {"pets.tar": tar(FILES), "pets/test/cat": b"mine"})
    with pytest.raises(DataError, match="pets/test/cat is in the way") as caught:
        run(root, file)
    assert (root / "pets/test/cat").read_bytes() == b"mine" and "move" in caught.value.hint
    (root / "pets/test/cat").rename(root / "moved")
    assert states(run(root, file)) == {"pets/test": ("yes", N)}


def test_a_link_to_another_place_is_followed(root: Path) -> None:
    (root.parent / "big-disk").mkdir()
    (root / "pets").symlink_to(root.parent / "big-disk")
    file = write_dataset(root.parent, [archive("pets.tar", tar(FILES))])
    (root / "pets.tar").write_bytes(tar(FILES))
    assert states(run(root, file)) == {"pets/test": ("yes", N)}
    assert (root / "pets").is_symlink() and len(held(root.parent / "big-disk")) == N


def test_another_disk_gets_copies(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.replace

    def across(source: Any, target: Any) -> None:
        if "content" in str(source) and PARTIAL not in str(target):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target)

    monkeypatch.setattr(os, "replace", across)
    file = write_dataset(root.parent, [archive("pets.tar", tar(FILES))])
    (root / "pets.tar").write_bytes(tar(FILES))
    assert states(run(root, file)) == {"pets/test": ("yes", N)}
    assert held(root).keys() == FILES.keys() | {"pets.tar"}


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_hostile_archive_leaves_nothing(kind: str, root: Path) -> None:
    content = KINDS[kind](FILES | {"../escaped": b"x"})
    file = write_dataset(root.parent, [archive("pets.tar", content)])
    (root / "pets.tar").write_bytes(content)
    with pytest.raises(DataError, match="'../escaped' is refused"):
        run(root, file)
    assert not (root / "pets").exists() and not (root / "escaped").exists() and not (root.parent / "escaped").exists()


def test_two_at_once_do_not_meet(root: Path) -> None:
    file = write_dataset(root.parent, [archive("pets.tar", tar(FILES))])
    with prepare._locked(root), pytest.raises(DataError, match="another rbft data prepare is at work"):
        run(root, file)


# Killed, and full


SLOW = """
import sys, time, tarfile, pathlib, os
from robustbench_ft import archives, asked, placing, prepare
where, root, file = sys.argv[1:]
def stop(*_, **__):
    pathlib.Path(root, "..", "reached").touch()
    time.sleep(60)
if where == "unpacking":
    extract = tarfile.TarFile.extract
    def third(self, member, *args, **kwargs):
        extract(self, member, *args, **kwargs)
        if "dog" in member.name: stop()
    tarfile.TarFile.extract = third
else:
    rename = placing._rename
    def second(source, target):
        rename(source, target)
        stop()
    placing._rename = second
prepare.prepare(asked.asked([file]), prepare.Place(pathlib.Path(root), pathlib.Path(root, "..", "store")))
"""


@pytest.mark.parametrize("where", ["unpacking", "moving"])
def test_killed_in_the_middle_nothing_is_half_there_and_the_same_command_finishes(where: str, root: Path) -> None:
    file = write_dataset(root.parent, [archive("pets.tar", tar(FILES))])
    write_files(root, {"pets.tar": tar(FILES), "pets/README": b"mine"})  # pets/ is there: moving is by file and folder
    process = subprocess.Popen([sys.executable, "-c", SLOW, where, str(root), str(file)])
    deadline = time.monotonic() + 60
    while not (root.parent / "reached").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (root / f"{PARTIAL}pets.tar").is_dir()
    there = {name: content for name, content in held(root).items() if not name.startswith(".")}
    assert all(content == FILES.get(name, content) for name, content in there.items())
    if where == "unpacking":
        assert there.keys() == {"pets.tar", "pets/README"}
    assert states(run(root, file)) == {"pets/test": ("yes", N)}
    assert held(root) == FILES | {"pets.tar": tar(FILES), "pets/README": b"mine"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True)
    if made.returncode:
        pytest.skip("no right to mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("kind", ["tar.gz", "zip", "gz"])
def test_a_disk_that_fills_leaves_nothing_and_the_same_command_continues(kind: str, small_disk: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 4, 400_000, dtype=np.uint8).tobytes()  # 400 kB in some 120
    content = gzip.compress(noise) if kind == "gz" else KINDS[kind](FILES | {"pets/notes.bin": noise})
    file = write_dataset(tmp_path, [archive("pets.bin.gz", content)])
    source = _written(tmp_path / "pets.bin.gz", content)
    with pytest.raises(DataError, match="disk of .* is full|are free on the disk") as caught:
        run(small_disk, file, source)
    assert caught.value.exit_code == 3 and "the same command continues" in caught.value.hint
    assert not held(small_disk) and shutil.disk_usage(small_disk).used < 20_000
    if kind != "gz":
        subprocess.run(["mount", "-o", "remount,size=2m", small_disk], check=True)
        assert states(run(small_disk, file, source)) == {"pets/test": ("yes", N)}


def test_what_cannot_fit_is_refused_before_anything_is_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = zipped(FILES | {"pets/zeros": bytes(3 << 20)})
    file = write_dataset(root.parent, [archive("pets.zip", content)])
    (root / "pets.zip").write_bytes(content)
    usage = shutil.disk_usage(root)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2 << 20))
        patch.setattr("robustbench_ft.archives.unpack", lambda *_, **__: pytest.fail("it was opened"))
        with pytest.raises(DataError, match=r"takes 3\.2 MB, and 2\.1 MB are free"):
            run(root, file)
    assert held(root).keys() == {"pets.zip"}
    run(root, file)


def test_an_encrypted_zip_opens_and_the_quicker_way_is_said(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("zip") is None:
        pytest.skip("no zip command to make an encrypted zip with")
    write_files(root.parent / "plain", FILES)
    subprocess.run(["zip", "-q", "-r", "-P", "secret", root / "pets.zip", "pets"], cwd=root.parent / "plain", check=True)
    file = write_dataset(root.parent, [archive("pets.zip", password="secret")])
    assert states(run(root, file)) == {"pets/test": ("yes", N)}
    assert f"unzip -q -P secret {root / 'pets.zip'} -d {root}" in capsys.readouterr().err


# Fetched


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "served").mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path / "served"))

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_what_has_an_address_is_fetched_checked_and_unpacked(served: str, root: Path) -> None:
    content = tar(FILES)
    file = write_dataset(root.parent, [archive("pets.tar", content, url=f"{served}/pets.tar")])
    with pytest.raises(MissingData, match=r"no pets\.tar"):
        run(root, file, fetch=False)
    (root.parent / "served" / "pets.tar").write_bytes(content)
    assert states(run(root, file)) == {"pets/test": ("yes", N)}
    assert held(root) == FILES | {"downloads/pets.tar": content}


def test_a_fetched_file_with_another_sum_is_not_kept(served: str, root: Path) -> None:
    file = write_dataset(root.parent, [archive("pets.tar", tar(FILES), url=f"{served}/pets.tar")])
    (root.parent / "served" / "pets.tar").write_bytes(b"<html>moved</html>")
    with pytest.raises(DataError, match="is not pets.tar: 18 bytes with sha256:.* was fetched from .* and is removed") as caught:
        run(root, file)
    assert "--from FILE" in caught.value.hint and not held(root)


def test_a_dead_address_says_how_else(served: str, root: Path) -> None:
    entry = archive("pets.tar", tar(FILES), url=f"{served}/gone.tar")
    file = write_dataset(root.parent, [entry], how="The authors send it.")
    with pytest.raises(DataError, match=r"404 .*\. The authors send it\.") as caught:
        run(root, file)
    assert "pets.tar with a browser into" in caught.value.hint and caught.value.exit_code == 3


# Steps


WNIDS = ("n01440764", "n01443537", "n02119789", "n12998815")
IDS = {"n02119789": 1, "n01443537": 2, "n12998815": 3, "n01440764": 4}  # not in the order of sorted WordNet ids


def devkit(truth: list[int]) -> bytes:
    """A devkit with three inner nodes beside the classes, as the real one has them among its synsets."""
    from scipy.io import savemat

    kinds = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("gloss", object), ("num_children", object)]
    rows = [(number, wnid, "a, b", "text", 0) for wnid, number in sorted(IDS.items(), key=lambda item: item[1])]
    rows += [(number, f"n0000000{number}", "inner", "text", 2) for number in range(len(IDS) + 1, len(IDS) + 4)]
    out = io.BytesIO()
    savemat(out, {"synsets": np.array(rows, dtype=kinds).reshape(-1, 1)})
    files = {"meta.mat": out.getvalue(), "ILSVRC2012_validation_ground_truth.txt": "\n".join(map(str, truth)).encode() + b"\n"}
    return gzip.compress(tar({f"{DEVKIT}/data/{name}": content for name, content in files.items()}), mtime=0)


def imagenet(folder: Path) -> tuple[Path, dict[str, bytes], dict[str, bytes]]:
    """The package's own ImageNet file for four classes, its archives, and what they should become."""
    truth = [1, 4, 3, 2, 2, 1, 3, 4]
    wnids = {number: wnid for wnid, number in IDS.items()}
    val = {f"ILSVRC2012_val_{k + 1:08}.JPEG": encoded(k, ".jpg") for k in range(len(truth))}
    train = {wnid: {f"{wnid}_{k}.JPEG": encoded(50 + 4 * n + k, ".jpg") for k in range(4)} for n, wnid in enumerate(WNIDS)}
    archives = {
        "ILSVRC2012_img_train.tar": tar({f"{wnid}.tar": tar(files) for wnid, files in train.items()}),
        "ILSVRC2012_img_val.tar": tar(val),
        f"{DEVKIT}.tar.gz": devkit(truth),
    }
    wanted = {f"val/{wnids[number]}/{name}": val[name] for number, name in zip(truth, val, strict=True)}
    wanted |= {f"train/{wnid}/{name}": content for wnid, files in train.items() for name, content in files.items()}
    text = (datafiles.FOLDER / "imagenet.toml").read_text()
    (folder / "small.csv").write_text("folder,name\n" + "".join(f"{wnid},{wnid}\n" for wnid in WNIDS))
    table = [line for line in text.splitlines() if not line.startswith(("bytes", "digest", "checksums"))]
    text = "\n".join(table).replace('classes = "imagenet"', 'classes = "small.csv"').replace("= 26\n", "= 1\n")
    for old, new in (("1255167", "12"), ("26000", "4"), ("50000", str(len(truth)))):
        text = text.replace(f"n = {old}\n", f"n = {new}\n")
    (folder / "small-imagenet.toml").write_text(text + "\n")
    return folder / "small-imagenet.toml", archives, wanted


def test_imagenet_from_its_archives(root: Path) -> None:
    file, archives, wanted = imagenet(root.parent)
    write_files(root, archives)
    found = states(run(root, file))
    assert [found[f"small-imagenet/{key}"] for key in ("train", "minival", "val")] == [("yes", 12), ("yes", 4), ("yes", 8)]
    assert found["small-imagenet/soups-train"] == ("no", None), "model soups' own mask is optional"
    made = held(root / "imagenet")
    assert {name: content for name, content in made.items() if not name.startswith(DEVKIT)} == wanted


def test_imagenet_s_val_waits_for_the_devkit_and_train_does_not(root: Path) -> None:
    file, archives, _ = imagenet(root.parent)
    late = archives.pop(f"{DEVKIT}.tar.gz")
    write_files(root, archives)
    with pytest.raises(MissingData, match=f"small-imagenet/val: no {DEVKIT}"):
        run(root, file)
    assert (root / "imagenet/train").is_dir() and not (root / "imagenet/val").exists()
    write_files(root, {f"{DEVKIT}.tar.gz": late})
    assert states(run(root, file))["small-imagenet/val"] == ("yes", 8)


@pytest.mark.parametrize("place", ["imagenet", "ILSVRC2012"])
def test_a_flat_val_folder_is_sorted_where_it_lies(place: str, root: Path) -> None:
    file, archives, wanted = imagenet(root.parent)
    with tarfile.open(fileobj=io.BytesIO(archives["ILSVRC2012_img_val.tar"])) as flat:
        flat.extractall(root / place / "val", filter="data")
    with tarfile.open(fileobj=io.BytesIO(archives[f"{DEVKIT}.tar.gz"])) as kit:
        kit.extractall(root, filter="data")
    half = next(name for name in wanted if name.startswith("val/"))
    write_files(root / place, {half: wanted[half]})  # as if it had been stopped after the first
    (root / place / "val" / Path(half).name).unlink()
    run(root, file, names=("val",))
    assert held(root / place) == {name: content for name, content in wanted.items() if name.startswith("val/")}


def test_class_tars_that_a_user_unpacked_are_opened_and_left(root: Path) -> None:
    file, archives, wanted = imagenet(root.parent)
    with tarfile.open(fileobj=io.BytesIO(archives["ILSVRC2012_img_train.tar"])) as outer:
        outer.extractall(root / "imagenet/train", filter="data")
    run(root, file, names=("train", "minival"))
    made = held(root / "imagenet")
    assert {name for name in made if name.endswith(".JPEG")} == {name for name in wanted if name.startswith("train/")}
    assert sum(name.endswith(".tar") for name in made) == len(WNIDS)


@pytest.mark.parametrize("by_hand", [True, False])
def test_a_train_folder_that_is_whole_is_not_unpacked_again_for_want_of_another_file(
    by_hand: bool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, archives, _ = imagenet(root.parent)
    write_files(root, archives)
    run(root, file)
    if by_hand:
        (root / UNPACKED).unlink()
    monkeypatch.setattr(placing, "put", lambda *_: pytest.fail("unpacked again"))
    run(root, file)
    with pytest.raises(MissingData, match=r"soups-train: no imagenet_98_idxs\.npy"):
        run(root, file, names=("soups-train",), fetch=False)


def test_a_ground_truth_of_fewer_images_is_another_devkit(root: Path) -> None:
    file, archives, _ = imagenet(root.parent)
    archives[f"{DEVKIT}.tar.gz"] = devkit([1, 2, 3])
    write_files(root, archives)
    with pytest.raises(DataError, match=r"ILSVRC2012_val_00000004\.JPEG: the devkit's ground truth has 3 images"):
        run(root, file, names=("val",))
    assert not (root / "imagenet/val").exists()


def test_an_archive_in_an_archive(root: Path) -> None:
    inner = gzip.compress(tar({name.removeprefix("pets/"): content for name, content in FILES.items()}))
    content = zipped({"pets/101.tar.gz": inner, "pets/Notes.txt": b"x"})
    file = write_dataset(root.parent, [archive("pets.zip", content, step="inner-archives")])
    (root / "pets.zip").write_bytes(content)
    assert states(run(root, file)) == {"pets/test": ("yes", N)}
    assert held(root / "pets").keys() == {name.removeprefix("pets/") for name in FILES} | {"Notes.txt"}


def test_every_step_and_split_that_a_data_set_file_names_is_there() -> None:
    from robustbench_ft.prepare_steps import STEPS

    for name in datafiles.names():
        found = datafiles.load(name)
        for entry in found.archives:
            assert not entry.step or entry.step in STEPS, (name, entry.file)
            assert set(entry.splits) <= set(found.splits), (name, entry.file)
            assert not Path(entry.into).is_absolute() and ".." not in Path(entry.into).parts, (name, entry.file)
            assert all(sum.partition(":")[0] in ("sha256", "md5", "git") for sum in entry.checksums), (name, entry.file)


def test_what_was_unpacked_is_noted_until_it_is_gone(root: Path) -> None:
    content = tar(FILES)
    file = write_dataset(root.parent, [archive("pets.tar", content)])
    (root / "pets.tar").write_bytes(content)
    run(root, file)
    assert json.loads((root / UNPACKED).read_text()) == {"pets.tar": ["pets"]}
    shutil.rmtree(root / "pets")
    assert placing.unpacked(root) == {}
    assert states(run(root, file)) == {"pets/test": ("yes", N)}
