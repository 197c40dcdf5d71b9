"""A net and data small enough to train in milliseconds, and ways to interrupt that."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_ft import train as training
from robustbench_ft.batches import Batch, Features, Indices
from robustbench_ft.train import Recipe


class Net(nn.Module):
    """Two layers with dropout between."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.body, self.drop, self.head = nn.Linear(4, 5), nn.Dropout(dropout), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.drop(torch.tanh(self.body(x))))
        return out


class Jittered(Features):
    """Features with noise of the step's seed: an augmentation."""

    def batch(self, indices: Indices) -> Batch:
        plain = super().batch(indices)
        return Batch(plain.images + 0.1 * torch.randn_like(plain.images), plain.labels)


def loss(model: Net, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch.images), batch.labels)


def features() -> Features:
    generator = torch.Generator().manual_seed(1)
    return Features(torch.randn(22, 4, generator=generator), torch.randint(3, (22,), generator=generator))


SHORT = Recipe(lr=0.05, epochs=3, batch_size=8, warmup_steps=2)


class Killed(Exception):
    pass


def save_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(training, "SAVE_SHARE", 0.0)


def killed_at(step: int) -> Callable[[Net, Batch], Tensor]:
    """A loss that ends the run at its ``step``-th call."""
    calls = iter(range(10_000))

    def stop(model: Net, batch: Batch) -> Tensor:
        if next(calls) == step:
            raise Killed
        return loss(model, batch)

    return stop
