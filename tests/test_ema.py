"""The moving average against its recursions, in float64, and the identity between its two forms."""

from __future__ import annotations

from typing import Any

import contract
import pytest
import torch
from torch import Tensor, nn

from robustbench_ft import store
from robustbench_ft.averages import Average, kept_share
from robustbench_ft.errors import UsageError
from robustbench_ft.losses import cross_entropy
from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier, weights_hash
from robustbench_ft.train import train
from robustbench_ft.weights import interpolate

DECAY = 0.7


def walk(steps: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(50, generator=generator, dtype=torch.float64) for _ in range(steps)]


def recursion(first: Tensor, weights: list[Tensor], decay: float) -> Tensor:
    mu = first.double()
    for weight in weights:
        mu = decay * mu + (1 - decay) * weight.double()
    return mu


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.99, 0.9999])
@pytest.mark.parametrize("steps", [1, 2, 40])
def test_the_average_is_the_debiased_recursion(decay: float, steps: int) -> None:
    weights, average = walk(steps), Average(decay)
    for step, weight in enumerate(weights, start=1):
        average.update({"w": weight}, step)
    expected = recursion(torch.zeros(50), weights, decay) / (1 - decay**steps)
    torch.testing.assert_close(average.mean["w"], expected, rtol=0, atol=1e-10)


def test_a_decay_next_to_one_loses_no_digits_in_float32() -> None:
    """mu / (1 - decay^T) in float32 would: mu is a millionth of the weights."""
    weights, average = walk(30), Average(0.999999)
    for step, weight in enumerate(weights, start=1):
        average.update({"w": weight.float()}, step)
    torch.testing.assert_close(average.mean["w"].double(), torch.stack(weights).mean(0), rtol=0, atol=1e-5)


def test_statistics_are_averaged_and_counters_are_the_last() -> None:
    norm, average, seen = nn.BatchNorm1d(3), Average(DECAY), []
    for step in range(1, 5):
        norm(torch.randn(6, 3, generator=torch.Generator().manual_seed(step)))
        average.update(norm.state_dict(), step)
        seen.append(norm.running_mean.double().clone())  # type: ignore[union-attr, operator]
    expected = recursion(torch.zeros(3), seen, DECAY) / (1 - DECAY**4)
    torch.testing.assert_close(average.mean["running_mean"].double(), expected, rtol=0, atol=1e-6)
    assert int(average.mean["num_batches_tracked"]) == 4


@pytest.fixture(scope="module")
def kind() -> Any:
    return contract.quick("ema").model_copy(update={"decay": DECAY})


@pytest.fixture(scope="module")
def passed(kind: Any, start: Classifier, task: Task) -> list[dict[str, Tensor]]:
    """The weights after every step of the same fine-tune, without an average."""
    states: list[dict[str, Tensor]] = []

    def note(step: int, model: Classifier) -> None:
        states.append({name: value.detach().clone() for name, value in model.state_dict().items()})

    class Noting(Method):
        def adapt(self, start: Classifier, task: Task) -> Classifier:
            data = task.training(start, kind.recipe)
            only = ("clip.visual", "head")
            return train(start.frozen_head(), data, kind.recipe, loss=cross_entropy(), only=only, observe=note)

    Noting.name, Noting.source = "ft", contract.method.load("ft").source
    Noting().fit(start, task)
    return states


def test_the_debiased_form_averages_the_weights_after_every_step(
    kind: Any, start: Classifier, task: Task, passed: list[dict[str, Tensor]]
) -> None:
    fitted = kind.fit(start, task).state_dict()
    for name, value in fitted.items():
        if value.is_floating_point():
            mu = recursion(torch.zeros_like(value), [state[name] for state in passed], DECAY) / (1 - DECAY ** len(passed))
            torch.testing.assert_close(value.double(), mu, rtol=1e-6, atol=1e-7, msg=name)


def test_the_biased_form_begins_at_the_start_and_is_wise_ft_on_the_debiased_one(
    kind: Any, start: Classifier, task: Task, passed: list[dict[str, Tensor]]
) -> None:
    """With alpha = 1 - decay^T, and with no other T."""
    biased = kind.model_copy(update={"debias": False}).fit(start, task).state_dict()
    debiased, before, steps = kind.fit(start, task), start.frozen_head().state_dict(), len(passed)
    ensembles = {t: interpolate(start, debiased, kept_share(DECAY, t)).state_dict() for t in (steps - 1, steps, steps + 1)}
    off = dict.fromkeys(ensembles, 0.0)
    for name, value in biased.items():
        if value.is_floating_point():
            mu = recursion(before[name], [state[name] for state in passed], DECAY)
            torch.testing.assert_close(value.double(), mu, rtol=1e-6, atol=1e-7, msg=name)
            for t, state in ensembles.items():
                off[t] = max(off[t], float((state[name].double() - mu).abs().max()))
    assert off[steps] < 1e-6 < 5e-5 < min(off[steps - 1], off[steps + 1])


def test_both_forms_are_one_training(kind: Any, start: Classifier, task: Task, tmp_path: Any) -> None:
    with store.using(store.Store(tmp_path)):
        (point,) = kind.path(start, task)
        fitted = kind.fit(start, task)
        made = point.classifier()
    assert point.name == "biased" and weights_hash(made) != weights_hash(fitted)
    assert len(list(tmp_path.glob("fits/*/fit.json"))) == 2


def test_a_biased_average_of_a_run_that_may_end_early_is_refused(kind: Any, start: Classifier, task: Task) -> None:
    recipe = kind.recipe.model_copy(update={"validate_every": 1.0})
    with pytest.raises(UsageError, match="of all steps"):
        kind.model_copy(update={"debias": False, "recipe": recipe}).fit(start, task)
    kept = kind.model_copy(update={"recipe": recipe})
    kept.fit(start, task)
    assert not list(kept.path(start, task))
