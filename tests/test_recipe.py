"""The schedule against torch's own schedulers, and what a recipe says of images."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from robustbench_ft.augment import Augmentation
from robustbench_ft.train import Recipe


@pytest.mark.parametrize(("warmup", "total"), [(500, 2502), (2, 9), (7, 30)])
def test_warm_up_and_cosine_are_torch_s_linear_and_cosine_schedulers_in_sequence(warmup: int, total: int) -> None:
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    parts = [
        LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup - 1),
        CosineAnnealingLR(optimizer, T_max=total - warmup),
    ]
    theirs = SequentialLR(optimizer, parts, milestones=[warmup])
    recipe = Recipe(warmup_steps=warmup)
    for step in range(total):
        assert recipe.factor(step, total) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9), step
        optimizer.step(), theirs.step()


@pytest.mark.parametrize(("epochs", "in_epoch"), [(4, 3), (22, 1), (22, 4), (47, 5), (50, 13)])
def test_cosine_per_epoch_is_torch_s_scheduler_stepped_after_every_epoch(epochs: int, in_epoch: int) -> None:
    """(22, 1) is where step / total * epochs falls short of a whole number."""
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs, recipe = CosineAnnealingLR(optimizer, T_max=epochs), Recipe(schedule="cosine_epoch", warmup_steps=0, epochs=epochs)
    for step in range(epochs * in_epoch):
        assert recipe.factor(step, epochs * in_epoch) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9), step
        if step % in_epoch == in_epoch - 1:
            optimizer.step(), theirs.step()


def test_patience_without_looks_at_val_is_refused() -> None:
    with pytest.raises(ValueError, match="validate_every"):
        Recipe(patience=2)
    assert Recipe(patience=2, validate_every=0.5).patience == 2


def test_the_defaults_are_clip_s_crop_alone_and_flips_go_with_or_without_it() -> None:
    assert Recipe().augmentation() == Augmentation(crop=0.9)
    assert Recipe(augment=False).augmentation() == Augmentation()
    assert Recipe(augment=False, flip=True, randaugment="rand-m3").augmentation() == Augmentation(None, True, "rand-m3")


@pytest.mark.parametrize("wrong", [{"mixup": -1}, {"ema": 1.0}, {"accumulate": 0}, {"validate_every": 0}, {"save_every": 0}])
def test_a_recipe_refuses(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Recipe.model_validate(wrong)
