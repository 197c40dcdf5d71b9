from __future__ import annotations

from dataclasses import replace

import contract
import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from test_lipsum_ft import batch, features  # noqa: F401
from test_weights import moved

from robustbench_ft.batches import Batch
from robustbench_ft.errors import UsageError
from robustbench_ft.losses import cross_entropy
from robustbench_ft.method import Task
from robustbench_ft.model import Classifier
from robustbench_ft.regularisers import context_matrix, cross_entropy_and_contexts

TEMPLATES = ("a photo of a {}", "a {}", "a drawing of a {}")


def expected_contexts(start: Classifier, classes: tuple[str, ...]) -> np.ndarray:
    rows = []
    for template in TEMPLATES:
        total = np.zeros(0)
        for name in classes:
            with torch.no_grad():
                plain = start.clip.encode_text(start.tokenise([template.replace("{}", name)]))[0].double().numpy()
            total = (total if total.size else 0) + plain / np.linalg.norm(plain)
        rows.append(total / np.linalg.norm(total))
    return np.stack(rows)


def test_a_context_is_its_prompts_mean_over_the_classes(start: Classifier, task: Task) -> None:
    found = context_matrix(start, task.classes, TEMPLATES)
    np.testing.assert_allclose(found.numpy(), expected_contexts(start, task.classes), atol=1e-6)
    assert (found - context_matrix(start, task.classes[:1], TEMPLATES)).abs().max() > 1e-3


def test_a_class_that_is_there_twice_counts_twice(start: Classifier) -> None:
    once, twice = (context_matrix(start, classes, TEMPLATES) for classes in (("cup", "key"), ("cup", "key", "key")))
    np.testing.assert_allclose(twice.numpy(), expected_contexts(start, ("cup", "key", "key")), atol=1e-6)
    assert (once - twice).abs().max() > 1e-4


def test_the_loss_equals_the_divergence_in_numpy(start: Classifier, task: Task, batch: Batch) -> None:  # noqa: F811
    model, contexts = moved(start.frozen_head(), 1), context_matrix(start, task.classes, TEMPLATES)
    with torch.no_grad():
        found = (cross_entropy_and_contexts(start, contexts, 1e3)(model, batch) - cross_entropy()(model, batch)).item()
    c, s = expected_contexts(start, task.classes), start.clip.logit_scale.double().exp().item()

    def divergence(first: Classifier, second: Classifier, scale: float) -> float:
        p, q = (log_softmax(scale * features(one, batch) @ c.T, axis=1) for one in (first, second))
        return float(1e3 * np.mean((np.exp(p) * (p - q)).sum(1)))

    assert found == pytest.approx(divergence(start, model, s), rel=1e-5)
    assert found != pytest.approx(divergence(model, start, s), rel=1e-3)  # the other direction
    assert found != pytest.approx(divergence(start, model, 1.0), rel=1e-3)  # without the logit scale
    assert found != pytest.approx(divergence(start, model, s) / 3, rel=1e-3)  # the mean over contexts too


def test_at_the_start_the_divergence_and_its_gradient_are_nothing(start: Classifier, task: Task, batch: Batch) -> None:  # noqa: F811
    here = start.frozen_head()
    contexts = context_matrix(start, task.classes, TEMPLATES)
    plain, held = cross_entropy()(here, batch), cross_entropy_and_contexts(start, contexts, 1.0)(here, batch)
    assert held.item() == pytest.approx(plain.item(), abs=1e-6)
    weights = list(here.clip.visual.parameters())
    for one, two in zip(torch.autograd.grad(plain, weights), torch.autograd.grad(held, weights), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-5)


def test_it_is_a_mean_over_examples(start: Classifier, task: Task, batch: Batch) -> None:  # noqa: F811
    loss = cross_entropy_and_contexts(start, context_matrix(start, task.classes, TEMPLATES), 50.0)
    model = moved(start.frozen_head(), 1)
    with torch.no_grad():
        halves = [loss(model, part).item() for part in batch.split(2)]
        assert loss(model, batch).item() == pytest.approx(np.mean(halves), rel=1e-6)


def test_a_stronger_divergence_keeps_the_contexts_nearer(start: Classifier, task: Task, batch: Batch) -> None:  # noqa: F811
    kind, contexts = contract.quick("car_ft"), context_matrix(start, task.classes, task.templates)
    recipe = kind.recipe.model_copy(update={"epochs": 10})  # type: ignore[attr-defined]
    held, plain = cross_entropy_and_contexts(start, contexts, 1.0), cross_entropy()

    def divergence(strength: float) -> float:
        fitted = kind.model_copy(update={"strength": strength, "recipe": recipe}).fit(start, task)
        with torch.no_grad():
            return (held(fitted, batch) - plain(fitted, batch)).item()

    assert divergence(1e3) < 0.3 * divergence(0.0)


def test_one_template_tells_no_contexts_apart(start: Classifier, task: Task) -> None:
    with pytest.raises(UsageError, match="tiny has one"):
        contract.quick("car_ft").fit(start, replace(task, templates=task.templates[:1]))
