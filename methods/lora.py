"""LoRA: low-rank adaptation (Hu et al., 2022, https://arxiv.org/abs/2106.09685), of CLIP's image tower."""

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from robustbench_ft.errors import UsageError
from robustbench_ft.losses import cross_entropy
from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier
from robustbench_ft.train import Recipe, train

OPEN_CLIP = ("attn.in_proj_weight", "attn.out_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
TIMM = ("attn.qkv.weight", "attn.proj.weight", "mlp.fc1.weight", "mlp.fc2.weight")


class LoRA(Method):
    """Fine-tune the head, and the image tower's matrices W as W + (lora_alpha / rank) B A, of that rank (Hu et al., 2022).

    ``targets``: the ends of those matrices' names; queries, keys and values are one matrix where the tower has them as one. A
    begins as a linear layer does, B at 0; no bias, no dropout. The factors are multiplied out at the end: the result is a
    fine-tune like any other, and an ensemble with the start moves along B A, where interpolating A and B would give alpha^2 of
    it. No recipe for CLIP is a reference: ten times FT's rate for the factors, FT's for the head, and no weight decay were
    decided here.
    """

    rank: Annotated[int, Field(gt=0)] = 8
    lora_alpha: Annotated[float, Field(gt=0)] = 8.0
    targets: tuple[str, ...] = (*OPEN_CLIP, *TIMM)
    recipe: Recipe = Recipe(lr=3e-4, lr_scale={"head": 0.1}, weight_decay=0.0)

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        adapted, matrices = start.frozen_head(), _matrices(start, self.targets)
        for path, name in matrices:
            module = adapted.get_submodule(path)
            factors = LowRank(module.get_parameter(name), self.rank, self.lora_alpha / self.rank)
            parametrize.register_parametrization(module, name, factors)
        trained = train(
            adapted,
            task.training(start, self.recipe),
            self.recipe,
            loss=cross_entropy(self.recipe.label_smoothing),
            only=("head", *(name for name, _ in adapted.named_parameters() if name.endswith((".down", ".up")))),
            label=self.name,
            validate=task.accuracy,
        )
        for path, name in matrices:
            parametrize.remove_parametrizations(trained.get_submodule(path), name)
        return trained


class LowRank(nn.Module):
    """W [out, in] to W + factor x up [out, rank] @ down [rank, in], which are the paper's B and A."""

    def __init__(self, weight: Tensor, rank: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.down = nn.Parameter(weight.new_empty(rank, weight.shape[1]))
        self.up = nn.Parameter(weight.new_zeros(weight.shape[0], rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """The adapted matrix, float32 under any autocast: what is trained is what is merged."""
        with torch.autocast(weight.device.type, enabled=False):
            return weight + self.factor * (self.up @ self.down)


def _matrices(model: Classifier, targets: tuple[str, ...]) -> list[tuple[str, str]]:
    """The image tower's matrices whose names end so: path of the module that holds each, and name in it; UsageError for none."""
    names = [name for name, value in model.named_parameters() if name.startswith("clip.visual.") and value.dim() == 2]
    parts = [name.rpartition(".") for name in names if name.endswith(targets)]
    if not parts:
        raise UsageError(
            f"lora: no matrix of the image tower has a name that ends in {', '.join(targets)}; it has {', '.join(names[:8])}",
            hint="--set targets=[...]",
        )
    return [(path, name) for path, _, name in parts]
