"""Logistic regression probes against scikit-learn, SciPy's own objective, and cases worked by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.optimize import approx_fprime
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from robustbench_ft import probes
from robustbench_ft.batches import Features
from robustbench_ft.errors import TrainingError
from robustbench_ft.probes import Array, Solutions, Solver, Sweep, by_lbfgs, by_sklearn, objective, probe

SOLVERS = [by_sklearn, by_lbfgs]
CPU = torch.device("cpu")
COSTS = (1e-3, 0.1, 10.0)


def cloud(classes: int, seed: int = 0, count: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    """Clouds that overlap: float64 [N, 8] with labels."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(count) % classes)
    centres = np.random.default_rng(99).normal(size=(classes, 8))
    return torch.from_numpy(random.normal(size=(count, 8)) + 0.7 * centres[labels]), torch.from_numpy(labels)


def features(classes: int, seed: int = 0) -> Features:
    """The same, far from mean 0 and variance 1, and of another width in each dimension."""
    x, labels = cloud(classes, seed)
    return Features((x * torch.linspace(0.5, 2, 8) * 3 + 5).float(), labels)


def by_hand(both: Array, x: Array, y: Array, cost: float) -> float:
    """scikit-learn's documented objective over C N: |W|^2 / 2 + C sum of losses; of two classes with one row of logits z."""
    weight, bias = both[:, :-1], both[:, -1]
    logits = x @ weight.T + bias
    if len(both) == 1:
        losses = np.logaddexp(0, -np.where(y == 1, 1, -1) * logits[:, 0])
    else:
        losses = -log_softmax(logits, 1)[np.arange(len(y)), y]
    return float((np.square(weight).sum() / 2 + cost * losses.sum()) / (cost * len(x)))


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("logits", [2**26, 100], ids=["whole", "in pieces"])
def test_the_objective_is_scikit_learn_s_and_its_gradient_is_right(
    classes: int, logits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "LOGITS", logits)
    (x, y), rows = cloud(classes), 1 if classes == 2 else classes
    flat = np.random.default_rng(1).normal(size=rows * 9)
    for cost in COSTS:
        value, _ = objective(flat, x, y, cost)
        assert value == pytest.approx(by_hand(flat.reshape(rows, 9), x.numpy(), y.numpy(), cost), abs=1e-9)
        _, gradient = objective(flat, x, y, cost)
        numbers = approx_fprime(flat, lambda at, cost=cost: objective(at, x, y, cost)[0], 1e-7)  # type: ignore[misc]
        np.testing.assert_allclose(gradient, numbers, atol=1e-4 * np.abs(gradient).max())


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_lbfgs_ends_where_scikit_learn_ends(classes: int) -> None:
    x, y = cloud(classes)
    for cost, (weight, bias) in zip(COSTS, by_lbfgs(x, y, COSTS, 2000, 1e-9), strict=True):
        other = LogisticRegression(C=cost, tol=1e-10, max_iter=10_000).fit(x.numpy(), y.numpy())
        here, there = (np.concatenate((w, b[:, None]), 1) for w, b in ((weight, bias), (other.coef_, other.intercept_)))
        assert abs(by_hand(here, x.numpy(), y.numpy(), cost) - by_hand(there, x.numpy(), y.numpy(), cost)) < 1e-9
        logits = x.numpy() @ weight.T + bias
        found = softmax(np.concatenate((-logits / 2, logits / 2), 1) if classes == 2 else logits, 1)
        np.testing.assert_allclose(found, other.predict_proba(x.numpy()), atol=1e-5)


@pytest.mark.parametrize("classes", [2, 4])
def test_both_solvers_choose_the_same_probe_over_the_paper_s_sweep(classes: int) -> None:
    train, val = features(classes), features(classes, seed=1)
    one, two = (probe(train, val, classes, Sweep(), solve=solve, device=CPU) for solve in SOLVERS)
    assert one.inverse_penalty == two.inverse_penalty
    answers = [(val.features @ found.weight.T + found.bias).softmax(1) for found in (one, two)]
    torch.testing.assert_close(*answers, rtol=0, atol=1e-4)


def test_the_sweep_is_the_paper_s() -> None:
    values = Sweep().values()
    assert len(values) == 100 and values == sorted(values)
    np.testing.assert_allclose([values[0], values[-1], values[1] / values[0]], [1e-7, 1e2, 10 ** (9 / 99)])


@pytest.mark.parametrize("solve", SOLVERS)
@pytest.mark.parametrize("classes", [2, 4])
def test_a_probe_on_raw_features_answers_as_the_solver_did_on_normalised_ones(solve: Solver, classes: int) -> None:
    """One mean and one deviation of the whole matrix, not of each dimension."""
    train, val, cost = features(classes), features(classes, seed=1), 0.3
    found = probe(train, val, classes, Sweep(low=np.log10(cost), high=np.log10(cost), count=1), solve=solve, device=CPU)
    x, seen = ((data.features.double().numpy() - train.features.double().mean().item()) / np.std(train.features.double().numpy())
               for data in (train, val))  # fmt: skip
    other = LogisticRegression(C=cost, max_iter=200).fit(x, train.labels.numpy())
    answers = (val.features @ found.weight.T + found.bias).softmax(1)
    np.testing.assert_allclose(answers.numpy(), other.predict_proba(seen), atol=1e-4)
    if classes == 2:
        assert torch.equal(found.weight[0], -found.weight[1]) and found.bias[0] == -found.bias[1]
        scale = np.std(train.features.double().numpy())
        np.testing.assert_allclose(found.weight[1].numpy() * 2 * scale, other.coef_[0], atol=1e-4)


def scripted(*right: int) -> Solver:
    """A solver of two classes whose k-th solution is right on ``right[k]`` of the ten examples 0, ..., 9 (all of class 1)."""

    def solve(x: torch.Tensor, y: torch.Tensor, costs: Sequence[float], max_iter: int) -> Solutions:
        ordered = x[:, 0].sort(descending=True).values
        for count in right:
            edge = float(ordered[count - 1] + ordered[count]) / 2 if count < len(ordered) else float(ordered[-1]) - 1
            yield np.array([[1.0]]), np.array([-edge])

    return solve


@pytest.mark.parametrize(("right", "chosen"), [((3, 7, 5), 1), ((7, 7, 5), 0), ((3, 5, 5), 1), ((0 + 1, 2, 9), 2)])
def test_c_is_the_first_of_the_best_on_val(right: tuple[int, ...], chosen: int) -> None:
    numbers = torch.arange(10.0)[:, None]
    train = Features(numbers, torch.tensor([0, 1] * 5))
    val = Features(numbers, torch.ones(10, dtype=torch.int64))
    sweep = Sweep(low=-1, high=1, count=3)
    found = probe(train, val, 2, sweep, solve=scripted(*right), device=CPU)
    assert found.inverse_penalty == sweep.values()[chosen]


@pytest.mark.parametrize("solve", SOLVERS)
@pytest.mark.parametrize("present", [(1, 3), (0, 2, 5)])
def test_classes_that_train_lacks_have_zero_rows_and_are_never_the_answer(solve: Solver, present: tuple[int, ...]) -> None:
    data = features(len(present))
    train = Features(data.features, torch.tensor(present)[data.labels])
    for cost in (-7.0, 0.0, 2.0):
        found = probe(train, train, 7, Sweep(low=cost, high=cost, count=1), solve=solve, device=CPU)
        absent = [k for k in range(7) if k not in present]
        assert found.weight.shape == (7, 8) and found.weight[absent].abs().max() == 0 and found.bias[absent].abs().max() == 0
        anywhere = torch.from_numpy(np.random.default_rng(3).normal(5, 20, (2000, 8))).float()
        logits = anywhere @ found.weight.T + found.bias
        assert logits.sum(1).abs().max() < 1e-3 and set(logits.argmax(1).tolist()) <= set(present)


def test_a_train_set_of_one_class_is_an_error() -> None:
    one = Features(torch.randn(5, 3), torch.full((5,), 2))
    with pytest.raises(TrainingError, match="two classes, and train holds 1"):
        probe(one, one, 4, Sweep(), solve=by_lbfgs, device=CPU)
