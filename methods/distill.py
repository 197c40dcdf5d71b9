"""Distillation from the zero-shot head, for a linear classifier (WiSE-FT, https://arxiv.org/abs/2109.01903, appendix C.3)."""

from typing import Annotated

from pydantic import Field

from robustbench_ft.features import encode
from robustbench_ft.method import Fraction, Method, Task
from robustbench_ft.model import Classifier
from robustbench_ft.predict import Evaluation
from robustbench_ft.regularisers import distillation_of_features
from robustbench_ft.train import Recipe, train


class Distill(Method):
    """Train the head on labels and, for a share of the loss, on the zero-shot head's outputs (Wortsman et al., 2022).

    (1 - share) CE(f, y) + share CE(f, zero-shot): a baseline to ensembling, of the linear classifier alone, with its recipe. The
    paper's runs over shares 0, 0.05, ..., 1 at ``temperature`` 1.
    """

    share: Fraction = 0.5
    temperature: Annotated[float, Field(gt=0)] = 1.0
    recipe: Recipe = Recipe(lr=1e-3, weight_decay=0.01, augment=False)

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        loss = distillation_of_features(start, self.share, self.temperature, label_smoothing=self.recipe.label_smoothing)
        features = encode(start, task.train, Evaluation(workers=self.recipe.workers))
        return train(
            start.frozen_head(), features, self.recipe, loss=loss, only=("head",), label=self.name, validate=task.accuracy
        )
