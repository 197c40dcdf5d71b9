"""What the soups and the output ensemble share: their ingredients, and how a mixture of them is learned."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, overload

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from robustbench_ft import spaces, store
from robustbench_ft.batches import Batch
from robustbench_ft.method import AnyMethod, Method, Task
from robustbench_ft.model import Classifier
from robustbench_ft.weights import Weight, alike, average, floating

if TYPE_CHECKING:
    Ingredients = tuple[AnyMethod, ...]
else:
    Ingredients = Annotated[tuple[AnyMethod, ...], BeforeValidator(spaces.expand), Field(min_length=1)]
    """A field that holds a soup's ingredients: methods, or a grid or a search over a space (``spaces``), which is expanded."""

# Fine-tunes over rate, epochs and smoothing, in the ranges of model soups' random search (B/32: rates 1e-6 to 1e-4, 4 to 16
# epochs, smoothing up to 0.225). A suite's recipe table gives its own.
_GRID = ((3e-5, 10, 0.0), (1e-5, 10, 0.0), (3e-5, 4, 0.1), (1e-5, 16, 0.1), (5e-5, 8, 0.05))
INGREDIENTS: Any = Field(
    default=tuple(
        {"method": "ft", "recipe": {"lr": lr, "epochs": epochs, "label_smoothing": smoothing}} for lr, epochs, smoothing in _GRID
    )
)
SEEDS_APART = 1000


class Fits(Sequence[Classifier]):
    """Ingredients, fitted: each is read from the store when it is asked for, so that none is held. Without a store they are kept.

    ``started``: the start counts as ingredient 0.
    """

    def __init__(self, ingredients: Sequence[Method], start: Classifier, task: Task, *, started: bool = False) -> None:
        self._ingredients, self._start, self._task, self._started = tuple(ingredients), start, task, started
        self._kept: list[Classifier] = []
        for number in range(len(self._ingredients)):
            fitted = self._fit(number)
            if not store.keeps():
                self._kept.append(fitted)
            del fitted  # else it would stay while the next one trains
        if started:
            self._start, _ = alike(start, self._fitted(0))

    def __len__(self) -> int:
        return self._started + len(self._ingredients)

    @overload
    def __getitem__(self, index: int) -> Classifier: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Classifier]: ...
    def __getitem__(self, index: int | slice) -> Classifier | Sequence[Classifier]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        number = range(len(self))[index] - self._started
        return self._start if number < 0 else self._fitted(number)

    def own(self, index: int) -> Classifier:
        """One that the caller may change."""
        found = self[index]
        found = copy.deepcopy(found) if found is self._start or self._kept else found
        found.chosen = {}
        return found

    def _fitted(self, number: int) -> Classifier:
        return self._kept[number] if self._kept else self._fit(number)

    def _fit(self, number: int) -> Classifier:
        task = self._task.with_seed(self._task.seed + SEEDS_APART * number)
        return self._ingredients[number].fit(self._start, task)


def fit_each(ingredients: Sequence[Method], start: Classifier, task: Task, *, started: bool = False) -> Fits:
    """One classifier an ingredient, each under a seed of its own: ingredient 0 shares the run's seed with other methods."""
    return Fits(ingredients, start, task, started=started)


class Mixture(nn.Module):
    """What a learned soup trains: logits of the ingredients' shares [L, k], L = 1 or the number of tensors, and a temperature.

    ``temperature`` multiplies the soup's logits while the shares are learned, and is no part of the soup.
    """

    def __init__(self, rows: int, models: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(rows, models))
        self.temperature = nn.Parameter(torch.ones(()))

    def shares(self) -> Tensor:
        """Of each ingredient in each tensor, [L, k]; rows sum to 1."""
        return self.logits.softmax(1)


class MixtureLoss:
    """The cross entropy of the soup that a ``Mixture`` makes of ``models``, as a loss for ``train``."""

    def __init__(self, start: Classifier, models: Sequence[Classifier]) -> None:
        self.models = models
        self.frame, _ = alike(start, models[0])  # what the soup's tensors are put into; its own are not used
        self.names = tuple(floating(self.frame))
        self.device = next(self.frame.parameters()).device

    def __call__(self, mixture: Mixture, batch: Batch) -> Tensor:
        tensors = _Soup.apply(mixture.shares(), self)
        logits = functional_call(self.frame, dict(zip(self.names, tensors, strict=True)), (batch.images,))
        return F.cross_entropy(mixture.temperature * logits, batch.labels)

    def soup(self, shares: Tensor) -> Classifier:
        """The soup under shares [L, k] or [1, k]."""
        rows = dict(zip(self.names, shares.detach().cpu().expand(len(self.names), -1).tolist(), strict=True))
        return average(self.models, [_Column(rows, number) for number in range(len(self.models))])


class _Column:
    """The weights of one ingredient, by tensor."""

    def __init__(self, rows: dict[str, list[float]], number: int) -> None:
        self.rows, self.number = rows, number

    def __call__(self, name: str) -> Weight:
        return self.rows[name][self.number] if name in self.rows else 1.0


class _Soup(torch.autograd.Function):
    """The soup's tensors as a function of its shares, one ingredient in memory at a time, forwards and backwards.

    As the shares sum to 1 the soup is start + sum of share x (ingredient - start), so a share's gradient is the product of the
    soup's with (ingredient - start).
    """

    @staticmethod
    def forward(ctx: Any, shares: Tensor, loss: MixtureLoss) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)  # the text tower behind a trained head has none
        ctx.loss, ctx.rows = loss, len(shares)
        return tuple(value.detach() for value in floating(loss.soup(shares)).values())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor, None]:
        start, columns = floating(ctx.loss.frame), []
        for model in (ctx.loss.models[k] for k in range(len(ctx.loss.models))):
            own = floating(model)
            parts = [
                value.new_zeros(()) if gradient is None else (gradient * (own[name].detach() - value.detach())).sum()
                for (name, value), gradient in zip(start.items(), gradients, strict=True)
            ]
            columns.append(torch.stack(parts))
            del model, own  # else they would stay while the next one is read
        found = torch.stack(columns, 1)  # [L, k]
        return found if ctx.rows > 1 else found.sum(0, keepdim=True), None
