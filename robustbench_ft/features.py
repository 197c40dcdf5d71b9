"""Image features for methods that train on them: encoded once, kept for as long as nothing that decides them changes."""

from __future__ import annotations

import torch

from robustbench_ft import predict, seal
from robustbench_ft.batches import Features
from robustbench_ft.datasets import ImageSet
from robustbench_ft.kept import kept
from robustbench_ft.model import Classifier
from robustbench_ft.predict import Evaluation
from robustbench_ft.start import reads, weights_hash

PLAIN = Evaluation()


def encode(model: Classifier, images: ImageSet, how: Evaluation = PLAIN) -> Features:
    """The features that the model's head reads, float32 [N, D], of the eval transform, with labels, on the CPU.

    They are kept while a method fits, when train and val are all that can be opened, and nowhere else: no feature of a test image
    is ever on disk. The key hashes the weights as they are, not the model's provenance, since a method may have moved them.
    """
    if not seal.is_sealed():
        return predict.encode(model, images, how)

    def about() -> list[object] | None:
        if (read := reads(model.clip)) is None:
            return None
        tower = [weights_hash(model.clip), read, model.head.normalize]
        return [*tower, model.preprocess.describe(), images.digest, how.precision, how.batch_size]

    def make() -> torch.Tensor:
        return predict.encode(model, images, how).features

    device = next(model.parameters()).device
    features = kept("features", about, make, device=device)
    return Features(features.cpu(), torch.from_numpy(images.labels))
