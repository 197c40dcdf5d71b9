"""Gradients of a batch in pieces against the whole batch's, in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_ft.batches import Batch
from robustbench_ft.errors import UsageError
from robustbench_ft.pieces import Forward, Loss, OfEmbeddings, PerExample, parts

SEED = 5


class Towers(nn.Module):
    """Two small towers and a scale."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 4), nn.Linear(3, 4)
        self.drop, self.scale = nn.Dropout(dropout), nn.Parameter(torch.tensor(1.5))


def encode(model: Towers, batch: Batch) -> tuple[Tensor, Tensor]:
    assert batch.texts is not None
    left = F.normalize(model.drop(torch.tanh(model.left(batch.images))), dim=-1)
    return left, F.normalize(model.right(batch.texts), dim=-1)


def compare(model: Towers, batch: Batch, embedded: tuple[Tensor, ...]) -> Tensor:
    left, right = embedded
    logits, own = model.scale.exp() * left @ right.T, torch.arange(len(left))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def per_example(model: Towers, batch: Batch) -> Tensor:
    left, right = encode(model, batch)
    return ((left - right) ** 2).sum(1).mean() + 0.1 * model.left.weight.square().sum()


CONTRASTIVE = OfEmbeddings(encode, compare)


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    images, texts = (torch.randn(10, size, generator=generator, dtype=torch.float64) for size in (6, 3))
    return Batch(images, torch.arange(10), texts)


def towers(dropout: float = 0.0) -> Towers:
    torch.manual_seed(0)
    return Towers(dropout).double()


def how(pieces: int, scale: float = 1.0) -> Forward:
    return Forward(pieces, SEED, torch.autocast("cpu", enabled=False), scale)


def taken(loss: Loss[Towers], model: Towers, batch: Batch, forward: Forward) -> tuple[float, dict[str, Tensor]]:
    """The reported loss and the gradients, as the training loop takes them."""
    total = 0.0
    for part in parts(loss, model, batch, forward):
        (forward.scale * part.scalar).backward()
        total += part.loss
    return total, gradients(model)


def gradients(model: Towers) -> dict[str, Tensor]:
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def assert_equal(one: dict[str, Tensor], two: dict[str, Tensor], factor: float = 1.0) -> None:
    assert one.keys() == two.keys() and one
    for name, gradient in one.items():
        torch.testing.assert_close(gradient, factor * two[name], rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize("pieces", [2, 3, 4, 10, 64])
@pytest.mark.parametrize("loss", [PerExample(per_example), CONTRASTIVE], ids=["mean", "contrastive"])
def test_pieces_give_the_gradient_of_the_whole_batch(loss: Loss[Towers], pieces: int, batch: Batch) -> None:
    """10 examples in 4 pieces are 3, 3, 3 and 1."""
    model = towers()
    whole = loss(model, batch)
    whole.backward()
    value, found = taken(loss, towers(), batch, how(pieces))
    assert value == pytest.approx(whole.item(), abs=1e-12)
    assert_equal(found, gradients(model))


def test_the_mean_of_contrastive_losses_of_pieces_is_another_loss(batch: Batch) -> None:
    """So the test above is of something, and so is the refusal below."""
    model = towers()
    CONTRASTIVE(model, batch).backward()
    _, wrong = taken(PerExample(CONTRASTIVE), towers(), batch, how(5))
    assert any(not torch.allclose(wrong[name], gradient, rtol=0.05) for name, gradient in gradients(model).items())


def test_cached_gradients_see_the_same_dropout_in_both_passes(batch: Batch) -> None:
    model = towers(dropout=0.4)
    embedded = []
    for number, piece in enumerate(batch.split(3)):  # one graph over all pieces, each from its seed
        torch.manual_seed(SEED + number)
        embedded.append(encode(model, piece))
    left, right = (torch.cat(column) for column in zip(*embedded, strict=True))
    compare(model, batch, (left, right)).backward()
    _, found = taken(CONTRASTIVE, towers(dropout=0.4), batch, how(3))
    assert_equal(found, gradients(model))


def test_a_scaled_loss_scales_cached_gradients_once(batch: Batch) -> None:
    model = towers()
    CONTRASTIVE(model, batch).backward()
    _, found = taken(CONTRASTIVE, towers(), batch, how(3, scale=1024.0))
    assert_equal(found, gradients(model), factor=1024.0)


def test_a_frozen_tower_is_no_hindrance(batch: Batch) -> None:
    model, other = towers(), towers()
    for each in (model, other):
        each.right.requires_grad_(False)
    CONTRASTIVE(model, batch).backward()
    _, found = taken(CONTRASTIVE, other, batch, how(3))
    assert_equal(found, gradients(model))


@pytest.mark.parametrize("loss", [compare, per_example, CONTRASTIVE.__call__], ids=["plain", "unsaid", "bound"])
def test_a_loss_of_no_type_is_read_whole_only(loss: Callable[..., Tensor], batch: Batch) -> None:
    with pytest.raises(UsageError, match="PerExample"):
        list(parts(loss, towers(), batch, how(2)))


def test_a_batch_is_split_in_order_with_its_texts() -> None:
    whole = Batch(torch.arange(10.0)[:, None], torch.arange(10), torch.arange(10)[:, None] + 100)
    pieces = whole.split(4)
    assert [piece.labels.tolist() for piece in pieces] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    for piece in pieces:
        assert piece.texts is not None
        assert piece.images[:, 0].tolist() == piece.labels.tolist() == (piece.texts[:, 0] - 100).tolist()
    assert Batch(whole.images, whole.labels).split(2)[1].texts is None
