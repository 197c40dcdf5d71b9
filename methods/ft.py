"""Standard end-to-end fine-tuning, as in WiSE-FT (Wortsman et al., 2022, https://arxiv.org/abs/2109.01903)."""

from robustbench_ft.losses import cross_entropy
from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier
from robustbench_ft.train import Recipe, train


class FT(Method):
    """Fine-tune image tower and head, the head starting from the zero-shot one (Wortsman et al., 2022).

    The head's weight has the logit scale in it and its zero bias is trained too; features are L2-normalised. ``train_head=false``
    leaves the head as it is and trains the image tower alone, as PAINT does.
    """

    recipe: Recipe = Recipe()
    train_head: bool = True

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        return train(
            start.frozen_head(),
            task.training(start, self.recipe),
            self.recipe,
            loss=cross_entropy(self.recipe.label_smoothing),
            only=("clip.visual", "head") if self.train_head else ("clip.visual",),
            label=self.name,
            validate=task.accuracy,
        )
