"""Model Stock: all we need is just a few fine-tuned models (Jang et al., 2024, https://arxiv.org/abs/2403.19522)."""

from typing import Any

from pydantic import Field

from robustbench_ft.merging import stock_ratios
from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier
from robustbench_ft.soups import Ingredients, fit_each
from robustbench_ft.weights import average, interpolate

TWO: Any = Field(default=("ft", "ft"), min_length=2)


class ModelStock(Method):
    """The mean of a few fine-tunes, drawn back to the start tensor by tensor as far as their angles tell (Jang et al., 2024).

    t = k cos / ((k - 1) cos + 1) of the mean and 1 - t of the start; the angles are between the fine-tunes' moves away from the
    start, the zero-shot model with its head, where the heads of the fine-tunes begin too. By default two plain fine-tunes that
    differ in the seed.
    """

    ingredients: Ingredients = TWO

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        models = fit_each(self.ingredients, start, task)
        ratios = stock_ratios(start, models)
        return interpolate(start, average(models, [1.0] * len(models)), lambda name: ratios.get(name, 0.0))
