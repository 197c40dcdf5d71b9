"""What merges beyond a plain mean need: the diagonal Fisher information, and Model Stock's ratio."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from robustbench_ft.batches import Images
from robustbench_ft.datasets import ImageSet
from robustbench_ft.errors import UsageError
from robustbench_ft.model import Classifier
from robustbench_ft.weights import Weights, alike, floating, running_mean

FLOOR = 1e-8  # of the information, as in WiSE-FT's released code: no parameter is without a weight
Fisher = dict[str, Tensor]


def fisher(model: Classifier, held_out: ImageSet, count: int, *, seed: int) -> Fisher:
    """The diagonal Fisher information, by parameter name: the mean over ``count`` held-out examples of the squared gradient of
    the log-likelihood of a label drawn from the model's own softmax (Matena and Raffel, 2022, https://arxiv.org/abs/2111.09832).

    One example at a time, under the eval transform and in eval mode. Parameters that the logits do not depend on are left out.
    The examples and the draws depend on ``seed`` alone; UsageError where there are fewer than ``count``.
    """
    if count > len(held_out):
        raise UsageError(f"fisher={count}: {held_out.name} has {len(held_out)} examples", hint=f"--set fisher={len(held_out)}")
    data, draws = Images(held_out, model.preprocess, augment=False), torch.Generator().manual_seed(seed)
    parameters = dict(model.named_parameters())
    device = next(iter(parameters.values())).device
    sums: Fisher = {}
    for index in np.random.Generator(np.random.PCG64(seed)).permutation(len(held_out))[:count]:
        chances = model(data.batch(np.array([index])).images.to(device)).log_softmax(-1)[0]
        label = torch.multinomial(chances.detach().exp().cpu(), 1, generator=draws)
        found = torch.autograd.grad(chances[int(label)], list(parameters.values()), allow_unused=True)
        for name, gradient in zip(parameters, found, strict=True):
            if gradient is not None:
                sums[name] = sums[name].addcmul_(gradient, gradient) if name in sums else gradient.square()
    return {name: total.div_(count).clamp_(min=FLOOR) for name, total in sums.items()}


def fisher_average(models: Sequence[Classifier], held_out: ImageSet, count: int, *, seed: int) -> Classifier:
    """The mean of models, each parameter weighted by its Fisher information; what has none, equally (Matena and Raffel, 2022).

    One model and its information are held beside the running mean and the sum of the information.
    """

    def weighed(model: Classifier) -> tuple[Classifier, Weights]:
        found = fisher(model, held_out, count, seed=seed)
        return model, lambda name: found.get(name, 1.0)

    return running_mean(weighed(models[k]) for k in range(len(models)))


def information_ratio(start: Classifier, tuned: Classifier, held_out: ImageSet, count: int, *, seed: int) -> Fisher:
    """The fine-tuned model's Fisher information over the start's, element by element, where both have some."""
    start, tuned = alike(start, tuned)
    base = fisher(start, held_out, count, seed=seed)
    return {name: own.div_(base.pop(name)) for name, own in fisher(tuned, held_out, count, seed=seed).items() if name in base}


def fisher_share(ratio: Tensor | None, alpha: float) -> Tensor | float:
    """The fine-tuned model's share alpha F1 / ((1 - alpha) F0 + alpha F1) of a tensor, from F1 / F0; alpha for None."""
    return alpha if ratio is None else alpha * ratio / ((1 - alpha) + alpha * ratio)


@torch.no_grad()
def stock_ratios(start: Classifier, models: Sequence[Classifier]) -> dict[str, float]:
    """Model Stock's share t of the mean of k fine-tunes, the rest being the start's, for each tensor (Jang et al., 2024).

    t = k c / ((k - 1) c + 1), c the mean over pairs of the cosine between their moves away from the start. The sum of the moves'
    unit vectors gives it in one pass: its squared length is k + k (k - 1) c. Where a fine-tune did not move a tensor its cosines
    are 0; where c < 0 the fine-tunes disagree and t is 0, not below. Tensors that none moved are left out.
    """
    count = len(models)
    sums: dict[str, Tensor] = {}
    moved: dict[str, int] = {}
    for model in (models[k] for k in range(count)):
        base, model = alike(start, model)
        before = floating(base)
        for name, value in floating(model).items():
            move = value.float() - before[name].float()
            length = float(torch.linalg.vector_norm(move, dtype=torch.float64))
            if length > 0:
                moved[name] = moved.get(name, 0) + 1
                unit = move.div_(length)
                sums[name] = sums[name].add_(unit) if name in sums else unit
        del base, model, before, value  # else they would stay while the next one is read
    return {name: _ratio(total, moved[name], count) for name, total in sums.items()}


def _ratio(total: Tensor, moved: int, count: int) -> float:
    squared = float(torch.linalg.vector_norm(total, dtype=torch.float64)) ** 2
    cosine = min(1.0, max(0.0, (squared - moved) / (count * (count - 1))))
    return count * cosine / ((count - 1) * cosine + 1)
