"""PAINT: patching open-vocabulary models by interpolating weights (Ilharco et al., 2022, https://arxiv.org/abs/2208.05592)."""

from collections.abc import Iterator
from functools import partial
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from robustbench_ft.method import Alphas, AnyMethod, Fraction, Method, PathPoint, Task, method
from robustbench_ft.model import Classifier
from robustbench_ft.predict import accuracies, best_alpha
from robustbench_ft.weights import interpolate

STEPS = 20


class PAINT(Method):
    """Fine-tune the image tower behind the frozen zero-shot head, then move only part of the way (Ilharco et al., 2022).

    Of the grid that alpha is taken with the highest mean of val accuracy on this task and of that on the supported tasks, each
    behind the zero-shot head of its own words; the lowest of equals. Where none is supported, val accuracy on this task decides.
    ``alpha``: this one, and nothing is chosen. It is the paper's patching on a single task; the paper trains for 2,000 steps,
    whatever the size of the data set: set ``base.recipe.epochs``.
    """

    data_beyond_id: ClassVar[str] = "val sets of the supported tasks, to choose alpha"

    alpha: Fraction | None = None
    choose_alpha: Alphas = tuple(step / STEPS for step in range(STEPS + 1))
    base: AnyMethod = method("ft", train_head=False, recipe={"lr": 1e-5, "batch_size": 128, "warmup_steps": 200})
    path_steps: Annotated[int, Field(ge=1, le=100)] = 10

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        blend = partial(interpolate, start, self.base.fit(start, task))
        if self.alpha is not None:
            return blend(self.alpha)
        makes = [partial(blend, alpha) for alpha in self.choose_alpha]
        score = np.array(accuracies(makes, task.val, preprocess=start.preprocess))
        if task.supported:
            kept = [
                accuracies(makes, other.val, words=(other.classes, other.templates), preprocess=start.preprocess)
                for other in task.supported
            ]
            score = (score + np.mean(kept, axis=0)) / 2
        alpha = best_alpha(self.choose_alpha, score.tolist())
        patched = blend(alpha)
        patched.chosen = {"alpha": alpha}
        return patched

    def headline(self, fitted: Classifier) -> tuple[str, float]:
        alpha: float = fitted.chosen["alpha"] if self.alpha is None else self.alpha
        return f"alpha={alpha:g}", alpha

    def path(self, start: Classifier, task: Task) -> Iterator[PathPoint]:
        blend = partial(interpolate, start, self.base.fit(start, task))
        for step in range(1, self.path_steps + 1):
            yield PathPoint(f"alpha={step / self.path_steps:g}", partial(blend, step / self.path_steps), step / self.path_steps)
