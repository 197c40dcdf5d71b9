"""Losses that several methods share: closures from (model, batch) to a scalar."""

from __future__ import annotations

from collections.abc import Callable

from open_clip import ClipLoss
from torch import Tensor
from torch.nn import functional as F

from robustbench_ft.batches import Batch
from robustbench_ft.model import Classifier

Loss = Callable[[Classifier, Batch], Tensor]


def cross_entropy(label_smoothing: float = 0.0) -> Loss:
    """Mean cross entropy of the classifier's logits."""

    def loss(model: Classifier, batch: Batch) -> Tensor:
        return F.cross_entropy(model(batch.images), batch.labels, label_smoothing=label_smoothing)

    return loss


def cross_entropy_of_features(label_smoothing: float = 0.0) -> Loss:
    """Mean cross entropy of the head's logits where the batch holds features, float [B, D], in place of pixels."""

    def loss(model: Classifier, batch: Batch) -> Tensor:
        return F.cross_entropy(model.classify(batch.images), batch.labels, label_smoothing=label_smoothing)

    return loss


def contrastive(model: Classifier, batch: Batch) -> Tensor:
    """CLIP's pretraining loss over the batch (Radford et al., 2021); images of one class are each other's negatives."""
    assert batch.texts is not None, "contrastive training reads captioned data"
    images = model.encode(batch.images)
    texts = model.clip.encode_text(batch.texts, normalize=True)
    value: Tensor = ClipLoss()(images, texts, model.clip.logit_scale.exp())
    return value
