"""Linear probes by L-BFGS: logistic regression with an L2 penalty chosen on val, as LP-FT runs it (Kumar et al., 2022).

For each inverse penalty C, ascending, from where the last one ended, the minimum over W [R, D] and b [R] of

    mean_i CE(W x_i + b, y_i) + |W|^2 / (2 C N)

which is scikit-learn's objective over C N. x: features less one scalar mean, over one scalar standard deviation, of all training
features; y: classes that train holds. R is their number K; for K = 2 it is 1, with logits (-z / 2, z / 2).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from robustbench_ft.batches import Features
from robustbench_ft.errors import TrainingError
from robustbench_ft.values import Value

LOGITS = 2**26  # held at once
TOLERANCE = 1e-4  # of scikit-learn: the largest entry of the gradient where the solver stops
Array = npt.NDArray[np.float64]
Solutions = Iterator[tuple[Array, Array]]
"""W [R, D] and b [R], for one C after the other."""
Solver = Callable[[Tensor, Tensor, Sequence[float], int], Solutions]
"""From x, float64 [N, D], y, int64 [N] in 0..K-1, the values of C, and the iterations allowed for each."""


class Sweep(Value):
    """``count`` values of C from 10^low to 10^high, evenly spaced in their logarithms; ``max_iter`` steps of L-BFGS for each."""

    low: float = -7.0
    high: float = 2.0
    count: Annotated[int, Field(gt=0)] = 100
    max_iter: Annotated[int, Field(gt=0)] = 200

    def values(self) -> list[float]:
        """Ascending."""
        return [float(value) for value in np.logspace(self.low, self.high, self.count)]


class Probe(NamedTuple):
    """A head on the features as they were given, weight [C, D] and bias [C], float32, and the C that it was found with."""

    weight: Tensor
    bias: Tensor
    inverse_penalty: float


def probe(train: Features, val: Features, classes: int, sweep: Sweep, *, solve: Solver, device: torch.device) -> Probe:
    """The probe that is best on val: of equals the first, which has the smallest C; TrainingError where train holds one class.

    Classes that train lacks have zero rows, as in the paper's code. They are never the answer: the solvers start from 0 and every
    gradient sums to 0 over the K rows, so the logits do too, and the largest of them is never below an absent class's 0.
    """
    present, labels = (torch.from_numpy(one) for one in np.unique(train.labels.numpy(), return_inverse=True))
    if len(present) < 2:
        raise TrainingError(f"a probe needs two classes, and train holds {len(present)}")
    mean, std = (float(one) for one in (train.features.double().mean(), train.features.double().std(correction=0)))
    x, seen = (((data.features.double() - mean) / std).to(device) for data in (train, val))
    costs, most = sweep.values(), -1
    for cost, solution in zip(costs, solve(x, labels.to(device), costs, sweep.max_iter), strict=True):
        weight, bias = (_both_rows(torch.from_numpy(one)) for one in solution)
        answers = (seen @ weight.to(device).T + bias.to(device)).argmax(1).cpu()
        if (right := int((present[answers] == val.labels).sum())) > most:
            most, found, best = right, torch.cat((weight / std, (bias - mean / std * weight.sum(1))[:, None]), 1), cost
    padded = torch.zeros(classes, found.shape[1])
    padded[present] = found.float()
    return Probe(padded[:, :-1], padded[:, -1], best)


def by_sklearn(x: Tensor, y: Tensor, costs: Sequence[float], max_iter: int) -> Solutions:
    """With scikit-learn's ``LogisticRegression``, on the CPU."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    features, labels = x.cpu().numpy(), y.cpu().numpy()
    model = LogisticRegression(tol=TOLERANCE, max_iter=max_iter, warm_start=True)
    for cost in costs:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.set_params(C=cost).fit(features, labels)
        yield model.coef_.copy(), model.intercept_.copy()


def by_lbfgs(x: Tensor, y: Tensor, costs: Sequence[float], max_iter: int, tolerance: float = TOLERANCE) -> Solutions:
    """With SciPy's L-BFGS over ``objective``, which is computed where ``x`` lies: for large sets, on a GPU."""
    from scipy.optimize import minimize

    count = int(y.max()) + 1
    rows = 1 if count == 2 else count
    flat = np.zeros(rows * (x.shape[1] + 1))
    for cost in costs:
        stop: Any = {"maxiter": max_iter, "maxls": 50, "gtol": tolerance, "ftol": 64 * np.finfo(float).eps}
        flat = minimize(objective, flat, (x, y, cost), "L-BFGS-B", jac=True, options=stop).x
        both = flat.reshape(rows, -1)
        yield both[:, :-1], both[:, -1]


def objective(flat: Array, x: Tensor, y: Tensor, cost: float) -> tuple[float, Array]:
    """Value and gradient at ``flat``, the rows (W, b) [R, D + 1] one after the other, in pieces of ``LOGITS`` logits."""
    both = torch.from_numpy(flat).to(x.device).view(-1, x.shape[1] + 1)
    weight, bias = both[:, :-1], both[:, -1]
    gradient, value = torch.zeros_like(both), 0.0
    size = max(1, LOGITS // max(2, len(both)))
    for part, labels in zip(torch.split(x, size), torch.split(y, size), strict=True):
        logits = _both_rows(part @ weight.T + bias, 1)
        value += float(F.cross_entropy(logits, labels, reduction="sum"))
        error = logits.softmax(1)
        error[torch.arange(len(part)), labels] -= 1
        error = error[:, -len(both) :]  # for K = 2 the slope along z, half of it from each logit, is the second's error
        gradient += torch.cat((error.T @ part, error.sum(0)[:, None]), 1)
    gradient /= len(x)
    gradient[:, :-1] += weight / (cost * len(x))
    penalty = float(weight.square().sum()) / (2 * cost * len(x))
    return value / len(x) + penalty, gradient.cpu().numpy().ravel()


def _both_rows(rows: Tensor, axis: int = 0) -> Tensor:
    """Of two classes that share one row, both: the row's half, less and more."""
    return torch.cat((-rows / 2, rows / 2), axis) if rows.shape[axis] == 1 else rows
