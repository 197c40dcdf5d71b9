"""Greedy soup (Wortsman et al., 2022, https://arxiv.org/abs/2203.05482, recipe 1)."""

from functools import partial

from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier
from robustbench_ft.predict import accuracies, accuracy
from robustbench_ft.soups import INGREDIENTS, Ingredients, fit_each
from robustbench_ft.weights import move


class GreedySoup(Method):
    """Fine-tunes from the best on val down, each kept in the mean where val accuracy rises (Wortsman et al., 2022, model soups).

    ``strict``: it must rise, as in the released code; otherwise it may stay equal, as in the paper. Of two equal ingredients the
    later one comes first, as released. ``start_counts``: the start is ingredient 0, as the initial model is in the released
    results.
    """

    ingredients: Ingredients = INGREDIENTS
    strict: bool = True
    start_counts: bool = False

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        models = fit_each(self.ingredients, start, task, started=self.start_counts)
        makes = [partial(models.__getitem__, k) for k in range(len(models))]
        scores = accuracies(makes, task.val, preprocess=start.preprocess)
        first, *rest = sorted(range(len(models)), key=lambda k: (scores[k], k), reverse=True)
        soup, best, kept = models.own(first), scores[first], 1
        for index in rest:
            wider = move(models.own(index), soup, kept / (kept + 1))
            score = accuracy(wider, task.val)
            if score > best or (score == best and not self.strict):
                soup, best, kept = wider, score, kept + 1
        return soup
