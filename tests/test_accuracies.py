"""What names and numbers of a table mean to a suite; the formats are in ``test_accuracy_formats.py``."""

import csv
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from robustbench_ft import accuracies, suites
from robustbench_ft.accuracies import Table, columns, partial, plain, read
from robustbench_ft.errors import DataError, UsageError
from robustbench_ft.records import Figure
from robustbench_ft.suites import Panel

SHARED = Path(__file__).parents[2] / "shared" / "data"
SOUPS = SHARED / "model-soups" / "individual_model_results.jsonl"
PUBLISHED = SHARED / "published.csv"
TESTBED = SHARED / "imagenet-testbed" / "robustness_top1s.csv"

HEAD = "model,dataset,value\n"

Write = Callable[[str | bytes], Path]


def shared(path: Path) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not path.is_file(), reason=f"no shared data: {path.name}")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A table of that content; the name says nothing of the format."""

    def put(content: str | bytes) -> Path:
        (tmp_path / "table").write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / "table"

    return put


def panel(name: str) -> Panel:
    found = suites.panel(name)
    assert isinstance(found, Panel)
    return found


def values(table: Table) -> dict[str, dict[str, str]]:
    return {model: {key: str(figure.value) for key, figure in figures.items()} for model, figures in table.models.items()}


def test_percent_moves_the_point_and_nothing_else(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    table = read(write("model,dataset,value\nft,imagenet,76.80\nft,imagenet-v2,100\nft,imagenet-r,0.5\n"), percent=True)
    assert values(table) == {"ft": {"imagenet-val/own": "0.7680", "imagenet-v2/own": "1.00", "imagenet-r/own": "0.005"}}
    assert capsys.readouterr().err == ""


def test_percent_where_fractions_stand_is_said_and_read(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    table = read(write("model,dataset,value\nft,imagenet,0.768\nft,imagenet-v2,1\n"), percent=True)
    assert values(table)["ft"]["imagenet-val/own"] == "0.00768"
    assert "no value is over 1%" in capsys.readouterr().err


def test_sizes_are_the_tables_own_then_the_sets_and_none_where_a_share_is_of_nothing(write: Write) -> None:
    table = read(
        write(
            "model,dataset,value,n\na,imagenet,0.7,\na,objectnet,0.3,18514\nb,imagenet,0.7,\nb,objectnet,0.3,\n"
            "a,imagenet-val/objectnet,0.7,6250\nb,val-on-objectnet-classes,0.7,\n"
        )
    )
    sizes = {model: {key: figure.n for key, figure in figures.items()} for model, figures in table.models.items()}
    assert sizes["a"] == {"imagenet-val/own": 50_000, "objectnet/own": 18_514, "imagenet-val/objectnet": 6250}
    assert sizes["b"] == {"imagenet-val/own": 50_000, "objectnet/own": 18_574, "imagenet-val/objectnet": None}
    wilds = read(write("model,dataset,value,n\na,iWildCam ID test,0.46,8154\na,iWildCam OOD test,0.36,\n"))
    assert wilds.panel.name == "iwildcam"
    assert [figure.n for figure in wilds.models["a"].values()] == [None, None]


@shared(SOUPS)
def test_the_72_fine_tunes(capsys: pytest.CaptureFixture[str]) -> None:
    table = read(SOUPS)
    rows = [json.loads(line, parse_float=str) for line in SOUPS.read_text().splitlines()]
    assert list(table.models) == [f"model_{i}" for i in range(72)]
    sets = {"ImageNet": "imagenet-val", "ImageNetV2": "imagenet-v2", "ImageNetSketch": "imagenet-sketch"}
    sets |= {"ImageNetR": "imagenet-r", "ObjectNet": "objectnet", "ImageNetA": "imagenet-a"}
    expected = {row["model_name"]: {f"{key}/own": Decimal(row[name]) for name, key in sets.items()} for row in rows}
    assert {m: {key: figure.value for key, figure in figures.items()} for m, figures in table.models.items()} == expected
    assert partial(table) == {}
    assert "left out ImageNet2p" in capsys.readouterr().err
    for figures in table.models.values():  # the sizes are right: every figure is a whole count of right answers
        for figure in figures.values():
            assert figure.n and abs(float(figure.value) * figure.n - round(float(figure.value) * figure.n)) < 1e-6


@shared(TESTBED)
def test_the_testbeds_table_as_a_wide_csv(tmp_path: Path) -> None:
    with open(TESTBED, newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name in {"model", "val"} or name.startswith(("imagenet-vid", "ytbb", "val-on-"))]
    videos = [name for name in names if not name.startswith("val-on-imagenet") and "objectnet" not in name]
    with open(tmp_path / "wide", "w", newline="") as file:
        writer = csv.DictWriter(file, videos, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    table = read(tmp_path / "wide", percent=True)
    assert table.panel.name == "video" and len(table.models) > 300
    row = next(row for row in rows if row["model"] == "resnet50")
    figures = table.models["resnet50"]
    assert figures["imagenet-val/imagenet-vid-robust-pm10"].value == Decimal(row["val-on-vid-robust-classes"]).scaleb(-2)
    assert figures["imagenet-val/imagenet-vid-robust-pm10"] == figures["imagenet-val/imagenet-vid-robust-pm0"]
    assert figures["ytbb-robust-pm10/own"].value == Decimal(row["ytbb-robust_pm10"]).scaleb(-2)
    assert set(figures) == {f"{spec.name}/own" for spec in table.panel.tests} | {
        f"imagenet-val/{spec.name}" for spec in table.panel.shifts
    }


@shared(PUBLISHED)
def test_a_published_table(tmp_path: Path) -> None:
    with open(PUBLISHED, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"].endswith("(WiSE-FT)") and row["table"] == "Table 1"]
    found = {}
    for row in rows:
        if not row["dataset"].startswith("avg"):
            found["; ".join((row["model"], row["method"], row["variant"])), row["dataset"]] = row["value"]
    lines = [f'"{model}",{dataset},{value}' for (model, dataset), value in found.items()]
    (tmp_path / "t.csv").write_text("\n".join(["model,dataset,value", *lines]))
    table = read(tmp_path / "t.csv", percent=True)
    assert table.panel.name == "imagenet"
    clip = "ViT-L/14@336px; zeroshot; as reported by CLIP paper [82]"
    assert table.models[clip]["imagenet-r/own"] == Figure(value=Decimal("0.889"), n=30_000)
    count = sum(len(figures) for figures in table.models.values())
    assert count == len(found) and count > 40


@shared(PUBLISHED)
def test_every_published_data_set_has_a_suite_or_a_reason() -> None:
    with open(PUBLISHED, newline="") as file:
        names = {
            row["dataset"] if not row["metric"].startswith("pm") else row["dataset"] + " " + row["metric"]
            for row in csv.DictReader(file)
        }
    known = [panel(name) for name in ("imagenet", "video", "cifar10", "iwildcam", "fmow", "fmow-geo")]
    strangers = {name for name in names if not any(columns(p, name) for p in known)}
    tracks = {"CIFAR-100", "DTD", "Food-101", "SUN397", "Stanford Cars"}
    others = {
        "FMoW ID val",
        "FMoW OOD test, Africa region",
        "ImageNet held-out minival (26k of train)",
        "STL-10 (OOD of CIFAR-10)",
    }
    means = {name for name in names if name.startswith(("avg", "harmonic"))}
    assert strangers == tracks | others | means


IMAGENET = {
    "imagenet-val": "ImageNet imagenet1k wds/imagenet1k ImageNet_1k IN val clip-benchmark/wds_imagenet1k imagenet-val/own",
    "imagenet-v2": "ImageNetV2 imagenetv2 wds/imagenetv2 ImageNet-V2 IN-V2 imagenetv2-matched-frequency-format-val v2",
    "imagenet-r": "ImageNetR imagenet-r wds/imagenet-r ImageNet-R IN-R imagenet_r",
    "imagenet-sketch": "ImageNetSketch imagenet_sketch wds/imagenet_sketch ImageNet-Sketch IN-Sketch IN-S imagenet-sketch",
    "objectnet": "ObjectNet objectnet wds/objectnet objectnet-1.0-beta OBJECTNET",
    "imagenet-a": "ImageNetA imagenet-a wds/imagenet-a ImageNet-A IN-A imagenet-a/own",
    "imagenet-v2-threshold-0.7": "imagenetv2-threshold-0.7-format-val imagenetv2-threshold0.7",
    "imagenet-v2-top-images": "imagenetv2-top-images-format-val imagenetv2-topimages",
}
OTHERS = {
    ("cifar10", "cifar10"): "CIFAR10 CIFAR-10 wds/vtab/cifar10 cifar_10",
    ("cifar10", "cifar10.1"): "CIFAR101 CIFAR-10.1 cifar10.1",
    ("cifar10", "cifar10.2"): "CIFAR102 CIFAR-10.2",
    ("video", "imagenet-vid-robust-pm0"): "imagenet-vid-robust_pm0 ImageNetVidRobust_pm0",
    ("video", "imagenet-vid-robust-pm10"): "imagenet-vid-robust_pm10 ImageNetVidRobust_pm10",
    ("video", "ytbb-robust-pm0"): "ytbb-robust_pm0 YTBBRobust_pm0",
    ("video", "ytbb-robust-pm10"): "ytbb-robust_pm10",
    ("iwildcam", "iwildcam-id-test"): "IWildCamID iWildCam_ID_test",
    ("iwildcam", "iwildcam-test"): "IWildCamOOD iWildCam_OOD",
    ("fmow", "fmow-id-test"): "FMOWID FMoW_ID",
    ("fmow", "fmow-test"): "FMOWOOD FMoW_OOD",
    ("mini", "mini-test"): "mini-test Mini_Test",
}
NAMES = [("imagenet", name, text) for name, texts in IMAGENET.items() for text in texts.split()]
NAMES += [("imagenet", name, text) for name, text in (("imagenet-val", "ImageNet 1k"), ("imagenet-v2", "ImageNet v2"))]
NAMES += [("imagenet", "imagenet-sketch", "ImageNet Sketch")]
NAMES += [(suite, name, text) for (suite, name), texts in OTHERS.items() for text in texts.split()]


@pytest.mark.parametrize(("suite", "name", "text"), NAMES)
def test_how_wise_ft_vrf_open_clip_clip_benchmark_and_the_testbed_spell_it(suite: str, name: str, text: str) -> None:
    assert columns(panel(suite), text)[:1] == (f"{name}/own",)


@pytest.mark.parametrize(
    ("suite", "shifts", "text"),
    [
        ("imagenet", "imagenet-a", "val-on-imagenet-a-classes"),
        ("imagenet", "imagenet-r", "ImageNet on IN-R classes"),
        ("imagenet", "objectnet", "ObjectNetValClasses"),
        ("imagenet", "imagenet-a", "ImageNet-val/ImageNet-A"),
        ("imagenet", "", "val-on-sketch-classes"),
        ("imagenet", "", "imagenet-v2/imagenet-a"),
        ("imagenet", "", "imagenet-v2-on-imagenet-a-classes"),
        ("video", "imagenet-vid-robust-pm0 imagenet-vid-robust-pm10", "val-on-vid-robust-classes"),
        ("video", "ytbb-robust-pm0 ytbb-robust-pm10", "YTBBRobustValClasses"),
        ("video", "ytbb-robust-pm10", "imagenet-val/ytbb-robust-pm10"),
    ],
)
def test_id_accuracy_on_the_classes_of_a_shift(suite: str, shifts: str, text: str) -> None:
    assert columns(panel(suite), text) == tuple(f"imagenet-val/{shift}" for shift in shifts.split())


@pytest.mark.parametrize("text", ["imagenet-c", "imagenet-validation", "a-imagenet", "", "/", "own", "ImageNetV2p", "image"])
def test_a_name_is_matched_whole(text: str) -> None:
    assert columns(panel("imagenet"), text) == ()


@pytest.mark.parametrize("name", [n for n in suites.panel_names() if isinstance(suites.panel(n), Panel)])
def test_no_name_means_two_sets_of_a_suite(name: str) -> None:
    names = [one for spec in panel(name).tests for one in {plain(alias) for alias in (spec.name, *spec.aliases)}]
    assert len(set(names)) == len(names)


def test_the_suite_is_the_one_that_knows_the_data_sets(write: Write, tmp_path: Path) -> None:
    assert read(write("model,CIFAR-10,CIFAR-10.1\nft,0.9,0.8\n")).panel.name == "cifar10"
    assert read(write("model,imagenet,ytbb pm10\nft,0.9,0.8\n")).panel.name == "video"
    assert read(write("model,imagenet\nft,0.9\n"), "video").panel.name == "video"
    with pytest.raises(UsageError, match="the suites imagenet and video know its data sets") as caught:
        read(write("model,imagenet\nft,0.9\n"))
    assert caught.value.hint.endswith("--suite imagenet")
    with pytest.raises(UsageError, match="a track of several data sets; expected a suite"):
        read(write("model,imagenet\nft,0.9\n"), "transfer")
    with pytest.raises(DataError, match="no suite knows any of its data sets .foo, bar"):
        read(write("model,foo,bar\nft,0.9,0.8\n"))


def test_test_sets_of_ones_own(write: Write) -> None:
    path = write("model,My ID,cam-A,cam/B,my id/cam-a\na,0.8,0.7,0.6,0.9\nb,0.81,0.7,0.6,0.9\n")
    found = accuracies.panel_of(path, "my-id", classes=182)
    assert found.name not in suites.panel_names()
    assert [(spec.name, spec.subset, spec.n) for spec in found.tests] == [
        ("My ID", None, None),
        ("cam-A", 182, None),
        ("cam-B", None, None),
    ]
    table = read(path, found)
    assert values(table)["a"] == {"My ID/own": "0.8", "cam-A/own": "0.7", "cam-B/own": "0.6", "My ID/cam-A": "0.9"}
    with pytest.raises(UsageError, match="unknown data set 'id'.*Known: My ID, cam-A, cam-B"):
        accuracies.panel_of(path, "id")


def test_what_a_model_lacks(write: Write) -> None:
    wide = "model,IN,V2,R,Sketch,ObjectNet,A\nfull,.1,.2,.3,.4,.5,.6\nno a,.1,.2,.3,.4,.5,\nid,.1,,,,,\n"
    assert partial(read(write(wide))) == {
        "no a": ("imagenet-a",),
        "id": ("imagenet-v2", "imagenet-r", "imagenet-sketch", "objectnet", "imagenet-a"),
    }


def test_the_next_command_reads_percent(write: Write) -> None:
    path = write(HEAD + "a,imagenet,83.2\na,imagenet-v2,70\n")
    with pytest.raises(DataError) as caught:
        read(path)
    assert caught.value.hint == f"rbft score {path} --percent"
    assert values(read(path, percent=True))["a"]["imagenet-val/own"] == "0.832"


@pytest.mark.parametrize("value", ["100.1", "101", "nan", "-1", ""])
def test_wrong_percentages(write: Write, value: str) -> None:
    with pytest.raises(DataError, match=rf"row 2, value: {value or 'empty'}: expected a percentage in \[0, 100\]"):
        read(write(HEAD + f"a,imagenet,{value}\na,imagenet-v2,50\n"), percent=True)


def test_over_100_is_no_percentage_either(write: Write) -> None:
    with pytest.raises(DataError) as caught:
        read(write(HEAD + "a,imagenet,8320\n"), "imagenet")
    assert "--percent" not in f"{caught.value}{caught.value.hint}"


def test_reading_needs_no_torch() -> None:
    import subprocess
    import sys

    code = f"import sys; from {accuracies.__name__} import read; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
