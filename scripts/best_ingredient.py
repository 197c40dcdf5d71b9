"""The best of a soup's ingredients on val: what a soup is measured against (Wortsman et al., https://arxiv.org/abs/2203.05482)."""

from functools import partial

from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier
from robustbench_ft.predict import accuracies
from robustbench_ft.soups import INGREDIENTS, Ingredients, fit_each


class BestIngredient(Method):
    """The fine-tune with the highest val accuracy; the later one of equals, with which the greedy soup begins."""

    ingredients: Ingredients = INGREDIENTS

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        models = fit_each(self.ingredients, start, task)
        found = accuracies([partial(models.__getitem__, k) for k in range(len(models))], task.val, preprocess=start.preprocess)
        return models.own(max(range(len(found)), key=lambda k: (found[k], k)))
