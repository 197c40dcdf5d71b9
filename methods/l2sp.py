"""L2-SP: fine-tuning held near the start (Li et al., 2018, https://arxiv.org/abs/1802.01483)."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from robustbench_ft.batches import Batch
from robustbench_ft.losses import cross_entropy
from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier
from robustbench_ft.pieces import PerExample
from robustbench_ft.train import Recipe, train

Strength = Annotated[float, Field(ge=0)]
ONLY = ("clip.visual", "head")


class L2SP(Method):
    """Cross entropy plus strength x sum of (theta - theta_start)^2 over image tower and head (Li et al., 2018).

    The defaults are LP-FT's code: no factor 1/2, every parameter, the head anchored to the zero-shot one. The paper's are
    ``half``, ``anchored=weights`` (tensors of two dimensions and more: no biases or norms) and ``head=decay``: a new head, pulled
    to 0 with a strength of its own. ``head=free``: no penalty on it. Weight decay is off: it would pull to 0 what the penalty
    pulls to the start. Adam rescales the penalty's gradient like the rest.
    """

    strength: Strength = 0.01
    half: bool = False
    anchored: Literal["all", "weights"] = "all"
    head: Literal["anchor", "decay", "free"] = "anchor"
    head_strength: Strength = 0.01
    recipe: Recipe = Recipe(weight_decay=0.0)

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        model, error = start.frozen_head(), cross_entropy(self.recipe.label_smoothing)
        anchor = {name: p.detach().clone() for name, p in model.named_parameters() if name.startswith(ONLY)}

        def loss(model: Classifier, batch: Batch) -> Tensor:
            return error(model, batch) + self.penalty(model, anchor)

        data = task.training(start, self.recipe)
        return train(model, data, self.recipe, loss=PerExample(loss), only=ONLY, label=self.name, validate=task.accuracy)

    def penalty(self, model: Classifier, anchor: dict[str, Tensor]) -> Tensor:
        """The scalar that is added to the loss; ``anchor``: the start's parameters by name."""
        here = {n: p for n, p in model.named_parameters() if n in anchor and (self.anchored == "all" or p.ndim > 1)}
        held = [name for name in here if self.head == "anchor" or not name.startswith("head.")]
        factor, zero = 0.5 if self.half else 1.0, torch.zeros(())
        total = factor * self.strength * sum((((here[name] - anchor[name]) ** 2).sum() for name in held), zero)
        if self.head == "decay":
            total = total + factor * self.head_strength * sum(
                ((here[name] ** 2).sum() for name in here if name not in held), zero
            )
        return total
