"""scripts/methods_report.py and scripts/orderings.py: differences, verdicts, page and pictures; and what they wrote."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fabricated import FT, SETS, START, WISE, make_run, make_suite, mix
from PIL import Image

from robustbench_ft import method, sides
from robustbench_ft.method import Task
from robustbench_ft.model import Classifier
from robustbench_ft.sides import Side
from robustbench_ft.statistics import Interval
from robustbench_ft.suites import Suite

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 40_000
"""Bytes of a picture of docs/methods."""


@pytest.fixture
def orderings(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("orderings")


@pytest.fixture
def report(orderings: Any) -> Any:
    return importlib.import_module("methods_report")


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return make_suite(tmp_path)


@pytest.fixture
def row(suite: Suite, tmp_path: Path) -> Callable[..., Side]:
    """Makes a row of runs with planted accuracies and reads it back."""

    def make(name: str, values: tuple[float, ...], seeds: tuple[int, ...] = (0, 1, 2), **fields: Any) -> Side:
        for seed in seeds:
            make_run(tmp_path / name / f"seed-{seed}", suite, values, seed=seed, method=name, **fields)
        return sides.read(tmp_path / name, suite, sides.answers(suite))

    return make


# Above the segment


def height(accuracy: Callable[[Side, str], float], middle: Side, end: Side, start: Side) -> float:
    """OOD mean above the segment, written out again: a point on the straight line through both ends."""
    x = [accuracy(side, SETS[0]) for side in (middle, end, start)]
    y = [np.mean([accuracy(side, name) for name in SETS[1:]]) for side in (middle, end, start)]
    return float(y[0] - np.interp(x[0], [x[2], x[1]], [y[2], y[1]]))


def test_height_above_the_segment_is_that_of_the_line_through_both_ends(row: Any, suite: Suite, orderings: Any) -> None:
    middle, end, start = row("wiseft", WISE), row("ft", FT), row("zeroshot", START, (0,), deterministic=True)
    found = orderings.above_segment(middle, end, start, suite)
    one = [
        height(lambda side, name, k=seed: side.values({name: 1.0})[k if len(side.runs) > 1 else 0], middle, end, start)  # type: ignore[misc]
        for seed in range(3)
    ]
    assert found.value == pytest.approx(np.mean(one), abs=1e-12) and found.value > 0.03
    assert found.low < found.value < found.high


def test_its_interval_is_that_of_the_influence_of_every_image(row: Any, suite: Suite, orderings: Any) -> None:
    middle, end, start = (row(name, values, (0,)) for name, values in (("wiseft", WISE), ("ft", FT), ("zeroshot", START)))
    found, variance, step = orderings.above_segment(middle, end, start, suite), 0.0, 1e-4
    for name in SETS:
        n = len(middle.shares[name])
        influence = []
        for image in range(n):
            weights = np.full(n, (1 - step) / n)
            weights[image] += step

            def accuracy(side: Side, other: str, name: str = name, weights: Any = weights) -> float:
                return float(side.shares[other] @ weights if other == name else side.shares[other].mean())

            influence.append((height(accuracy, middle, end, start) - found.value) / step)
        variance += float(np.var(influence, ddof=1)) / n
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * variance**0.5, rel=1e-3)


def test_an_end_lies_on_its_own_segment_and_seeds_must_match(row: Any, suite: Suite, orderings: Any) -> None:
    end, start = row("ft", FT), row("zeroshot", START, (0,), deterministic=True)
    assert orderings.above_segment(end, end, start, suite) == pytest.approx((0, 0, 0), abs=1e-12)
    with pytest.raises(ValueError, match="different seeds"):
        orderings.above_segment(row("wiseft", WISE, (0, 1)), end, start, suite)


# Claims


@pytest.mark.parametrize(
    ("interval", "says", "told"),
    [
        ((0.1, 0.02, 0.2), "above", "holds"),
        ((0.1, 0.02, 0.2), "at least", "holds"),
        ((0.1, -0.01, 0.2), "above", "is not resolved"),
        ((-0.1, -0.3, 0.1), "at least", "is not contradicted"),
        ((-0.1, -0.2, -0.02), "above", "does **not** hold: the other way round"),
        ((-0.1, -0.2, -0.02), "at least", "does **not** hold: the other way round"),
        ((0.1, 0.02, 0.2), "the same", "does **not** hold: they differ"),
        ((0.1, -0.1, 0.2), "the same", "holds: no difference found"),
        (None, "above", "cannot be compared"),
    ],
)
def test_a_claim_holds_where_the_whole_interval_is_on_its_side(interval: Any, says: str, told: str, orderings: Any) -> None:
    assert orderings.verdict(interval and Interval(*interval), says) == told


def test_claims_are_about_methods_that_are_there_and_name_who_reports_them(report: Any, orderings: Any) -> None:
    known = {*method.names(), *report.CONTROLS}
    assert all({claim.a, claim.b} <= known and claim.source in {"", *orderings.SOURCES} for claim in orderings.CLAIMS)
    assert len(set(orderings.CLAIMS)) == len(orderings.CLAIMS)
    local = [link for link in orderings.SOURCES.values() if not link.startswith("https://arxiv.org/abs/")]
    assert local and all((ROOT / "docs" / link).is_file() for link in local)


# The page


def test_the_page_has_a_line_per_method_and_per_claim_whose_rows_are_there(
    row: Any, suite: Suite, report: Any, tmp_path: Path
) -> None:
    row("ft", FT)
    row("zeroshot", START, (0,), deterministic=True)
    row("ft_third", mix(0.8))
    path = {f"alpha={alpha:g}": mix(alpha) for alpha in (0.25, 0.5, 1.0)}
    row("wiseft", WISE, headline="alpha=0.5", path=path)
    names = ("wiseft", "ft", "zeroshot", "ft_third")
    found = {name: report.read(tmp_path / name, suite, tmp_path) for name in names}
    page = report.page(found, suite)
    rows = re.findall(r"^\| (?:\[(\w+)\]\(methods/\1\.md\)|\*(\w+)\*) +\|", page, re.M)
    assert sorted(a or b for a, b in rows) == sorted(names) and rows[0] == ("wiseft", "")
    lines = {line.split(" | ")[0].strip("| "): line for line in page.splitlines() if line.startswith("| `")}
    assert [claim for claim in lines if "`lpft`" in claim or "soup" in claim] == []
    assert "+9.5 ±" in lines["`ft` above `zeroshot` in ID"]  # 344 and 306 of 400
    assert "holds" in lines["`wiseft` above the segment from the start to `ft`, OOD at the same ID"]
    assert "deterministic" in page and "image and seed noise" in page and "do not hold" in page
    path_of_picture = tmp_path / "docs" / "wiseft.png"
    report.picture("wiseft", found, path_of_picture)
    assert 1000 < path_of_picture.stat().st_size <= LARGEST
    with Image.open(path_of_picture) as drawn:
        assert drawn.format == "PNG" and 600 < drawn.width < 1200


def test_the_page_says_that_one_seed_tells_nothing_of_seed_noise(row: Any, suite: Suite, report: Any, tmp_path: Path) -> None:
    row("ft", FT, (0,))
    assert "that of seeds needs three or more" in report.page({"ft": report.read(tmp_path / "ft", suite, tmp_path)}, suite)


def test_finished_runs_are_not_made_again_and_a_deterministic_method_has_one(
    report: Any, suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini = report.suites.load("mini")
    made: list[tuple[str, int]] = []

    def evaluate(asked: Any) -> Any:
        made.append((asked.method.name, asked.seed))
        return make_run(asked.out, suite, FT)

    monkeypatch.setattr(report.run, "evaluate", evaluate)
    for _ in range(2):
        for name in ("zeroshot", "ft_third", "best_ingredient"):
            report.make(name, mini, [0, 1], runs=tmp_path / "runs", kept=report.store.Store(tmp_path / "store"))
    assert made == [("zeroshot", 0), ("ft", 0), ("ft", 1), ("best_ingredient", 0), ("best_ingredient", 1)]
    assert report.named("ft_third", mini).recipe.lr == pytest.approx(report.named("ft", mini).recipe.lr / 3)
    assert report.named("best_ingredient", mini).ingredients == report.named("greedy_soup", mini).ingredients


def test_the_best_ingredient_is_the_best_on_val_and_the_later_of_equals(start: Classifier, task: Task) -> None:
    file = str(ROOT / "scripts" / "best_ingredient.py")
    one, other = ({"method": "ft", "recipe": {"lr": lr, "epochs": 1, "warmup_steps": 0}} for lr in (1e-3, 1e-12))

    def chosen(*ingredients: dict[str, Any]) -> tuple[Classifier, list[Classifier]]:
        best = method.configure(file, recipe_table="mini", overrides=[("ingredients", list(ingredients))])
        fits = [
            ingredient.fit(start, task.with_seed(task.seed + 1000 * number))
            for number, ingredient in enumerate(best.ingredients)  # type: ignore[attr-defined]
        ]
        return best.fit(start, task), fits

    def weights(model: Classifier) -> bytes:
        return b"".join(value.detach().numpy().tobytes() for value in model.parameters())

    for pair in ((one, other), (other, one)):
        best, fits = chosen(*pair)
        accuracy = [task.accuracy(model) for model in fits]
        assert weights(best) == weights(fits[max(range(2), key=lambda k: (accuracy[k], k))])
    best, fits = chosen(other, other)
    assert task.accuracy(fits[0]) == task.accuracy(fits[1]) and weights(best) == weights(fits[1])


# What was written


def test_every_method_has_a_title_for_its_submission(orderings: Any) -> None:
    assert set(importlib.import_module("run_methods").ROWS) == set(method.names())


@pytest.mark.parametrize("name", method.names())
def test_a_method_s_page_shows_its_picture_which_is_small(name: str) -> None:
    pages = ROOT / "docs" / "methods"
    assert f"]({name}.png)" in (pages / f"{name}.md").read_text(encoding="utf-8")
    assert (pages / f"{name}.png").stat().st_size <= LARGEST


def test_the_page_of_all_methods_has_them_all_with_three_seeds(report: Any) -> None:
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| \[(\w+)\]\(methods/", page, re.M)) == set(method.names())
    assert "mean over 3 seeds" in page and page.count("| `") >= len(report.CLAIMS)
