"""Augmentations against timm's and torchvision's own, and their randomness, which is torch's alone."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg
from PIL import Image
from timm.data.auto_augment import RandAugment as TimmRandAugment
from timm.data.transforms_factory import transforms_imagenet_train
from torch import Tensor

from robustbench_ft.augment import Augmentation, RandAugment
from robustbench_ft.batches import Images, Steps
from robustbench_ft.errors import UsageError
from robustbench_ft.method import Task
from robustbench_ft.model import Classifier
from robustbench_ft.preprocess import Preprocess
from robustbench_ft.train import Recipe

CONFIG = PreprocessCfg(size=48)
SETTINGS = "rand-m9-n3-mstd0.5-inc1"


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (60, 70, 3), dtype=np.uint8))


def pixels(transform: Callable[[Image.Image], Tensor], seed: int, image: Image.Image) -> Tensor:
    torch.manual_seed(seed)
    return transform(image)


def test_randaugment_is_set_up_as_timm_s_own_training_transform_sets_it_up() -> None:
    whole = transforms_imagenet_train(48, auto_augment=SETTINGS, interpolation="bicubic", mean=CONFIG.mean, std=CONFIG.std)
    (theirs,) = [step for step in whole.transforms if isinstance(step, TimmRandAugment)]
    ours = RandAugment(SETTINGS, CONFIG).augment
    assert isinstance(ours, TimmRandAugment) and ours.num_layers == theirs.num_layers == 3
    assert [vars(op) for op in ours.ops] == [vars(op) for op in theirs.ops]


def test_it_draws_from_torch_and_leaves_the_other_generators_alone() -> None:
    augment, image = RandAugment(SETTINGS, CONFIG), picture()
    seen = []
    for seed, others in ((1, 5), (1, 6), (2, 5)):
        random.seed(others), np.random.seed(others), torch.manual_seed(seed)
        before = random.getstate(), np.random.get_state()[1].tolist()
        seen.append(np.asarray(augment(image)).tobytes())
        assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert seen[0] == seen[1] != seen[2]


def test_what_timm_does_not_know_is_an_error() -> None:
    for settings in ("randm9", "augmix-m3", "rand-q9"):
        with pytest.raises(UsageError, match=f"randaugment='{settings}'"):
            Preprocess(CONFIG).transform(Augmentation(randaugment=settings))


def test_flips_come_after_the_crop_for_one_image_in_two() -> None:
    preprocess, image = Preprocess(CONFIG), picture()
    plain = preprocess.eval(image)
    found = [pixels(preprocess.transform(Augmentation(flip=True)), seed, image) for seed in range(200)]
    flipped = sum(torch.equal(one, plain.flip(2)) for one in found)
    assert flipped + sum(torch.equal(one, plain) for one in found) == 200
    assert 75 <= flipped <= 125


def test_without_options_the_transforms_are_the_two_that_were() -> None:
    preprocess, image = Preprocess(CONFIG), picture()
    assert torch.equal(preprocess.transform(Augmentation())(image), preprocess.eval(image))
    torch.manual_seed(3)
    expected = preprocess.train(image)
    assert torch.equal(pixels(preprocess.transform(Augmentation(crop=0.9)), 3, image), expected)
    assert not torch.equal(pixels(preprocess.transform(Augmentation(crop=0.2)), 3, image), expected)


def test_recipe_s_augmentation_reaches_the_images_whatever_the_workers(start: Classifier, task: Task) -> None:
    from torch.utils.data import DataLoader

    recipe = Recipe(randaugment=SETTINGS, flip=True, augment=False)
    steps = Steps(task.training(start, recipe), 40, seed=0, total=4)
    plain = Steps(Images(task.train, start.preprocess, augment=False), 40, seed=0, total=4)
    reads = [list(DataLoader(steps, batch_size=None, num_workers=n, generator=torch.Generator())) for n in (0, 2)]
    for alone, helped, without in zip(*reads, plain, strict=False):
        assert torch.equal(alone.images, helped.images) and torch.equal(alone.labels, without.labels)
        assert not torch.equal(alone.images, without.images)


def test_transforms_can_be_sent_to_worker_processes_that_do_not_fork() -> None:
    from multiprocessing.reduction import ForkingPickler

    assert ForkingPickler.dumps(Preprocess(CONFIG).transform(Augmentation(0.9, True, SETTINGS)))
