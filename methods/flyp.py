"""FLYP: fine-tune like you pretrain (Goyal et al., 2023, https://arxiv.org/abs/2212.00638)."""

from typing import Literal

from robustbench_ft.batches import Captioned
from robustbench_ft.losses import contrastive, contrastive_masked
from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier
from robustbench_ft.train import Recipe, train


class FLYP(Method):
    """Fine-tune both towers and the logit scale with the contrastive loss on prompts of the class names (Goyal et al., 2023).

    Pairs of image and template are sampled without replacement; no gradient clipping. The head is rebuilt from the fine-tuned
    text tower and logit scale. ``collisions``: two images of one class are each other's negatives (``keep``, the paper's), or
    are left out of each other's softmax (``mask``, another method). ``towers=image``: the ablation with a frozen text tower, of
    which no code was released; the logit scale still trains.
    """

    collisions: Literal["keep", "mask"] = "keep"
    towers: Literal["both", "image"] = "both"
    recipe: Recipe = Recipe(lr=1e-5, clip=None)

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        images = task.training(start, self.recipe)
        return train(
            start,
            Captioned(images, task.classes, task.templates, start.tokenise),
            self.recipe,
            loss=contrastive if self.collisions == "keep" else contrastive_masked,
            only=("clip",) if self.towers == "both" else ("clip.visual", "clip.logit_scale"),
            label=self.name,
            validate=task.accuracy,
        )
