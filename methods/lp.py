"""Linear probe: the head alone is trained (WiSE-FT's linear classifier, https://arxiv.org/abs/2109.01903, appendix D.3)."""

from robustbench_ft.losses import cross_entropy_of_features
from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier
from robustbench_ft.predict import encode
from robustbench_ft.train import Recipe, train


class LP(Method):
    """Train the head on cached features, from the zero-shot head (Wortsman et al., 2022).

    Features are L2-normalised, of the eval transform, encoded once in eval mode.
    """

    recipe: Recipe = Recipe(lr=1e-3, weight_decay=0.01, augment=False)

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        features = encode(start, task.train)
        loss = cross_entropy_of_features(self.recipe.label_smoothing)
        return train(start.frozen_head(), features, self.recipe, loss=loss, only=("head",), label=self.name)
