"""WiSE-FT: weight-space ensembles for fine-tuning (Wortsman et al., 2022, https://arxiv.org/abs/2109.01903)."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated

from pydantic import Field

from robustbench_ft.merging import fisher_share, information_ratio
from robustbench_ft.method import Alphas, AnyMethod, Fraction, Method, PathPoint, Task, method
from robustbench_ft.model import Classifier
from robustbench_ft.predict import accuracies, best_alpha
from robustbench_ft.weights import interpolate


class WiseFT(Method):
    """Weight-space ensemble (1 - alpha) start + alpha fine-tuned; the paper recommends 0.5 (Wortsman et al., 2022).

    ``choose_alpha``: a grid, of which the alpha with the highest val accuracy takes the place of ``alpha``; the lowest of equals,
    which keeps more of the start. ``base=lp`` is the paper's linear classifier. ``fisher``: weigh each parameter by the Fisher
    information of either end, from that many held-out examples (val), as in the released code, which took them from the test set.
    """

    alpha: Fraction = 0.5
    choose_alpha: Alphas | None = None
    fisher: Annotated[int, Field(ge=1)] | None = None
    base: AnyMethod = method("ft")
    path_steps: Annotated[int, Field(ge=1, le=100)] = 10

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        blend = self._blend(start, task)
        if self.choose_alpha is None:
            return blend(self.alpha)
        makes = [partial(blend, alpha) for alpha in self.choose_alpha]
        alpha = best_alpha(self.choose_alpha, accuracies(makes, task.val, preprocess=start.preprocess))
        chosen = blend(alpha)
        chosen.chosen = {"alpha": alpha}
        return chosen

    def _blend(self, start: Classifier, task: Task) -> Callable[[float], Classifier]:
        """The ensemble as a function of alpha."""
        tuned = self.base.fit(start, task)
        if self.fisher is None:
            return partial(interpolate, start, tuned)
        ratio = information_ratio(start, tuned, task.val, self.fisher, seed=task.seed)
        return lambda alpha: interpolate(start, tuned, lambda name: fisher_share(ratio.get(name), alpha))

    def headline(self, fitted: Classifier) -> tuple[str, float]:
        alpha = fitted.chosen.get("alpha", self.alpha)
        return f"alpha={alpha:g}", alpha

    def path(self, start: Classifier, task: Task) -> Iterator[PathPoint]:
        blend = self._blend(start, task)
        for step in range(1, self.path_steps + 1):
            alpha = step / self.path_steps
            yield PathPoint(f"alpha={alpha:g}", partial(blend, alpha), alpha)
