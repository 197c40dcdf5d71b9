from __future__ import annotations

from typing import Any

import contract
import numpy as np
import pytest
import torch
from scipy.special import softmax
from test_distill import data, logits  # noqa: F401
from test_weights import moved

from robustbench_ft import method
from robustbench_ft.batches import Features
from robustbench_ft.method import Task
from robustbench_ft.model import Classifier, Trained, weights_hash
from robustbench_ft.regularisers import cross_entropy_and_head_penalty


def fitted(start: Classifier, task: Task, **fields: Any) -> Classifier:
    return contract.quick("lc_reg").model_copy(update=fields).fit(start, task)


def test_without_a_penalty_it_is_the_linear_classifier_bit_for_bit(start: Classifier, task: Task) -> None:
    plain = contract.quick("lp").fit(start, task)
    assert (
        weights_hash(fitted(start, task, strength=0.0)) == weights_hash(plain) != weights_hash(fitted(start, task, strength=0.01))
    )


def test_it_takes_the_linear_classifier_s_recipe() -> None:
    lp, reg = (method.load(name)() for name in ("lp", "lc_reg"))
    assert reg.recipe == lp.recipe  # type: ignore[attr-defined]


@pytest.mark.parametrize(("to_start", "l1"), [(0.7, 0.0), (0.0, 0.02), (0.7, 0.02)])
def test_the_gradient_equals_the_one_by_hand(to_start: float, l1: float, start: Classifier, data: Features) -> None:  # noqa: F811
    model, zero_shot = moved(start.frozen_head(), 1), start.frozen_head().head
    assert isinstance(model.head, Trained) and isinstance(zero_shot, Trained)
    cross_entropy_and_head_penalty(start, to_start, l1)(model, data.batch(np.arange(160))).backward()
    errors = (softmax(logits(model.head, data.features), 1) - np.eye(20)[data.labels]) / 160
    weight, bias, before = (part.detach().double().numpy() for part in (model.head.weight, model.head.bias, zero_shot.weight))

    def gradient(factor: float, anchor: np.ndarray) -> np.ndarray:
        return errors.T @ data.features.double().numpy() + factor * to_start * (weight - anchor) + l1 * np.sign(weight)

    found = model.head.weight.grad.numpy()  # type: ignore[union-attr]
    np.testing.assert_allclose(found, gradient(2, before), atol=1e-6)
    np.testing.assert_allclose(model.head.bias.grad.numpy(), errors.sum(0) + 2 * to_start * bias, atol=1e-6)  # type: ignore[union-attr]
    if to_start:
        for wrong in (gradient(1, before), gradient(2, 0 * before), gradient(2, weight)):  # a half; decay to 0; a moving anchor
            assert np.abs(found - wrong).max() > 1e-3


def test_a_strong_pull_leaves_the_zero_shot_head(start: Classifier, task: Task) -> None:
    zero_shot = start.frozen_head()

    def moves(strength: float) -> float:
        recipe = contract.quick("lc_reg").recipe.model_copy(update={"weight_decay": 0.0, "optimizer": "sgd", "lr": 1e-5})  # type: ignore[attr-defined]
        after = fitted(start, task, strength=strength, recipe=recipe.model_copy(update={"momentum": 0.0, "epochs": 20}))
        return sum(
            float((value - after.state_dict()[name]).square().sum())
            for name, value in zero_shot.state_dict().items()
            if name.startswith("head")
        )

    assert moves(5e4) < 1e-2 * moves(0.0)
    assert moves(5e4) > 0


def test_features_of_the_towers_are_not_touched(start: Classifier, task: Task) -> None:
    after = fitted(start, task, strength=0.01).clip.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in start.clip.state_dict().items())
