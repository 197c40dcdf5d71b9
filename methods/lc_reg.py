"""A linear classifier held near the zero-shot head (WiSE-FT's baseline, https://arxiv.org/abs/2109.01903, appendix C.3)."""

from typing import Annotated

from pydantic import Field

from robustbench_ft.features import encode
from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier
from robustbench_ft.predict import Evaluation
from robustbench_ft.regularisers import cross_entropy_and_head_penalty
from robustbench_ft.train import Recipe, train


class RegularisedLC(Method):
    """Train the head under a penalty on its distance from the zero-shot head (Wortsman et al., 2022).

    Cross entropy + strength ||W - W_zs||^2, bias too. The paper draws it as a curve over strengths from 1e-8 to 500, with the
    linear classifier's recipe. It is of the linear classifier alone; end to end, see ``l2sp``. The paper's other regularisers,
    L1, weight decay and label smoothing, are fields of ``lp``.
    """

    strength: Annotated[float, Field(ge=0)] = 1e-3
    recipe: Recipe = Recipe(lr=1e-3, weight_decay=0.01, augment=False)

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        loss = cross_entropy_and_head_penalty(start, self.strength, 0.0, label_smoothing=self.recipe.label_smoothing)
        features = encode(start, task.train, Evaluation(workers=self.recipe.workers))
        return train(
            start.frozen_head(), features, self.recipe, loss=loss, only=("head",), label=self.name, validate=task.accuracy
        )
