from __future__ import annotations

import gzip
import json
import pickle
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniatures.folders import encoded, write_class_folders, write_parquet, write_shards, write_tar
from torch.utils.data import DataLoader

from robustbench_ft import datafiles
from robustbench_ft.datasets import ImageSet, content_digest, open_spec, parquet, tar_shards
from robustbench_ft.errors import DataError, MissingData, UsageError
from robustbench_ft.specs import DatasetSpec

pytest.importorskip("pyarrow")
CLASSES, FOLDERS = ("tench", "goldfish", "great white shark"), ("n01", "n02", "n03")
Examples = list[tuple[str, int, bytes]]
VAL = Path(__file__).parents[2] / "shared/data/answer-keys/imagenet_val_set_index_to_filepath.json.gz"


def spec(**fields: Any) -> DatasetSpec:
    base: dict[str, Any] = {
        "name": "made-up", "n": 6, "format": "class_folders", "path": "place", "split": "val", "classes": CLASSES,
        "folders": FOLDERS, "options": {"folder": "val|val_dirs", "id": "val", "mirror": "val|test"}, "source": "nowhere",
    }  # fmt: skip
    return DatasetSpec.model_validate(base | fields)


@pytest.fixture
def official(tmp_path: Path) -> ImageSet:
    """The set as it is handed out."""
    write_class_folders(tmp_path / "official" / "place" / "val", FOLDERS)
    return open_spec(spec(), tmp_path / "official", tmp_path / "official-store")


def examples(official: ImageSet) -> Examples:
    """The official examples in the shuffled order of a mirror: (file name, label, content)."""
    order = np.random.default_rng(1).permutation(len(official)).tolist()
    folder = official.image.folder  # type: ignore[attr-defined]
    paths = [folder / official.ids[i].removeprefix("val/") for i in order]
    return [(path.name, int(official.labels[i]), path.read_bytes()) for i, path in zip(order, paths, strict=True)]


def shards(root: Path, rows: Examples) -> None:
    write_shards(root / "place" / "test", rows, per_shard=2)


def tables(root: Path, rows: Examples) -> None:
    write_parquet(root / "place" / "data", "val", rows)


def read(root: Path, **fields: Any) -> ImageSet:
    return open_spec(spec(**fields), root, root / "store")


@pytest.mark.parametrize("write", [shards, tables])
def test_a_mirror_that_kept_the_names_is_the_official_set(
    write: Callable[[Path, Examples], None], official: ImageSet, tmp_path: Path
) -> None:
    write(tmp_path, examples(official))
    found = read(tmp_path, digest=official.digest)
    assert found.aligned and found.ids == official.ids and found.labels.tolist() == official.labels.tolist()
    for i in range(6):
        np.testing.assert_array_equal(np.asarray(found.image(i)), np.asarray(official.image(i)))


@pytest.mark.parametrize("write", [shards, tables])
def test_without_a_digest_that_says_so_a_mirror_is_not_aligned(
    write: Callable[[Path, Examples], None], official: ImageSet, tmp_path: Path
) -> None:
    rows = examples(official)
    write(tmp_path, rows)
    for digest in (None, "0" * 64):
        found = read(tmp_path, digest=digest)
        assert not found.aligned and list(found.ids) == [f"val/{k}" for k in range(6)]
        assert found.labels.tolist() == [label for _, label, _ in rows]
        assert found.digest != content_digest(found.ids, found.labels), "no two mirrors are taken for each other"
        assert found.subset(found.labels > 0).digest != content_digest(["val/0"], found.labels[:1])
    again = read(tmp_path, digest="0" * 64)
    assert not again.aligned and again.digest == found.digest, "kept in the index"


def test_other_suffixes_and_names_with_the_class_put_behind_are_undone(official: ImageSet, tmp_path: Path) -> None:
    rows = examples(official)
    write_parquet(tmp_path / "place", "val", [(f"x/{name[:-5]}_{FOLDERS[k]}.JPEG", k, data) for name, k, data in rows])
    write_shards(tmp_path / "b" / "place" / "val", [(f"{name[:-5]}.jpg", k, data) for name, k, data in rows])
    for root in (tmp_path, tmp_path / "b"):
        assert read(root, digest=official.digest).ids == official.ids


def test_a_carved_part_of_a_mirror_is_aligned_by_the_part_s_digest(official: ImageSet, tmp_path: Path) -> None:
    fields = {"part": "val", "val_per_class": 1, "n": 3}
    part = open_spec(spec(**fields), tmp_path / "official", tmp_path / "store")
    shards(tmp_path, examples(official))
    found = read(tmp_path, digest=part.digest, **fields)
    assert found.aligned and found.ids == part.ids


def test_formats_can_be_named_and_shards_lie_beside_other_splits_in_the_order_of_their_numbers(
    official: ImageSet, tmp_path: Path
) -> None:
    rows = examples(official)
    for number, k in ((2, 0), (10, 1)):
        name, label, content = rows[k]
        write_tar(
            tmp_path / f"place/made-up-val-{number}.tar", [("a/" + name, content), (f"a/{name[:-5]}.cls.txt", b"%d" % label)]
        )
    write_tar(tmp_path / "place/made-up-train-0.tar", [("other.jpg", b"")])
    (tmp_path / "place/ILSVRC2012_img_val.tar").write_bytes(b"the official archive is no shard")
    found = read(tmp_path, format="tar_shards", options={"id": "val"}, n=2)
    assert found.labels.tolist() == [rows[0][1], rows[1][1]]
    np.testing.assert_array_equal(np.asarray(found.image(1)), np.asarray(tar_shards_decode(rows[1][2])))
    with pytest.raises(MissingData, match="no parquet of val in"):
        read(tmp_path, format="parquet", options={})
    with pytest.raises(MissingData, match="no tar shards of test in"):
        read(tmp_path, format="tar_shards", options={"mirror": "test"})
    with pytest.raises(UsageError, match="'folder'"):
        read(tmp_path, format="tar_shards")


def tar_shards_decode(content: bytes) -> Any:
    return tar_shards.decoded(content, "")


def test_keys_with_dots_and_labels_in_json(tmp_path: Path) -> None:
    members = [
        ("0.1_digital clock_0.86.png", encoded(1, ".png")), ("0.1_digital clock_0.86.json", json.dumps({"label": 2}).encode()),
        ("0.2_wall clock_0.99.webp", encoded(2, ".webp")), ("0.2_wall clock_0.99.cls", b"1\n"),
        ("0.2_wall clock_0.99.json", b"{}"),
        ("0.2_wall clock_0.99.txt", b"a caption"),
    ]  # fmt: skip
    write_tar(tmp_path / "place" / "val" / "0.tar", members)
    assert read(tmp_path, n=2).labels.tolist() == [2, 1]


def test_class_names_in_another_order_are_translated(official: ImageSet, tmp_path: Path) -> None:
    rows = examples(official)
    theirs = [(name, 2 - label, data) for name, label, data in rows]
    write_shards(tmp_path / "a" / "place" / "test", theirs)
    (tmp_path / "a" / "place" / "classnames.txt").write_text("\n".join(reversed(CLASSES)) + "\n")
    write_parquet(tmp_path / "b" / "place" / "data", "test", theirs, names=FOLDERS[::-1])
    for root in (tmp_path / "a", tmp_path / "b"):
        assert read(root, digest=official.digest).aligned
    (tmp_path / "a" / "place" / "classnames.txt").write_text("tench\ngoldfish\n")
    with pytest.raises(DataError, match=r"classnames\.txt has 2 class names, expected 3"):
        read(tmp_path / "a", digest="1" * 64)


def rewrite(shard: Path, edit: Callable[[str, bytes], list[tuple[str, bytes]]]) -> None:
    with tarfile.open(shard) as archive:
        members = [(member.name, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]
    write_tar(shard, [pair for name, content in members for pair in edit(name, content)])


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def end_of_last_member(path: Path) -> int:
    with tarfile.open(path) as archive:
        archive.getmembers()
        return archive.offset


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "1.tar").unlink(), "2 tar shards, expected 3 as nshards.txt says"),
        (lambda f: cut(f / "1.tar", 2000), r"1\.tar is truncated"),
        (lambda f: cut(f / "1.tar", end_of_last_member(f / "1.tar")), r"1\.tar is truncated.*no mark of its end"),
        (lambda f: (f / "1.tar").write_bytes(b""), r"1\.tar is truncated"),
        (lambda f: rewrite(f / "2.tar", lambda n, c: [] if n.endswith(".cls") else [(n, c)]), "2.tar: key .* has no label"),
        (lambda f: rewrite(f / "2.tar", lambda n, c: [(n, c)] if n.endswith(".cls") else []), "2.tar: key .* has no image"),
        (lambda f: rewrite(f / "2.tar", lambda n, c: [(n, c), (n, c)]), "2.tar: key .* is there twice"),
        (lambda f: rewrite(f / "2.tar", lambda n, c: [(n, b"3" if n.endswith(".cls") else c)]), "label 3 is not one of 0 to 2"),
        (lambda f: rewrite(f / "2.tar", lambda n, c: [(n, b"cat" if n.endswith(".cls") else c)]), "holds no label: b'cat'"),
        (lambda f: shutil.copy(f / "0.tar", f / "2.tar"), r"2\.tar: key .* is in an earlier shard too"),
        (lambda f: (f / "0.tar").rename(f / "n01.tar"), r"n01\.tar is the archive of one class"),
        (lambda f: damage_header(f / "0.tar"), r"0\.tar is truncated"),
    ],
)
def test_damaged_shards_are_named(damage: Callable[[Path], None], message: str, official: ImageSet, tmp_path: Path) -> None:
    shards(tmp_path, examples(official))
    damage(tmp_path / "place" / "test")
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def damage_header(path: Path) -> None:
    """tarfile takes a broken header in the middle for the end of the archive."""
    with tarfile.open(path) as archive:
        second = archive.getmembers()[1].offset
    content = bytearray(path.read_bytes())
    content[second + 148 : second + 154] = b"999999"
    path.write_bytes(content)


def test_a_replaced_shard_and_a_new_one_are_noticed(official: ImageSet, tmp_path: Path) -> None:
    rows = examples(official)
    shards(tmp_path, rows)
    first = read(tmp_path)
    folder = tmp_path / "place" / "test"
    for shard in folder.iterdir():
        shard.unlink()
    shards(tmp_path, rows[::-1])
    assert read(tmp_path).labels.tolist() == first.labels.tolist()[::-1]
    write_tar(folder / "3.tar", [("new.jpg", encoded(1)), ("new.cls", b"0")])
    (folder / "nshards.txt").write_text("4")
    with pytest.raises(DataError, match="7 examples, expected 6"):
        read(tmp_path)


def test_broken_images_in_mirrors_are_named(official: ImageSet, tmp_path: Path) -> None:
    rows = examples(official)
    rows[1] = (rows[1][0], rows[1][1], rows[1][2][:-400])
    shards(tmp_path / "a", rows)
    tables(tmp_path / "b", rows)
    for root, name in (
        (tmp_path / "a", rf"0\.tar: {rows[1][0]}"),
        (tmp_path / "b", r"00000-of-00002\.parquet: row 1 of group 0"),
    ):
        with pytest.raises(DataError, match=f"{name} cannot be decoded"):
            read(root).image(1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "val-00001-of-00002.parquet").unlink(), r"val-00001-of-00002\.parquet is missing"),
        (lambda f: shutil.copy(f / "val-00001-of-00002.parquet", f / "val-00000-of-00003.parquet"), "is missing|does not belong"),
        (lambda f: cut(f / "val-00001-of-00002.parquet", 500), r"val-00001-of-00002\.parquet is truncated"),
        (lambda f: write_parquet(f, "val", [("a", 0, b""), ("b", 3, b"")]), "label 3 is not one of 0 to 2"),
        (lambda f: write_parquet(f, "val", [("a", 0, b""), ("b", -1, b"")]), "label -1 is not one of 0 to 2"),
        (lambda f: write_parquet(f, "val", [("a", 0, b""), ("b", None, b"")]), "is truncated, or no parquet with"),
        (lambda f: other_columns(f / "val-00000-of-00002.parquet"), "no parquet with the columns image .* and label"),
    ],
)
def test_damaged_parquet_is_named(damage: Callable[[Path], None], message: str, official: ImageSet, tmp_path: Path) -> None:
    tables(tmp_path, examples(official))
    damage(tmp_path / "place" / "data")
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def other_columns(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"img": [b""], "fine_label": [0]}), path)


def test_parquet_holds_few_row_groups_and_any_order_works(
    official: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = examples(official)
    write_parquet(tmp_path / "place", "val", rows, files=1)
    found, opened = read(tmp_path), []
    monkeypatch.setattr(parquet, "GROUPS", 2)
    column = parquet._column
    monkeypatch.setattr(parquet, "_column", lambda path, group: (opened.append(group), column(path, group))[1])
    for i in (0, 1, 2, 3, 1, 4, 5, 0, 2):
        np.testing.assert_array_equal(np.asarray(found.image(i)), np.asarray(tar_shards_decode(rows[i][2])))
    assert opened == [0, 1, 2, 1] and len(found.image._held) == 2  # type: ignore[attr-defined]
    assert not pickle.loads(pickle.dumps(found.image))._held  # type: ignore[attr-defined]


class _Pixels:
    def __init__(self, images: ImageSet) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return np.array(self.images.image(index))


@pytest.mark.parametrize("write", [shards, tables])
def test_workers_read_what_the_main_process_reads(
    write: Callable[[Path, Examples], None], official: ImageSet, tmp_path: Path
) -> None:
    rows = examples(official)
    write(tmp_path, rows)
    found = read(tmp_path)
    found.image(0)
    batches = list(DataLoader(_Pixels(found), 1, num_workers=2))  # type: ignore[arg-type]
    for (_, _, content), batch in zip(rows, batches, strict=True):
        np.testing.assert_array_equal(batch[0].numpy(), np.asarray(tar_shards_decode(content)))


def test_without_pyarrow_the_extra_is_named(official: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables(tmp_path, examples(official))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UsageError, match="needs pyarrow") as caught:
        read(tmp_path)
    assert caught.value.hint == "pip install 'robustbench-ft[parquet]'"


@pytest.mark.skipif(not VAL.is_file(), reason="needs the file names of ImageNet val in ../shared/data/answer-keys")
def test_the_names_of_imagenet_val_are_found_under_the_shipped_digest(tmp_path: Path) -> None:
    val = next(spec for spec in datafiles.load("imagenet").specs() if spec.name == "imagenet-val")
    paths = [path.split("/")[1:] for path in json.loads(gzip.decompress(VAL.read_bytes()))]
    rows = [(f"{name[:-5]}_{wnid}.JPEG", val.folders.index(wnid), b"") for wnid, name in paths]
    order = np.random.default_rng(0).permutation(len(rows)).tolist()
    write_parquet(tmp_path / val.path / "data", "validation", [rows[i] for i in order], files=14, per_group=1000)
    found = open_spec(val, tmp_path, tmp_path / "store")
    assert found.aligned and found.digest == val.digest and found.ids[0] == "val/n01440764/ILSVRC2012_val_00000293.JPEG"
