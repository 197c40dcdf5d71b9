"""Linear probe: the head alone is trained (WiSE-FT's, https://arxiv.org/abs/2109.01903; LP-FT's, 2202.10054)."""

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from robustbench_ft.features import encode
from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier, Trained
from robustbench_ft.predict import Evaluation
from robustbench_ft.probes import Sweep, by_lbfgs, by_sklearn, probe
from robustbench_ft.regularisers import cross_entropy_and_head_penalty
from robustbench_ft.train import Recipe, train


class LP(Method):
    """Train the head on cached features of the eval transform (Wortsman et al., 2022; Kumar et al., 2022).

    ``variant``: ``adamw`` is WiSE-FT's linear classifier, on L2-normalised features, from the zero-shot head or, with
    ``init=random``, from one as PyTorch draws it. ``sklearn`` is LP-FT's logistic regression on features as they are, with the
    penalty of ``sweep`` that is best on val; ``lbfgs`` is the same on the model's device, for large sets. Their heads cannot be
    averaged with the start's, which reads normalised features.
    """

    variant: Literal["adamw", "sklearn", "lbfgs"] = "adamw"
    init: Literal["zeroshot", "random"] = "zeroshot"
    l1: Annotated[float, Field(ge=0)] = 0.0
    recipe: Recipe = Recipe(lr=1e-3, weight_decay=0.01, augment=False)
    sweep: Sweep = Sweep()

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        return self._descend(start, task) if self.variant == "adamw" else self._solve(start, task)

    def _descend(self, start: Classifier, task: Task) -> Classifier:
        begin = start.frozen_head()
        if self.init == "random":
            drawn = nn.Linear(begin.matrix()[0].shape[1], len(task.classes))
            begin = begin.with_head(Trained(drawn.weight, drawn.bias).to(begin.matrix()[0].device))
        loss = cross_entropy_and_head_penalty(start, 0.0, self.l1, label_smoothing=self.recipe.label_smoothing)
        features = encode(begin, task.train, Evaluation(workers=self.recipe.workers))
        return train(begin, features, self.recipe, loss=loss, only=("head",), label=self.name, validate=task.accuracy)

    def _solve(self, start: Classifier, task: Task) -> Classifier:
        fitted = start.frozen_head()
        fitted.head.normalize = False
        solve, device = by_sklearn if self.variant == "sklearn" else by_lbfgs, fitted.matrix()[0].device
        features, held_out = (encode(fitted, part, Evaluation(workers=self.recipe.workers)) for part in (task.train, task.val))
        found = probe(features, held_out, len(task.classes), self.sweep, solve=solve, device=device)
        fitted.head = Trained(found.weight, found.bias, normalize=False).to(device)
        fitted.chosen = {"sweep": found.inverse_penalty}
        return fitted
