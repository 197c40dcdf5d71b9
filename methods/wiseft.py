"""WiSE-FT: weight-space ensembles for fine-tuning (Wortsman et al., 2022, https://arxiv.org/abs/2109.01903)."""

from collections.abc import Iterator
from functools import partial
from typing import Annotated

from pydantic import Field

from robustbench_ft.method import AnyMethod, Fraction, Method, PathPoint, Task, method
from robustbench_ft.model import Classifier
from robustbench_ft.weights import interpolate


class WiseFT(Method):
    """Weight-space ensemble (1 - alpha) start + alpha fine-tuned; the paper recommends 0.5 (Wortsman et al., 2022)."""

    alpha: Fraction = 0.5
    base: AnyMethod = method("ft")
    path_steps: Annotated[int, Field(ge=1, le=100)] = 10

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        return interpolate(start, self.base.fit(start, task), self.alpha)

    def headline(self) -> tuple[str, float]:
        return f"alpha={self.alpha:g}", self.alpha

    def path(self, start: Classifier, task: Task) -> Iterator[PathPoint]:
        tuned = self.base.fit(start, task)
        for step in range(1, self.path_steps + 1):
            alpha = step / self.path_steps
            yield PathPoint(f"alpha={alpha:g}", partial(interpolate, start, tuned, alpha), alpha)
