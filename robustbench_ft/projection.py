"""Projections of a fine-tune into balls around the start, one per tensor, and the radii that are learned for them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from robustbench_ft.batches import Batch
from robustbench_ft.model import Classifier

SMALLEST = 1e-8  # radius, as in TPGM's released code


class Radii(nn.Module):
    """What is trained: the radius of each tensor's ball, float32 [L]."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = nn.Parameter(values)


class Projection:
    """``tuned`` with its parameters no farther from the start's than their radii; those that are the start's are left out.

    ``norm``: ``l2`` of a whole tensor, or ``mars``, the L1 norm of each of its rows: a row that is too long is shortened.
    """

    def __init__(self, start: Classifier, tuned: Classifier, norm: str) -> None:
        self.tuned, before = tuned, dict(start.named_parameters())
        ends = {name: (before[name].detach(), after.detach()) for name, after in tuned.named_parameters()}
        self.ends = {name: pair for name, pair in ends.items() if not torch.equal(*pair)}
        self.norms = [_norm(after - before, norm) for before, after in self.ends.values()]

    def radii(self) -> Radii:
        """Where they begin, as released: half the smallest norm of each tensor."""
        return Radii(torch.stack([norm.min() / 2 for norm in self.norms]))

    def loss(self, radii: Radii, batch: Batch) -> Tensor:
        """Mean cross entropy of the projected model."""
        return F.cross_entropy(functional_call(self.tuned, self._tensors(radii), (batch.images,)), batch.labels)

    @torch.no_grad()
    def model(self, radii: Radii) -> Classifier:
        """The projected model."""
        made = copy.deepcopy(self.tuned)
        for name, value in self._tensors(radii).items():
            made.get_parameter(name).copy_(value)
        return made

    def _tensors(self, radii: Radii) -> dict[str, Tensor]:
        with torch.no_grad():  # the optimiser's step may have led out of the range where a radius says anything
            radii.values.clamp_(min=SMALLEST).clamp_(max=torch.stack([norm.max() for norm in self.norms]))
        shares = ((radius / norm).clamp(max=1) for radius, norm in zip(radii.values, self.norms, strict=True))
        return {name: torch.lerp(*ends, share) for (name, ends), share in zip(self.ends.items(), shares, strict=True)}


def _norm(move: Tensor, kind: str) -> Tensor:
    """Of a whole tensor, or of each of its rows [R, 1, ...]; those of a vector are its elements."""
    norms: Tensor = move.norm() if kind == "l2" else move.abs()
    return norms.sum(dim=tuple(range(1, move.dim())), keepdim=True) if kind == "mars" and move.dim() > 1 else norms
