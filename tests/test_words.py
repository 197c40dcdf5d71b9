"""Class names, templates and groups against other sources: open_clip, timm, the archives' own metadata, the testbed's sizes."""

from __future__ import annotations

import csv
import json
from importlib.resources import files
from itertools import chain
from pathlib import Path

import open_clip
import pytest

from robustbench_ft import baselines, datafiles, suites, words
from robustbench_ft.errors import UnknownName, UsageError
from robustbench_ft.files import DATA
from robustbench_ft.specs import Groups

SHARED = Path(__file__).parents[2] / "shared" / "data"
OBJECTNET = SHARED / "metadata" / "objectnet"
TESTBED = SHARED / "imagenet-testbed" / "robustness_top1s.csv"
TABLES = sorted(path.stem for path in (DATA / "classes").glob("*.csv"))


def groups_of(name: str) -> Groups:
    found = suites.load("imagenet").spec(name).class_groups
    assert found is not None
    return found


def timm_list(name: str) -> list[str]:
    """A list of timm's: one of ids or indices a line."""
    return (files("timm.data._info") / name).read_text().split()


def test_imagenet_s_names_and_templates_are_open_clip_s() -> None:
    imagenet = suites.load("imagenet")
    assert list(imagenet.classes) == list(open_clip.IMAGENET_CLASSNAMES)
    ours = [words.prompt(template, "thing") for template in imagenet.templates]
    assert ours == [template("thing") for template in open_clip.OPENAI_IMAGENET_TEMPLATES] and len(ours) == 80


def test_imagenet_s_folders_are_the_sorted_wordnet_ids() -> None:
    folders = [row.folder for row in words.class_table("imagenet")]
    assert folders == sorted(folders) == timm_list("imagenet_synsets.txt") and len(folders) == 1000


def test_two_names_stand_twice_so_that_names_are_no_key() -> None:
    names = [row.name for row in words.class_table("imagenet")]
    assert {name: [k for k, one in enumerate(names) if one == name] for name in names if names.count(name) > 1} == {
        "missile": [657, 744],
        "sunglasses": [836, 837],
    }


@pytest.mark.parametrize("name", ["imagenet-a", "imagenet-r"])
def test_the_200_classes_are_those_of_the_official_folders_and_of_the_index_lists(name: str) -> None:
    stem = name.replace("-", "_")
    rows = words.class_table(name)
    assert [row.folder for row in rows] == sorted(timm_list(f"{stem}_synsets.txt")) and len(rows) == 200
    assert groups_of(name) == tuple((int(index),) for index in timm_list(f"{stem}_indices.txt"))
    full = {row.folder: row.name for row in words.class_table("imagenet")}
    assert all(row.name == full[row.folder] for row in rows)


def test_a_and_r_share_86_classes() -> None:
    a, r = (set(groups_of(name)) for name in ("imagenet-a", "imagenet-r"))
    assert len(a & r) == 86


def test_objectnet_is_113_groups_over_125_ids() -> None:
    groups, rows = groups_of("objectnet"), words.class_table("objectnet")
    sizes = [len(group) for group in groups]
    assert len(groups) == 113 and [sizes.count(k) for k in (1, 2, 3)] == [104, 6, 3]
    assert len(set(chain(*groups))) == sum(sizes) == 125, "no id counts for two classes"
    three = {row.name: group for row, group in zip(rows, groups, strict=True) if len(group) == 3}
    assert three == {"chair": (423, 559, 765), "pen": (418, 563, 749), "skirt": (601, 655, 689)}
    assert [row.folder for row in rows] == sorted((row.folder for row in rows), key=str.encode)


@pytest.mark.skipif(not OBJECTNET.is_dir(), reason="shared/data/metadata/objectnet is not there")
def test_objectnet_s_table_follows_from_the_archive_s_mappings() -> None:
    def load(name: str) -> dict[str, str]:
        found: dict[str, str] = json.loads((OBJECTNET / name).read_text())
        return found

    labels, shared = load("folder_to_objectnet_label.json"), load("objectnet_to_imagenet_1k.json")
    rows = words.class_table("objectnet")
    assert {row.folder: row.name for row in rows} == {f: label.lower() for f, label in labels.items() if label in shared}
    line = {text.strip(): k for k, text in enumerate((OBJECTNET / "imagenet_to_label_2012_v2").read_text().splitlines())}
    index = {number: int(key) for key, number in load("pytorch_to_imagenet_2012_id.json").items()}
    for row, group in zip(rows, groups_of("objectnet"), strict=True):
        assert sorted(group) == sorted(index[line[text]] for text in shared[labels[row.folder]].split("; "))  # type: ignore[index]


@pytest.mark.skipif(not OBJECTNET.is_dir(), reason="shared/data/metadata/objectnet is not there")
def test_objectnet_s_groups_are_those_of_the_organisers_small_map() -> None:
    labels = json.loads((OBJECTNET / "folder_to_objectnet_label.json").read_text())
    by_position = sorted(labels.values())
    found: dict[str, set[int]] = {}
    for index, position in json.loads((OBJECTNET / "imagenet_pytorch_id_to_objectnet_id.json").read_text()).items():
        found.setdefault(by_position[position], set()).add(int(index))
    rows = words.class_table("objectnet")
    ours = {labels[row.folder]: set(group) for row, group in zip(rows, groups_of("objectnet"), strict=True)}
    assert ours == found


MATCHED = {"imagenet-a": 10_000, "imagenet-r": 10_000, "objectnet": 6_250}


@pytest.mark.parametrize("name", MATCHED)
def test_val_on_a_shift_s_classes_has_as_many_images_as_the_testbed_s(name: str) -> None:
    """ImageNet's val has 50 images of each class."""
    assert 50 * len(set(chain(*groups_of(name)))) == MATCHED[name]
    assert baselines.load("imagenet-testbed@1").size(f"imagenet-val/{name}") == MATCHED[name]


@pytest.mark.skipif(not TESTBED.is_file(), reason="shared/data/imagenet-testbed is not there")
@pytest.mark.parametrize("name", MATCHED)
def test_the_testbed_s_accuracies_are_counts_of_that_many_images(name: str) -> None:
    with open(TESTBED) as file:
        values = [row[f"val-on-{name}-classes"] for row in csv.DictReader(file)]
    shares = [float(value) / 100 for value in values if value]
    assert len(shares) > 300
    assert all(abs(share * MATCHED[name] - round(share * MATCHED[name])) < 5e-3 for share in shares)


@pytest.mark.parametrize("name", TABLES)
def test_no_table_has_a_folder_twice_or_says_not_where_it_comes_from(name: str) -> None:
    folders = [row.folder for row in words.class_table(name)]
    assert len(set(folders)) == len(folders) and (DATA / "classes" / f"{name}.csv").read_text().startswith("# ")


@pytest.mark.parametrize("name", datafiles.names())
def test_every_split_has_a_folder_for_each_class_and_says_where_its_names_come_from(name: str) -> None:
    found = datafiles.load(name)
    assert found.names_from and found.source and found.licence
    assert {split for archive in found.archives for split in archive.splits} <= found.splits.keys()
    for spec in found.specs():
        assert len(spec.folders) == len(spec.classes) and spec.templates


def test_a_group_that_names_no_class_of_the_suite_is_refused() -> None:
    rows = (words.ClassRow("here", "here", ("there",)),)
    with pytest.raises(UsageError, match="x: class 'here' counts 'there', which is no class of the suite"):
        words.groups(rows, words.class_table("imagenet"), "x")


def test_a_table_of_one_s_own_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("# mine\nfolder,name,group\na,an a,x y\nb,,\n")
    with pytest.raises(UsageError, match="row 2 lacks folder or name"):
        words.class_table("mine.csv", tmp_path)
    (tmp_path / "good.csv").write_text("# mine\nfolder,name,group\na,an a,x y\nb,a b,\n")
    assert words.class_table("good.csv", tmp_path) == (
        words.ClassRow("a", "an a", ("x", "y")),
        words.ClassRow("b", "a b", ()),
    )
    with pytest.raises(UsageError, match="no class table at"):
        words.class_table("none.csv", tmp_path)
    with pytest.raises(UnknownName, match="imagenet"):
        words.class_table("imagnet")


def test_an_article_fits_the_name_and_names_lose_their_underscores_with_it() -> None:
    assert words.prompt("a photo of a {}.", "amusement_park") == "a photo of a amusement_park."
    assert words.prompt("a photo of {a}.", "amusement_park") == "a photo of an amusement park."
    assert words.prompt("{a}", "zoo") == "a zoo"
