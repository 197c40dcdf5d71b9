"""Points along fine-tuning: early stopping as WiSE-FT's comparison (Wortsman et al., 2022, https://arxiv.org/abs/2109.01903)."""

from collections.abc import Iterator
from functools import partial
from typing import Annotated

from pydantic import Field

from robustbench_ft.losses import cross_entropy
from robustbench_ft.method import Method, PathPoint, Task
from robustbench_ft.model import Classifier
from robustbench_ft.store import keep
from robustbench_ft.train import Recipe, train


class Trajectory(Method):
    """Plain fine-tuning stopped after a share of its steps; the path is what it passes on its way (Wortsman et al., 2022).

    The schedule is that of the whole run, so a point is a checkpoint of it and not a shorter run. One training makes all
    points: those that it passes are kept as the fits that they are.
    """

    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    points: Annotated[int, Field(ge=1, le=100)] = 5
    recipe: Recipe = Recipe()

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        data = task.training(start, self.recipe)
        total = self.recipe.steps(data)
        passed = [share for share in self._shares() if share < self.share]

        def observe(step: int, model: Classifier) -> None:
            for share in passed:
                if step == _step(share, total):
                    keep(self._at(share), start, task, model)

        return train(
            start.frozen_head(),
            data,
            self.recipe,
            loss=cross_entropy(self.recipe.label_smoothing),
            only=("clip.visual", "head"),
            label=self.name,
            observe=observe,
            until=_step(self.share, total),
        )

    def headline(self, fitted: Classifier) -> tuple[str, float]:
        return f"steps={self.share:g}", self.share

    def path(self, start: Classifier, task: Task) -> Iterator[PathPoint]:
        for share in self._shares():
            yield PathPoint(f"steps={share:g}", partial(self._at(share).fit, start, task), share)

    def _shares(self) -> list[float]:
        return [number / self.points for number in range(1, self.points + 1)]

    def _at(self, share: float) -> "Trajectory":
        return self.model_copy(update={"share": share})


def _step(share: float, total: int) -> int:
    return max(1, round(share * total))
