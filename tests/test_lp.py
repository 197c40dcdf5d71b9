"""Linear probes and LP-FT: which features the head reads, where it begins, and what chooses the penalty."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import contract
import numpy as np
import pytest
import torch
from open_clip.model import CLIP
from open_clip.transform import PreprocessCfg
from sklearn.linear_model import LogisticRegression

from robustbench_ft import method
from robustbench_ft.batches import Images
from robustbench_ft.errors import UsageError
from robustbench_ft.method import Method, Task
from robustbench_ft.mini import clip as small
from robustbench_ft.model import Classifier, Derived, Trained, weights_hash
from robustbench_ft.preprocess import Preprocess
from robustbench_ft.probes import Sweep
from robustbench_ft.store import Store
from robustbench_ft.weights import interpolate

VARIANTS = ("adamw", "sklearn", "lbfgs")
SWEEP = Sweep(low=-4, high=2, count=13, max_iter=200)


def lp(variant: str = "adamw", **fields: Any) -> Method:
    return contract.quick("lp").model_copy(update={"variant": variant, "sweep": SWEEP, **fields})


def lpft(probe: Method, **fields: Any) -> Method:
    kind = contract.quick("lpft")
    recipe = kind.recipe.model_copy(update=fields)  # type: ignore[attr-defined]
    return kind.model_copy(update={"probe": probe, "recipe": recipe})


def pixels(data: Any, model: Classifier) -> torch.Tensor:
    return Images(data, model.preprocess, augment=False).batch(np.arange(len(data))).images


@torch.no_grad()
def raw(model: Classifier, data: Any) -> np.ndarray:
    """Features as the tower gives them, float64 [N, D]."""
    found: torch.Tensor = model.clip.encode_image(model.preprocess.normalise(pixels(data, model)))
    return found.double().numpy()


@torch.no_grad()
def logits(model: Classifier, data: Any) -> np.ndarray:
    found: torch.Tensor = model(pixels(data, model))
    return found.numpy()


def head(model: Classifier) -> Trained:
    assert isinstance(model.head, Trained)
    return model.head


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_moves_the_head_alone_and_comes_back_from_the_store(
    variant: str, start: Classifier, task: Task, tmp_path: Path
) -> None:
    kind, before = lp(variant), contract.snapshot(start)
    made, again = (contract.fit(kind, start, task, Store(tmp_path)) for _ in range(2))
    assert contract.snapshot(start) == before and weights_hash(made.clip) == weights_hash(start.clip)
    assert head(made).normalize is head(again).normalize is (variant == "adamw")
    np.testing.assert_array_equal(logits(again, task.val), logits(made, task.val))
    assert again.chosen == made.chosen and set(made.chosen) == (set() if variant == "adamw" else {"sweep"})
    assert contract.error(made, task) < contract.error(start, task)
    contract.survives_json(kind)


@pytest.mark.parametrize("variant", ["sklearn", "lbfgs"])
def test_the_logistic_regression_is_the_paper_s_by_an_independent_loop(variant: str, start: Classifier, task: Task) -> None:
    fitted = lp(variant).fit(start, task)
    train, val = raw(start, task.train), raw(start, task.val)
    assert np.std(np.linalg.norm(train, axis=1)) > 0.05  # else normalising would not matter
    mean, std, best = train.mean(), train.std(), (-1.0, 0.0, np.zeros(0))
    model = LogisticRegression(max_iter=200, warm_start=True)
    for cost in SWEEP.values():
        model.set_params(C=cost).fit((train - mean) / std, task.train.labels)
        accuracy = model.score((val - mean) / std, task.val.labels)
        if accuracy > best[0]:
            best = accuracy, cost, model.decision_function((val - mean) / std)
    assert fitted.chosen == {"sweep": best[1]}
    np.testing.assert_allclose(logits(fitted, task.val), best[2], atol=1e-3)


def test_the_penalty_is_chosen_on_val_and_on_nothing_else(start: Classifier, task: Task) -> None:
    plain = lp("lbfgs").fit(start, task)
    random = np.random.default_rng(0)
    other = replace(task.val, labels=random.permutation(task.val.labels), digest="another")
    moved = lp("lbfgs").fit(start, replace(task, val=other))
    assert moved.chosen != plain.chosen
    fixed = SWEEP.model_copy(update={"low": np.log10(plain.chosen["sweep"]), "high": np.log10(plain.chosen["sweep"]), "count": 1})
    one, two = (lp("lbfgs", sweep=fixed).fit(start, given) for given in (task, replace(task, val=other)))
    assert torch.equal(head(one).weight, head(two).weight)


def test_the_linear_classifier_begins_at_the_zero_shot_head(start: Classifier, task: Task) -> None:
    still = lp().recipe.model_copy(update={"lr": 1e-9})  # type: ignore[attr-defined]
    fitted = lp(recipe=still).fit(start, task)
    torch.testing.assert_close(head(fitted).weight, start.matrix()[0], rtol=0, atol=1e-6)


def test_a_random_head_is_drawn_as_pytorch_draws_it_and_by_the_seed(start: Classifier, task: Task) -> None:
    still = lp().recipe.model_copy(update={"lr": 1e-12, "weight_decay": 0.0})  # type: ignore[attr-defined]
    kind = lp(recipe=still, init="random")
    one, same, other = (head(kind.fit(start, task.with_seed(seed))).weight.detach() for seed in (0, 0, 1))
    bound = 1 / one.shape[1] ** 0.5
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert one.shape == (20, 96) and 0.97 * bound < one.abs().max() <= bound and abs(one.mean()) < 0.1 * bound
    assert head(kind.fit(start, task)).normalize


@pytest.mark.parametrize(("fields", "recipe"), [({"l1": 0.01}, {}), ({}, {"label_smoothing": 0.2}), ({}, {"weight_decay": 0.3})])
def test_every_regulariser_of_the_paper_s_search_shrinks_the_head(
    fields: dict[str, Any], recipe: dict[str, float], start: Classifier, task: Task
) -> None:
    base = lp().recipe.model_copy(update={"weight_decay": 0.0, "lr": 0.05})  # type: ignore[attr-defined]
    plain = lp(recipe=base).fit(start, task)
    held = lp(recipe=base.model_copy(update=recipe), **fields).fit(start, task)
    assert head(held).weight.abs().sum() < head(plain).weight.abs().sum()


# A head on features as they are


@pytest.fixture(scope="module")
def unnormalised(start: Classifier, task: Task) -> Classifier:
    return lp("lbfgs").fit(start, task)


def test_a_head_on_features_as_they_are_stays_so_in_every_copy(unnormalised: Classifier, task: Task) -> None:
    weight, bias = (part.detach().double().numpy() for part in (head(unnormalised).weight, head(unnormalised).bias))
    expected = raw(unnormalised, task.val) @ weight.T + bias
    for model in (unnormalised, copy.deepcopy(unnormalised), unnormalised.frozen_head()):
        assert not head(model).normalize
        np.testing.assert_allclose(logits(model, task.val), expected, atol=1e-3)
    assert unnormalised.reading(task.classes, task.templates).head.normalize


def test_it_cannot_be_averaged_with_one_on_normalised_features(unnormalised: Classifier, start: Classifier, task: Task) -> None:
    for other in (start, lp().fit(start, task)):
        with pytest.raises(UsageError, match="L2-normalised features and one that reads them as they are"):
            interpolate(other, unnormalised, 0.5)
    between = interpolate(unnormalised, unnormalised, 0.5)
    assert not head(between).normalize


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_second_stage_of_lpft_starts_from_the_probe_and_reads_features_as_it_does(
    variant: str, start: Classifier, task: Task, tmp_path: Path
) -> None:
    probe, store = lp(variant), Store(tmp_path)
    first = contract.fit(probe, start, task, store)
    still = contract.fit(lpft(probe, lr=1e-12, weight_decay=0.0), start, task, store)
    np.testing.assert_allclose(logits(still, task.val), logits(first, task.val), atol=1e-4)
    fitted, again = (contract.fit(lpft(probe), start, task, store) for _ in range(2))
    assert head(fitted).normalize is head(again).normalize is (variant == "adamw")
    assert not torch.equal(head(fitted).weight, head(first).weight)
    assert weights_hash(fitted.clip.visual) != weights_hash(start.clip.visual)
    weight, bias = (part.detach().double().numpy() for part in (head(fitted).weight, head(fitted).bias))
    features = raw(fitted, task.val)
    if variant == "adamw":
        features /= np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(logits(again, task.val), features @ weight.T + bias, atol=1e-3)


def test_the_paper_s_recipe_is_a_matter_of_fields() -> None:
    recipe = {
        "optimizer": "sgd",
        "schedule": "cosine_epoch",
        "weight_decay": 0,
        "clip": None,
        "warmup_steps": 0,
        "eval_mode": True,
    }
    given = [
        ("probe.variant", "lbfgs"),
        ("probe.sweep.count", 50),
        *((f"recipe.{name}", value) for name, value in recipe.items()),
    ]
    kind = method.configure("lpft", recipe_table="mini", overrides=given)
    assert {name: kind.dump()["recipe"][name] for name in recipe} == recipe
    assert kind.probe.sweep == Sweep(count=50)  # type: ignore[attr-defined]


@pytest.mark.parametrize("eval_mode", [True, False])
def test_running_statistics_of_a_resnet_stand_still_in_eval_mode(eval_mode: bool, task: Task) -> None:
    tokenise = small.WordTokenizer()
    vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    text = {"context_length": tokenise.context_length, "vocab_size": len(tokenise.words), "width": 32, "heads": 2, "layers": 1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = CLIP(24, vision, text).eval()
    preprocess = Preprocess(PreprocessCfg(size=32, mean=small.MEAN, std=small.STD))
    resnet = Classifier(clip, Derived(task.classes, task.templates), preprocess, tokenise, origin="resnet").eval()
    fitted = lpft(lp("lbfgs"), eval_mode=eval_mode).fit(resnet, task)
    before, after = (model.clip.visual.bn1.running_mean for model in (resnet, fitted))
    assert torch.equal(before, after) is eval_mode
    assert not torch.equal(resnet.clip.visual.conv1.weight, fitted.clip.visual.conv1.weight)
