"""Uniform soup (Wortsman et al., 2022, https://arxiv.org/abs/2203.05482)."""

from typing import Annotated

from pydantic import Field

from robustbench_ft.merging import fisher_average
from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier
from robustbench_ft.soups import INGREDIENTS, Ingredients, fit_each
from robustbench_ft.weights import average


class UniformSoup(Method):
    """The mean of the weights of several fine-tunes (Wortsman et al., 2022, model soups).

    ``start_counts``: the start is one of them, as the initial model is in the released results. ``fisher``: weigh each parameter
    by its Fisher information from that many held-out examples (val), as Matena and Raffel (2022) merge.
    """

    ingredients: Ingredients = INGREDIENTS
    start_counts: bool = False
    fisher: Annotated[int, Field(ge=1)] | None = None

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        models = fit_each(self.ingredients, start, task, started=self.start_counts)
        if self.fisher is None:
            return average(models, [1.0] * len(models))
        return fisher_average(models, task.val, self.fisher, seed=task.seed)
