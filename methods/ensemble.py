"""Output ensemble of several fine-tunes (model soups' comparison, Wortsman et al., 2022, https://arxiv.org/abs/2203.05482)."""

from robustbench_ft.method import AnyMethod, Method, Task
from robustbench_ft.model import Classifier, Ensemble
from robustbench_ft.soups import INGREDIENTS, fit_each


class OutputEnsemble(Method):
    """The mean of the outputs of several fine-tunes: what a soup is measured against (Wortsman et al., 2022, model soups).

    Logits by default; ``probabilities`` averages after the softmax instead. It costs a forward pass per ingredient.
    """

    ingredients: tuple[AnyMethod, ...] = INGREDIENTS
    probabilities: bool = False

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        models = fit_each(self.ingredients, start, task)
        return Ensemble(models, probabilities=self.probabilities, origin="")
