from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from robustbench_ft.batches import Batch, Captioned, Features, Images, Indices, Steps, step_seed
from robustbench_ft.method import Task
from robustbench_ft.model import Classifier


@dataclass
class Noisy:
    """Data whose examples are their own index, with one random number each; remembers what was asked for."""

    n: int
    epoch: int = 0
    asked: list[list[int]] = field(default_factory=list)

    def __len__(self) -> int:
        return self.n

    def batch(self, indices: Indices) -> Batch:
        self.asked.append(indices.tolist())
        return Batch(torch.rand(len(indices), 1), torch.from_numpy(indices))


def drawn(data: Noisy, batch_size: int, total: int, seed: int = 0) -> list[list[int]]:
    steps = Steps(data, batch_size, seed=seed, total=total)
    return [steps[step].labels.tolist() for step in range(total)]


@pytest.mark.parametrize(("n", "size"), [(10, 3), (12, 4), (7, 7), (5, 8), (1, 1)])
def test_each_pass_draws_every_example_once_and_its_last_batch_is_what_is_left(n: int, size: int) -> None:
    in_pass = -(-n // size)
    batches = drawn(Noisy(n), size, 3 * in_pass)
    for number in range(3):
        one = batches[number * in_pass : (number + 1) * in_pass]
        assert sorted(i for batch in one for i in batch) == list(range(n))
        assert [len(batch) for batch in one] == [size] * (n // size) + ([n % size] if n % size else [])


def test_passes_are_shuffled_differently_and_so_are_seeds() -> None:
    batches = drawn(Noisy(50), 50, 2)
    assert batches[0] != batches[1]
    assert drawn(Noisy(50), 50, 1, seed=1)[0] != batches[0]


def test_a_batch_depends_on_seed_and_step_alone_not_on_what_was_read_before() -> None:
    steps = Steps(Noisy(20), 6, seed=3, total=40)
    torch.manual_seed(1)
    first = [steps[step].images for step in (17, 2, 30, 17)]
    torch.manual_seed(2)
    again = [Steps(Noisy(20), 6, seed=3, total=40)[step].images for step in (17, 2, 30, 17)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert torch.equal(first[0], first[3]) and not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], Steps(Noisy(20), 6, seed=4, total=40)[17].images)


def test_reading_a_batch_leaves_the_random_state_alone() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    Steps(Noisy(20), 6, seed=3, total=40)[5]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_step_seeds_do_not_repeat_where_neighbouring_runs_and_steps_meet() -> None:
    seeds = [step_seed(seed, step) for seed in range(40) for step in range(100)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_worker_processes_change_no_batch(start: Classifier, task: Task) -> None:
    steps = Steps(Images(task.train, start.preprocess, augment=True), 50, seed=0, total=6)

    def read(workers: int) -> list[Batch]:
        return list(DataLoader(steps, batch_size=None, num_workers=workers, generator=torch.Generator()))

    for alone, helped in zip(read(0), read(2), strict=True):
        assert torch.equal(alone.images, helped.images) and torch.equal(alone.labels, helped.labels)


def test_images_are_under_the_train_or_the_eval_transform(start: Classifier, task: Task) -> None:
    at = np.array([4, 0])
    plain = Images(task.train, start.preprocess, augment=False).batch(at)
    assert plain.images.dtype == torch.uint8 and plain.labels.tolist() == task.train.labels[at].tolist()
    assert torch.equal(plain.images[0], start.preprocess.eval(task.train.image(4)))
    augmented = Images(task.train, start.preprocess, augment=True).batch(at)
    assert augmented.images.shape == plain.images.shape and not torch.equal(augmented.images, plain.images)


def test_captioned_covers_every_pair_of_image_and_template_once_a_pass(start: Classifier, task: Task) -> None:
    images = Images(task.train, start.preprocess, augment=False)
    pairs = Captioned(images, task.classes, task.templates, start.tokenise)
    assert pairs.epoch == len(task.train) and len(pairs) == len(task.train) * len(task.templates)
    steps = Steps(pairs, 64, seed=0, total=5)
    indices = np.concatenate([steps._order(0)])
    assert len(indices) == len(pairs)
    seen: Counter[tuple[bytes, bytes]] = Counter()
    for step in range(5):
        batch = steps[step]
        assert batch.texts is not None
        for k, label in enumerate(batch.labels.tolist()):
            seen[batch.images[k].numpy().tobytes(), batch.texts[k].numpy().tobytes()] += 1
            prompts = [template.format(task.classes[label]) for template in task.templates]
            assert any(torch.equal(batch.texts[k], row) for row in start.tokenise(prompts))
    assert set(seen.values()) == {1} and len(seen) == len(pairs)


def test_features_are_given_by_index() -> None:
    data = Features(torch.arange(6.0).view(3, 2), torch.tensor([5, 6, 7]))
    batch = data.batch(np.array([2, 0]))
    assert batch.images.tolist() == [[4.0, 5.0], [0.0, 1.0]] and batch.labels.tolist() == [7, 5]
    assert len(data) == data.epoch == 3
