"""LP-FT: first the head, then everything (Kumar et al., 2022, https://arxiv.org/abs/2202.10054)."""

from robustbench_ft.losses import cross_entropy
from robustbench_ft.method import AnyMethod, Method, Task, method
from robustbench_ft.model import Classifier
from robustbench_ft.train import Recipe, train


class LPFT(Method):
    """Linear probe, then end-to-end fine-tuning from it at a smaller rate (Kumar et al., 2022).

    On CLIP with a normalised, scaled head, as later papers run it (VRF: 1e-5 for the second stage).
    """

    probe: AnyMethod = method("lp")
    recipe: Recipe = Recipe(lr=1e-5)

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        probe = self.probe.fit(start, task).frozen_head()
        loss = cross_entropy(self.recipe.label_smoothing)
        data = task.training(start, self.recipe)
        return train(probe, data, self.recipe, loss=loss, only=("clip.visual", "head"), label=self.name)
