"""L2-SP's penalty: gradients worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from robustbench_ft import method
from robustbench_ft.method import Task
from robustbench_ft.model import Classifier

ONLY = ("clip.visual", "head")


@pytest.fixture(scope="module")
def anchor(start: Classifier) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in start.frozen_head().named_parameters() if n.startswith(ONLY)}


@pytest.fixture
def moved(start: Classifier) -> Classifier:
    """The start with every parameter a little elsewhere."""
    model, generator = start.frozen_head(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def make(**fields: object) -> Any:
    return method.load("l2sp").model_validate({"strength": 0.3, "head_strength": 0.7} | fields)


def gradients(kind: Any, model: Classifier, anchor: dict[str, Tensor]) -> dict[str, Tensor]:
    named = dict(model.named_parameters())
    found = torch.autograd.grad(kind.penalty(model, anchor), list(named.values()), allow_unused=True)
    return {name: torch.zeros_like(named[name]) if g is None else g for name, g in zip(named, found, strict=True)}


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("anchored", ["all", "weights"])
@pytest.mark.parametrize("head", ["anchor", "decay", "free"])
def test_the_gradient_is_that_of_the_formula(
    half: bool, anchored: str, head: str, moved: Classifier, anchor: dict[str, Tensor]
) -> None:
    found = gradients(make(half=half, anchored=anchored, head=head), moved, anchor)
    twice = 1.0 if half else 2.0
    kinds = set()
    for name, value in moved.named_parameters():
        is_head, text = name in ("head.weight", "head.bias"), not name.startswith(ONLY)
        skipped = anchored == "weights" and value.ndim < 2  # biases, norms, layer scales
        if text or skipped or (is_head and head == "free"):
            expected = torch.zeros_like(value)
        elif is_head and head == "decay":
            expected = twice * 0.7 * value
        else:
            expected = twice * 0.3 * (value - anchor[name])
        torch.testing.assert_close(found[name], expected.detach(), rtol=1e-6, atol=1e-7, msg=name)
        kinds.add((is_head, text, skipped))
    assert {(True, False, False), (False, True, False), (False, False, anchored == "weights")} <= kinds


def test_the_defaults_are_lp_ft_s_code_all_of_it_without_one_half(moved: Classifier, anchor: dict[str, Tensor]) -> None:
    expected = 0.01 * sum(((p.detach() - anchor[n]) ** 2).sum() for n, p in moved.named_parameters() if n in anchor)
    with torch.no_grad():
        torch.testing.assert_close(method.load("l2sp")().penalty(moved, anchor), expected, rtol=1e-6, atol=0)  # type: ignore[attr-defined]


def test_at_the_start_there_is_no_pull(start: Classifier, anchor: dict[str, Tensor]) -> None:
    found = gradients(make(), start.frozen_head(), anchor)
    assert all(not gradient.any() for gradient in found.values())


def test_the_penalty_is_no_mean_but_a_batch_in_pieces_counts_it_once(start: Classifier, task: Task) -> None:
    recipe = {
        "optimizer": "sgd",
        "lr": 1e-2,
        "epochs": 1,
        "batch_size": 80,
        "warmup_steps": 0,
        "weight_decay": 0,
        "augment": False,
    }
    ends = [make(strength=1.0, recipe=recipe | {"accumulate": pieces}).fit(start, task).state_dict() for pieces in (1, 3)]
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-5, atol=1e-6, msg=name)
