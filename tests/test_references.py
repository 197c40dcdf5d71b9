from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from robustbench_ft.batches import Images
from robustbench_ft.method import Task
from robustbench_ft.mini.references import A_FILTER, POOL, Reference, fit, wrong
from robustbench_ft.model import Classifier, weights_hash
from robustbench_ft.predict import accuracy

SMALL = Reference("test_convnext2", 120, 6)


@pytest.fixture(scope="module")
def net(task: Task) -> Classifier:
    return fit(SMALL, task.train)


def test_a_reference_learns_the_images_that_it_is_given(net: Classifier, task: Task) -> None:
    seen = replace(task.train, ids=task.train.ids[:120], labels=task.train.labels[:120])
    assert accuracy(net, seen) > 0.15  # chance: 0.05


def test_a_reference_depends_on_its_own_seed_and_not_on_the_caller_s(net: Classifier, task: Task) -> None:
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    assert weights_hash(fit(SMALL, task.train)) == weights_hash(net)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert weights_hash(fit(replace(SMALL, seed=1), task.train)) != weights_hash(net)


def test_a_reference_reads_only_as_many_images_as_it_says(task: Task) -> None:
    read: set[int] = set()

    def image(i: int) -> object:
        read.add(i)
        return task.train.image(i)

    fit(replace(SMALL, images=40, epochs=2), replace(task.train, image=image))  # type: ignore[arg-type]
    assert read == set(range(40))


def test_the_filter_keeps_the_first_that_it_gets_wrong(net: Classifier, task: Task) -> None:
    batch = Images(task.val, net.preprocess, augment=False).batch(np.arange(len(task.val)))
    with torch.no_grad():
        answers = net(batch.images).argmax(1).tolist()
    expected = [i for i, label in enumerate(task.val.labels) if answers[i] != label]
    assert 3 < len(expected) < len(task.val)
    assert wrong(net, task.val, 1000) == expected and wrong(net, task.val, 3) == expected[:3]


def test_the_filter_is_not_in_the_pool_whose_names_differ() -> None:
    assert A_FILTER not in POOL
    assert len({reference.name for reference in POOL}) == len(POOL)
