"""LP-FT: first the head, then everything (Kumar et al., 2022, https://arxiv.org/abs/2202.10054)."""

from robustbench_ft.losses import cross_entropy
from robustbench_ft.method import AnyMethod, Method, Task, method
from robustbench_ft.model import Classifier
from robustbench_ft.train import Recipe, train


class LPFT(Method):
    """Linear probe, then end-to-end fine-tuning from it at a smaller rate (Kumar et al., 2022).

    By default on CLIP with a normalised, scaled head, as later papers run it (VRF: 1e-5 for the second stage). The paper's own
    is ``probe.variant=sklearn``, whose head reads features as they are in both stages, then ``recipe`` with optimizer=sgd,
    schedule=cosine_epoch, weight_decay=0, clip=null, warmup_steps=0, eval_mode=true (its released commands), batch_size=64
    (128 on ImageNet), and a rate chosen on val from 3e-7 to 1e-2: the best can be 3e-7.
    """

    probe: AnyMethod = method("lp")
    recipe: Recipe = Recipe(lr=1e-5)

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        return train(
            self.probe.fit(start, task).frozen_head(),
            task.training(start, self.recipe),
            self.recipe,
            loss=cross_entropy(self.recipe.label_smoothing),
            only=("clip.visual", "head"),
            label=self.name,
            validate=task.accuracy,
        )
