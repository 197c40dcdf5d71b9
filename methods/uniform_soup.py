"""Uniform soup (Wortsman et al., 2022, https://arxiv.org/abs/2203.05482)."""

from robustbench_ft.method import AnyMethod, Method, Task
from robustbench_ft.model import Classifier
from robustbench_ft.soups import INGREDIENTS, fit_each
from robustbench_ft.weights import average


class UniformSoup(Method):
    """The mean of the weights of several fine-tunes (Wortsman et al., 2022, model soups)."""

    ingredients: tuple[AnyMethod, ...] = INGREDIENTS

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        models = fit_each(self.ingredients, start, task)
        return average(models, [1.0] * len(models))
