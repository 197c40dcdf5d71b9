"""Looks at val, averages, fp16, pieces and checkpoints of the training loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor
from toynet import SHORT, Jittered, Killed, Net, features, killed_at, loss, save_every_step

from robustbench_ft.averages import Best
from robustbench_ft.batches import Batch, Images
from robustbench_ft.errors import DataError, TrainingError, UsageError
from robustbench_ft.losses import cross_entropy
from robustbench_ft.method import Task
from robustbench_ft.model import Classifier, weights_hash
from robustbench_ft.pieces import PerExample
from robustbench_ft.train import Recipe, train


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


def with_(**fields: object) -> Recipe:
    return Recipe.model_validate(SHORT.model_dump() | fields)


def near(size: float) -> Callable[[Net], float]:
    """A val score that rises and falls again: how near the norm of the head's weight is to ``size``."""
    return lambda model: -abs(float(model.head.weight.detach().norm()) - size)


# Looks at val


class Scripted:
    """Val accuracies by the book; remembers the weights that it was shown."""

    def __init__(self, *scores: float) -> None:
        self.scores, self.shown = list(scores), list[str]()

    def __call__(self, model: Net) -> float:
        assert not model.training
        self.shown.append(weights_hash(model))
        return self.scores[len(self.shown) - 1]


def test_the_best_on_val_is_kept_and_of_equals_the_first(net: Net) -> None:
    scores, seen = Scripted(0.2, 0.6, 0.6), list[str]()
    recipe = with_(validate_every=1)  # 9 steps in 3 epochs
    trained = train(net, features(), recipe, loss=loss, validate=scores, observe=lambda _, m: seen.append(weights_hash(m)))
    assert scores.shown == [seen[2], seen[5], seen[8]]
    assert weights_hash(trained) == seen[5]


def test_patience_ends_the_run_after_that_many_looks_without_a_rise(net: Net) -> None:
    scores, seen = Scripted(0.5, 0.4, 0.6, 0.6, 0.5, 0.9), list[int]()
    recipe = with_(validate_every=1 / 3, patience=2)  # every step
    trained = train(net, features(), recipe, loss=loss, validate=scores, observe=lambda step, _: seen.append(step))
    assert seen == [1, 2, 3, 4, 5]  # 0.6 again is no rise; the 0.9 is never seen
    assert weights_hash(trained) == scores.shown[2]


def test_the_end_is_looked_at_where_it_is_not_a_whole_number_of_looks(net: Net) -> None:
    scores = Scripted(0.1, 0.2, 0.3)
    trained = train(net, features(), with_(validate_every=4 / 3), loss=loss, validate=scores)  # steps 4, 8, 9
    assert len(scores.shown) == 3 and weights_hash(trained) == scores.shown[2]


def test_looking_changes_neither_the_run_nor_its_randomness() -> None:
    torch.manual_seed(0)
    model, data = Net(dropout=0.3), Jittered(features().features, features().labels)
    ends = set()
    for recipe in (SHORT, with_(validate_every=1 / 3)):
        torch.manual_seed(7)
        rising = Scripted(*(k / 10 for k in range(9)))
        ends.add(weights_hash(train(model, data, recipe, loss=loss, validate=rising)))
        torch.rand(3)
    assert len(ends) == 1


def test_the_average_is_what_is_looked_at_where_there_is_one(net: Net) -> None:
    scores = Scripted(0.1, 0.9, 0.3)
    trained = train(net, features(), with_(validate_every=1, ema=0.9), loss=loss, validate=scores)
    assert weights_hash(trained) == scores.shown[1]


def test_a_method_that_does_not_look_at_val_says_so(net: Net) -> None:
    with pytest.raises(UsageError, match="mine does not look at val"):
        train(net, features(), with_(validate_every=1), loss=loss, label="mine")


def test_best_counts_the_looks_since_it_rose() -> None:
    best, weight = Best(), {"w": torch.zeros(2)}
    for score, since in ((0.0, 0), (0.0, 1), (-1.0, 2), (0.5, 0), (0.4, 1)):
        best.offer(score, weight)
        assert best.since == since
    weight["w"] += 1  # what is kept is a copy
    assert best.score == 0.5 and best.state["w"].tolist() == [0.0, 0.0]


# Averages: the formula is in test_ema.py


def test_training_gives_the_average_and_observers_see_the_live_weights(net: Net) -> None:
    torch.manual_seed(7)
    live = list[Tensor]()
    recipe = with_(ema=0.8)
    averaged = train(net, features(), recipe, loss=loss, observe=lambda _, m: live.append(m.head.weight.double().detach()))
    torch.manual_seed(7)
    last = train(net, features(), SHORT, loss=loss)
    assert torch.equal(live[-1].float(), last.head.weight)
    mu = torch.zeros_like(live[0])
    for weight in live:
        mu = 0.8 * mu + 0.2 * weight
    torch.testing.assert_close(averaged.head.weight.double(), mu / (1 - 0.8**9), rtol=0, atol=1e-6)
    assert not torch.allclose(averaged.head.weight, last.head.weight, atol=1e-4)


def test_what_does_not_move_is_not_averaged(net: Net) -> None:
    trained = train(net, features(), with_(ema=0.9), loss=loss, only=("head.",))
    assert torch.equal(trained.body.weight, net.body.weight) and torch.equal(trained.body.bias, net.body.bias)


# Pieces: gradients are in test_pieces.py


@pytest.mark.parametrize("pieces", [2, 3, 5, 100])
def test_accumulated_steps_are_the_steps_of_whole_batches(pieces: int, net: Net) -> None:
    """Batches of 8, 8 and 6: their pieces are of unequal size."""
    ends = []
    for recipe in (SHORT, with_(accumulate=pieces)):
        torch.manual_seed(7)
        ends.append(train(net, features(), recipe, loss=PerExample(loss)))
    for name, value in ends[0].state_dict().items():
        torch.testing.assert_close(ends[1].state_dict()[name], value, rtol=1e-5, atol=1e-6)


def test_a_loss_that_does_not_say_that_it_is_a_mean_is_not_split(net: Net) -> None:
    with pytest.raises(UsageError, match="accumulate=2: this loss does not say"):
        train(net, features(), with_(accumulate=2), loss=loss)


def test_features_cannot_be_augmented(net: Net) -> None:
    for fields in ({"mixup": 0.2}, {"flip": True}, {"randaugment": "rand-m9"}):
        with pytest.raises(UsageError, match="encoded once"):
            train(net, features(), with_(**fields), loss=loss)


# fp16


def test_fp16_clips_the_gradient_after_it_is_unscaled(net: Net) -> None:
    """Clipped before, 65,536 times too large, the step would be 65,536 times too short."""
    recipe = Recipe(
        optimizer="sgd", lr=0.1, clip=0.01, weight_decay=0, momentum=0, epochs=1, batch_size=22, warmup_steps=0, precision="fp16"
    )
    trained = train(net, features(), recipe, loss=loss)
    moved = torch.cat([(value - net.state_dict()[name]).flatten() for name, value in trained.state_dict().items()])
    assert float(moved.norm()) == pytest.approx(0.1 * 0.01, rel=1e-4)


def test_fp16_leaves_out_a_step_that_overflows_and_goes_on(net: Net) -> None:
    kinds, ends = set(), [weights_hash(net)]

    def steep(model: Net, batch: Batch) -> Tensor:
        kinds.add(model(batch.images).dtype)
        return 100 * loss(model, batch)

    trained = train(
        net, features(), with_(precision="fp16", epochs=6), loss=steep, observe=lambda _, model: ends.append(weights_hash(model))
    )
    assert kinds == {torch.float16} and trained.head.weight.dtype == torch.float32
    assert ends[1] == ends[0] and ends[-1] != ends[0], "the first scale is too large for these gradients"


# Checkpoints

RECIPES = {
    "average": with_(ema=0.7),
    "best": with_(validate_every=1 / 3),
    "best average": with_(validate_every=1 / 3, ema=0.5),
    "early end": with_(validate_every=1 / 3, patience=2),
    "fp16": with_(precision="fp16"),
    "pieces": with_(accumulate=3),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_killed_anywhere_and_continued_ends_with_the_same_bits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_every_step(monkeypatch)
    torch.manual_seed(0)
    model, data = Net(dropout=0.3), Jittered(features().features, features().labels)
    score = near(float(model.head.weight.detach().norm()) - 0.09)  # the third step comes nearest

    def run(stop: Callable[[Net, Batch], Tensor], file: Path | None) -> Net:
        torch.manual_seed(7)
        return train(model, data, RECIPES[name], loss=PerExample(stop), checkpoint=file, validate=score)

    seen = list[int]()
    torch.manual_seed(7)
    whole = train(model, data, RECIPES[name], loss=PerExample(loss), validate=score, observe=lambda step, _: seen.append(step))
    assert (len(seen) < 9) == (name == "early end")
    for kills in ([0], [2], [4], [1, 0, 1]):
        file = tmp_path / f"{kills}.safetensors"
        for step in kills:
            with pytest.raises(Killed):
                run(killed_at(step), file)
        assert weights_hash(run(loss, file)) == weights_hash(whole), kills
        assert weights_hash(run(killed_at(0), file)) == weights_hash(whole)  # finished: no step is left


@pytest.mark.parametrize(("killed", "saved"), [(6, "6"), (5, "4"), (7, "6")])
def test_checkpoints_are_written_every_so_many_steps(killed: int, saved: str, net: Net, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(net, features(), with_(save_every=2), loss=killed_at(killed), checkpoint=tmp_path / "c.safetensors")
    with safe_open(tmp_path / "c.safetensors", "pt") as content:
        assert content.metadata()["step"] == saved


def test_a_gradient_that_is_not_finite_stops_before_it_spoils_weights_and_checkpoint(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_every_step(monkeypatch)
    calls, file = iter(range(100)), tmp_path / "c.safetensors"

    def cornered(model: Net, batch: Batch) -> Tensor:  # the square root of 0 has a value and no gradient
        corner = (0 * model.head.weight).square().sum().sqrt()
        return loss(model, batch) + (corner if next(calls) == 5 else 0.0)

    with pytest.raises(TrainingError, match=r"the gradient's norm is nan at step 5 of 9; the last good checkpoint is"):
        train(net, features(), with_(clip=None), loss=cornered, checkpoint=file)
    with safe_open(file, "pt") as content:
        assert content.metadata()["step"] == "5"
        assert all(torch.isfinite(content.get_tensor(name)).all() for name in content.keys())  # noqa: SIM118


def test_until_ends_early_on_the_schedule_of_the_whole_run(net: Net) -> None:
    ends, seen = [], list[str]()
    for until in (None, 4):
        torch.manual_seed(7)
        ends.append(train(net, features(), SHORT, loss=loss, until=until, observe=lambda _, m: seen.append(weights_hash(m))))
    assert len(seen) == 9 + 4 and weights_hash(ends[1]) == seen[3] == seen[-1]


def test_a_warm_up_longer_than_the_run_is_told(net: Net, capsys: pytest.CaptureFixture[str]) -> None:
    train(net, features(), with_(warmup_steps=10), loss=loss, label="mine")
    assert "mine: 10 steps of warm-up in a run of 9: the rate never reaches 0.05" in capsys.readouterr().err
    train(net, features(), with_(warmup_steps=9), loss=loss)
    assert not capsys.readouterr().err


def test_neutral_fields_change_no_bit(net: Net) -> None:
    spelled = {"mixup": 0.0, "flip": False, "randaugment": None, "ema": None, "accumulate": 1, "save_every": 1}
    ends = set()
    for recipe in (SHORT, with_(**spelled)):
        torch.manual_seed(7)
        ends.add(weights_hash(train(net, features(), recipe, loss=PerExample(loss))))
    torch.manual_seed(7)
    ends.add(weights_hash(train(net, features(), SHORT, loss=loss)))
    assert len(ends) == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_one_clear_error_from_a_worker_too(workers: int, start: Classifier, task: Task) -> None:
    def image(index: int) -> Image.Image:
        raise DataError("image first.jpg cannot be decoded", hint="rbft data verify")

    data = Images(replace(task.train, image=image), start.preprocess, augment=False)
    recipe = Recipe(lr=1e-3, epochs=1, batch_size=8, warmup_steps=0, workers=workers)
    with pytest.raises(DataError) as caught:
        train(start.frozen_head(), data, recipe, loss=cross_entropy())
    assert (str(caught.value), caught.value.hint) == ("image first.jpg cannot be decoded", "rbft data verify")
