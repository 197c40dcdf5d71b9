"""TPGM: trainable projected gradient method (Tian et al., 2023, https://arxiv.org/abs/2303.10720)."""

from typing import Literal

from robustbench_ft.batches import Images
from robustbench_ft.errors import UsageError
from robustbench_ft.method import AnyMethod, Method, Task, method
from robustbench_ft.model import Classifier, Trained
from robustbench_ft.pieces import PerExample
from robustbench_ft.projection import Projection
from robustbench_ft.train import Recipe, train
from robustbench_ft.weights import alike


class TPGM(Method):
    """Draw every tensor of a fine-tune back into a ball around the start, its radius learned on val (Tian et al., 2023).

    Projected once, after fine-tuning, as the paper and its code do with CLIP; elsewhere the paper projects at every step.
    ``norm``: L2 of a tensor, as in the released command for ImageNet, or L1 of each of its rows (``mars``). Radii begin at half
    the smallest norm, and move for about 200 steps (0.49 epochs of 26,000 images in batches of 64).
    """

    base: AnyMethod = method("ft")
    norm: Literal["l2", "mars"] = "l2"
    recipe: Recipe = Recipe(
        lr=0.01, weight_decay=0.0, epochs=0.49, batch_size=64, warmup_steps=0, schedule="constant", clip=None, augment=False
    )

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        before, tuned = alike(start, self.base.fit(start, task))
        if not isinstance(tuned.head, Trained):
            raise UsageError(f"tpgm: {self.base.name} leaves no head of its own to project", hint="--set base=ft")
        projection = Projection(before, tuned, self.norm)
        val = Images(task.val, start.preprocess, augment=self.recipe.augmentation())
        return projection.model(train(projection.radii(), val, self.recipe, loss=PerExample(projection.loss), label=self.name))
