"""The founding methods on a miniature of each suite with shifts, from ``rbft evaluate`` to a row of a leaderboard."""

from __future__ import annotations

import copy
import importlib
import json
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from miniatures import arrays, imagenet, video, wilds
from miniatures.clip import write_clip
from sklearn.metrics import f1_score
from test_datasets_cifar import pixels, write_batches

from robustbench_ft import compare, evaluation, leaderboard, packs, recipes, records, suites, words
from robustbench_ft.datasets import open_set, part_of
from robustbench_ft.errors import MissingData
from robustbench_ft.evaluation import Order
from robustbench_ft.files import DATA
from robustbench_ft.method import Method, Task
from robustbench_ft.metrics import PACK, RECORD
from robustbench_ft.model import Classifier, load_start, zero_shot_matrix
from robustbench_ft.predict import encode
from robustbench_ft.specs import DatasetSpec
from robustbench_ft.store import Store, fit, using
from robustbench_ft.suites import Suite

METHODS = ("zeroshot", "ft", "lp", "lpft", "l2sp", "flyp", "wiseft", "uniform_soup", "greedy_soup")
INFO = 'title = "{}"\nauthors = ["a test"]\npaper = ""\ndate = "2026-01-01"\nlicence = "MIT"\n'


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_clip(tmp_path_factory.mktemp("model"))


def imagenet_suite(folder: Path) -> Suite:
    imagenet.write_family(folder / "data")
    return suites.load(str(imagenet.small_suite(folder / "suite", recipes="mini")))


def video_suite(folder: Path) -> Suite:
    """Twelve classes of ImageNet as ID; of the groups of the video sets' classes, those that are among them."""
    imagenet.write_imagenet(folder / "data")
    video.write_vid_robust(folder / "data")
    video.write_ytbb_robust(folder / "data")
    base = imagenet.small_suite(folder / "suite")
    given = tomllib.loads((DATA / "suites" / "video.toml").read_text())
    for name in ("imagenet-vid-robust", "ytbb-robust"):
        rows = [
            f"{row.folder},{row.name},{' '.join(w for w in row.group if w in imagenet.WNIDS)}" for row in words.class_table(name)
        ]
        (base.parent / f"{name}.csv").write_text("\n".join(["folder,name,group", *rows]) + "\n")
        text = (DATA / "datasets" / f"{name}.toml").read_text()
        (base.parent / f"{name}.toml").write_text(text.replace(f'classes = "{name}"', f'classes = "{name}.csv"'))
    for table in (given["train"], given["val"], given["test"], *given["shifts"]):
        if "set" in table:
            table["set"] = table["set"].replace("/", ".toml/")
    file = base.with_name("video.toml")
    file.write_text(imagenet._toml(given | {"name": "video-small", "recipes": "mini"}))
    return suites.load(str(file))


def iwildcam_suite(folder: Path) -> Suite:
    wilds.write_iwildcam(folder / "data")
    return suites.load("iwildcam")


def fmow_suite(folder: Path) -> Suite:
    wilds.write_fmow(folder / "data")
    return suites.load("fmow")


def cifar10_suite(folder: Path) -> Suite:
    """The official batches, both versions of CIFAR-10.1 and 10.2, of noise."""
    write_batches(folder / "data")
    for place in ("CIFAR-10.1/datasets", "cifar-10.2"):
        (folder / "data" / place).mkdir(parents=True)
    labels = np.arange(30) % 10
    for version in ("v4", "v6"):
        np.save(folder / "data" / "CIFAR-10.1/datasets" / f"cifar10.1_{version}_data.npy", pixels(30, int(version[1])))
        np.save(folder / "data" / "CIFAR-10.1/datasets" / f"cifar10.1_{version}_labels.npy", labels)
    np.savez(folder / "data" / "cifar-10.2" / "cifar102_test.npz", images=pixels(30, 2), labels=labels)
    return suites.load("cifar10")


SUITES: dict[str, Callable[[Path], Suite]] = {
    "imagenet": imagenet_suite,
    "iwildcam": iwildcam_suite,
    "fmow": fmow_suite,
    "cifar10": cifar10_suite,
    "video": video_suite,
}


def cut_spec(spec: DatasetSpec, folder: Path) -> DatasetSpec:
    """The set as it fits the miniature: its size as found, nobody's digests and checksums."""
    free = spec.model_copy(update={"digest": None, "checksums": ()})
    reader = importlib.import_module(f"robustbench_ft.datasets.{spec.format}")
    found = part_of(reader.read(free, folder / "data", folder / "store"), free, folder / "data")
    return free.model_copy(update={"n": len(found)})


def cut_down(suite: Suite, folder: Path) -> Suite:
    """The suite as it fits the miniature, with the recipes of mini."""
    parts = {part: cut_spec(getattr(suite, part), folder) for part in ("train", "val", "test")}
    shifts = tuple(cut_spec(spec, folder) for spec in suite.shifts)
    return suite.model_copy(update={**parts, "shifts": shifts, "recipes": "mini"})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mini suite's recipes with batches of four and no warm-up: a dozen images make a few steps, and they count."""
    tables = copy.deepcopy(recipes._tables())
    for entry in tables["mini"].values():
        for fields in entry.get("ingredients", [entry]) if isinstance(entry, dict) else ():
            fields["recipe"] = fields.get("recipe", {}) | {"warmup_steps": 0, "batch_size": 4}
    monkeypatch.setattr(recipes, "_tables", lambda: tables)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", SUITES)
def test_from_evaluate_to_a_row_of_a_leaderboard(
    name: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = cut_down(SUITES[name](tmp_path), tmp_path)
    monkeypatch.setattr(suites, "load", lambda given: suite)
    monkeypatch.setenv("RBFT_STORE", str(tmp_path / "store"))
    for method in METHODS:
        folder = tmp_path / "submissions" / method
        order = Order(method=method, suite=suite.name, model=model, data=tmp_path / "data", out=folder / "seed-0", workers=0)
        evaluation.evaluate(order)
        (folder / "submission.toml").write_text(INFO.format(method))
    leaderboard.write(tmp_path, find=lambda given: suite)
    text = (tmp_path / "leaderboard.md").read_text()
    (board,) = leaderboard.read(tmp_path, find=lambda given: suite).boards
    leaderboard.check(tmp_path, find=lambda given: suite)
    assert {entry.submission.name for entry in board.entries} == set(METHODS)
    for entry in board.entries:
        row = entry.submission.scores.headline
        assert f"](submissions/{entry.submission.name})" in text
        assert entry.rank is not None and row.id_ood_mean is not None and set(row.scores) == {spec.name for spec in suite.shifts}
        assert row.id is not None and row.id.low <= row.id.value <= row.id.high
        assert all(score.low <= score.value <= score.high for score in row.scores.values())
        assert set(row.id_on) == {spec.name for spec in suite.shifts if spec.class_groups}
    assert len({entry.submission.first.headline.pack for entry in board.entries}) > len(METHODS) // 2, "methods differ"
    check_by_hand(suite, tmp_path, "greedy_soup")
    verb = compare.run(tmp_path / "submissions/ft", tmp_path / "submissions/zeroshot", suite=None, form="table", as_json=True)
    differences = json.loads(verb)["differences"]
    assert set(differences) == {*(spec.name for spec in suite.tests), "OOD mean", "ID/OOD mean"}
    by_name = {entry.submission.name: entry.submission.scores.headline for entry in board.entries}
    for name, found in differences.items():
        if name in by_name["ft"].scores:
            expected = by_name["ft"].scores[name].value - by_name["zeroshot"].scores[name].value
            assert found["difference"]["value"] == pytest.approx(expected, abs=1e-9)
    assert compare.run(tmp_path / "submissions/ft", tmp_path / "submissions/lp", suite=None, form="table", as_json=False)
    assert "missing" not in capsys.readouterr().err


def check_by_hand(suite: Suite, folder: Path, method: str) -> None:
    """Every value of a record again, from the pack and the data set, the long way."""
    run = folder / "submissions" / method / "seed-0"
    counts, pack = records.load(run / RECORD).headline.counts, packs.load(run / PACK)
    for spec in suite.tests:
        images = open_set(suite, suite.spec(spec.images), folder / "data", folder / "store")
        answers = pack.answers[f"{spec.images}/own"].astype(int)
        also = [values for column, values in images.columns.items() if column.startswith("also-")]
        right = np.array([a in {label, *more} for a, label, *more in zip(answers, images.labels, *also, strict=True)])
        if spec.metric == "top1":
            expected = right.mean()
        elif spec.metric == "macro-f1":
            expected = f1_score(images.labels, answers, labels=np.unique(images.labels), average="macro", zero_division=0)
        elif spec.metric == "worst-region":
            regions = images.columns["region"]
            expected = min(right[regions == region].mean() for region in range(5) if (regions == region).any())
        else:
            near = images.columns["distance"] <= spec.within
            anchors = images.columns["anchor"]
            expected = np.mean([right[(anchors == anchor) & near].all() for anchor in range(anchors.max() + 1)])
        assert counts[f"{spec.name}/own"].accuracy == pytest.approx(expected, abs=1e-12), spec.name
    ids = open_set(suite, suite.test, folder / "data", folder / "store")
    for spec in suite.shifts:
        if spec.class_groups:
            group_of = {label: number for number, group in enumerate(spec.class_groups) for label in group}
            answers = pack.answers[f"{suite.test.name}/{spec.images}"]
            inside = [answers[i] == group_of[label] for i, label in enumerate(ids.labels.tolist()) if label in group_of]
            assert counts[f"{suite.test.name}/{spec.name}"] == records.Counts(k=sum(map(int, inside)), n=len(inside))


def test_a_shift_that_is_not_there_makes_the_run_partial_and_no_submission(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = cut_down(imagenet_suite(tmp_path), tmp_path)
    shutil.rmtree(tmp_path / "data" / "objectnet-1.0")
    monkeypatch.setattr(suites, "load", lambda given: suite)
    monkeypatch.setenv("RBFT_STORE", str(tmp_path / "store"))
    printed = evaluation.evaluate(Order(method="zeroshot", model=model, data=tmp_path / "data", out=tmp_path / "run", workers=0))
    assert "partial" in printed and "objectnet" in printed
    said = capsys.readouterr().err
    assert "missing: objectnet: nothing at" in said
    assert records.load(tmp_path / "run" / RECORD).missing == ("objectnet", "objectnet-own-names")


def test_supported_tasks_are_read_by_heads_of_their_own_words(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Patching MNIST: the answers on CIFAR-100 and STL-10 are those of a zero-shot head from the tuned model's text tower."""
    for name in ("mnist", "cifar100", "stl10"):
        arrays.WRITERS[name](tmp_path / "data")
    whole = suites.load("patching-mnist")
    kept = tuple(spec for spec in whole.shifts if spec.dataset in ("cifar100", "stl10"))
    suite = cut_down(whole.model_copy(update={"shifts": kept}), tmp_path)
    monkeypatch.setattr(suites, "load", lambda given: suite)
    monkeypatch.setenv("RBFT_STORE", str(tmp_path / "store"))
    order = Order(method="flyp", model=model, data=tmp_path / "data", out=tmp_path / "run", workers=0)
    order = replace(order, overrides=[("recipe.warmup_steps", "0"), ("recipe.lr", "0.01"), ("recipe.batch_size", "8")])
    evaluation.evaluate(order)
    pack = packs.load(tmp_path / "run" / PACK)
    with using(Store(tmp_path / "store")):
        start = load_start(model, suite)
        images = [open_set(suite, spec, tmp_path / "data", tmp_path / "store") for spec in (suite.train, suite.val)]
        tuned = evaluation._method(order, suite).fit(start, Task(suite.name, *images, suite.classes, suite.templates))
    for spec in suite.shifts:
        found = open_set(suite, spec, tmp_path / "data", tmp_path / "store")
        head = zero_shot_matrix(tuned.clip, tuned.tokenise, spec.classes, spec.templates)
        expected = (encode(tuned, found).features @ head.T).argmax(1)
        assert pack.answers[f"{spec.name}/own"].tolist() == expected.tolist() and len(spec.classes) > 9
        stale = (
            encode(tuned, found).features @ zero_shot_matrix(start.clip, start.tokenise, spec.classes, spec.templates).T
        ).argmax(1)
        assert stale.tolist() != expected.tolist(), "the start's text tower would answer otherwise"


def test_paint_chooses_alpha_on_the_val_sets_of_supported_tasks_too(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no other method is given them; where one is not there, the run says so and ends."""
    for name in ("mnist", "cifar100", "stl10"):
        arrays.WRITERS[name](tmp_path / "data")
    whole = suites.load("patching-mnist")
    kept = tuple(spec for spec in whole.shifts if spec.dataset in ("cifar100", "stl10"))
    suite = cut_down(whole.model_copy(update={"shifts": kept}), tmp_path)
    small = [spec.model_copy(update={"val": cut_spec(spec.val, tmp_path)}) for spec in suite.shifts if spec.val]
    suite = suite.model_copy(update={"shifts": tuple(small)})
    monkeypatch.setattr(suites, "load", lambda given: suite)
    monkeypatch.setenv("RBFT_STORE", str(tmp_path / "store"))
    seen: dict[str, list[tuple[str, int]]] = {}

    def watched(self: Method, start: Classifier, task: Task) -> Classifier:
        seen.setdefault(self.name, []).extend((one.val.name, len(one.classes)) for one in task.supported)
        return fit(self, start, task)

    monkeypatch.setattr(Method, "fit", watched)
    for name in ("paint", "wiseft"):
        evaluation.evaluate(Order(method=name, model=model, data=tmp_path / "data", out=tmp_path / name, workers=0))
    assert seen["paint"] == [("cifar100-val", 100), ("stl10-val", 10)] and seen["wiseft"] == []
    shutil.rmtree(tmp_path / "data" / "stl10_binary")
    with pytest.raises(MissingData, match="stl10"):
        evaluation.evaluate(Order(method="paint", model=model, data=tmp_path / "data", out=tmp_path / "again", workers=0))
