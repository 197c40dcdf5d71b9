import csv
import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fabricated import CLASSES, FT, SETS, WISE, make_run, make_suite

from robustbench_ft import suites
from robustbench_ft.errors import MissingData, UnknownName, UsageError
from robustbench_ft.power import DISAGREEMENTS, SEEDS, _rows, _split, power, run
from robustbench_ft.sides import Side, answers, read
from robustbench_ft.statistics import Noise, paired_variance, pooled_seed_variance, smallest_gap
from robustbench_ft.yardstick import BOTH, OOD, measures

ROOT = Path(__file__).parents[1]


def printed(suite: str, root: Path = ROOT, **options: Any) -> str:
    plain = {"gap": None, "accuracy": None, "disagreement": None, "form": "table", "as_json": False}
    return run(suite, root=root, **(plain | options))


def test_assumed_disagreement_by_hand() -> None:
    """sqrt(d / n) times 1.960 + 0.842; five sets of the OOD mean have a fifth of the weight each."""
    found = power("imagenet", root=ROOT, disagreement=0.1, gap=0.5)
    (val,), (ood,) = found.resolutions["imagenet-val"], found.resolutions[OOD]
    assert val.gap == pytest.approx(2.80159 * (0.1 / 50_000) ** 0.5, rel=1e-5)
    assert val.images == 31_396
    panel = suites.panel("imagenet")
    assert isinstance(panel, suites.Panel)
    sizes = [spec.n for spec in panel.headline_shifts if spec.n]
    assert ood.gap == pytest.approx(2.80159 * sum(0.1 / n for n in sizes) ** 0.5 / len(sizes), rel=1e-5)
    assert ood.images == -(-31_396 // len(sizes))
    assert len(power("imagenet", root=ROOT).resolutions[BOTH]) == len(DISAGREEMENTS)


def test_an_accuracy_means_two_models_on_images_of_their_own() -> None:
    (pm10,) = power("video", root=ROOT, accuracy=0.7).resolutions["imagenet-vid-robust-pm10"]
    assert pm10.gap == pytest.approx(2.80159 * (2 * 0.21 / 1109) ** 0.5, rel=1e-5)
    assert "unpaired" in printed("video", accuracy=0.7)


def test_a_track_has_the_mean_over_its_sets() -> None:
    found = power("transfer", root=ROOT, disagreement=0.07).resolutions
    single = [cases[0].gap for name, cases in found.items() if name != "mean"]
    assert found["mean"][0].gap == pytest.approx(float(np.sqrt(np.sum(np.square(single)))) / len(single))


def test_measured_on_the_submissions_as_the_board_measures() -> None:
    """At three seeds: the median over pairs of the paired variance, two thirds of the pooled seed variance."""
    suite = suites.load("mini")
    rows = [read(path, suite, answers(suite)) for path in sorted((ROOT / "submissions").glob("mini-*"))]
    for name, weights in measures(suite, [spec.name for spec in suite.tests]).items():
        images = [paired_variance(a.shares, b.shares, weights) for a, b in itertools.combinations(rows, 2)]
        seed = pooled_seed_variance(row.values(weights) for row in rows if not row.first.deterministic)
        assert seed
        found = power("mini", root=ROOT).resolutions[name][SEEDS.index(3)]
        assert found.gap == pytest.approx(smallest_gap(float(np.median(images)), Noise(seed.variance * 2 / 3, seed.df)))


def test_image_variance_at_other_numbers_of_seeds(tmp_path: Path) -> None:
    """From three seeds, what ten seeds and one seed have (planted: each image has its own chance to be right)."""
    suite = make_suite(tmp_path, 10)
    generator = np.random.default_rng(0)
    chance = generator.beta(2, 1, (2, 60_000))
    record = make_run(tmp_path / "run", suite, FT)

    def sides(seeds: int) -> list[Side]:
        hits = [[{"s/own": generator.random(60_000) < row} for _ in range(seeds)] for row in chance]
        return [Side(name, (record,) * seeds, tuple(row)) for name, row in zip("AB", hits, strict=True)]

    a, b = sides(3)
    assert _split(a, b, "s").at(3) == pytest.approx(np.var(a.shares["s"] - b.shares["s"], ddof=1))
    for seeds in (1, 10):
        c, d = sides(seeds)
        assert _split(a, b, "s").at(seeds) == pytest.approx(np.var(c.shares["s"] - d.shares["s"]), rel=0.03)


def test_submissions_of_another_protocol_or_without_packs_are_not_measured(tmp_path: Path) -> None:
    suite = make_suite(tmp_path)
    other = make_suite(tmp_path / "other", version=2)
    folder = tmp_path / "submissions"
    for name, values in (("a", FT), ("b", WISE)):
        make_run(folder / name / "seed-0", suite, values, method=name)
    make_run(folder / "elsewhere" / "seed-0", other, FT)
    make_run(folder / "counts" / "seed-0", suite, FT)
    (folder / "counts" / "seed-0" / "pack.safetensors").unlink()
    (folder / "figures").mkdir()
    assert [Path(row.name).name for row in _rows(folder, suite)] == ["a", "b"]
    text = printed(str(suite.file), tmp_path)
    assert "Measured on 2 submissions" in text and "Seed noise is unknown" in text
    (tmp_path / "new" / "submissions").mkdir(parents=True)
    assert "Assumed" in printed(str(suite.file), tmp_path / "new")
    with pytest.raises(MissingData, match="nothing here: no submissions/ there"):
        printed(str(suite.file), tmp_path / "nothing here")
    assert len(suite.classes) == CLASSES


def test_every_format_says_the_same() -> None:
    found = power("mini", root=ROOT, gap=1.0)
    text = printed("mini", gap=1.0)
    assert max(map(len, text.splitlines())) <= 120
    line = next(line for line in text.splitlines() if line.startswith(BOTH))
    assert line.split()[2:] == [f"{100 * one.gap:.2f}" for one in found.resolutions[BOTH]]
    document = json.loads(printed("mini", gap=1.0, as_json=True))
    assert document["gap"] == 0.01
    assert document["resolutions"][OOD][0]["gap"] == found.resolutions[OOD][0].gap
    rows = list(csv.DictReader(io.StringIO(printed("mini", gap=1.0, form="csv"))))
    assert float(rows[0]["gap"]) == found.resolutions["mini-test"][0].gap
    assert r"80\%" in printed("mini", form="latex") and "|---" in printed("mini", form="markdown").replace(":", "-")


def test_sets_without_a_size_are_left_out_and_said(tmp_path: Path) -> None:
    extra = {SETS[1]: 'metric = "macro-f1"'}
    suite = make_suite(tmp_path, extra=extra)
    found = power(str(suite.file), root=None, disagreement=0.1)
    assert SETS[1] not in found.resolutions and OOD not in found.resolutions
    assert any(SETS[1] in note for note in found.notes)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"gap": 0.0}, "--gap 0.0: expected points"),
        ({"accuracy": 70.0}, "--accuracy 70.0: expected a fraction"),
        ({"disagreement": 0.0}, "--disagreement 0.0: expected a fraction"),
        ({"disagreement": float("nan")}, "--disagreement nan"),
        ({"accuracy": 0.7, "disagreement": 0.1}, "give one of them"),
        ({"form": "html"}, "unknown format"),
    ],
)
def test_bad_options(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        printed("mini", **options)


def test_unknown_suite_and_one_without_shares_of_right_answers() -> None:
    with pytest.raises(UnknownName, match="unknown suite 'imagnet'"):
        printed("imagnet")
    with pytest.raises(UsageError, match="iwildcam: no test set"):
        printed("iwildcam")
