from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniatures import lists
from miniatures.folders import write_shards
from open_clip.transform import PreprocessCfg
from PIL import Image

from robustbench_ft import datafiles, suites
from robustbench_ft.datasets import open_spec
from robustbench_ft.errors import DataError, MissingData, UnknownName, UsageError
from robustbench_ft.preprocess import Preprocess
from robustbench_ft.specs import DatasetSpec

ALL = ("dtd", "food101", "sun397", "eurosat", "resisc45", "rendered-sst2")


def spec(dataset: str, split: str = "test", **fields: Any) -> DatasetSpec:
    """The real data set file's, with the miniature's size; the lists of miniatures have no official checksum."""
    of = datafiles.load(dataset)
    return DatasetSpec.model_validate(of.table(split)).model_copy(update={"checksums": ()} | fields)


def ids(found: Any) -> list[str]:
    return list(found.ids)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All miniatures in one data folder; tests that damage one write their own."""
    root = tmp_path_factory.mktemp("data")
    for dataset in ALL:
        getattr(lists, f"write_{dataset.replace('-', '_')}")(root)
    return root


@pytest.mark.parametrize(
    ("dataset", "sizes", "first"),
    [
        ("dtd", (94, 94, 94), "images/banded/banded_0006.jpg"),
        ("food101", (909, 101, 202), "images/apple_pie/1012719.jpg"),
        ("sun397", (3573, 397, 794), "a/abbey/sun_000000000000000a.jpg"),
        ("eurosat", (20, 20, 20), "AnnualCrop/AnnualCrop_5.jpg"),
        ("resisc45", (90, 90, 90), "airplane/airplane_005.jpg"),
        ("rendered-sst2", (4, 4, 4), "test/negative/0.png"),
    ],
)
def test_splits_share_out_the_images_under_their_official_paths(
    written: Path, tmp_path: Path, dataset: str, sizes: tuple[int, ...], first: str
) -> None:
    found = {
        split: open_spec(spec(dataset, split, n=n), written, tmp_path)
        for split, n in zip(("train", "val", "test"), sizes, strict=True)
    }
    assert found["test"].ids[0] == first and all(one.aligned for one in found.values())
    assert all(ids(one) == sorted(one.ids, key=str.encode) for one in found.values())
    every = [key for one in found.values() for key in one.ids]
    assert len(set(every)) == len(every)
    classes = spec(dataset).classes
    for one in found.values():
        assert np.bincount(one.labels, minlength=len(classes)).tolist() == [len(one) // len(classes)] * len(classes)


@pytest.mark.parametrize("dataset", ALL)
def test_labels_follow_the_class_table_and_images_are_those_of_the_files(written: Path, tmp_path: Path, dataset: str) -> None:
    size = {"dtd": 94, "food101": 202, "sun397": 794, "eurosat": 20, "resisc45": 90, "rendered-sst2": 4}[dataset]
    wanted = spec(dataset, n=size)
    found = open_spec(wanted, written, tmp_path)
    stem = {"dtd": "dtd", "food101": "food-101", "sun397": "SUN397", "eurosat": "eurosat/2750"}
    base = written / (stem | {"resisc45": "resisc45/NWPU-RESISC45", "rendered-sst2": "rendered-sst2"})[dataset]
    for place in range(0, size, max(1, size // 20)):
        assert f"/{wanted.folders[found.labels[place]]}/" in f"/{found.ids[place]}"
        with Image.open(base / found.ids[place]) as image:
            np.testing.assert_array_equal(np.asarray(found.image(place).convert("RGB")), np.asarray(image.convert("RGB")))


def test_a_list_in_another_order_with_other_line_ends_gives_the_same_set(written: Path, tmp_path: Path) -> None:
    lists.write_eurosat(tmp_path)
    path = tmp_path / "eurosat/eurosat-test.txt"
    lines = sorted(path.read_text().splitlines())
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\r\n\r\n")
    assert open_spec(spec("eurosat", n=20), tmp_path, tmp_path / "store").digest == (
        open_spec(spec("eurosat", n=20), written, tmp_path / "store").digest
    )


def test_names_are_clip_s_matched_by_meaning_and_not_by_order() -> None:
    eurosat, sun = spec("eurosat"), spec("sun397")
    assert dict(zip(eurosat.folders, eurosat.classes, strict=True))["HerbaceousVegetation"] == "brushland or shrubland"
    assert eurosat.classes[0] == "annual crop land" and eurosat.classes[1] == "forest"  # CLIP's list begins with forest
    names = dict(zip(sun.folders, sun.classes, strict=True))
    assert (names["j/jail/indoor"], names["j/jail_cell"]) == ("jail indoor", "jail cell")  # CLIP's order: cell, indoor
    assert names["c/church/outdoor"] == "church outdoor" and len(names) == 397
    assert {name: len(spec(name).templates) for name in ALL} == {
        "dtd": 8, "food101": 1, "sun397": 2, "eurosat": 3, "resisc45": 18, "rendered-sst2": 1,
    }  # fmt: skip


def test_names_and_prompts_agree_with_clip_benchmark() -> None:
    import json

    folder = lists.SAMPLES.parent / "metadata" / "clip-benchmark"
    if not folder.is_dir():
        pytest.skip("shared/data/metadata/clip-benchmark is not here")
    names = json.loads((folder / "en_classnames.json").read_text())
    prompts = json.loads((folder / "en_zeroshot_classification_templates.json").read_text())
    assert list(spec("eurosat").classes) == names["eurosat"]
    for ours, theirs in [("dtd", "dtd"), ("food101", "food101"), ("sun397", "sun397"), ("eurosat", "eurosat")]:
        assert list(spec(ours).templates) == [line.replace("{c}", "{}") for line in prompts[theirs]]


def test_sun397_s_disguised_files_are_decoded_by_content(written: Path, tmp_path: Path) -> None:
    found = open_spec(spec("sun397", n=794), written, tmp_path)
    heads = {(written / "SUN397" / key).read_bytes()[:2]: place for place, key in enumerate(found.ids)}
    assert {b"\x89P", b"GI", b"BM"} <= set(heads)
    transform = Preprocess(PreprocessCfg(size=32))
    for place in heads.values():
        assert transform.eval(found.image(place)).shape == (3, 32, 32)


def test_an_image_that_is_none_is_named(tmp_path: Path) -> None:
    lists.write_eurosat(tmp_path)
    path = tmp_path / "eurosat/2750/River/River_5.jpg"
    path.write_bytes(path.read_bytes()[:200])
    found = open_spec(spec("eurosat", n=20), tmp_path, tmp_path / "store")
    with pytest.raises(DataError, match="River_5.jpg cannot be decoded"):
        found.image(ids(found).index("River/River_5.jpg"))


def test_another_partition_is_another_set_and_another_protocol(written: Path, tmp_path: Path) -> None:
    first = spec("sun397", n=794)
    other = first.model_copy(update={"options": {"list": "../Partitions/Training_02.txt"}})
    assert open_spec(first, written, tmp_path).digest == open_spec(other, written, tmp_path).digest
    assert first.decisive() != other.decisive()
    swapped = first.model_copy(update={"options": {"list": "../Partitions/Testing_02.txt"}, "n": 3970})
    assert not set(open_spec(swapped, written, tmp_path).ids) & set(open_spec(first, written, tmp_path).ids)


@pytest.mark.parametrize("place", ["SUN397/Partitions", "SUN397", "Partitions", "."])
def test_sun397_s_lists_are_found_where_people_put_them(written: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "data").mkdir()
    shutil.copytree(written / "SUN397", tmp_path / "data/SUN397", copy_function=shutil.copyfile)
    shutil.copytree(written / "Partitions", tmp_path / "data" / place, dirs_exist_ok=True)
    assert len(open_spec(spec("sun397", n=794), tmp_path / "data", tmp_path)) == 794


def test_torchvision_s_outer_folder_is_found_and_ids_stay_official(written: Path, tmp_path: Path) -> None:
    shutil.copytree(written / "dtd", tmp_path / "dtd/dtd")
    found, official = (open_spec(spec("dtd", n=94), root, tmp_path / "store") for root in (tmp_path, written))
    assert found.digest == official.digest


@pytest.mark.parametrize(
    ("dataset", "lost", "source"),
    [
        ("dtd", "dtd/labels/test1.txt", "dtd-r1.0.1.tar.gz"),
        ("sun397", "Partitions/Testing_01.txt", "Partitions.zip"),
        ("eurosat", "eurosat/eurosat-test.txt", "torchgeo/eurosat"),
        ("resisc45", "resisc45/resisc45-test.txt", "isaaccorley/resisc45"),
    ],
)
def test_a_missing_list_is_named_with_its_source(tmp_path: Path, dataset: str, lost: str, source: str) -> None:
    getattr(lists, f"write_{dataset}")(tmp_path)
    (tmp_path / lost).unlink()
    with pytest.raises(MissingData) as caught:
        open_spec(spec(dataset), tmp_path, tmp_path / "store")
    assert f"not {Path(lost).name}, the list" in str(caught.value) and str(tmp_path / lost) in str(caught.value)
    assert source in str(caught.value) and caught.value.hint == f"rbft data prepare {dataset} --data {tmp_path}"


def test_missing_data_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="dtd: nothing at .*dtd/images or .*dtd/dtd/images"):
        open_spec(spec("dtd"), tmp_path, tmp_path)


def test_lists_are_checked_by_their_md5(tmp_path: Path) -> None:
    lists.write_resisc45(tmp_path)
    path = tmp_path / "resisc45/resisc45-test.txt"
    official = datafiles.load("resisc45").table("test")["checksums"]
    with pytest.raises(DataError, match=r"resisc45-test.txt is not the official file.*expected 3dda9e49"):
        open_spec(spec("resisc45", n=90, checksums=tuple(map(tuple, official))), tmp_path, tmp_path / "store")
    own = (("resisc45-test.txt", f"md5:{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}"),)
    assert len(open_spec(spec("resisc45", n=90, checksums=own), tmp_path, tmp_path / "store")) == 90


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "2750/River/River_5.jpg").unlink(), "1 of 20 images are missing, the first is River/River_5.jpg"),
        (lambda f: (f / "2750/River/River_5.jpg").rename(f / "2750/Forest/River_5.jpg"), "missing, the first is River/River_5"),
        (lambda f: shutil.rmtree(f / "2750/River"), "no River; expected 10 class folders"),
        (lambda f: (f / "2750/Rivers").mkdir(), "unknown Rivers; expected 10 class folders"),
        (lambda f: [p.unlink() for p in (f / "2750/River").iterdir()], "empty River; expected 10 class folders"),
    ],
)
def test_damaged_folders_are_named(tmp_path: Path, damage: Any, message: str) -> None:
    lists.write_eurosat(tmp_path)
    before = open_spec(spec("eurosat", n=20), tmp_path, tmp_path / "store")  # keeps an index, which the damage makes stale
    damage(tmp_path / "eurosat")
    with pytest.raises(DataError, match=message) as caught:
        open_spec(spec("eurosat", n=20), tmp_path, tmp_path / "store")
    assert caught.value.hint == f"rbft data verify eurosat --data {tmp_path}" and len(before) == 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [*lines, "Ocean_1.jpg"], "line 21: Ocean_1.jpg is in none of the 10 class folders"),
        (lambda lines: [*lines, "River_5.jpg"], "line 21: River_5.jpg stands there twice"),
        (lambda lines: [line for line in lines if "River" not in line], "no image of River; expected some of all 10"),
        (lambda lines: lines[:-1], "19 examples, expected 20"),
        (lambda lines: [*lines, "River_9.jpg"], "1 of 21 images are missing"),
    ],
)
def test_damaged_lists_are_named(tmp_path: Path, change: Any, message: str) -> None:
    lists.write_eurosat(tmp_path)
    path = tmp_path / "eurosat/eurosat-test.txt"
    path.write_text("\n".join(change(path.read_text().split())) + "\n")
    with pytest.raises(DataError, match=message):
        open_spec(spec("eurosat", n=20), tmp_path, tmp_path / "store")


def test_images_of_no_list_are_passed_over_and_nested_strangers_are_not(written: Path, tmp_path: Path) -> None:
    shutil.copytree(written / "dtd", tmp_path / "dtd")
    (tmp_path / "dtd/images/banded/banded_9999.jpg").write_bytes(lists.photographs()[0])
    (tmp_path / "dtd/images/.DS_Store").write_bytes(b"")
    assert len(open_spec(spec("dtd", n=94), tmp_path, tmp_path / "store")) == 94
    lists.write_sun397(tmp_path, train=1, test=1)
    (tmp_path / "SUN397/c/church/ruined").mkdir()
    with pytest.raises(DataError, match="unknown c/church/ruined; expected 397 class folders"):
        open_spec(spec("sun397", n=397), tmp_path, tmp_path / "store")


def test_a_mirror_in_shards_is_read_unaligned(tmp_path: Path) -> None:
    classes = spec("food101").folders
    examples = [(f"s{label:04d}.jpg", label, lists.photographs()[label % 5]) for label in range(len(classes))]
    write_shards(tmp_path / "wds_food101/test", examples, per_shard=40)
    found = open_spec(spec("food101", n=101), tmp_path, tmp_path / "store")
    assert not found.aligned and found.labels.tolist() == list(range(101))


def test_options_are_checked(written: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="lists"):
        open_spec(spec("dtd", options={"lists": "x"}), written, tmp_path)
    with pytest.raises(UsageError, match="needs the option list"):
        open_spec(spec("dtd", options={}), written, tmp_path)


@pytest.mark.parametrize("name", [*ALL, "caltech101"])
def test_the_suites_are_of_these_sets_and_have_no_headline_shift(name: str) -> None:
    suite = suites.load(name)
    assert suite.test.name == name and not suite.headline_shifts and suite.start == "ViT-B-16:openai"
    assert suite.train.dataset == suite.val.dataset == suite.test.dataset == name
    assert suite.classes == suite.test.classes and suite.templates == suite.test.templates and suite.test.class_groups is None


@pytest.mark.parametrize(("name", "per_class", "train"), [("food101", 49, 75_750), ("sun397", 5, 19_850)])
def test_sizes_of_the_carved_sets_follow_the_rule(name: str, per_class: int, train: int) -> None:
    suite, classes = suites.load(name), len(suites.load(name).classes)
    assert per_class == min(train // 10, 5000) // classes
    assert suite.val.n == per_class * classes and suite.train.n + suite.val.n == train
    assert suite.val.part == "val" and suite.train.part == "train" and suite.val.split == suite.train.split == "train"
