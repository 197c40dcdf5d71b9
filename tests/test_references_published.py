"""The baselines made of published figures, against the files that they come from and against scipy."""

import csv
import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import scipy.stats
from scipy.special import logit, ndtri

from robustbench_ft import baselines, suites
from robustbench_ft.errors import DataError
from robustbench_ft.suites import Panel

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs the published files of ../shared/data")
FORWARD: Any = {"logit": logit, "probit": ndtri, "linear": np.asarray}
POOLS = [("imagenet", "imagenet-testbed@1"), ("video", "imagenet-testbed@1"), ("cifar10", "cifar10-recht@1")]
R2 = {
    ("imagenet-v2", "full"): (85, 0.996),
    ("objectnet", "class-matched"): (85, 0.9525),
    ("objectnet", "full"): (85, 0.941),
    ("imagenet-r", "class-matched"): (80, 0.8894),
    ("imagenet-r", "full"): (80, 0.8772),
    ("imagenet-sketch", "full"): (85, 0.8690),
}
"""Models and R2, computed from the testbed's table by other means."""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("collect_baselines")


def panel(name: str) -> Panel:
    found = suites.panel(name)
    assert isinstance(found, Panel)
    return found


def share(counts: dict[str, int]) -> float:
    return counts["k"] / counts["n"]


@pytest.mark.parametrize(("suite", "name"), POOLS)
@pytest.mark.parametrize("scale", ["logit", "probit", "linear"])
def test_every_line_agrees_with_linregress(suite: str, name: str, scale: Any) -> None:
    """Every shift, ID axis and piece, from the file's counts alone."""
    raw = json.loads((baselines.BASELINES / f"{name}.json").read_text())
    lines = baselines.load(name).lines(panel(suite), scale)
    pieces = 0
    for shift, axes in lines.items():
        for axis, line in axes.items():
            key = raw["id_set"] if axis == "full" else f"{raw['id_set']}/{shift}"
            has = [m for m in raw["models"] if {key, shift} <= m["counts"].keys()]
            against = [m for m in has if m["name"] == raw.get("filtered", {}).get(shift)]
            split = share(against[0]["counts"][key]) if against else np.inf
            pool = [(share(m["counts"][key]), share(m["counts"][shift])) for m in has if m not in against]
            sides = [[p for p in pool if p[0] <= split], [p for p in pool if p[0] > split]]
            for piece, side in zip(line.pieces, sides[: len(line.pieces)], strict=True):
                theirs = scipy.stats.linregress(*(FORWARD[scale](np.array(values)) for values in zip(*side, strict=True)))
                assert (piece.m, piece.axis, piece.scale) == (len(side), axis, scale)
                assert piece.slope == pytest.approx(theirs.slope, abs=1e-9)
                assert piece.intercept == pytest.approx(theirs.intercept, abs=1e-9)
                assert piece.r2 == pytest.approx(theirs.rvalue**2, abs=1e-9)
                assert piece.s / piece.sxx**0.5 == pytest.approx(theirs.stderr, abs=1e-9)
                pieces += 1
    assert pieces == {"imagenet": 13, "video": 8, "cifar10": 2}[suite]


def test_the_testbed_s_lines() -> None:
    lines = baselines.load("imagenet-testbed@1").lines(panel("imagenet"))
    for (shift, axis), (m, r2) in R2.items():
        (piece,) = lines[shift][axis].pieces
        assert (piece.m, piece.r2) == (m, pytest.approx(r2, abs=6e-5 if r2 != 0.996 else 5e-4))
    assert set(lines["imagenet-v2"]) == {"full"}, "V2 has all classes"
    filtered = lines["imagenet-a"]["class-matched"]
    assert [piece.m for piece in filtered.pieces] == [33, 51] and filtered.split == 0.9186
    assert "R2 0.41" in filtered.pieces[0].unusable and not filtered.pieces[1].unusable


@needs_data
def test_the_testbed_s_counts_are_those_of_its_table() -> None:
    """Pool and counts by another route: percentages that differ from the counts' by no more than float32 does."""
    pool = baselines.load("imagenet-testbed@1")
    tags = json.loads((DATA / "imagenet-testbed" / "model_types.json").read_text())
    with open(DATA / "imagenet-testbed" / "robustness_top1s.csv") as file:
        table = {row["model"]: row for row in csv.DictReader(file)}
    standard = {name for name in table if tags.get(name) == "standard"}
    outside = {name for name in standard if "aws" in name or "batch64" in name or "subsample" in name}
    assert {model.name for model in pool.models} == standard - outside and len(pool.models) == 85
    columns = {
        "imagenet-val": "val",
        "imagenet-v2": "imagenetv2-matched-frequency-format-val",
        "imagenet-v2-original-encoding": "imagenetv2-matched-frequency",
        "imagenet-r": "imagenet-r",
        "objectnet": "objectnet-1.0-beta",
        "imagenet-val/objectnet": "val-on-objectnet-classes",
        "imagenet-val/imagenet-a": "val-on-imagenet-a-classes",
        "imagenet-vid-robust-pm10": "imagenet-vid-robust_pm10",
        "ytbb-robust-pm0": "ytbb-robust_pm0",
        "imagenet-val/ytbb-robust-pm10": "val-on-ytbb-robust-classes",
    }
    for model in pool.models:
        for key, column in columns.items():
            told = table[model.name][column]
            assert (key in model.counts) == bool(told)
            if told:
                assert 100 * model.counts[key].accuracy == pytest.approx(float(told), abs=1e-5)
    lacking = {model.name for model in pool.models if "imagenet-r" not in model.counts}
    assert len(lacking) == 5 and all(name.startswith("resnet50-vtab") for name in lacking)
    assert [model.name for model in pool.models if "imagenet-val/ytbb-robust-pm0" not in model.counts] == ["resnet50-vtab"]
    (filter_model,) = [model for model in pool.models if model.name == pool.filtered["imagenet-a"]]
    assert filter_model.counts["imagenet-a"].accuracy < 0.001, "ImageNet-A holds what it gets wrong"


@needs_data
def test_the_cifar_counts_are_the_predictions_against_the_labels() -> None:
    pool = baselines.load("cifar10-recht@1")
    folder = DATA / "cifar10.1"
    keys = {
        "cifar10": ("original", DATA / "answer-keys" / "cifar10_test_set_original_labels.npy"),
        "cifar10.1": ("v6", folder / "cifar10.1_v6_labels.npy"),
        "cifar10.1-v4": ("v4", folder / "cifar10.1_v4_labels.npy"),
    }
    for name, (version, path) in keys.items():
        labels = [int(label) for label in np.load(path)]
        for model in pool.models:
            answers = json.loads(
                (folder / "predictions" / f"{version}_predictions" / f"{model.name}_predictions.json").read_text()
            )
            right = sum(answer == label for answer, label in zip(answers, labels, strict=True))
            assert (model.counts[name].accuracy, model.counts[name].n) == (right / len(labels), len(labels))


def test_the_cifar_accuracies_span_what_the_authors_report() -> None:
    pool = baselines.load("cifar10-recht@1").models
    spans = {name: sorted(model.counts[name].accuracy for model in pool) for name in ("cifar10", "cifar10.1", "cifar10.1-v4")}
    assert len(pool) == 26
    assert (spans["cifar10"][0], spans["cifar10"][-1]) == (0.8198, 0.9711)
    assert (spans["cifar10.1"][0], spans["cifar10.1"][-1]) == (0.687, 0.931)
    assert (spans["cifar10.1-v4"][0], spans["cifar10.1-v4"][-1]) == (1373 / 2021, 1879 / 2021)


@needs_data
def test_collecting_again_gives_the_same_bytes(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["collect_baselines", "--data", str(DATA), "--out", str(tmp_path)])
    script.main()
    for name in ("imagenet-testbed@1", "cifar10-recht@1"):
        assert (tmp_path / f"{name}.json").read_bytes() == (baselines.BASELINES / f"{name}.json").read_bytes()


def test_a_percentage_that_no_count_gives_is_refused(script: ModuleType) -> None:
    assert script.counts("84.72600555419922", 50_000, "here").k == 42_363
    with pytest.raises(DataError, match=r"val of alexnet: 56\.523% of 10000 is 5652\.300 right answers"):
        script.counts("56.523", 10_000, "val of alexnet")
