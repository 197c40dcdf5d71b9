"""Every format that a table comes in, and everything that can be wrong with one."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from robustbench_ft.accuracies import Table, read
from robustbench_ft.errors import DataError, MissingData

HEAD = "model,dataset,value\n"
Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A table of that content; the name says nothing of the format."""

    def put(content: str | bytes) -> Path:
        (tmp_path / "table").write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / "table"

    return put


def values(table: Table) -> dict[str, dict[str, str]]:
    """Digits as the file has them, without the zeros that a tool's floats have lost and get back."""
    texts = {m: {key: str(figure.value) for key, figure in figures.items()} for m, figures in table.models.items()}
    return {m: {key: zeros(text) for key, text in each.items()} for m, each in texts.items()}


def zeros(text: str) -> str:
    return text.rstrip("0")


LONG = "model,dataset,value\nft,ImageNet,0.7680\nft,ImageNet-V2,0.64\nzs,imagenet1k,.5\nzs,in-v2,1e-1\n"
BOTH = {
    "ft": {"imagenet-val/own": "0.768", "imagenet-v2/own": "0.64"},
    "zs": {"imagenet-val/own": "0.5", "imagenet-v2/own": "0.1"},
}


def test_a_tools_float_gets_back_the_zeros_that_its_neighbours_show(write: Write) -> None:
    """1,800 of 2,000 is written 0.9; typed by hand it may be anything from 0.85 to 0.95."""
    tool = '{"model_name": "a", "ImageNet": 0.9, "ImageNetV2": 0.8995}'
    assert read(write(tool)).models["a"]["imagenet-val/own"].half == pytest.approx(0.00005)
    typed = read(write("model,ImageNet,ImageNetV2\na,0.9,0.8995\n")).models["a"]
    assert typed["imagenet-val/own"].half == pytest.approx(0.05)
    whole = read(write("model,ImageNet,ImageNetV2\na,1,0.8995\n")).models["a"]
    assert whole["imagenet-val/own"].half == 0
    fine = read(write('{"model_name": "a", "ImageNet": 0.5, "ImageNetV2": 0.57030006485123456}')).models["a"]
    assert 0 < fine["imagenet-val/own"].half < 1e-8


@pytest.mark.parametrize(
    "content",
    [
        LONG,
        LONG.replace("\n", "\r\n").encode("utf-8-sig"),
        LONG.rstrip() + "\n\n , ,\n",
        'VALUE, Dataset ,Model\n0.7680,ImageNet,ft\n" 0.64","ImageNet-V2", ft\n.5,imagenet1k,zs\n1e-1,in-v2,zs\n',
        "model,ImageNet,ImageNetV2\nft,0.7680,0.64\nzs,.5,1e-1\n",
        "ImageNet,model,ImageNetV2,objectnet\n0.7680,ft,0.64,\n.5,zs,1e-1,\n",
        '{"model_name": "ft", "ImageNet": 0.7680, "ImageNetV2": 0.64}\n{"model_name": "zs", "ImageNet": 0.5, "ImageNetV2": 1e-1}',
        '[{"model_name": "ft", "ImageNet": 0.7680, "ImageNetV2": 0.64}, {"model_name": "zs", "ImageNet": 0.5, "in-v2": 0.1}]',
    ],
    ids=["long", "crlf and bom", "blank rows", "other order and quotes", "wide", "wide, gaps", "jsonl", "json list"],
)
def test_one_table_in_many_spellings_keeps_every_digit(write: Write, content: str | bytes) -> None:
    table = read(write(content))
    assert values(table) == BOTH
    assert list(table.models) == ["ft", "zs"]
    assert table.panel.name == "imagenet" and table.alphas == {}
    assert table.models["ft"]["imagenet-v2/own"].n == 10_000
    assert table.models["ft"]["imagenet-val/own"].half == pytest.approx(0.00005)


WISE_FT = """
{"alpha": [0.0, 0.5], "current_epoch": 9, "model": "ViT-B/16", "lr": 3e-05, "ImageNet:top1": 0.8}
{"alpha": 0.0, "model": "ViT-B/16", "lr": 3e-05, "eval_datasets": ["ImageNet"], "device": "cuda", "load": null,
 "ImageNet:top1": 0.68334, "ImageNetV2:top1": 0.6188, "ImageNetAValClasses:top1": 0.88}
{"alpha": 0.5, "ImageNet:top1": 0.8162, "ImageNetV2:top1": 0.7234, "ImageNetAValClasses:top1": 0.9, "CIFAR10:top1": 0.9}
"""


def test_wise_ft(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    table = read(write(WISE_FT))
    key = "imagenet-val/imagenet-a"
    assert values(table) == {
        "alpha=0": {"imagenet-val/own": "0.68334", "imagenet-v2/own": "0.6188", key: "0.88"},
        "alpha=0.5": {"imagenet-val/own": "0.8162", "imagenet-v2/own": "0.7234", key: "0.9"},
    }
    assert table.alphas == {"alpha=0": 0.0, "alpha=0.5": 0.5}
    said = capsys.readouterr().err
    assert "left out 1 lines that were written during training" in said
    assert "left out CIFAR10: not part of suite imagenet" in said


def test_wise_ft_of_two_suites_is_read_as_the_one_with_more_of_its_sets(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"alpha": 1, "ImageNet:top1": 0.8, "ImageNetV2:top1": 0.7, "ImageNetR:top1": 0.6, "ObjectNet:top1": 0.5}
    both = json.dumps(row | {"ImageNetVidRobust:pm0": 0.7, "YTBBRobustValClasses:top1": 0.9})
    assert list(values(read(write(both)))["alpha=1"].values()) == ["0.8", "0.7", "0.6", "0.5"]
    assert "left out ImageNetVidRobust pm0, YTBBRobustValClasses: not part of suite imagenet" in capsys.readouterr().err
    table = read(write(both), "video")
    key = "imagenet-val/ytbb-robust-pm"
    assert set(table.models["alpha=1"]) == {"imagenet-val/own", "imagenet-vid-robust-pm0/own", f"{key}0", f"{key}10"}


def test_wise_ft_names_an_alpha_as_people_do(write: Write) -> None:
    table = read(write('{"alpha": 0.30000000000000004, "ImageNet:top1": 0.8, "ImageNetV2:top1": 0.7}'))
    assert list(table.models) == ["alpha=0.3"] and table.alphas["alpha=0.3"] == 0.30000000000000004


def test_wise_ft_measures_videos_and_wilds_by_more_than_the_suites_do(write: Write) -> None:
    videos = {"ImageNet:top1": 0.8, "ImageNetVidRobust:pm0": 0.7, "ImageNetVidRobust:pm10": 0.6, "ImageNetVidRobust:top1": 0.1}
    table = read(write(json.dumps(videos | {"alpha": 1, "ImageNetVidRobust:merge_op": "max", "YTBBRobust:pm0": 0.5})))
    assert table.panel.name == "video"
    assert values(table)["alpha=1"] == {
        "imagenet-val/own": "0.8",
        "imagenet-vid-robust-pm0/own": "0.7",
        "imagenet-vid-robust-pm10/own": "0.6",
        "ytbb-robust-pm0/own": "0.5",
    }
    wilds = {"FMOWID:top1": 0.7, "FMOWID:acc_worst_region": 0.6, "FMOWOOD:top1": 0.55, "FMOWOOD:acc_worst_region": 0.4}
    table = read(write(json.dumps(wilds | {"alpha": 0.5, "FMOWOOD:acc_year:0": 0.3})))
    assert values(table) == {"alpha=0.5": {"fmow-id-test/own": "0.7", "fmow-test/own": "0.4"}}
    animals = {"IWildCamID:top1": 0.7, "IWildCamID:F1-macro_all": 0.5, "IWildCamOOD:F1-macro_all": 0.35, "alpha": 0.5}
    table = read(write(json.dumps(animals | {"IWildCamOOD:recall-macro_all": 0.3})))
    assert values(table) == {"alpha=0.5": {"iwildcam-id-test/own": "0.5", "iwildcam-test/own": "0.35"}}


def result(dataset: str, acc1: float, **other: object) -> dict[str, object]:
    metrics = {"acc1": acc1, "acc5": float("nan"), "mean_per_class_recall": 0.1}
    about = {"dataset": dataset, "model": "ViT-B-32", "pretrained": "openai", "task": "zeroshot_classification"}
    return about | {"metrics": metrics, "language": "en"} | other


RESULTS = [
    result("wds/imagenet1k", 0.63322),
    result("wds/imagenetv2", 0.5595),
    result("imagenet_sketch", 0.42280257030006485),
    result("wds/vtab/cifar10", 0.8982),
    result("wds/renderedsst2", 0.58),
    result("wds/cars", 0.59),
    result("wds/imagenet-r", 0.5, language="it"),
    result("wds/imagenet-a", 0.5, task="linear_probe"),
    result("mscoco_captions", 0.5, task="zeroshot_retrieval", metrics={"image_retrieval_recall@5": 0.5}),
]
BENCHMARK = {
    "ViT-B-32 openai": {
        "imagenet-val/own": "0.63322",
        "imagenet-v2/own": "0.5595",
        "imagenet-sketch/own": "0.42280257030006485",
    }
}


@pytest.mark.parametrize("form", ["list", "lines", "csv"])
def test_clip_benchmark(write: Write, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if form == "csv":
        flat = [{**r, **r["metrics"]} for r in RESULTS]
        names = sorted({name for row in flat for name in row} - {"metrics"})
        with open(tmp_path / "table", "w", newline="") as file:
            writer = csv.DictWriter(file, names, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(flat)
        table = read(tmp_path / "table")
    else:
        table = read(write(json.dumps(RESULTS) if form == "list" else "\n".join(map(json.dumps, RESULTS))))
    assert values(table) == BENCHMARK
    said = capsys.readouterr().err
    assert "left out 3 results that are not top-1 of zero-shot classification in English" in said
    assert "left out wds/vtab/cifar10, wds/renderedsst2, wds/cars: not part of suite imagenet" in said


def test_clip_benchmark_one_result_as_it_is_written(write: Write) -> None:
    table = read(write(json.dumps(result("imagenet1k", 0.63322), indent=4)), "imagenet")
    assert values(table) == {"ViT-B-32 openai": {"imagenet-val/own": "0.63322"}}


WRONG: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "over 1": (
        HEAD + "a,imagenet,0.7\na,imagenet-v2,83.2\n",
        ("row 3, value: 83.2: expected a fraction in [0, 1]", "--percent reads"),
    ),
    "nan": (HEAD + "a,imagenet,nan\n", ("row 2, value: nan: expected a fraction",)),
    "inf": (HEAD + "a,imagenet,inf\n", ("row 2, value: inf: expected a fraction",)),
    "empty value": (HEAD + "a,imagenet,\n", ("row 2, value: empty: expected a fraction",)),
    "no number": (HEAD + "a,imagenet,n/a\n", ("row 2, value: n/a: expected a fraction",)),
    "percent sign": (HEAD + "a,imagenet,83%\n", ("row 2, value: 83%: expected a fraction",)),
    "underscore": (HEAD + "a,imagenet,0_5\n", ("row 2, value: 0_5: expected a fraction",)),
    "negative": (HEAD + "a,imagenet,-0.1\n", ("row 2, value: -0.1: expected a fraction",)),
    "huge": (HEAD + "a,imagenet,1e99999999999999999999\n", ("row 2, value: 1e99999", "expected a fraction")),
    "wide": ("model,imagenet,imagenet-v2\na,0.7,x\n", ("row 2, imagenet-v2: x: expected a fraction",)),
    "twice": (
        HEAD + "a,imagenet,0.7\nb,imagenet,0.7\na,ImageNet-1k,0.7\n",
        ("row 4, value: a second figure of 'a' on imagenet-val; the first is in row 2",),
    ),
    "unknown set": (
        HEAD + "a,imagenet,0.7\na,imagenet-v3,0.7\na,sketch,0.7\n",
        ("row 3, dataset: unknown data set 'imagenet-v3'. Did you mean imagenet-v2?", "objectnet", "(suite imagenet)"),
    ),
    "unknown column": (
        "model,imagenet,imagenet-a,params\na,0.7,0.3,86\n",
        ("row 2, dataset: unknown data set 'params'", "Known: imagenet-a"),
    ),
    "surprising column": (
        "model,dataset,value,seed\na,imagenet,0.7,1\n",
        ("header: unknown column 'seed'", "expected model, dataset, value"),
    ),
    "no dataset": ("model,value\na,0.7\n", ("header: no column 'dataset'", "expected model, dataset, value")),
    "no model": ("imagenet,imagenet-v2\n0.7,0.6\n", ("header: no column 'model'",)),
    "semicolons": ("model;dataset;value\na;imagenet;0.7\n", ("header: no column 'model'", "with commas")),
    "column twice": ("model,imagenet,imagenet\na,0.7,0.6\n", ("row 1, column 2: named 'imagenet' more than once",)),
    "column without a name": ("model,imagenet,\na,0.7,\n", ("row 1, column 3: it has no name",)),
    "short row": (HEAD + "a,imagenet\n", ("row 2: 2 cells; expected 3",)),
    "long row": (HEAD + "\na,imagenet,0,7\n", ("row 3: 4 cells; expected 3",)),
    "open quote": (HEAD + 'a,"imagenet,0.7\nb,imagenet,0.6\n', ("row 3: no csv",)),
    "only a header": (HEAD, ("row 1: no row below the header",)),
    "no model name": (HEAD + " ,imagenet,0.7\n", ("row 2, model: it is empty",)),
    "no data set": (HEAD + "a,,0.7\n", ("row 2, dataset: it is empty",)),
    "n zero": ("model,dataset,value,n\na,imagenet,0.7,0\n", ("row 2, n: '0'; expected a whole number of examples, 1 or more",)),
    "n broken": ("model,dataset,value,n\na,imagenet,0.7,1e4\n", ("row 2, n: '1e4'; expected",)),
    "n against n": (
        "model,dataset,value,n\na,imagenet,0.7,100\nb,imagenet,0.7,\nc,imagenet-val,0.7,101\n",
        ("row 4, n: 101 examples of imagenet-val; expected 100, as in row 2",),
    ),
    "no id set": (HEAD + "a,imagenet-v2,0.7\n", ("no model has imagenet-val, the ID test set of suite imagenet",)),
    "empty": ("", ("the file is empty",)),
    "only a bom": (b"\xef\xbb\xbf\r\n", ("the file is empty",)),
    "binary": (b"PK\x03\x04\0\0", ("a binary file", "expected text in UTF-8")),
    "utf-16": (HEAD.encode("utf-16"), ("UTF-16", "expected text in UTF-8")),
    "latin-1": (HEAD.encode() + b"a,imagenet,0.7\n\xe9,imagenet,0.7\n", ("row 3: byte 0xe9 is no UTF-8",)),
    "json broken": ('{"model_name": "a", "ImageNet": 0.7}\n{"model_name": \n', ("row 3: broken JSON in what begins at row 2",)),
    "json cut": ('{"model_name": "a",\n "ImageNet": 0.7', ("row 2: broken JSON in what begins at row 1",)),
    "json deep": ("[" * 100_000, ("row 1: ",)),
    "json key twice": (
        '{"model_name": "a", "ImageNet": 0.7, "ImageNet": 0.8}',
        ("row 1: ", "the key 'ImageNet' stands there twice"),
    ),
    "json no object": ('[{"model_name": "a", "ImageNet": 0.7}, 3]', ("item 2: '3'; expected an object",)),
    "json empty list": ("[]", ("the list is empty",)),
    "json of something": ('{"schema": 1, "suite": "mini"}', ("row 1: keys 'schema, suite'; expected 'alpha' (wise-ft)",)),
    "soups nan": (
        '{"model_name": "a", "ImageNet": 0.7}\n{"model_name": "b", "ImageNet": NaN}',
        ("row 2, ImageNet: NaN: expected",),
    ),
    "soups null": ('{"model_name": "a", "ImageNet": null}', ("row 1, ImageNet: None: expected a fraction",)),
    "soups unknown": (
        '{"model_name": "a", "ImageNet": 0.7, "ImageNetQ": 1}',
        ("row 1, dataset: unknown data set 'ImageNetQ'",),
    ),
    "soups no name": ('{"model_name": "a", "ImageNet": 0.7}\n\n{"ImageNet": 0.7}', ("row 3: no key 'model_name'",)),
    "wise-ft over 1": ('{"alpha": 0.5, "ImageNet:top1": 81.6}', ("row 1, ImageNet:top1: 81.6: expected a fraction",)),
    "wise-ft alpha": ('{"alpha": NaN, "ImageNet:top1": 0.8}', ("row 1, alpha: 'NaN'; expected a number",)),
    "wise-ft no alpha": ('{"ImageNet:top1": 0.8}', ("row 1: no key 'alpha'",)),
    "wise-ft training": ('{"alpha": [0.5], "ImageNet:top1": 0.8}', ("it holds no accuracy",)),
    "wise-ft unknown": (
        '{"alpha": 1, "ImageNet:top1": 0.8, "ImageNetQ:top1": 0.8}',
        ("row 1, dataset: unknown data set",),
    ),
    "wise-ft twice": (
        '{"alpha": 0.5, "ImageNet:top1": 0.8}\n{"alpha": 0.50, "ImageNet:top1": 0.8}',
        ("row 2, ImageNet:top1: a second figure of 'alpha=0.5' on imagenet-val; the first is in row 1",),
    ),
    "benchmark unknown": (
        json.dumps([result("imagenet1k", 0.6), result("wds/mars", 0.6)]),
        ("item 2, dataset: unknown data set 'wds/mars'",),
    ),
    "benchmark no model": ('{"dataset": "imagenet1k", "metrics": {"acc1": 0.6}}', ("row 1: no key 'model'",)),
    "benchmark nothing": (json.dumps(result("imagenet1k", 0.6, metrics={"acc5": 0.8})), ("it holds no accuracy",)),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_tables_are_refused_with_file_place_and_what_was_expected(case: str, write: Write) -> None:
    content, parts = WRONG[case]
    suite = None if "unknown" in case else "imagenet"
    path = write(content)
    with pytest.raises(DataError) as caught:
        read(path, suite)
    assert str(caught.value).startswith(f"{path}")
    for part in parts:
        assert part in str(caught.value)
    assert caught.value.hint and caught.value.exit_code == 3


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(MissingData, match="no table can be read there"):
            read(path)


DOCS = Path(__file__).parents[1] / "docs" / "tables.md"


def examples() -> list[str]:
    """The indented blocks of the page."""
    blocks = re.findall(r"(?:^ {4}.+\n)+", DOCS.read_text(), re.MULTILINE)
    return [re.sub(r"^ {4}", "", block, flags=re.MULTILINE) for block in blocks]


@pytest.mark.parametrize("block", examples())
def test_the_examples_of_the_page_are_read(write: Write, block: str) -> None:
    figures = values(read(write(block), "imagenet"))
    assert any("imagenet-v2/own" in model for model in figures.values())
