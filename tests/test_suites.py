from __future__ import annotations

import re
from pathlib import Path

import pytest

from robustbench_ft import datafiles, suites
from robustbench_ft.datasets import open_set, open_spec
from robustbench_ft.errors import DataError, UnknownName, UsageError
from robustbench_ft.specs import DatasetSpec, TestSet
from robustbench_ft.suites import Panel, Suite, Track

TEXT = """
name = "toy"
title = "Toy"
classes = ["a", "b", "c"]
templates = ["a photo of a {}"]
start = "mini-clip"
recipes = "mini"
baseline = "../toy@1.json"
[defaults]
format = "mini"
path = "7"
licence = "MIT"
[train]
name = "toy-train"
split = "train"
n = 10
[val]
name = "toy-val"
split = "val"
n = 5
[test]
name = "toy-test"
split = "test"
n = 4
[[shifts]]
name = "toy-v2"
split = "v2"
n = 3
digest = "abc"
class_groups = [[0, 2], [], [1]]
[[shifts]]
name = "toy-extra"
split = "sketch"
n = 2
licence = "other"
headline = false
"""


def parsed(folder: Path, text: str = TEXT) -> Suite:
    (folder / "toy.toml").write_text(text)
    return suites.load(str(folder / "toy.toml"))


@pytest.fixture
def toy(tmp_path: Path) -> Suite:
    return parsed(tmp_path)


def test_a_suite_file_says_what_a_suite_is(toy: Suite, tmp_path: Path) -> None:
    assert [spec.name for spec in toy.tests] == ["toy-test", "toy-v2", "toy-extra"]
    assert [spec.name for spec in toy.headline_shifts] == ["toy-v2"]
    assert toy.shifts[0].class_groups == ((0, 2), (), (1,)) and toy.version == 1
    assert {spec.path for spec in (toy.train, toy.val, *toy.tests)} == {"7"}
    assert [spec.licence for spec in toy.tests] == ["MIT", "MIT", "other"]
    assert Path(str(toy.baseline)) == tmp_path / "../toy@1.json" and toy.file == tmp_path / "toy.toml"


def test_the_id_test_set_is_kept_under_every_grouping_of_the_shifts(toy: Suite) -> None:
    groups = ((0, 2), (), (1,))
    assert list(toy.groupings(toy.test)) == [("own", None), ("toy-v2", groups)]
    assert list(toy.groupings(toy.shifts[0])) == [("own", groups)]
    assert list(toy.groupings(toy.shifts[1])) == [("own", None)]


DECISIVE = {
    'name = "toy"': 'name = "toy2"',
    'title = "Toy"': 'title = "Toy"\nversion = 2',
    '["a", "b", "c"]': '["a", "c", "b"]',
    '"a photo of a {}"': '"a {}"',
    'start = "mini-clip"': 'start = "mini-clip"\npreprocessing = "other@1"',
    "n = 10": "n = 11",
    "n = 5": "n = 6",
    "n = 4": "n = 40",
    'digest = "abc"': 'digest = "abd"',
    "[[0, 2], [], [1]]": "[[0], [2], [1]]",
    "headline = false": "headline = true",
    'name = "toy-v2"': 'name = "toy-v3"',
}
FREE = {
    'title = "Toy"': 'title = "Another title"',
    'start = "mini-clip"': 'start = "ViT-B-32:openai"',
    'recipes = "mini"': 'recipes = "cifar"',
    'baseline = "../toy@1.json"': "",
    'path = "7"': 'path = "elsewhere"',
    'format = "mini"': 'format = "arrays"',
    'licence = "MIT"': 'licence = "none"\nsource = "there"',
}


@pytest.mark.parametrize("old", DECISIVE)
def test_the_protocol_changes_with_what_decides_a_score(old: str, toy: Suite, tmp_path: Path) -> None:
    assert TEXT.count(old) == 1
    assert parsed(tmp_path, TEXT.replace(old, DECISIVE[old])).protocol != toy.protocol


@pytest.mark.parametrize("old", FREE)
def test_the_protocol_stays_where_nothing_that_decides_a_score_changed(old: str, toy: Suite, tmp_path: Path) -> None:
    assert TEXT.count(old) == 1
    assert parsed(tmp_path, TEXT.replace(old, FREE[old])).protocol == toy.protocol


def test_the_protocol_changes_with_the_order_of_the_shifts(toy: Suite) -> None:
    assert toy.model_copy(update={"shifts": toy.shifts[::-1]}).protocol != toy.protocol


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('recipes = "mini"', "", "field recipes: Field required"),
        ('title = "Toy"', 'title = "Toy"\ncolour = "red"', "field colour: unknown field"),
        ("n = 5", 'n = "five"', r"field val\.n: .*integer"),
        ('name = "toy-v2"', "", r"field shifts\.0\.name: Field required"),
        ("headline = false", 'headline = false\nmetric = "top5"', r"field shifts\.1\.metric: .*top1"),
        ("[test]", "[tset]", "'test'"),
        ("[train]", "[train", r"toy\.toml"),
    ],
)
def test_a_suite_file_that_is_wrong_is_named_with_its_field(old: str, new: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parsed(tmp_path, TEXT.replace(old, new))
    assert "toy.toml" in str(caught.value)


def test_an_unknown_suite_and_a_missing_file_are_told_apart() -> None:
    with pytest.raises(UnknownName, match=r"unknown suite 'cifar01'.*Did you mean cifar10\?"):
        suites.load("cifar01")
    with pytest.raises(UsageError, match=r"no suite file at nowhere\.toml"):
        suites.load("nowhere.toml")


def test_every_shipped_suite_loads_under_its_file_s_name() -> None:
    for name in suites.names():
        suite = suites.load(name)
        assert suite.name == name == suites.load(name.upper()).name
        assert suite.classes and all("{}" in text or "{a}" in text for text in suite.templates)
        names = [spec.name for spec in (suite.train, suite.val, *suite.tests)]
        assert len(set(names)) == len(names) and all(spec.licence for spec in suite.tests)


# open_set


def test_an_unknown_format_lists_the_readers(tiny: Suite, tmp_path: Path) -> None:
    spec = tiny.test.model_copy(update={"format": "minni"})
    with pytest.raises(UnknownName, match=r"data format 'minni'. Did you mean mini\?"):
        open_set(tiny, spec, None, tmp_path)


def test_a_set_that_is_short_or_other_than_declared_is_refused(tiny: Suite, tmp_path: Path) -> None:
    short: DatasetSpec = tiny.val.model_copy(update={"n": 61})
    with pytest.raises(DataError, match="tiny-val: 60 examples, expected 61"):
        open_set(tiny, short, None, tmp_path)
    other = tiny.val.model_copy(update={"digest": "f" * 64})
    with pytest.raises(DataError, match="tiny-val: .* expected ffffffffffff"):
        open_set(tiny, other, None, tmp_path)


# panels: what published figures are about


def told(name: str) -> str:
    """A name as it is matched: case, dashes, dots, underscores, spaces and slashes make no difference."""
    return re.sub(r"[-._ /]", "", name.lower())


def sets_of(panel: Panel | Track) -> tuple[TestSet, ...]:
    return panel.sets if isinstance(panel, Track) else panel.tests


@pytest.mark.parametrize("name", suites.panel_names())
def test_every_panel_loads_and_no_two_of_its_sets_answer_to_one_name(name: str) -> None:
    panel = suites.panel(name)
    assert panel.name == name == suites.panel(name.upper()).name and panel.title
    claimed: dict[str, str] = {}
    for spec in sets_of(panel):
        for alias in {told(one) for one in (spec.name, *spec.aliases)}:
            assert claimed.setdefault(alias, spec.name) == spec.name, f"{alias}: {claimed[alias]} and {spec.name}"
            assert alias
        assert not spec.binomial or spec.n is None or spec.n > 100
    if isinstance(panel, Panel):
        assert panel.baseline or panel.no_baseline or not panel.headline_shifts


SIZES = {
    "imagenet": {
        "imagenet-val": 50_000,
        "imagenet-v2": 10_000,
        "imagenet-r": 30_000,
        "imagenet-sketch": 50_889,
        "objectnet": 18_574,
        "imagenet-a": 7_500,
    },
    "video": {
        "imagenet-vid-robust-pm0": 1_109,
        "imagenet-vid-robust-pm10": 1_109,
        "ytbb-robust-pm0": 2_030,
        "ytbb-robust-pm10": 2_030,
    },
    "iwildcam": {"iwildcam-id-test": 8_154, "iwildcam-test": 42_791},
    "fmow": {"fmow-id-test": 11_327, "fmow-test": 22_108},
    "cifar10": {"cifar10": 10_000, "cifar10.1": 2_000, "cifar10.1-v4": 2_021, "cifar10.2": 2_000},
    "transfer": {"cars": 8_041, "dtd": 1_880, "sun397": 19_850, "food101": 25_250, "cifar100": 10_000},
}
SUBSETS = {
    "imagenet": {"imagenet-r": 200, "imagenet-a": 200, "objectnet": 113},
    "video": {"imagenet-vid-robust-pm0": 30, "imagenet-vid-robust-pm10": 30, "ytbb-robust-pm0": 24, "ytbb-robust-pm10": 24},
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_those_of_the_data_sets(name: str) -> None:
    sizes = {spec.name: spec.n for spec in sets_of(suites.panel(name))}
    assert SIZES[name].items() <= sizes.items()


def test_shifts_of_fewer_classes_say_how_many() -> None:
    for name, subsets in SUBSETS.items():
        found = {spec.name: spec.subset for spec in sets_of(suites.panel(name)) if spec.headline or spec.name in subsets}
        assert {key: found[key] for key in subsets} == subsets
        assert all(subset is None for key, subset in found.items() if key not in subsets)


def test_the_ood_mean_is_over_the_shifts_of_design_7_8() -> None:
    def headline(name: str) -> list[str]:
        return [spec.name for spec in suites.panel(name).headline_shifts]  # type: ignore[union-attr]

    assert headline("imagenet") == ["imagenet-v2", "imagenet-r", "imagenet-sketch", "objectnet", "imagenet-a"]
    assert headline("video") == ["imagenet-vid-robust-pm10", "ytbb-robust-pm10"]
    assert headline("cifar10") == ["cifar10.1", "cifar10.2"]


def test_metrics_without_an_interval_are_told_from_those_with_one() -> None:
    found = {spec.name: spec.metric for name in ("iwildcam", "fmow", "video") for spec in sets_of(suites.panel(name))}
    assert {name for name, metric in found.items() if metric == "macro-f1"} == {"iwildcam-id-test", "iwildcam-test"}
    assert {name for name, metric in found.items() if metric == "worst-region"} == {"fmow-test"}
    assert [TestSet(name="x", metric=m).binomial for m in ("top1", "pm", "macro-f1", "worst-region")] == [
        True,
        True,
        False,
        False,
    ]


def test_a_suite_s_subset_is_the_number_of_its_groups(toy: Suite) -> None:
    assert [spec.subset for spec in toy.tests] == [None, 3, None]


def test_a_suite_is_the_panel_of_its_name_and_an_unknown_one_lists_all(toy: Suite) -> None:
    assert suites.panel(str(toy.file)) == toy and isinstance(suites.panel("mini"), Suite)
    assert isinstance(suites.panel("transfer"), Track)
    with pytest.raises(UnknownName, match=r"unknown suite 'imagnet'\. Did you mean imagenet\?"):
        suites.panel("imagnet")


@pytest.mark.parametrize("extra", [{"colour": "red"}, {"n": "many"}, {"metric": "top5"}])
def test_a_panel_refuses_what_it_does_not_know(extra: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(extra))):
        Panel.model_validate({"name": "x", "title": "X", "test": {"name": "x-test", **extra}})


def test_the_protocol_covers_what_decides_a_score_and_not_where_a_set_lies() -> None:
    spec = DatasetSpec(name="s", n=40, format="objectnet", path="here", split="test", dataset="objectnet", options={"crop": 2})
    moved = spec.model_copy(update={"path": "there", "also": ("x",), "options": {"crop": 2, "folder": "a|b", "mirror": "test"}})
    assert moved.decisive() == spec.decisive()
    for change in (
        {"options": {"crop": 0}},
        {"split": "val"},
        {"part": "val"},
        {"val_per_class": 3},
        {"metric": "macro-f1"},
        {"n": 41},
    ):
        assert spec.model_copy(update=change).decisive() != spec.decisive(), change
    own = spec.model_copy(update={"head": "own", "classes": ("a", "b")})
    assert own.decisive() != own.model_copy(update={"classes": ("a", "c")}).decisive()
    assert spec.decisive() == spec.model_copy(update={"classes": ("a", "c")}).decisive(), "the suite's head has the suite's words"


def test_a_size_that_is_hearsay_is_said_and_not_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = DatasetSpec(name="s", n=41, format="mini", path="7", split="val", shots=2)
    with pytest.raises(DataError, match="40 examples, expected 41"):
        open_spec(spec, None, tmp_path)
    assert len(open_spec(spec.model_copy(update={"unconfirmed": True}), None, tmp_path)) == 40
    assert "name 40 images; the number we know is 41" in capsys.readouterr().err
    known = {
        (name, split)
        for name in datafiles.names()
        for split, own in datafiles.load(name).splits.items()
        if own.get("unconfirmed")
    }
    assert {name for name, _ in known} == {"fmow", "kitti", "ytbb-robust"} and ("fmow", "test") not in known
