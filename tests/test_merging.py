"""Fisher information and merging, and Model Stock's ratio, against formulas worked by hand or in float64."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from robustbench_ft import method
from robustbench_ft.batches import Images
from robustbench_ft.errors import UsageError
from robustbench_ft.merging import FLOOR, fisher, fisher_average, fisher_share, information_ratio, stock_ratios
from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier, weights_hash
from robustbench_ft.weights import interpolate

COUNT = 12


def moved(model: Classifier, seed: int, scale: float = 0.02) -> Classifier:
    made, generator = model.frozen_head(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.startswith(("clip.visual", "head")):
                parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    made.origin = f"moved {seed}"
    return made


@pytest.fixture(scope="module")
def models(start: Classifier) -> list[Classifier]:
    return [moved(start, seed) for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def fishers(models: list[Classifier], task: Task) -> list[dict[str, Tensor]]:
    return [fisher(model, task.val, COUNT, seed=5) for model in models]


# The diagonal Fisher information


def test_the_information_of_a_linear_head_is_the_one_worked_by_hand(models: list[Classifier], task: Task) -> None:
    """d log p_y / dW = (onehot(y) - p) f^T: its square, averaged over the examples."""
    model = models[0]
    found = fisher(model, task.val, COUNT, seed=5)
    chosen = np.random.Generator(np.random.PCG64(5)).permutation(len(task.val))[:COUNT]
    draws, parts = torch.Generator().manual_seed(5), []
    for index in chosen:
        with torch.no_grad():
            features = model.encode(Images(task.val, model.preprocess, augment=False).batch(np.array([index])).images)
            chances = model.classify(features).softmax(-1)[0]
        label = torch.multinomial(chances, 1, generator=draws)
        residual = F.one_hot(label[0], len(chances)).double() - chances.double()
        parts.append((residual, torch.outer(residual, features[0].double())))
    bias, weight = (torch.stack(part) for part in zip(*parts, strict=True))
    torch.testing.assert_close(found["head.bias"].double(), bias.square().mean(0).clamp(min=FLOOR), rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(found["head.weight"].double(), weight.square().mean(0).clamp(min=FLOOR), rtol=1e-4, atol=1e-8)
    of_the_mean = weight.mean(0).square()  # squaring the gradient of a batch is another thing
    assert float((found["head.weight"] - of_the_mean).abs().max()) > 1e-4


def test_the_information_is_of_what_the_logits_depend_on_and_has_a_floor(fishers: list[dict[str, Tensor]]) -> None:
    names = set(fishers[0])
    assert {"head.weight", "head.bias", "clip.visual.head.proj.weight"} <= names
    assert not any(name.startswith(("clip.transformer", "clip.token_embedding", "clip.logit_scale")) for name in names)
    assert min(float(value.min()) for value in fishers[0].values()) >= np.float32(FLOOR)


def test_the_information_leaves_the_model_and_the_random_state_alone(models: list[Classifier], task: Task) -> None:
    before, state = weights_hash(models[0]), torch.random.get_rng_state()
    one, two = (fisher(models[0], task.val, 3, seed=seed) for seed in (5, 5))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    other = fisher(models[0], task.val, 3, seed=6)
    assert not torch.equal(one["head.weight"], other["head.weight"])
    assert weights_hash(models[0]) == before and torch.equal(torch.random.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in models[0].parameters())


def test_more_examples_than_there_are_is_an_error(models: list[Classifier], task: Task) -> None:
    with pytest.raises(UsageError, match="fisher=61: tiny-val has 60 examples"):
        fisher(models[0], task.val, 61, seed=0)


# Merging by it


def test_a_share_worked_by_hand() -> None:
    """theta 1 and 3 with information 1 and 3 at alpha 1/2: (1 + 9) / 4 = 2.5; at alpha 1/4: (3 + 9) / 6 = 2."""
    ratio = torch.tensor([3.0])
    for alpha, expected in ((0.5, 2.5), (0.25, 2.0), (0.0, 1.0), (1.0, 3.0)):
        assert torch.lerp(torch.tensor([1.0]), torch.tensor([3.0]), fisher_share(ratio, alpha)).item() == expected
    assert fisher_share(None, 0.25) == 0.25


@pytest.mark.parametrize("count", [2, 3])
def test_a_mean_of_k_is_the_one_in_float64(
    count: int, models: list[Classifier], fishers: list[dict[str, Tensor]], task: Task
) -> None:
    merged = fisher_average(models[:count], task.val, COUNT, seed=5).state_dict()
    states = [model.state_dict() for model in models[:count]]
    farthest = 0.0
    for name, value in merged.items():
        weights = [f[name].double() if name in f else torch.ones(()).double() for f in fishers[:count]]
        top = sum(weight * state[name].double() for weight, state in zip(weights, states, strict=True))
        exact = top / sum(weights)
        assert float(((value.double() - exact) / exact.abs().clamp(min=1)).abs().max()) < 1e-6, name
        plain = torch.stack([state[name].double() for state in states]).mean(0)
        farthest = max(farthest, float((exact - plain).abs().max()))
    assert farthest > 1e-2


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_fisher_wiseft_is_the_formula_and_its_ends_are_exact(
    alpha: float, start: Classifier, models: list[Classifier], fishers: list[dict[str, Tensor]], task: Task
) -> None:
    tuned = models[0]
    ratio = information_ratio(start, tuned, task.val, COUNT, seed=5)
    found = interpolate(start, tuned, lambda name: fisher_share(ratio.get(name), alpha)).state_dict()
    base = fisher(start.frozen_head(), task.val, COUNT, seed=5)
    before, after = start.frozen_head().state_dict(), tuned.state_dict()
    for name, value in found.items():
        zero, one = before[name].double(), after[name].double()
        if name in base:
            f0, f1 = (1 - alpha) * base[name].double(), alpha * fishers[0][name].double()
            exact = (f0 * zero + f1 * one) / (f0 + f1)
        else:
            exact = (1 - alpha) * zero + alpha * one
        assert float(((value.double() - exact) / exact.abs().clamp(min=1)).abs().max()) < 1e-6, name
        if torch.equal(zero, one):
            assert torch.equal(value, before[name]), name
    if alpha in (0.0, 1.0):
        assert all(torch.equal(value, (after if alpha else before)[name]) for name, value in found.items())


# Model Stock


def brute(start: Classifier, models: Sequence[Classifier], name: str) -> float:
    """t from all pairwise cosines, float64."""
    moves = [(m.state_dict()[name].double() - start.state_dict()[name].double()).flatten() for m in models]
    pairs = [float(one @ two / (one.norm() * two.norm())) for one, two in combinations(moves, 2)]
    k, cosine = len(models), max(0.0, float(np.mean(pairs)))
    return k * cosine / ((k - 1) * cosine + 1)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_ratio_is_that_of_all_pairs(count: int, start: Classifier) -> None:
    base, shared = start.frozen_head(), moved(start, 9, 0.02)
    models = [moved(shared, seed, 0.005 * seed) for seed in range(1, count + 1)]
    ratios = stock_ratios(start, models)
    still = {name for name in base.state_dict() if not name.startswith(("clip.visual", "head"))}
    assert ratios.keys() == {name for name, value in base.state_dict().items() if value.is_floating_point()} - still
    for name, ratio in ratios.items():
        assert ratio == pytest.approx(brute(base, models, name), abs=1e-6), name
    assert len({round(ratio, 3) for ratio in ratios.values()}) > 10  # one for each tensor, not one for all


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((1, 0), (1, 0), 1.0),
        ((1, 0), (5, 0), 1.0),  # the angle alone counts
        ((1, 0), (0, 3), 0.0),
        ((1, 0), (1, 3**0.5), 2 / 3),  # cos 1/2: 2 x 1/2 / (1 + 1/2)
        ((1, 0), (-1, 0), 0.0),  # apart: held at the start, not pushed beyond it
        ((1, 0), (0, 0), 0.0),  # one did not move
    ],
)
def test_two_moves_at_an_angle_worked_by_hand(
    first: tuple[float, ...], second: tuple[float, ...], expected: float, start: Classifier
) -> None:
    base = start.frozen_head()
    models = []
    for move in (first, second):
        model = copy.deepcopy(base)
        with torch.no_grad():
            model.head.bias[:2].add_(torch.tensor(move))  # type: ignore[union-attr, index]
        models.append(model)
    ratios = stock_ratios(start, models)
    assert ratios.keys() == {"head.bias"} and ratios["head.bias"] == pytest.approx(expected, abs=1e-6)


def test_angles_are_relative_to_the_start_and_not_to_zero(start: Classifier, models: list[Classifier]) -> None:
    ratios = stock_ratios(start, models[:2])
    assert max(ratios.values()) < 0.9  # of the weights themselves all angles are small
    assert float(np.median(list(ratios.values()))) < 0.1


def test_model_stock_is_ratio_times_mean_and_the_rest_the_start(start: Classifier, task: Task) -> None:
    noisy = _noisy()
    kind = method.load("model_stock").model_validate({"ingredients": [noisy] * 3})
    fitted = kind.fit(start, task)
    base = start.frozen_head()
    models = [noisy.fit(start, task.with_seed(1000 * k)) for k in range(3)]
    before = base.state_dict()
    for name, value in fitted.state_dict().items():
        mean = torch.stack([model.state_dict()[name].double() for model in models]).mean(0)
        if torch.equal(mean, before[name].double()):
            assert torch.equal(value, before[name]), name
        else:
            t = brute(base, models, name)
            exact = t * mean + (1 - t) * before[name].double()
            assert float(((value.double() - exact) / exact.abs().clamp(min=1)).abs().max()) < 1e-6, name


def test_model_stock_needs_two() -> None:
    with pytest.raises(UsageError, match="at least 2"):
        method.configure("model_stock", recipe_table="mini", overrides=[("ingredients", ["ft"])])


def _noisy() -> Method:
    from pathlib import Path

    return method.load(str(Path(__file__).with_name("noisy.py")))()
