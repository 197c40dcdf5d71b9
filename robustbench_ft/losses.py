"""Losses that several methods share: from (model, batch) to a scalar; their types say how a batch may be split (``pieces``).

A batch's labels are classes, int64 [B], or soft targets, float [B, C], which cross entropies take alike.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from open_clip import ClipLoss
from torch import Tensor
from torch.nn import functional as F

from robustbench_ft.batches import Batch
from robustbench_ft.model import Classifier
from robustbench_ft.pieces import OfEmbeddings, PerExample

Loss = Callable[[Classifier, Batch], Tensor]


def cross_entropy(label_smoothing: float = 0.0) -> PerExample[Classifier]:
    """Mean cross entropy of the classifier's logits."""

    def loss(model: Classifier, batch: Batch) -> Tensor:
        return F.cross_entropy(model(batch.images), batch.labels, label_smoothing=label_smoothing)

    return PerExample(loss)


def cross_entropy_of_features(label_smoothing: float = 0.0) -> PerExample[Classifier]:
    """Mean cross entropy of the head's logits where the batch holds features, float [B, D], in place of pixels."""

    def loss(model: Classifier, batch: Batch) -> Tensor:
        return F.cross_entropy(model.classify(batch.images), batch.labels, label_smoothing=label_smoothing)

    return PerExample(loss)


def cross_entropy_of_texts(tokens: Tensor, label_smoothing: float = 0.0) -> Loss:
    """Mean cross entropy over all classes, each standing for itself by one of its prompts, drawn at every step.

    ``tokens``: int64 [C, T, L], the T prompts of each class. The text tower encodes C texts a step, with gradients. A batch in
    pieces would be read with other prompts in each, so this is no ``PerExample``.
    """
    classes, templates, _ = tokens.shape

    def loss(model: Classifier, batch: Batch) -> Tensor:
        drawn = tokens[torch.arange(classes), torch.randint(templates, (classes,))]
        images, texts = model.encode(batch.images), model.encode_text(drawn.to(batch.images.device))
        logits = model.clip.logit_scale.exp() * images @ texts.T
        return F.cross_entropy(logits.float(), batch.labels, label_smoothing=label_smoothing)

    return loss


def _embed(model: Classifier, batch: Batch) -> tuple[Tensor, Tensor]:
    """Normalised embeddings [B, D] of images and of their texts."""
    assert batch.texts is not None, "contrastive training reads captioned data"
    return model.encode(batch.images), model.encode_text(batch.texts)


def _clip_loss(model: Classifier, batch: Batch, embedded: tuple[Tensor, ...]) -> Tensor:
    images, texts = embedded
    value: Tensor = ClipLoss()(images, texts, model.clip.logit_scale.exp())
    return value


def _masked_clip_loss(model: Classifier, batch: Batch, embedded: tuple[Tensor, ...]) -> Tensor:
    images, texts = embedded
    logits = model.clip.logit_scale.exp() * images @ texts.T
    same = batch.labels[:, None] == batch.labels
    logits = logits.masked_fill(same.fill_diagonal_(False), -torch.inf)
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


contrastive = OfEmbeddings(_embed, _clip_loss)
"""CLIP's pretraining loss over the batch (Radford et al., 2021); images of one class are each other's negatives."""

contrastive_masked = OfEmbeddings(_embed, _masked_clip_loss)
"""The same, but that pairs of one class are no negatives of each other: they are left out of the softmax."""
