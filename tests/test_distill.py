from __future__ import annotations

import contract
import numpy as np
import pytest
import torch
from scipy.special import softmax
from test_weights import moved

from robustbench_ft import method
from robustbench_ft.batches import Features
from robustbench_ft.features import encode
from robustbench_ft.method import Task
from robustbench_ft.model import Classifier, Trained, weights_hash
from robustbench_ft.regularisers import distillation_of_features


@pytest.fixture(scope="module")
def data(start: Classifier, task: Task) -> Features:
    return encode(start, task.train)


def logits(head: Trained, features: torch.Tensor) -> np.ndarray:
    weight, bias = (part.detach().double().numpy() for part in (head.weight, head.bias))
    return features.double().numpy() @ weight.T + bias


def test_a_share_of_nothing_is_the_linear_classifier_bit_for_bit(start: Classifier, task: Task) -> None:
    plain = contract.quick("lp").fit(start, task)
    fitted, other = (contract.quick("distill").model_copy(update={"share": share}).fit(start, task) for share in (0.0, 0.1))
    assert weights_hash(fitted) == weights_hash(plain) != weights_hash(other)


def test_it_takes_the_linear_classifier_s_recipe() -> None:
    lp, distill = (method.load(name)() for name in ("lp", "distill"))
    assert distill.recipe == lp.recipe  # type: ignore[attr-defined]


@pytest.mark.parametrize(("share", "temperature"), [(0.3, 1.0), (0.3, 4.0), (1.0, 2.0)])
def test_the_gradient_equals_the_one_by_hand(share: float, temperature: float, start: Classifier, data: Features) -> None:
    model, zero_shot = moved(start.frozen_head(), 1), start.frozen_head().head
    assert isinstance(model.head, Trained) and isinstance(zero_shot, Trained)
    distillation_of_features(start, share, temperature)(model, data.batch(np.arange(160))).backward()
    here, there = (logits(head, data.features) for head in (model.head, zero_shot))
    hits = softmax(here, 1) - np.eye(20)[data.labels]

    def gradient(squared: float, target: float) -> np.ndarray:
        soft = softmax(here / temperature, 1) - softmax(there / target, 1)
        errors = (1 - share) * hits + share * squared / temperature * soft
        return errors.T @ data.features.double().numpy() / 160

    np.testing.assert_allclose(model.head.weight.grad.numpy(), gradient(temperature**2, temperature), atol=1e-6)  # type: ignore[union-attr]
    if temperature > 1:
        for wrong in (gradient(1.0, temperature), gradient(temperature**2, 1.0)):  # without T^2; T for one of the two only
            assert np.abs(wrong - gradient(temperature**2, temperature)).max() > 2e-5
    assert all(parameter.grad is None for parameter in start.parameters())


def test_with_all_of_the_loss_the_head_stays_the_zero_shot_one(start: Classifier, task: Task) -> None:
    def end(share: float) -> torch.Tensor:
        kind = contract.quick("distill")
        recipe = kind.recipe.model_copy(update={"optimizer": "sgd", "weight_decay": 0.0, "lr": 1.0})  # type: ignore[attr-defined]
        head = kind.model_copy(update={"share": share, "recipe": recipe}).fit(start, task).head
        assert isinstance(head, Trained)
        return head.weight.detach()

    zero_shot = start.frozen_head().head.weight  # type: ignore[union-attr]
    torch.testing.assert_close(end(1.0), zero_shot, rtol=0, atol=1e-6)  # type: ignore[arg-type]
    assert (end(0.5) - zero_shot).abs().max() > 1e-3  # type: ignore[operator]
