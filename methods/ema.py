"""EMA: the moving average of a fine-tune's weights (Wortsman et al., 2022, https://arxiv.org/abs/2109.01903, appendix C.3)."""

from collections.abc import Iterator
from functools import partial
from typing import Annotated

from pydantic import Field

from robustbench_ft.averages import kept_share
from robustbench_ft.errors import UsageError
from robustbench_ft.losses import cross_entropy
from robustbench_ft.method import Method, PathPoint, Task
from robustbench_ft.model import Classifier
from robustbench_ft.train import Recipe, train
from robustbench_ft.weights import interpolate


class EMA(Method):
    """Exponential moving average of the weights of plain fine-tuning, over its steps (Wortsman et al., 2022, WiSE-FT).

    Debiased: what the average would be without its first value. Else biased to the start, which is its first value: the
    weight-space ensemble of start and debiased average at alpha = 1 - decay^steps, so it is not to be ensembled again.
    """

    decay: Annotated[float, Field(ge=0, lt=1)] = 0.9999
    debias: bool = True
    recipe: Recipe = Recipe()

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        data = task.training(start, self.recipe)
        if not self.debias:
            if self.recipe.validate_every is not None:
                raise UsageError("the biased average is that of all steps", hint="without recipe.validate_every, or debias=true")
            return interpolate(start, self._debiased(True).fit(start, task), kept_share(self.decay, self.recipe.steps(data)))
        return train(
            start.frozen_head(),
            data,
            self.recipe.model_copy(update={"ema": self.decay}),
            loss=cross_entropy(self.recipe.label_smoothing),
            only=("clip.visual", "head"),
            label=self.name,
            validate=task.accuracy,
        )

    def path(self, start: Classifier, task: Task) -> Iterator[PathPoint]:
        if self.recipe.validate_every is None:
            yield PathPoint("biased" if self.debias else "debiased", partial(self._debiased(not self.debias).fit, start, task))

    def _debiased(self, debias: bool) -> "EMA":
        return self.model_copy(update={"debias": debias})
