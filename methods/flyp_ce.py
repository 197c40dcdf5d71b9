"""FLYP-CE: FLYP's ablation with cross entropy (Goyal et al., 2023, https://arxiv.org/abs/2212.00638)."""

from robustbench_ft.batches import prompt_tokens
from robustbench_ft.losses import cross_entropy_of_texts
from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier
from robustbench_ft.train import Recipe, train


class FLYPCE(Method):
    """Fine-tune both towers and the logit scale with cross entropy over the classes' texts (Goyal et al., 2023).

    At every step each class is one of its prompts, drawn at random, and all C texts are encoded with gradients; image to text
    only. The head is rebuilt from the fine-tuned text tower and logit scale.
    """

    recipe: Recipe = Recipe(lr=1e-5, clip=None)

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        tokens = prompt_tokens(task.classes, task.templates, start.tokenise)
        return train(
            start,
            task.training(start, self.recipe),
            self.recipe,
            loss=cross_entropy_of_texts(tokens, self.recipe.label_smoothing),
            only=("clip",),
            label=self.name,
            validate=task.accuracy,
        )
