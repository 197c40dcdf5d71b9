"""Greedy soup (Wortsman et al., 2022, https://arxiv.org/abs/2203.05482, recipe 1)."""

from robustbench_ft.method import AnyMethod, Method, Task
from robustbench_ft.model import Classifier
from robustbench_ft.predict import accuracy
from robustbench_ft.soups import INGREDIENTS, fit_each
from robustbench_ft.weights import average


class GreedySoup(Method):
    """Fine-tunes from the best on val down, each kept in the mean where val accuracy rises (Wortsman et al., 2022, model soups).

    ``strict``: it must rise, as in the released code; otherwise it may stay equal, as in the paper. Of two equal ingredients the
    later one comes first, as released.
    """

    ingredients: tuple[AnyMethod, ...] = INGREDIENTS
    strict: bool = True

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        models = fit_each(self.ingredients, start, task)
        scores = [accuracy(model, task.val) for model in models]
        order = sorted(range(len(models)), key=lambda k: (scores[k], k), reverse=True)
        kept, best, soup = [models[order[0]]], scores[order[0]], average([models[order[0]]], [1.0])
        for index in order[1:]:
            wider = average([*kept, models[index]], [1.0] * (len(kept) + 1))
            score = accuracy(wider, task.val)
            if score > best or (score == best and not self.strict):
                kept, best, soup = [*kept, models[index]], score, wider
        return soup
