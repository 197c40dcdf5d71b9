"""What the soups and the output ensemble share: their ingredients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier

# Fine-tunes over rate, epochs and smoothing, in the ranges of model soups' random search (B/32: rates 1e-6 to 1e-4, 4 to 16
# epochs, smoothing up to 0.225). A suite's recipe table gives its own.
_GRID = ((3e-5, 10, 0.0), (1e-5, 10, 0.0), (3e-5, 4, 0.1), (1e-5, 16, 0.1), (5e-5, 8, 0.05))
INGREDIENTS: Any = Field(
    default=tuple(
        {"method": "ft", "recipe": {"lr": lr, "epochs": epochs, "label_smoothing": smoothing}} for lr, epochs, smoothing in _GRID
    )
)
SEEDS_APART = 1000


def fit_each(ingredients: Sequence[Method], start: Classifier, task: Task) -> list[Classifier]:
    """One classifier an ingredient, each under a seed of its own: ingredient 0 shares the run's seed with other methods."""
    return [method.fit(start, task.with_seed(task.seed + SEEDS_APART * k)) for k, method in enumerate(ingredients)]
