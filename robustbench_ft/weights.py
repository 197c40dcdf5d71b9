"""Averages in weight space, in float32: of any number of models, one at a time is read into a running mean."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from robustbench_ft.errors import UsageError
from robustbench_ft.files import digest
from robustbench_ft.model import Classifier, Derived, Ensemble, Trained

Weight = float | Tensor
"""Of one tensor of a model: a number, or one for each element."""
Weights = float | Callable[[str], Weight]
"""Of a model: a number, or what its tensors have, by name."""
HEAD = ("head.weight", "head.bias")


def interpolate(start: Classifier, tuned: Classifier, alpha: Weights) -> Classifier:
    """The weight-space ensemble (1 - alpha) start + alpha tuned (WiSE-FT), tensor by tensor; the ends are exact."""
    mean = move(_beginning(start), tuned, alpha)
    mean.origin = digest(["interpolate", start.origin, tuned.origin, _told(alpha, mean)])
    return mean


def average(models: Sequence[Classifier], weights: Sequence[Weights]) -> Classifier:
    """The weighted mean of models; ``models`` may read one when it is asked for. See ``running_mean``."""
    if len(models) != len(weights):
        raise ValueError(f"{len(models)} models and {len(weights)} weights")
    return running_mean((models[k], weights[k]) for k in range(len(models)))


def running_mean(pairs: Iterable[tuple[Classifier, Weights]]) -> Classifier:
    """The weighted mean, tensor by tensor, of models that come with their weights; these sum to more than 0, not always to 1.

    It is a running ``torch.lerp``: tensors that are equal in all models stay as they are, bit for bit. Tensors that are not
    floating point are the first model's. Heads: all derived, the mean's is rebuilt from its own text tower; all trained, they are
    averaged; mixed, see ``alike``. One model and the mean are held at once.
    """
    mean: Classifier | None = None
    totals: dict[str, Weight] = {}
    told = []
    for model, weight in pairs:
        if mean is None:
            mean = _beginning(model)
            totals = {name: _of(weight, name) for name in {*floating(mean), *HEAD}}  # a derived head may yet become trained
        else:
            mean = move(mean, model, _newcomer(weight, totals))
        told.append([model.origin, _told(weight, mean)])
        del model, weight  # else they would stay while the next ones are made
    if mean is None:
        raise UsageError("there is no model to average", hint="at least one ingredient")
    mean.origin = digest(["average", told])
    return mean


def floating(model: Classifier) -> dict[str, Tensor]:
    """The tensors of a model that an average moves, by name: parameters and floating point buffers, the live ones."""
    return {name: value for name, value in model.state_dict(keep_vars=True).items() if value.is_floating_point()}


def alike(one: Classifier, other: Classifier) -> tuple[Classifier, Classifier]:
    """The two with heads of one kind, their towers shared with what was given; UsageError where tensors differ in name or shape.

    Where text towers and logit scales are equal bit for bit, as between the start and a plain fine-tune, a derived head becomes
    trained by its matrix; elsewhere mixed heads are an error, since one of the two would lose its meaning.
    """
    if isinstance(one, Ensemble) or isinstance(other, Ensemble):
        raise UsageError("an ensemble of outputs has no single set of weights to average")
    if one.head.normalize != other.head.normalize:
        raise UsageError(
            "a head that reads L2-normalised features and one that reads them as they are cannot be averaged",
            hint="a probe with variant=adamw reads normalised features, as the start does",
        )
    if type(one.head) is not type(other.head):
        if not same_text(one, other):
            raise UsageError(
                "a model with a zero-shot head and one with a trained head cannot be averaged when their text towers differ",
                hint="average models of one kind: FLYP with FLYP, FT with FT",
            )
        one, other = _with_trained_head(one), _with_trained_head(other)
    _require_same_tensors(one.state_dict(), other.state_dict())
    return one, other


def same_text(one: Classifier, other: Classifier) -> bool:
    """Whether everything but the image towers is equal, bit for bit."""
    here, there = (
        {name: value for name, value in model.clip.state_dict().items() if not name.startswith("visual.")}
        for model in (one, other)
    )
    return here.keys() == there.keys() and all(torch.equal(value, there[name]) for name, value in here.items())


def _beginning(model: Classifier) -> Classifier:
    """A copy in float32 that is to become a mean; a derived head keeps its matrix for as long as the text tower stays."""
    if isinstance(model, Ensemble):
        raise UsageError("an ensemble of outputs has no single set of weights to average")
    mean = copy.deepcopy(model).float()
    if isinstance(mean.head, Derived) and isinstance(model.head, Derived):
        mean.head.cache = model.head.cache
    return mean


@torch.no_grad()
def move(mean: Classifier, other: Classifier, share: Weights) -> Classifier:
    """``mean`` itself, moved in place by that share of the way to ``other``: no third model is made."""
    mean, other = alike(mean, other)
    if isinstance(mean.head, Derived) and not same_text(mean, other):
        mean.head.cache = None
    there, moved = other.state_dict(), set()
    for name, value in floating(mean).items():
        if id(value) not in moved:  # tied tensors have two names
            moved.add(id(value))
            part = _of(share, name)
            value.lerp_(there[name].to(value), part.to(value) if isinstance(part, Tensor) else part)
    return mean


def _newcomer(weight: Weights, totals: dict[str, Weight]) -> Callable[[str], Weight]:
    """The share of a model that joins those whose weights sum to ``totals``, which then counts it in."""

    def share(name: str) -> Weight:
        own = _of(weight, name)
        totals[name] = totals[name] + own
        if not isinstance(own, Tensor) and own == 0:
            return 0.0
        return own / totals[name]

    return share


def _of(weights: Weights, name: str) -> Weight:
    return weights(name) if callable(weights) else float(weights)


def _told(weights: Weights, model: Classifier) -> Any:
    """Weights as JSON, for provenance."""
    if not callable(weights):
        return float(weights)
    found = {name: weights(name) for name in floating(model)}
    return {
        name: hashlib.sha256(one.cpu().contiguous().numpy().data).hexdigest() if isinstance(one, Tensor) else float(one)
        for name, one in found.items()
    }


def _with_trained_head(model: Classifier) -> Classifier:
    if isinstance(model.head, Trained):
        return model
    with torch.no_grad():
        head = Trained(*model.matrix(), normalize=model.head.normalize)
    return Classifier(model.clip, head, model.preprocess, model.tokenise, origin=model.origin).train(model.training)


def _require_same_tensors(here: dict[str, Tensor], there: dict[str, Tensor]) -> None:
    """UsageError that says which tensors two models do not share, and which have other shapes."""
    differences = {
        "only in the first": sorted(here.keys() - there.keys()),
        "only in the second": sorted(there.keys() - here.keys()),
        "of another size": [
            f"{name} is {list(value.shape)} and {list(there[name].shape)}"
            for name, value in here.items()
            if name in there and value.shape != there[name].shape
        ],
    }
    told = [f"{len(names)} {which} ({', '.join(names[:2])})" for which, names in differences.items() if names]
    if told:
        raise UsageError(
            f"models of different shape cannot be averaged: {'; '.join(told)}",
            hint="average fine-tunes of one start model on one set of classes",
        )
