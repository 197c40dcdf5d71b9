"""Lipsum-FT: fine-tuning guided by random text (Nam et al., 2024, https://arxiv.org/abs/2404.00860)."""

from typing import Annotated

from pydantic import Field

from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier
from robustbench_ft.regularisers import cross_entropy_and_energies, random_strings
from robustbench_ft.train import Recipe, train


class LipsumFT(Method):
    """Fine-tune while random strings go on saying the same of every image (Nam et al., 2024).

    Cross entropy + strength x mean of (s (f - f0) . t)^2 / 2 over ``strings`` texts t of ``length`` random tokens, drawn at every
    step. Text tower and logit scale s are frozen. The released 50,000 steps on ImageNet are 10 epochs, a tenth of them warm-up,
    with a look at val every 1,000. The released head holds no logit scale, so that at one rate it moves s = 100 times as far as
    one that does, which ``lr_scale`` makes up for; and it has no bias.
    """

    strength: Annotated[float, Field(ge=0)] = 1.0
    strings: Annotated[int, Field(gt=0)] = 80
    length: Annotated[int, Field(gt=0)] = 8
    recipe: Recipe = Recipe(
        lr=1e-5,
        lr_scale={"head.weight": 100.0, "head.bias": 0.0},
        weight_decay=0.0,
        batch_size=256,
        warmup_steps=5000,
        clip=None,
        crop=0.08,
        flip=True,
        validate_every=0.2,
    )

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        strings = random_strings(start, self.strings, self.length)
        return train(
            start.frozen_head(),
            task.training(start, self.recipe),
            self.recipe,
            loss=cross_entropy_and_energies(start, strings, self.strength, label_smoothing=self.recipe.label_smoothing),
            only=("clip.visual", "head"),
            label=self.name,
            validate=task.accuracy,
        )
