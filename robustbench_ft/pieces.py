"""A step's batch in pieces, for less memory: accumulated gradients, and cached gradients for losses of whole batches.

A loss says by its type what may be done with it: ``PerExample``, ``OfEmbeddings``, or a plain function, which reads whole
batches only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from robustbench_ft.batches import Batch
from robustbench_ft.errors import UsageError

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class PerExample(Generic[M]):
    """A loss that is a mean over the batch's examples, plus terms of the weights alone: it may be accumulated."""

    of: Callable[[M, Batch], Tensor]

    def __call__(self, model: M, batch: Batch) -> Tensor:
        """The scalar."""
        return self.of(model, batch)


@dataclass(frozen=True)
class OfEmbeddings(Generic[M]):
    """A loss that compares all of the batch's embeddings: accumulating it would change it, caching gradients does not.

    ``encode``: tensors whose row i [B, ...] depends on example i and the weights alone. ``compare``: them to a scalar.
    """

    encode: Callable[[M, Batch], tuple[Tensor, ...]]
    compare: Callable[[M, Batch, tuple[Tensor, ...]], Tensor]

    def __call__(self, model: M, batch: Batch) -> Tensor:
        """The scalar."""
        return self.compare(model, batch, self.encode(model, batch))


Loss = Callable[[M, Batch], Tensor]


@dataclass(frozen=True)
class Forward:
    """How a step's loss is computed: in how many pieces, each seeded with ``seed`` + its number, under which autocast.

    ``scale``: what the caller multiplies every part by before it takes gradients (fp16).
    """

    pieces: int
    seed: int
    autocast: AbstractContextManager[Any]
    scale: float = 1.0


class Part(NamedTuple):
    """A scalar whose gradient is one summand of the step's, and its share of the reported loss."""

    scalar: Tensor
    loss: float


def parts(loss: Loss[M], model: M, batch: Batch, how: Forward) -> Iterator[Part]:
    """Scalars whose gradients add up to that of ``loss``; the caller takes each one's before it asks for the next.

    UsageError when the batch is to be split and the loss does not say that it may be.
    """
    if how.pieces == 1:
        yield _whole(loss, model, batch, how)
    elif isinstance(loss, PerExample):
        yield from _accumulated(loss, model, batch, how)
    elif isinstance(loss, OfEmbeddings):
        yield from _cached(loss, model, batch, how)
    else:
        raise UsageError(
            f"accumulate={how.pieces}: this loss does not say that it is a mean over the batch's examples (PerExample), "
            "so the mean over smaller batches may be another loss",
            hint="--set recipe.accumulate=1, with a smaller recipe.batch_size if memory is short",
        )


def _whole(loss: Loss[M], model: M, batch: Batch, how: Forward) -> Part:
    torch.manual_seed(how.seed)
    with how.autocast:
        value = loss(model, batch)
    return Part(value, value.item())


def _accumulated(loss: PerExample[M], model: M, batch: Batch, how: Forward) -> Iterator[Part]:
    """Each piece's mean, weighted by its share of the examples: the last may be smaller."""
    for number, piece in enumerate(batch.split(how.pieces)):
        torch.manual_seed(how.seed + number)
        with how.autocast:
            value = loss(model, piece) * (len(piece.labels) / len(batch.labels))
        yield Part(value, value.item())


def _cached(loss: OfEmbeddings[M], model: M, batch: Batch, how: Forward) -> Iterator[Part]:
    """Gradient caching (Gao et al., 2021, https://arxiv.org/abs/2101.06983): the gradient of the whole batch, piece by piece.

    All embeddings are computed without a graph and the loss's gradient is taken with respect to them; then each piece is encoded
    again, from the same random state, and the scalar product with its share of that gradient hands it on to the weights.
    """
    pieces = batch.split(how.pieces)
    with torch.no_grad():
        encoded = [_encode(loss, model, piece, how, number) for number, piece in enumerate(pieces)]
    leaves = tuple(torch.cat(column).requires_grad_() for column in zip(*encoded, strict=True))
    with how.autocast:
        value = loss.compare(model, batch, leaves)
    yield Part(value, value.item())
    gradients = zip(*(_gradient(leaf).chunk(how.pieces) for leaf in leaves), strict=True)
    for number, (piece, shares) in enumerate(zip(pieces, gradients, strict=True)):
        again = _encode(loss, model, piece, how, number)
        products = [(e * g).sum(dtype=torch.promote_types(e.dtype, torch.float32)) for e, g in zip(again, shares, strict=True)]
        yield Part(torch.stack(products).sum() / how.scale, 0.0)  # the cached gradients are scaled already


def _gradient(leaf: Tensor) -> Tensor:
    assert leaf.grad is not None, "the caller takes each part's gradient before it asks for the next"
    return leaf.grad


def _encode(loss: OfEmbeddings[M], model: M, piece: Batch, how: Forward, number: int) -> tuple[Tensor, ...]:
    torch.manual_seed(how.seed + number)
    with how.autocast:
        return loss.encode(model, piece)
