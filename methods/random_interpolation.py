"""Random interpolation: a coin flip per prediction (Wortsman et al., 2022, https://arxiv.org/abs/2109.01903, appendix C.3)."""

import copy
from collections.abc import Iterator
from functools import partial
from typing import Annotated

from pydantic import Field

from robustbench_ft.method import AnyMethod, Fraction, Method, PathPoint, Task, method
from robustbench_ft.model import Classifier, Ensemble


class RandomInterpolation(Method):
    """Each image is answered by the fine-tuned model with chance alpha, else by the start: a sanity check (WiSE-FT's C.3).

    Its accuracies lie on the straight line between the two models'; what an ensemble gains, it gains above that line. The coin is
    a hash of the image and the run's seed. It is flipped over outputs, not over weights.
    """

    alpha: Fraction = 0.5
    base: AnyMethod = method("ft")
    path_steps: Annotated[int, Field(ge=1, le=100)] = 10

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        tuned = self.base.fit(start, task)
        return _flips(copy.deepcopy(start), tuned, self.alpha, coin=task.seed)

    def headline(self, fitted: Classifier) -> tuple[str, float]:
        return f"alpha={self.alpha:g}", self.alpha

    def path(self, start: Classifier, task: Task) -> Iterator[PathPoint]:
        tuned = self.base.fit(start, task)
        for step in range(1, self.path_steps + 1):
            alpha = step / self.path_steps
            yield PathPoint(f"alpha={alpha:g}", partial(_flips, start, tuned, alpha, coin=task.seed), alpha)


def _flips(start: Classifier, tuned: Classifier, alpha: float, *, coin: int) -> Classifier:
    return Ensemble([start, tuned], weights=[1 - alpha, alpha], coin=coin, origin="").eval()
