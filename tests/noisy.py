"""Not a method of the package: the start with noise, so that a test has many different fine-tunes in no time."""

import torch

from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier


class Noisy(Method):
    """The start with noise on image tower and head; on the text tower too, behind its zero-shot head, with ``text``."""

    scale: float = 0.02
    text: bool = False

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        made = start.with_head(start.head) if self.text else start.frozen_head()
        with torch.no_grad():
            for name, parameter in made.named_parameters():
                if self.text or name.startswith(("clip.visual", "head")):
                    parameter.add_(torch.randn_like(parameter), alpha=self.scale)
        return made
