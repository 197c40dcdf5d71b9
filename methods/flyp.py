"""FLYP: fine-tune like you pretrain (Goyal et al., 2023, https://arxiv.org/abs/2212.00638)."""

from robustbench_ft.batches import Captioned
from robustbench_ft.losses import contrastive
from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier
from robustbench_ft.train import Recipe, train


class FLYP(Method):
    """Fine-tune both towers and the logit scale with the contrastive loss on prompts of the class names (Goyal et al., 2023).

    Pairs of image and template are sampled without replacement; two images of one class are each other's negatives; no gradient
    clipping. The head is rebuilt from the fine-tuned text tower and logit scale.
    """

    recipe: Recipe = Recipe(lr=1e-5, clip=None)

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        images = task.training(start, self.recipe)
        pairs = Captioned(images, task.classes, task.templates, start.tokenise)
        return train(start, pairs, self.recipe, loss=contrastive, only=("clip",), label=self.name)
