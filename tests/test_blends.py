"""WiSE-FT, PAINT and what they are compared with: two models in weight space and in output space, and how alpha is chosen."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import contract
import numpy as np
import pytest
import torch

from robustbench_ft import method, run
from robustbench_ft.batches import Images
from robustbench_ft.datasets import ImageSet
from robustbench_ft.method import Method, Supported, Task
from robustbench_ft.model import Classifier, Ensemble, weights_hash
from robustbench_ft.predict import accuracies, accuracy, best_alpha
from robustbench_ft.run import Run
from robustbench_ft.store import Store, using
from robustbench_ft.suites import Suite
from robustbench_ft.weights import interpolate

GRID = (0.0, 0.25, 0.5, 0.75, 1.0)


def given(name: str, **fields: Any) -> Method:
    return method.load(name).model_validate(fields)


def noisy(scale: float = 0.02) -> Method:
    return given(str(Path(__file__).with_name("noisy.py")), scale=scale)


@pytest.fixture(scope="module")
def pixels(start: Classifier, task: Task) -> torch.Tensor:
    return Images(task.train, start.preprocess, augment=False).batch(np.arange(len(task.train))).images


@torch.no_grad()
def logits(model: Classifier, pixels: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = model(pixels).double()
    return found


# The linear classifier


@pytest.fixture(scope="module")
def probe(start: Classifier, task: Task) -> Classifier:
    """A linear probe that moved far: other weights, and a bias."""
    made = contract.quick("lp").fit(start, task)
    with torch.no_grad():
        made.head.bias.add_(torch.linspace(-3, 3, len(task.classes)))  # type: ignore[union-attr, operator]
        made.head.weight.mul_(1.5)  # type: ignore[union-attr, operator]
    return made


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_on_a_linear_head_it_is_the_ensemble_of_logits_and_of_nothing_else(
    alpha: float, start: Classifier, probe: Classifier, pixels: torch.Tensor
) -> None:
    found = logits(interpolate(start, probe, alpha), pixels)
    zero, one = logits(start, pixels), logits(probe, pixels)
    exact = (1 - alpha) * zero + alpha * one
    assert float((found - exact).abs().max() / exact.abs().max()) < 1e-6
    if 0 < alpha < 1:
        odds = (1 - alpha) * zero.softmax(-1) + alpha * one.softmax(-1)
        assert float((found.softmax(-1) - odds).abs().max()) > 1e-3


def test_end_to_end_it_is_not(start: Classifier, task: Task, pixels: torch.Tensor) -> None:
    tuned = noisy().fit(start, task)
    found = logits(interpolate(start, tuned, 0.5), pixels)
    exact = (logits(start, pixels) + logits(tuned, pixels)) / 2
    assert float((found - exact).abs().max() / exact.abs().max()) > 1e-3


def test_wiseft_over_a_probe_is_that(start: Classifier, task: Task, pixels: torch.Tensor) -> None:
    lp = contract.quick("lp")
    found = given("wiseft", base=lp, alpha=0.3).fit(start, task)
    exact = 0.7 * logits(start, pixels) + 0.3 * logits(lp.fit(start, task), pixels)
    assert float((logits(found, pixels) - exact).abs().max() / exact.abs().max()) < 1e-6
    assert weights_hash(found.clip) == weights_hash(start.clip)


# Alpha


@pytest.mark.parametrize(
    ("scores", "expected"), [([1, 2, 3, 2, 1], 0.5), ([1, 3, 3, 3, 1], 0.25), ([2, 2, 2, 2, 2], 0.0), ([0, 0, 0, 0, 1], 1.0)]
)
def test_the_best_alpha_is_the_lowest_of_the_highest(scores: list[float], expected: float) -> None:
    assert best_alpha(GRID, scores) == expected
    assert best_alpha(GRID[::-1], scores[::-1]) == expected  # whatever the order of the grid


def test_alpha_is_chosen_on_val(start: Classifier, task: Task, tmp_path: Path) -> None:
    base = contract.quick("ft")
    kind = given("wiseft", base=base, choose_alpha=GRID, alpha=0.9)
    with using(Store(tmp_path)):
        found, again, tuned = kind.fit(start, task), kind.fit(start, task), base.fit(start, task)
    scores = [accuracy(interpolate(start, tuned, alpha), task.val) for alpha in GRID]
    best = min(alpha for alpha, score in zip(GRID, scores, strict=True) if score == max(scores))
    assert found.chosen == again.chosen == {"alpha": best} and kind.headline(again) == (f"alpha={best:g}", best)
    assert weights_hash(found) == weights_hash(again) == weights_hash(interpolate(start, tuned, best))


def test_accuracies_in_one_pass_are_those_one_by_one(start: Classifier, task: Task) -> None:
    models = [noisy(scale).fit(start, task) for scale in (0.01, 0.05)]
    found = accuracies([lambda: models[0], lambda: models[1]], task.val, preprocess=start.preprocess)
    assert found == [accuracy(model, task.val) for model in models] and found[0] != found[1]


@pytest.mark.parametrize(("grid", "rule"), [(None, "default"), ((0.5, 1.0), "id_val")])
def test_a_record_says_whether_alpha_was_chosen(grid: Any, rule: str, tiny: Suite, tmp_path: Path) -> None:
    kind = given("wiseft", base=contract.quick("ft"), choose_alpha=grid, alpha=0.25, path_steps=2)
    record = run.evaluate(
        Run(tiny, kind, tiny.start, Store(tmp_path / "store"), tmp_path / "out", selection={"base": "unstated"})
    )
    others = {"base": "unstated", "choose_alpha": "default", "fisher": "default", "path_steps": "default"}
    assert record.selection == {"alpha": rule, **others}
    assert record.config["choose_alpha"] == (list(grid) if grid else None)
    assert record.headline.alpha in (grid or (0.25,)) and record.headline.name == f"alpha={record.headline.alpha:g}"


def test_a_soup_of_methods_that_choose_has_chosen_nothing_itself(start: Classifier, task: Task) -> None:
    kind = given("wiseft", base=noisy(), choose_alpha=GRID)
    assert kind.fit(start, task).chosen
    for name in ("greedy_soup", "uniform_soup"):
        assert given(name, ingredients=[kind]).fit(start, task).chosen == {}


# The Fisher variant


def test_the_fisher_variant_has_exact_ends_and_its_path_goes_through_its_point(start: Classifier, task: Task) -> None:
    fields = {"base": noisy(), "fisher": 6}
    tuned = noisy().fit(start, task)
    zero, middle, one = (given("wiseft", alpha=alpha, **fields).fit(start, task) for alpha in (0.0, 0.5, 1.0))
    assert weights_hash(zero) == weights_hash(start.frozen_head()) and weights_hash(one) == weights_hash(tuned)
    path = {point.alpha: point.classifier for point in given("wiseft", path_steps=2, **fields).path(start, task)}
    assert weights_hash(path[0.5]()) == weights_hash(middle) and weights_hash(path[1.0]()) == weights_hash(tuned)
    assert weights_hash(middle) != weights_hash(interpolate(start, tuned, 0.5))


# Output space


@pytest.mark.parametrize("probabilities", [False, True])
def test_an_ensemble_of_start_and_fine_tuned_has_their_shares(
    probabilities: bool, start: Classifier, task: Task, pixels: torch.Tensor
) -> None:
    found = given("ensemble", ingredients=[noisy()], alpha=0.3, probabilities=probabilities).fit(start, task)
    zero, one = logits(start, pixels), logits(noisy().fit(start, task), pixels)
    if probabilities:
        exact, swapped = ((1 - a) * zero.softmax(-1) + a * one.softmax(-1) for a in (0.3, 0.7))
        found = logits(found, pixels).exp()  # type: ignore[assignment]
    else:
        exact, swapped = ((1 - a) * zero + a * one for a in (0.3, 0.7))
        found = logits(found, pixels)  # type: ignore[assignment]
    scale = exact.abs().max()
    assert float((found - exact).abs().max() / scale) < 2e-6 < 1e-3 < float((found - swapped).abs().max() / scale)


def test_alpha_is_the_share_of_all_fine_tunes_together(start: Classifier, task: Task, pixels: torch.Tensor) -> None:
    found = given("ensemble", ingredients=[noisy(), noisy(0.01)], alpha=0.5).fit(start, task)
    parts = [noisy().fit(start, task), noisy(0.01).fit(start, task.with_seed(1000))]
    exact = 0.5 * logits(start, pixels) + 0.25 * sum(logits(part, pixels) for part in parts)
    assert float((logits(found, pixels) - exact).abs().max() / exact.abs().max()) < 1e-6


# Random interpolation


def test_every_answer_is_one_model_s_and_does_not_depend_on_the_batch(
    start: Classifier, task: Task, pixels: torch.Tensor, tmp_path: Path
) -> None:
    kind = given("random_interpolation", base=noisy(), alpha=0.3)
    with using(Store(tmp_path)):
        kind.fit(start, task)
        found = kind.fit(start, task)  # from the store
    zero, one = logits(start, pixels), logits(noisy().fit(start, task), pixels)
    whole = logits(found, pixels)
    heads = (whole == one).all(-1)
    assert bool((heads ^ (whole == zero).all(-1)).all())
    assert float(heads.double().mean()) == pytest.approx(0.3, abs=0.1)  # 160 images: three standard deviations
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(logits(found, pixels[order])[order.argsort()], whole)
    alone = torch.cat([logits(found, pixels[k : k + 1]) for k in range(20)])
    torch.testing.assert_close(alone, whole[:20], rtol=1e-5, atol=1e-5)


def test_the_coin_is_the_run_s_and_a_larger_alpha_only_adds_heads(start: Classifier, task: Task, pixels: torch.Tensor) -> None:
    tuned = noisy().fit(start, task)
    one = logits(tuned, pixels)

    def heads(alpha: float, coin: int) -> torch.Tensor:
        return (logits(Ensemble([start, tuned], weights=[1 - alpha, alpha], coin=coin, origin=""), pixels) == one).all(-1)

    assert not torch.equal(heads(0.5, 0), heads(0.5, 1))
    counts = [heads(alpha, 0) for alpha in (0.0, 0.2, 0.5, 0.8, 1.0)]
    assert not counts[0].any() and counts[-1].all()
    assert all(bool((more | ~less).all()) for less, more in pairwise(counts))


def test_its_accuracy_is_the_mean_of_the_two_where_a_coin_decides(start: Classifier, pixels: torch.Tensor) -> None:
    """Two classifiers of one class each: the share of either is alpha's, up to chance."""
    always = []
    for number in (0, 1):
        made = start.frozen_head()
        with torch.no_grad():
            made.head.bias[number] += 1e4  # type: ignore[union-attr, index, operator]
        always.append(made)
    found = logits(Ensemble(always, weights=[0.25, 0.75], coin=7, origin=""), pixels).argmax(-1)
    assert float(found.double().mean()) == pytest.approx(0.75, abs=0.1)


# PAINT


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Made-up accuracies for PAINT, by the name of the set; returns the sets and words that it asked for."""
    asked: list[tuple[str, Any]] = []
    scores = {
        "tiny-val": [0.2, 0.5, 0.8, 0.90, 0.95],
        "kept-a": [0.9, 0.9, 0.8, 0.40, 0.10],
        "kept-b": [0.9, 0.9, 0.8, 0.75, 0.70],
    }

    def accuracies(makes: Sequence[Any], images: ImageSet, *, words: Any = None, **_: Any) -> list[float]:
        asked.append((images.name, words))
        return scores[images.name]

    monkeypatch.setattr(sys.modules[method.load("paint").__module__], "accuracies", accuracies)
    return asked


@pytest.mark.parametrize(
    ("kept", "alpha"),
    [
        ((), 1.0),
        (("kept-b",), 0.75),  # 0.825 against 0.8 and 0.825 at 1: the lower of equals
        (("kept-a",), 0.5),  # 0.8
        (("kept-a", "kept-b"), 0.5),  # the mean of patched and mean of kept: 0.8; at 0.75 0.7375
        (("kept-b", "kept-b", "kept-b"), 0.75),  # the supported count as much as the patched together, however many
    ],
)
def test_paint_weighs_the_patched_task_as_much_as_the_supported_together(
    kept: tuple[str, ...], alpha: float, scripted: list[tuple[str, Any]], start: Classifier, task: Task
) -> None:
    supported = tuple(Supported(replace(task.val, name=name), ("a", name), ("{}",)) for name in kept)
    found = given("paint", base=noisy(), choose_alpha=GRID).adapt(start, replace(task, supported=supported))
    assert found.chosen == {"alpha": alpha}
    assert scripted == [("tiny-val", None), *((name, (("a", name), ("{}",))) for name in kept)]
    assert weights_hash(found) == weights_hash(interpolate(start, noisy().fit(start, task), alpha))


def test_paint_trains_the_image_tower_alone_and_leaves_every_zero_shot_head(start: Classifier, task: Task) -> None:
    kind = given("paint", base=contract.quick("paint").base, alpha=0.5)  # type: ignore[attr-defined]
    found, base = kind.fit(start, task), start.frozen_head().state_dict()
    moved = {name for name, value in found.state_dict().items() if not torch.equal(value, base[name])}
    assert moved and all(name.startswith("clip.visual") for name in moved)
    with torch.no_grad():
        one, two = (model.reading(("boat", "leaf"), ("a {}",)).matrix()[0] for model in (start, found))
    assert torch.equal(one, two)


def test_paint_reads_a_supported_set_behind_its_own_words(start: Classifier, task: Task) -> None:
    """With the words of the patched task its labels would be wrong: here they are the same classes in another order."""
    order = np.random.default_rng(0).permutation(len(task.classes))
    labels = np.argsort(order)[task.val.labels]
    other = Supported(replace(task.val, labels=labels), tuple(task.classes[k] for k in order), task.templates)
    plain = accuracies([lambda: start], task.val, preprocess=start.preprocess)
    own = accuracies([lambda: start], other.val, words=(other.classes, other.templates), preprocess=start.preprocess)
    assert own == plain != accuracies([lambda: start], other.val, preprocess=start.preprocess)
    found = given("paint", base=noisy(), choose_alpha=GRID).fit(start, replace(task, supported=(other,)))
    alone = given("paint", base=noisy(), choose_alpha=GRID).fit(start, task)
    assert found.chosen == alone.chosen  # the same pictures under the same names keep the same alpha


def test_the_supported_tasks_are_part_of_what_a_fit_is_kept_under(start: Classifier, task: Task) -> None:
    from robustbench_ft.store import fit_key

    kind = given("paint", base=noisy())
    tasks = [
        task,
        *(
            replace(task, supported=(Supported(task.val, words, templates),))
            for words, templates in ((("a",), ("{}",)), (("b",), ("{}",)), (("a",), ("x {}",)))
        ),
    ]
    assert len({fit_key(kind, start, one) for one in tasks}) == 4


def test_paint_says_what_it_uses_beyond_the_id_data() -> None:
    declared = {name: method.load(name).data_beyond_id for name in ("paint", "wiseft", "greedy_soup", "learned_soup")}
    assert declared.pop("paint").startswith("val sets of the supported tasks") and set(declared.values()) == {"none"}
    assert json.loads(json.dumps(given("paint").dump()))["base"]["train_head"] is False
