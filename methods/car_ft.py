"""CAR-FT: context-aware robust fine-tuning (Mao et al., 2024, https://arxiv.org/abs/2211.16175)."""

from typing import Annotated

from pydantic import Field

from robustbench_ft.errors import UsageError
from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier
from robustbench_ft.regularisers import context_matrix, cross_entropy_and_contexts
from robustbench_ft.train import Recipe, train


class CARFT(Method):
    """Fine-tune while every image keeps its context, as the prompts' templates tell it (Mao et al., 2024).

    Cross entropy + strength x KL(p0 || p), p(context | image) = softmax(s f . c): c is a template's prompts averaged over the
    classes, by the start's text tower. That the divergence is between the start's and the fine-tune's distributions over
    contexts is the paper's; decided here, where no code of the authors was found: its direction, the logit scale s in p,
    ``strength`` 1, and the rate, that of other methods that regularise CLIP (FLYP, Lipsum-FT).
    """

    strength: Annotated[float, Field(ge=0)] = 1.0
    recipe: Recipe = Recipe(lr=1e-5)

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        if len(task.templates) < 2:
            raise UsageError(f"car_ft tells contexts apart by their templates, and {task.suite} has one", hint="--method ft")
        contexts = context_matrix(start, task.classes, task.templates)
        return train(
            start.frozen_head(),
            task.training(start, self.recipe),
            self.recipe,
            loss=cross_entropy_and_contexts(start, contexts, self.strength, label_smoothing=self.recipe.label_smoothing),
            only=("clip.visual", "head"),
            label=self.name,
            validate=task.accuracy,
        )
