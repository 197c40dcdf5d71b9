"""L2-SP: fine-tuning held near the start (Li et al., 2018, https://arxiv.org/abs/1802.01483)."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from robustbench_ft.batches import Batch
from robustbench_ft.losses import cross_entropy
from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier
from robustbench_ft.train import Recipe, train


class L2SP(Method):
    """Cross entropy plus strength x sum of (theta - theta_start)^2 over image tower and head (Li et al., 2018).

    Without the factor 1/2, as in LP-FT's code; the head is anchored to the zero-shot one. Weight decay is off: it would pull
    to 0 what the penalty pulls to the start.
    """

    strength: Annotated[float, Field(ge=0)] = 0.01
    recipe: Recipe = Recipe(weight_decay=0.0)

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        model, only = start.frozen_head(), ("clip.visual", "head")
        anchor = {name: p.detach().clone() for name, p in model.named_parameters() if name.startswith(only)}
        error = cross_entropy(self.recipe.label_smoothing)

        def loss(model: Classifier, batch: Batch) -> Tensor:
            here = dict(model.named_parameters())
            distance = sum(((here[name] - start) ** 2).sum() for name, start in anchor.items())
            return error(model, batch) + self.strength * distance

        return train(model, task.training(start, self.recipe), self.recipe, loss=loss, only=only, label=self.name)
