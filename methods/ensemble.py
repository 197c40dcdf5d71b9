"""Output ensemble of several fine-tunes (model soups' comparison, Wortsman et al., 2022, https://arxiv.org/abs/2203.05482)."""

import copy

from robustbench_ft.method import Fraction, Method, Task
from robustbench_ft.model import Classifier, Ensemble
from robustbench_ft.soups import INGREDIENTS, Ingredients, fit_each


class OutputEnsemble(Method):
    """The mean of the outputs of several fine-tunes: what a soup is measured against (Wortsman et al., 2022, model soups).

    Logits by default; ``probabilities`` averages after the softmax instead. It costs a forward pass per ingredient. ``alpha`` is
    the share of the fine-tunes together, the rest is the start's: with one ingredient, (1 - alpha) start + alpha fine-tuned, the
    output ensemble that WiSE-FT is compared with.
    """

    ingredients: Ingredients = INGREDIENTS
    alpha: Fraction = 1.0
    probabilities: bool = False

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        models = list(fit_each(self.ingredients, start, task))
        shares = [self.alpha / len(models)] * len(models)
        if self.alpha < 1:
            models, shares = [copy.deepcopy(start), *models], [1 - self.alpha, *shares]
        return Ensemble(models, weights=shares, probabilities=self.probabilities, origin="")
