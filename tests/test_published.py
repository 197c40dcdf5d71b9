"""The published figures below submissions/, against the files that they come from and against hand-read tables."""

import csv
import importlib
import json
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import pytest

from robustbench_ft import suites
from robustbench_ft.errors import DataError
from robustbench_ft.records import Publication, PublishedRecord, load_publication
from robustbench_ft.suites import Track

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "submissions").glob("*/published.json"))
DATA = ROOT.parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs the published figures of ../shared/data")
SHIFTS = ["imagenet-v2", "imagenet-r", "imagenet-sketch", "objectnet", "imagenet-a"]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("collect_published")


@pytest.fixture
def means(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("printed_means")


def load(folder: str) -> Publication:
    return load_publication(ROOT / "submissions" / folder / "published.json")


def find(
    folder: str, suite: str, start: str, method: str, variant: str = "", alpha: float | None = None
) -> list[PublishedRecord]:
    wanted = (suite, start, method, variant, alpha)
    return [r for r in load(folder).records if (r.suite, r.start, r.method, r.variant, r.alpha) == wanted]


def percent(record: PublishedRecord, names: Iterable[str] = ("imagenet-val", *SHIFTS)) -> list[float]:
    return [float(100 * record.values[name].value) for name in names]


def test_there_is_a_file_for_each_source() -> None:
    assert len(FILES) == 16
    assert len({load_publication(path).short for path in FILES}) == 16
    assert sum(len(load_publication(path).records) for path in FILES) == 319


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_values_are_of_the_suite_s_test_sets_and_have_their_sizes(path: Path) -> None:
    for record in load_publication(path).records:
        panel = suites.panel(record.suite)
        known = {spec.name: spec for spec in (panel.sets if isinstance(panel, Track) else panel.tests)}
        assert record.values.keys() <= known.keys()
        for name, figure in record.values.items():
            beta = name == "objectnet" and path.parent.name == "imagenet-testbed"
            assert figure.n == (18_514 if beta else known[name].n if known[name].binomial else None)
        assert set(record.selection.values()) <= {"default", "id_val", "oracle", "unstated"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_rows_of_one_source_can_be_told_apart(path: Path) -> None:
    records = load_publication(path).records
    rows = Counter((r.suite, r.table, r.start, r.method, r.variant, r.alpha, tuple(sorted(r.selection.items()))) for r in records)
    assert max(rows.values()) == 1


def test_wise_ft_table_1() -> None:
    (row,) = find("wiseft-paper", "imagenet", "ViT-L/14@336px", "wiseft", "over ft", 0.5)
    assert percent(row) == pytest.approx([86.8, 79.5, 89.4, 64.7, 71.1, 79.9], abs=1e-9)
    assert (row.table, row.provenance, row.selection) == ("Table 1", "own", {"alpha": "default"})
    assert str(row.values["imagenet-val"].value) == "0.868", "as many digits as were printed"
    starts = find("wiseft-paper", "imagenet", "ViT-L/14@336px", "zeroshot")
    assert [(r.table, float(r.values["objectnet"].value)) for r in starts] == [("Table 1", 0.691), ("Table 8", 0.685)]
    (quoted,) = find("wiseft-paper", "imagenet", "ViT-L/14@336px", "zeroshot", "as CLIP's paper reports")
    assert percent(quoted) == pytest.approx([76.2, 70.1, 88.9, 60.2, 70.0, 77.2]) and quoted.provenance == "quoted"


def test_wise_ft_table_5_is_two_curves() -> None:
    records = [r for r in load("wiseft-paper").records if r.table == "Table 5"]
    for variant in ("over ft", "over lp"):
        curve = [r for r in records if r.variant == variant]
        assert [r.alpha for r in curve] == pytest.approx([k / 20 for k in range(21)])
        assert [r.alpha for r in curve if not r.curve] == [0, 0.5, 1]
        assert [r.selection for r in curve if r.selection] == [{"alpha": "default"}]
    (row,) = find("wiseft-paper", "imagenet", "ViT-B/16", "wiseft", "over ft", 0.5)
    assert percent(row) == pytest.approx([81.7, 72.8, 78.7, 53.9, 57.3, 52.2])
    assert "the same figures in Table 8" in row.note


def test_oracles_are_marked() -> None:
    (row,) = find("wiseft-paper", "imagenet", "ViT-L/14@336px", "wiseft", "over ft")
    assert percent(row) == pytest.approx([87.1, 79.5, 90.3, 65.0, 72.1, 81.0]) and row.selection == {"alpha": "oracle"}
    assert "printed OOD mean 77.4, from the figures 77.58" in row.note
    (row,) = find("vrf-paper", "imagenet", "ViT-B/16", "wiseft", "over ft")
    assert row.selection == {"alpha": "oracle"} and "the ID test set" in row.note


def test_id_accuracies_of_table_6_come_from_tables_1_and_2() -> None:
    names = ["imagenet-val", "imagenet-vid-robust-pm0", "ytbb-robust-pm0"]
    (start,) = find("wiseft-paper", "video", "ViT-L/14@336px", "zeroshot")
    (lp,) = find("wiseft-paper", "video", "ViT-L/14@336px", "lp")
    (wise,) = find("wiseft-paper", "video", "ViT-L/14@336px", "wiseft", "over lp", 0.5)
    assert percent(start, names) == pytest.approx([76.6, 95.9, 95.8]) and start.table == "Tables 1 and 6"
    assert percent(lp, names) == pytest.approx([85.2, 86.5, 66.5])
    assert percent(wise, names) == pytest.approx([83.7, 95.5, 89.7])
    (ft,) = find("wiseft-paper", "cifar10", "ViT-L/14@336px", "ft")
    assert percent(ft, ["cifar10", "cifar10.1", "cifar10.2"]) == pytest.approx([98.6, 95.9, 91.3])
    assert ft.table == "Tables 2 and 6"
    (zero,) = find("wiseft-paper", "cifar10", "ViT-L/14@336px", "zeroshot")
    assert percent(zero, zero.values) == pytest.approx([92.5, 88.8]), "no table gives its CIFAR-10 accuracy"


def test_wilds_rows() -> None:
    for suite, sets, expected in (
        ("fmow", ["fmow-id-test", "fmow-test"], {"zeroshot": [28.0, 23.8], "ft": [73.3, 46.0]}),
        ("iwildcam", ["iwildcam-id-test", "iwildcam-test"], {"zeroshot": [15.1, 15.5], "ft": [52.1, 39.9]}),
    ):
        for method, figures in expected.items():
            (row,) = find("wiseft-paper", suite, "ViT-L/14@336px", method)
            assert percent(row, sets) == pytest.approx(figures)
            assert row.values[sets[1]].n is None, "no share of right answers"
    (row,) = find("dive-notes", "fmow", "ViT-B/16", "flyp")
    assert percent(row, ["fmow-id-test", "fmow-test"]) == pytest.approx([68.6, 41.3]) and row.provenance == "quoted"


def test_table_2_is_the_transfer_track() -> None:
    (row,) = find("wiseft-paper", "transfer", "ViT-L/14@336px", "wiseft", "over ft", 0.5)
    sets = ["imagenet-val", "cifar10", "cifar100", "cars", "dtd", "sun397", "food101"]
    assert percent(row, sets) == pytest.approx([86.8, 99.3, 93.3, 93.3, 84.6, 83.2, 96.1])


def test_vrf_s_odd_figure_is_kept_and_told() -> None:
    (row,) = find("vrf-paper", "imagenet", "ViT-B/32", "lpft")
    assert percent(row) == pytest.approx([76.9, 64.8, 69.9, 39.9, 42.6, 25.7])
    assert "69.9" in row.note and row.provenance == "rerun"
    (row,) = find("vrf-paper", "imagenet", "ViT-B/16", "flyp")
    assert percent(row) == pytest.approx([82.6, 73.0, 71.4, 49.6, 58.7, 48.1]), "columns by matching values"
    for method, table in (("ensemble", "Table 8"), ("wiseft", "Table 9")):
        curve = [r for r in load("vrf-paper").records if (r.table, r.method) == (table, method)]
        assert [r.alpha for r in curve] == pytest.approx([k / 10 for k in range(11)])
        assert [r.alpha for r in curve if not r.curve] == [0, 0.5, 1]


def test_soups() -> None:
    (greedy,) = find("model-soups-repo", "imagenet", "ViT-B/32", "greedy-soup")
    assert greedy.values["imagenet-val"].value == Decimal("0.81026") and greedy.selection == {"ingredients": "id_val"}
    assert percent(greedy) == pytest.approx([81.026, 69.55, 64.203, 47.775, 44.896, 27.89], abs=6e-3)
    (printed,) = find("model-soups-paper", "imagenet", "ViT-B/32", "learned-soup", "by layer")
    assert printed.values.keys() == {"imagenet-val"} and "printed OOD mean 50.87, without its parts" in printed.note
    pool = [r for r in load("model-soups-repo").records if r.variant.startswith("ingredient ")]
    assert [r.variant for r in pool] == [f"ingredient model_{k}" for k in range(72)] and not any(r.curve for r in pool)
    assert [r.method for r in pool] == ["lp"] + 71 * ["ft"]
    (best,) = [r for r in pool if "best on the held-out part of train" in r.note]
    assert best.values["imagenet-val"].value == Decimal("0.80386"), "80.38 in the paper"
    assert [r.variant for r in pool if "the same figures as ingredient model_4" in r.note] == ["ingredient model_5"]


def test_sources_that_disagree_stand_side_by_side() -> None:
    lpft = {path.parent.name: find(path.parent.name, "imagenet", "ViT-B/16", "lpft") for path in FILES}
    told = {name: [float(100 * r.values["imagenet-a"].value) for r in rows] for name, rows in lpft.items() if rows}
    assert told == {
        "dive-notes": pytest.approx([47.6]),
        "recalcon": pytest.approx([42.5]),
        "tracer-paper": pytest.approx([49.28, 46.32]),
        "vrf-paper": pytest.approx([41.4]),
    }
    (row,) = find("open-clip", "imagenet", "ViT-L/14", "zeroshot")
    assert "objectnet" not in row.values and row.values["objectnet-own-names"].value == Decimal("0.6889"), "another head"


def test_lp_ft_s_own_tables() -> None:
    (row,) = find("lpft-paper", "cifar10", "ResNet-50 (MoCo-v2)", "lpft")
    assert percent(row, ["cifar10", "cifar10.1"]) == pytest.approx([97.5, 93.5])
    (row,) = find("lpft-paper", "fmow-geo", "ResNet-50 (MoCo-TP)", "ft")
    assert percent(row, ["fmow-geo-id", "fmow-geo-ood"]) == pytest.approx([56.5, 32.0])
    assert all(figure.n is None for figure in row.values.values()), "no sizes are printed"


def test_printed_means(means: ModuleType) -> None:
    row = {"ImageNet-V2": "70.0", "ImageNet-R": "60.0", "ImageNet-Sketch": "50.0", "ObjectNet": "40.0", "ImageNet-A": "30.0"}
    assert means.told(row) == [] and means.told(row | {"avg5shifts": "50.0"}) == []
    assert means.told(row | {"avg5shifts": "50.1"}) == [], "70.04, 60.04, ... have the mean 50.04, and 50.05 is printed 50.1"
    assert means.told(row | {"avg5shifts": "50.2"}) == ["printed OOD mean 50.2, from the figures 50.00"]
    assert means.told(row | {"avg5shifts": "49.8"}) == ["printed OOD mean 49.8, from the figures 50.00"]
    assert means.told(row | {"avg4shifts(no ObjectNet)": "52.5"}) == []
    both = row | {"ImageNet": "80.0"}
    assert means.told(both | {"avg(ImageNet,avg5shifts)": "65.0", "harmonic_mean(ID,avg5shifts)": "61.5"}) == []
    assert len(means.told(both | {"avg(ImageNet,avg5shifts)": "65.2", "harmonic_mean(ID,avg5shifts)": "65.0"})) == 2
    assert means.told({"ImageNet": "80.0", "avg5shifts": "50.0"}) == ["printed OOD mean 50.0, without its parts"]


def test_every_printed_mean_that_disagrees_is_told_and_no_other() -> None:
    told = {
        (path.parent.name, r.table, r.start, r.method, r.variant)
        for path in FILES
        for r in load_publication(path).records
        if "from the figures" in r.note and r.selection.get("alpha") != "oracle"
    }
    assert told == {
        ("vrf-paper", "Table 1", "ViT-B/32", "vrf", "over lpft"),
        ("vrf-paper", "Table 12", "ViT-B/16", "ensemble", "zero-shot and flyp"),
        ("vrf-paper", "Table 12", "ViT-B/16", "vrf", "over flyp"),
        ("tracer-paper", "Table 1", "ViT-B/16", "zeroshot", ""),
    }


@needs_data
def test_printed_means_of_the_wise_ft_tables_by_another_route() -> None:
    """Every row with all six figures but those of oracles: the mean of the rounded figures is within 0.1 of the printed one."""
    with open(DATA / "published.csv") as file:
        rows = [row for row in csv.DictReader(file) if "WiSE-FT" in row["source"] and "optimal" not in row["variant"]]
    shifts = ("ImageNet-V2", "ImageNet-R", "ImageNet-Sketch", "ObjectNet", "ImageNet-A")
    table: dict[tuple[str, ...], dict[str, Decimal]] = {}
    for row in rows:
        key = (row["table"], row["model"], row["method"], row["variant"])
        table.setdefault(key, {})[row["dataset"]] = Decimal(row["value"])
    checked = 0
    for figures in table.values():
        if "avg5shifts" in figures:
            mean = sum(figures[name] for name in shifts) / 5
            assert abs(mean - figures["avg5shifts"]) <= Decimal("0.1")
            assert abs((mean + figures["ImageNet"]) / 2 - figures["avg(ImageNet,avg5shifts)"]) <= Decimal("0.1")
            checked += 1
    assert checked > 60


@needs_data
def test_collecting_again_gives_the_same_bytes(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["collect_published", "--data", str(DATA), "--out", str(tmp_path)])
    script.main()
    assert sorted(path.parent.name for path in tmp_path.glob("*/published.json")) == [path.parent.name for path in FILES]
    for path in FILES:
        assert (tmp_path / path.parent.name / path.name).read_bytes() == path.read_bytes()
    told = capsys.readouterr().out
    assert "not taken from published.csv, 9 figures: few-shot" in told
    assert "Table 1, ViT-B/32 vrf over lpft : printed OOD mean 51.8, from the figures 52.02" in told


@needs_data
def test_no_figure_is_lost(script: ModuleType) -> None:
    """Each figure of the file is in its source's records, or is a mean, or is left out with a reason."""
    names = importlib.import_module("published_names")
    missing = Counter()
    held = {path.parent.name: load_publication(path).records for path in FILES}
    with open(DATA / "published.csv") as file:
        for row in csv.DictReader(file):
            left = (row["source"], row["table"]) in names.LEFT_OUT or row["dataset"] in {*names.NO_SET, *script.MEANS}
            if not left:
                source = names.SOURCES[row["source"]]
                _, name = names.SETS[row["dataset"], row["metric"]]
                columns = {name, "objectnet-own-names"} if name == "objectnet" else {name}
                near = Decimal("0.00007") if source.counts else 0
                values = [r.values[c].value for r in held[source.folder] for c in columns if c in r.values]
                if not any(abs(value - Decimal(row["value"]).scaleb(-2)) <= near for value in values):
                    missing[row["source"]] += 1
    assert not missing


@needs_data
def test_the_ingredients_are_the_result_file_s_counts() -> None:
    lines = (DATA / "model-soups" / "individual_model_results.jsonl").read_text().splitlines()
    pool = [r for r in load("model-soups-repo").records if r.variant.startswith("ingredient ")]
    keys = ["ImageNet", "ImageNetV2", "ImageNetR", "ImageNetSketch", "ObjectNet", "ImageNetA"]
    for line, record in zip(lines, pool, strict=True):
        row = json.loads(line)
        for key, name in zip(keys, ["imagenet-val", *SHIFTS], strict=True):
            figure = record.values[name]
            assert figure.n and round(float(figure.value) * figure.n) / figure.n == pytest.approx(row[key], abs=1e-12)


def test_a_share_that_no_count_gives_is_refused(script: ModuleType) -> None:
    assert str(script.share("0.42317217616022396", 18_574, "here")) == "0.42317"
    assert str(script.share("0.6409", 10_000, "here")) == "0.6409"
    with pytest.raises(DataError, match=r"model_7, ImageNet: 0\.64095 of 10000 is 6409\.5.* right answers"):
        script.share("0.64095", 10_000, "model_7, ImageNet")


def test_nothing_is_guessed(script: ModuleType) -> None:
    assert script.words_of("zero-shot CLIP L/14@336 + NoisyStudent EffNet-B6, alpha=0.4").variant.startswith("zero-shot and")
    with pytest.raises(KeyError, match="a new recipe"):
        script.words_of("alpha=0.5, a new recipe")
