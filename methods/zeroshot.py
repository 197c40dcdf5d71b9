"""Zero-shot CLIP: the start model as it is (Radford et al., 2021)."""

import copy
from typing import ClassVar

from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier


class ZeroShot(Method):
    """The start model with its zero-shot head, unchanged (Radford et al., 2021)."""

    deterministic: ClassVar[bool] = True
    reads_data: ClassVar[bool] = False

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        return copy.deepcopy(start)
