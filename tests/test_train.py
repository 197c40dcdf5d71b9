from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn
from toynet import SHORT, Jittered, Killed, Net, features, killed_at, loss, save_every_step

from robustbench_ft.batches import Batch, Features, Images, Indices, Steps
from robustbench_ft.errors import TrainingError, UsageError
from robustbench_ft.losses import cross_entropy
from robustbench_ft.method import Task
from robustbench_ft.model import Classifier, weights_hash
from robustbench_ft.train import Recipe, train


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def data() -> Features:
    return features()


def by_hand(net: Net, data: Features, recipe: Recipe, optimizer: torch.optim.Optimizer, rates: list[float]) -> Net:
    """The same training, written out: the reference that ``train`` is compared with."""
    torch.manual_seed(7)
    steps = Steps(data, recipe.batch_size, seed=int(torch.randint(2**31, ())), total=len(rates))
    for step, rate in enumerate(rates):
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)
        optimizer.zero_grad()
        loss(net, steps[step]).backward()
        if recipe.clip is not None:
            gradients = [p.grad for p in net.parameters() if p.grad is not None]
            norm = torch.sqrt(sum((g.square().sum() for g in gradients), torch.zeros(())))
            for gradient in gradients:
                gradient.mul_(min(1.0, recipe.clip / (float(norm) + 1e-6)))
        optimizer.step()
    return net


def cosine_rates(base: float, warmup: int, total: int) -> list[float]:
    decay = [0.5 * (1 + math.cos(math.pi * k / (total - warmup))) for k in range(total - warmup)]
    return [base * (t + 1) / warmup for t in range(warmup)] + [base * d for d in decay]


def assert_close(one: nn.Module, two: nn.Module) -> None:
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, two.state_dict()[name], rtol=1e-5, atol=1e-7, msg=name)


# The schedule


def test_warm_up_then_cosine_by_hand() -> None:
    recipe = Recipe(warmup_steps=4)
    factors = [recipe.factor(step, 12) for step in range(12)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0 and factors[8] == pytest.approx(0.5)
    assert factors[11] == pytest.approx(0.5 * (1 + math.cos(math.pi * 7 / 8)))


def test_without_warm_up_the_first_step_has_the_full_rate() -> None:
    assert Recipe(warmup_steps=0).factor(0, 10) == 1.0


@pytest.mark.parametrize("total", [1, 5, 10])
def test_a_warm_up_as_long_as_the_run_or_longer_only_rises(total: int) -> None:
    recipe = Recipe(warmup_steps=10)
    assert [recipe.factor(step, total) for step in range(total)] == [(step + 1) / 10 for step in range(total)]


def test_cosine_per_epoch_is_flat_within_an_epoch_and_counts_from_the_run_s_start() -> None:
    recipe = Recipe(schedule="cosine_epoch", warmup_steps=1, epochs=4)
    factors = [recipe.factor(step, 12) for step in range(12)]
    steps = [1.0, 0.5 * (1 + math.cos(math.pi / 4)), 0.5, 0.5 * (1 + math.cos(3 * math.pi / 4))]
    assert factors == pytest.approx([1.0, 1.0, 1.0] + [steps[1]] * 3 + [steps[2]] * 3 + [steps[3]] * 3)


def test_a_constant_schedule_is_constant_after_warm_up() -> None:
    recipe = Recipe(schedule="constant", warmup_steps=2)
    assert [recipe.factor(step, 5) for step in range(5)] == [0.5, 1, 1, 1, 1]


@pytest.mark.parametrize(("epochs", "size", "steps"), [(2, 8, 6), (0.5, 8, 2), (0.01, 8, 1), (1, 22, 1), (1, 100, 1)])
def test_steps_count_the_short_last_batch_and_are_one_at_least(epochs: float, size: int, steps: int, data: Features) -> None:
    assert Recipe(epochs=epochs, batch_size=size).steps(data) == steps


@pytest.mark.parametrize(
    "wrong",
    [{"lr": 0}, {"lr": math.inf}, {"epochs": 0}, {"batch_size": 0}, {"clip": 0}, {"optimizer": "adam"}, {"lrr": 1}],
)
def test_a_recipe_refuses(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Recipe.model_validate(wrong)


# The updates, against the same loop written out


def test_adamw_equals_a_loop_written_by_hand(net: Net, data: Features) -> None:
    torch.manual_seed(7)
    trained = train(net, data, SHORT, loss=loss)
    optimizer = torch.optim.AdamW(net.parameters(), betas=(0.9, 0.999), weight_decay=0.1, foreach=False)
    assert_close(trained, by_hand(net, data, SHORT, optimizer, cosine_rates(0.05, 2, 9)))


def test_sgd_equals_a_loop_written_by_hand(net: Net, data: Features) -> None:
    recipe = SHORT.model_copy(update={"optimizer": "sgd", "clip": None, "weight_decay": 0.01, "momentum": 0.8})
    torch.manual_seed(7)
    trained = train(net, data, recipe, loss=loss)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0, momentum=0.8, weight_decay=0.01, foreach=False)
    assert_close(trained, by_hand(net, data, recipe, optimizer, cosine_rates(0.05, 2, 9)))


def test_gradients_are_clipped_to_their_global_norm(net: Net, data: Features) -> None:
    recipe = SHORT.model_copy(update={"optimizer": "sgd", "clip": 0.01, "weight_decay": 0.0})
    torch.manual_seed(7)
    trained = train(net, data, recipe, loss=loss)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0, momentum=0.9, foreach=False)
    assert_close(trained, by_hand(net, data, recipe, optimizer, cosine_rates(0.05, 2, 9)))


def test_the_longest_prefix_sets_a_parameter_s_rate(net: Net, data: Features) -> None:
    recipe = SHORT.model_copy(
        update={
            "optimizer": "sgd",
            "clip": None,
            "weight_decay": 0.0,
            "lr_scale": {"h": 0.5, "head.bias": 0.1, "x": 9.0},
        }
    )
    torch.manual_seed(7)
    trained = train(net, data, recipe, loss=loss)
    groups = [
        {"params": list(net.body.parameters()), "scale": 1.0},
        {"params": [net.head.weight], "scale": 0.5},
        {"params": [net.head.bias], "scale": 0.1},
    ]
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=0.9, foreach=False)
    assert_close(trained, by_hand(net, data, recipe, optimizer, cosine_rates(0.05, 2, 9)))


def test_weight_decay_is_on_biases_too(net: Net, data: Features) -> None:
    recipe = Recipe(lr=0.1, epochs=1, batch_size=22, warmup_steps=0, weight_decay=0.5)
    trained = train(net, data, recipe, loss=lambda model, batch: 0.0 * loss(model, batch))
    for name, value in net.named_parameters():  # Adam's own step is 0 where the gradient is
        torch.testing.assert_close(trained.get_parameter(name), value * (1 - 0.1 * 0.5), msg=name)


# What moves


def test_only_what_is_named_moves_and_all_is_open_again(net: Net, data: Features) -> None:
    trained = train(net, data, SHORT, loss=loss, only=("head.",))
    assert torch.equal(trained.body.weight, net.body.weight) and torch.equal(trained.body.bias, net.body.bias)
    assert not torch.equal(trained.head.weight, net.head.weight) and not torch.equal(trained.head.bias, net.head.bias)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in trained.parameters())


def test_an_unknown_prefix_is_an_error(net: Net, data: Features) -> None:
    with pytest.raises(UsageError, match="no parameter begins with"):
        train(net, data, SHORT, loss=loss, only=("haed",))


def test_the_input_stays_and_the_result_is_in_eval_mode(net: Net, data: Features) -> None:
    before = weights_hash(net)
    trained = train(net, data, SHORT, loss=loss)
    assert weights_hash(net) == before and net.training
    assert not trained.training and weights_hash(trained) != before


def test_eval_mode_trains_without_dropout(data: Features) -> None:
    torch.manual_seed(0)
    wet = Net(dropout=0.5)
    dry = Net()
    dry.load_state_dict(wet.state_dict())

    def end(model: Net, **fields: bool) -> str:
        torch.manual_seed(7)
        return weights_hash(train(model, data, SHORT.model_copy(update=fields), loss=loss))

    assert end(wet, eval_mode=True) == end(dry)
    assert end(wet) != end(dry)


def test_a_loss_sees_the_head_of_this_step_s_text_tower(start: Classifier, task: Task) -> None:
    """A zero-shot head follows its text tower while that trains, and after."""
    recipe = Recipe(lr=1e-2, epochs=1, batch_size=80, warmup_steps=0)
    data = Images(task.train, start.preprocess, augment=False)
    heads = []

    def towards_nothing(model: Classifier, batch: Batch) -> Tensor:
        heads.append(model.matrix()[0].clone())
        return cross_entropy()(model, batch) + model.clip.encode_text(start.tokenise(["a cup"])).sum()

    trained = train(start, data, recipe, loss=towards_nothing)
    with torch.no_grad():
        heads.append(trained.matrix()[0])
    assert len(heads) == 3 and not torch.equal(heads[0], heads[1]) and not torch.equal(heads[1], heads[2])


# Interruption


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_run_killed_anywhere_and_continued_ends_with_the_same_bits(
    optimizer: str, data: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_every_step(monkeypatch)
    noisy, recipe = Jittered(data.features, data.labels), SHORT.model_copy(update={"optimizer": optimizer})
    torch.manual_seed(0)
    model = Net(dropout=0.3)
    torch.manual_seed(7)
    whole = train(model, noisy, recipe, loss=loss)
    for kills in ([0], [4], [8], [1, 0, 3], [5, 2]):
        file = tmp_path / f"{kills}.safetensors"
        for step in kills:
            torch.manual_seed(7)
            with pytest.raises(Killed):
                train(model, noisy, recipe, loss=killed_at(step), checkpoint=file)
        torch.manual_seed(7)
        resumed = train(model, noisy, recipe, loss=loss, checkpoint=file)
        assert weights_hash(resumed) == weights_hash(whole), kills
        torch.manual_seed(7)
        again = train(model, noisy, recipe, loss=killed_at(0), checkpoint=file)  # finished: no step is left
        assert weights_hash(again) == weights_hash(whole)


def test_dropout_and_augmentation_do_change_the_end(data: Features) -> None:
    """So the test above is of something."""
    torch.manual_seed(0)
    model = Net(dropout=0.3)
    ends = set()
    for seed in (7, 8):
        torch.manual_seed(seed)
        ends.add(weights_hash(train(model, Jittered(data.features, data.labels), SHORT, loss=loss)))
    assert len(ends) == 2


def test_a_step_is_saved_every_few_seconds_only(net: Net, data: Features, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(net, data, SHORT, loss=killed_at(6), checkpoint=tmp_path / "c.safetensors")
    assert not (tmp_path / "c.safetensors").exists()


def test_a_checkpoint_of_another_run_is_refused(net: Net, data: Features, tmp_path: Path) -> None:
    file = tmp_path / "c.safetensors"
    torch.manual_seed(7)
    train(net, data, SHORT, loss=loss, checkpoint=file)
    for seed, recipe in ((8, SHORT), (7, SHORT.model_copy(update={"lr": 0.06}))):
        torch.manual_seed(seed)
        with pytest.raises(UsageError, match="belongs to another training run"):
            train(net, data, recipe, loss=loss, checkpoint=file)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_the_step_and_keeps_the_last_good_checkpoint(
    bad: float, net: Net, data: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_every_step(monkeypatch)
    calls, file = iter(range(100)), tmp_path / "c.safetensors"

    def diverging(model: Net, batch: Batch) -> Tensor:
        return loss(model, batch) * (bad if next(calls) == 5 else 1.0)

    with pytest.raises(TrainingError, match=r"at step 5 of 9; the last good checkpoint is .*c\.safetensors") as caught:
        train(net, data, SHORT, loss=diverging, checkpoint=file)
    assert "recipe.lr" in caught.value.hint
    with safe_open(file, "pt") as content:
        assert content.metadata()["step"] == "5"
        assert all(torch.isfinite(content.get_tensor(name)).all() for name in content.keys())  # noqa: SIM118


# Randomness


@pytest.mark.parametrize("workers", [0, 2])
def test_training_moves_the_caller_s_random_state_by_one_draw(net: Net, data: Features, workers: int) -> None:
    torch.manual_seed(7)
    numpy_state = np.random.get_state()[1].tolist()
    train(net, data, SHORT.model_copy(update={"workers": workers}), loss=loss)
    after = torch.rand(3)
    torch.manual_seed(7)
    torch.randint(2**31, ())
    assert torch.equal(after, torch.rand(3))
    assert np.random.get_state()[1].tolist() == numpy_state


def test_every_step_has_randomness_of_its_own_apart_from_its_augmentation(net: Net, data: Features) -> None:
    class Drawing(Features):
        def batch(self, indices: Indices) -> Batch:
            drawn.append(torch.rand(()).item())
            return super().batch(indices)

    def watched(model: Net, batch: Batch) -> Tensor:
        drawn.append(torch.rand(()).item())
        return loss(model, batch)

    drawn: list[float] = []
    train(net, Drawing(data.features, data.labels), SHORT, loss=watched)
    assert len(drawn) == len(set(drawn)) == 18


def test_workers_do_not_change_the_result(net: Net, data: Features) -> None:
    ends = set()
    for workers in (0, 2):
        torch.manual_seed(7)
        noisy = Jittered(data.features, data.labels)
        ends.add(weights_hash(train(net, noisy, SHORT.model_copy(update={"workers": workers}), loss=loss)))
    assert len(ends) == 1


def test_bf16_is_autocast_and_keeps_float32_weights(net: Net, data: Features) -> None:
    kinds = set()

    def watched(model: Net, batch: Batch) -> Tensor:
        kinds.add(model(batch.images).dtype)
        return loss(model, batch)

    trained = train(net, data, SHORT.model_copy(update={"precision": "bf16"}), loss=watched)
    assert kinds == {torch.bfloat16} and trained.head.weight.dtype == torch.float32
