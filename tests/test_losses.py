"""Losses against formulas written out, on the tiny start model."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from open_clip import ClipLoss
from torch import Tensor
from torch.nn import functional as F

from robustbench_ft.batches import Batch, Captioned, Images, Mixup, prompt_tokens
from robustbench_ft.errors import UsageError
from robustbench_ft.losses import contrastive, contrastive_masked, cross_entropy, cross_entropy_of_texts
from robustbench_ft.method import Task
from robustbench_ft.model import Classifier
from robustbench_ft.train import Recipe, train


@pytest.fixture(scope="module")
def plain(start: Classifier, task: Task) -> Batch:
    return Images(task.train, start.preprocess, augment=False).batch(np.arange(24))


@pytest.fixture(scope="module")
def pairs(start: Classifier, task: Task) -> Batch:
    """24 images of 20 classes: some meet their own class."""
    data = Captioned(Images(task.train, start.preprocess, augment=False), task.classes, task.templates, start.tokenise)
    batch = data.batch(np.arange(48))
    assert len(set(batch.labels.tolist())) < len(batch.labels)
    return batch


def cosines(model: Classifier, batch: Batch) -> Tensor:
    """The scale times the cosines, float64 [B, B]."""
    assert batch.texts is not None
    images = model.clip.encode_image(model.preprocess.normalise(batch.images)).double()
    texts = model.clip.encode_text(batch.texts).double()
    images, texts = images / images.norm(dim=1, keepdim=True), texts / texts.norm(dim=1, keepdim=True)
    return model.clip.logit_scale.double().exp() * images @ texts.T


def masked_by_hand(logits: Tensor, labels: list[int]) -> float:
    """Row by row and column by column, over the pairs of another class and one's own."""
    total, logits = 0.0, logits.detach()
    for k, own in enumerate(labels):
        others = [j for j, label in enumerate(labels) if label != own]
        for line in (logits[k], logits[:, k]):
            total += float(torch.logsumexp(line[[k, *others]], 0) - line[k])
    return total / (2 * len(labels))


@torch.no_grad()
def test_flyp_s_loss_is_open_clip_s_and_both_cross_entropies_written_out(start: Classifier, pairs: Batch) -> None:
    value, logits = contrastive(start, pairs), cosines(start, pairs)
    rows, columns = torch.log_softmax(logits, 1).diagonal(), torch.log_softmax(logits, 0).diagonal()
    assert float(value) == pytest.approx(-float(rows.mean() + columns.mean()) / 2, rel=1e-6)
    assert pairs.texts is not None
    theirs = ClipLoss()(
        start.encode(pairs.images), start.clip.encode_text(pairs.texts, normalize=True), start.clip.logit_scale.exp()
    )
    assert float(value) == float(theirs)


@torch.no_grad()
def test_masked_pairs_of_one_class_are_no_negatives(start: Classifier, pairs: Batch) -> None:
    value = contrastive_masked(start, pairs)
    assert float(value) == pytest.approx(masked_by_hand(cosines(start, pairs), pairs.labels.tolist()), rel=1e-6)
    assert float(value) < float(contrastive(start, pairs)) - 1e-3
    distinct = pairs.labels.unique(return_inverse=True)[1]
    first = [int((distinct == k).nonzero()[0]) for k in range(int(distinct.max()) + 1)]
    alone = Batch(pairs.images[first], pairs.labels[first], pairs.texts[first])  # type: ignore[index]
    assert float(contrastive_masked(start, alone)) == pytest.approx(float(contrastive(start, alone)), abs=1e-6)


@pytest.mark.parametrize("loss", [contrastive, contrastive_masked], ids=["keep", "mask"])
def test_both_towers_and_the_scale_have_gradients(loss: object, start: Classifier, pairs: Batch) -> None:
    model = copy.deepcopy(start)
    loss(model, pairs).backward()  # type: ignore[operator]
    for part in ("visual.trunk.stem.0.weight", "token_embedding.weight", "text_projection", "logit_scale"):
        gradient = model.clip.get_parameter(part).grad
        assert gradient is not None and torch.isfinite(gradient).all() and gradient.abs().sum() > 0, part


def test_flyp_in_pieces_is_flyp(start: Classifier, task: Task) -> None:
    data = Captioned(Images(task.train, start.preprocess, augment=False), task.classes, task.templates, start.tokenise)
    recipe = Recipe(optimizer="sgd", lr=0.1, momentum=0, weight_decay=0, clip=None, epochs=0.5, batch_size=80, warmup_steps=0)
    ends = []
    for pieces in (1, 4):
        torch.manual_seed(3)
        chosen = recipe.model_copy(update={"accumulate": pieces})
        ends.append(train(start, data, chosen, loss=contrastive, only=("clip",)).state_dict())
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=0, atol=1e-6, msg=name)
    assert not torch.allclose(ends[0]["clip.logit_scale"], start.clip.logit_scale, atol=1e-4)


@torch.no_grad()
def test_flyp_ce_reads_one_drawn_prompt_of_every_class(start: Classifier, task: Task, plain: Batch) -> None:
    """Against each class's prompt encoded alone, in float64."""
    templates = (*task.templates, "the {}", "this is a {}")
    loss = cross_entropy_of_texts(prompt_tokens(task.classes, templates, start.tokenise), label_smoothing=0.1)
    images = start.encode(plain.images).double()
    values = set()
    for seed in range(3):
        torch.manual_seed(seed)
        value = loss(start, plain)
        torch.manual_seed(seed)
        drawn = torch.randint(len(templates), (len(task.classes),)).tolist()
        assert len(set(drawn)) > 1
        rows = [
            start.clip.encode_text(start.tokenise([templates[t].format(name)]))[0].double()
            for t, name in zip(drawn, task.classes, strict=True)
        ]
        heads = torch.stack([row / row.norm() for row in rows])
        logs = torch.log_softmax(start.clip.logit_scale.double().exp() * images @ heads.T, 1)
        right = logs[torch.arange(len(logs)), plain.labels]
        assert float(value) == pytest.approx(-float((0.9 * right + 0.1 * logs.mean(1)).mean()), rel=1e-6)
        values.add(round(float(value), 6))
    assert len(values) == 3


def test_flyp_ce_moves_text_tower_image_tower_and_scale(start: Classifier, task: Task, plain: Batch) -> None:
    model = copy.deepcopy(start)
    cross_entropy_of_texts(prompt_tokens(task.classes, task.templates, start.tokenise))(model, plain).backward()
    for part in ("visual.trunk.stem.0.weight", "token_embedding.weight", "text_projection", "logit_scale"):
        gradient = model.clip.get_parameter(part).grad
        assert gradient is not None and gradient.abs().sum() > 0, part


def test_flyp_ce_in_pieces_is_refused(start: Classifier, task: Task) -> None:
    loss = cross_entropy_of_texts(prompt_tokens(task.classes, task.templates, start.tokenise))
    data = Images(task.train, start.preprocess, augment=False)
    with pytest.raises(UsageError, match="accumulate=2"):
        train(start, data, Recipe(epochs=1, batch_size=80, warmup_steps=0, accumulate=2), loss=loss, only=("clip",))


# Soft targets


@torch.no_grad()
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_of_soft_targets_by_hand(smoothing: float, start: Classifier, plain: Batch) -> None:
    generator = torch.Generator().manual_seed(0)
    classes = start.matrix()[0].shape[0]
    targets = torch.rand(len(plain.labels), classes, generator=generator).softmax(1)
    value = cross_entropy(smoothing)(start, Batch(plain.images, targets))
    logs = torch.log_softmax(start(plain.images).double(), 1)
    smoothed = (1 - smoothing) * targets.double() + smoothing / classes
    assert float(value) == pytest.approx(-float((smoothed * logs).sum(1).mean()), rel=1e-6)


@torch.no_grad()
def test_mixup_mixes_images_and_targets_by_one_share_with_the_batch_turned_round(start: Classifier, plain: Batch) -> None:
    classes = start.matrix()[0].shape[0]
    torch.manual_seed(4)
    mixed = Mixup(0.3, classes)(plain)
    torch.manual_seed(4)
    share = float(torch.distributions.Beta(0.3, 0.3).sample())
    pixels = share * plain.images.double() + (1 - share) * plain.images.double().flip(0)
    torch.testing.assert_close(mixed.images.double(), pixels, rtol=0, atol=1e-3)  # of 255
    logs = F.log_softmax(start(mixed.images).double(), 1)
    own, other = (-logs[torch.arange(24), labels].mean() for labels in (plain.labels, plain.labels.flip(0)))
    assert float(cross_entropy()(start, mixed)) == pytest.approx(float(share * own + (1 - share) * other), rel=1e-6)
    torch.testing.assert_close(mixed.labels.sum(1), torch.ones(24))


def test_shares_of_mixup_follow_the_beta_distribution() -> None:
    one = Batch(torch.tensor([[1.0], [0.0]]), torch.tensor([0, 1]))
    torch.manual_seed(0)
    shares = np.array([float(Mixup(0.4, 2)(one).images[0]) for _ in range(4000)])
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), abs=0.01)  # of Beta(a, a)


def test_a_recipe_with_mixup_trains_on_mixed_batches_the_same_ones_again(start: Classifier, task: Task) -> None:
    recipe = Recipe(lr=1e-3, epochs=1, batch_size=40, warmup_steps=0, mixup=0.5, augment=False)
    data = task.training(start, recipe)
    torch.manual_seed(1)
    first = data.batch(np.arange(6))
    torch.manual_seed(1)
    again = data.batch(np.arange(6))
    assert first.labels.shape == (6, len(task.classes)) and torch.equal(first.images, again.images)
    assert not torch.equal(first.images, first.images.round())
    ends = []
    for workers in (0, 2):
        torch.manual_seed(1)
        chosen = recipe.model_copy(update={"workers": workers})
        ends.append(train(start.frozen_head(), data, chosen, loss=cross_entropy(), only=("head",)).state_dict())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_captions_are_not_mixed(start: Classifier, task: Task) -> None:
    images = task.training(start, Recipe(mixup=0.2))
    with pytest.raises(UsageError, match="a caption names one"):
        Captioned(images, task.classes, task.templates, start.tokenise)
