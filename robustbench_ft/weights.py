"""Averages in weight space."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from robustbench_ft.errors import UsageError
from robustbench_ft.files import digest
from robustbench_ft.model import Classifier, Derived, Ensemble


def interpolate(start: Classifier, tuned: Classifier, alpha: float) -> Classifier:
    """The weight-space ensemble (1 - alpha) start + alpha tuned (WiSE-FT); the ends are exact."""
    return average([start, tuned], [1 - alpha, alpha])


def average(models: Sequence[Classifier], weights: Sequence[float]) -> Classifier:
    """The weighted mean of models, in float32, tensor by tensor; ``weights`` need not sum to 1, but to more than 0.

    It is a running ``torch.lerp``: tensors that are equal in all models stay as they are, bit for bit. Buffers that are not
    floating point are the first model's. Heads: all derived, the mean's head is rebuilt from its own text tower; all trained,
    they are averaged; mixed, see ``_one_kind``.
    """
    if any(isinstance(model, Ensemble) for model in models):
        raise UsageError("an ensemble of outputs has no single set of weights to average")
    origin = digest(["average", [model.origin for model in models], [float(w) for w in weights]])
    models = _one_kind(models)
    mean = copy.deepcopy(models[0])
    state, total = mean.state_dict(), weights[0]
    for model, weight in zip(models[1:], weights[1:], strict=True):
        total += weight
        if weight:
            _step(state, model.state_dict(), weight / total)
    mean.load_state_dict(state)
    mean.origin = origin
    return mean


def _step(mean: dict[str, Tensor], other: dict[str, Tensor], share: float) -> None:
    if mean.keys() != other.keys():
        raise UsageError(f"models of different shape cannot be averaged: {sorted(mean.keys() ^ other.keys())[:4]}")
    for name, value in mean.items():
        if value.is_floating_point():
            mean[name] = torch.lerp(value.float(), other[name].to(value.device).float(), share).to(value.dtype)


def _one_kind(models: Sequence[Classifier]) -> list[Classifier]:
    """The models with heads of one kind.

    Where text towers and logit scales are equal bit for bit, as between the start and a plain fine-tune, a derived head becomes
    trained by its matrix; elsewhere mixed heads are an error, since one of the two would lose its meaning.
    """
    if len({type(model.head) for model in models}) == 1:
        return list(models)
    texts = [
        {name: value for name, value in model.clip.state_dict().items() if not name.startswith("visual.")} for model in models
    ]
    for other in texts[1:]:
        if any(not torch.equal(value, other[name]) for name, value in texts[0].items()):
            raise UsageError(
                "a model with a zero-shot head and one with a trained head cannot be averaged when their text towers differ",
                hint="average models of one kind: FLYP with FLYP, FT with FT",
            )
    return [model.frozen_head() if isinstance(model.head, Derived) else model for model in models]
