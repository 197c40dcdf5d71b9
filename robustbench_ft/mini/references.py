"""Reference models of the mini suite: nets trained from scratch on ID alone, by the project's own loop."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import timm
import torch
from open_clip.transform import PreprocessCfg
from torch import Tensor, nn

from robustbench_ft.batches import Images
from robustbench_ft.datasets import ImageSet
from robustbench_ft.losses import cross_entropy
from robustbench_ft.mini import clip as small
from robustbench_ft.mini.shapes import CLASSES
from robustbench_ft.model import Classifier, Trained
from robustbench_ft.predict import predict
from robustbench_ft.preprocess import Preprocess
from robustbench_ft.train import Recipe, train


@dataclass(frozen=True)
class Reference:
    """One reference model: a timm net, how many ID images it sees, and for how long."""

    net: str
    images: int
    epochs: int
    lr: float = 3e-3
    seed: int = 0

    @property
    def name(self) -> str:
        """For example ``test_convnext2-n5000-e8``."""
        return f"{self.net}-n{self.images}-e{self.epochs}"


NET, NET_2 = "test_convnext2", "test_convnext"
# The pool of the baseline line. Amounts of data spread it along the line; the longest run reaches the ID of a fine-tuned CLIP.
POOL = (
    Reference(NET, 1500, 6),
    Reference(NET, 1500, 12),
    Reference(NET, 3000, 5),
    Reference(NET, 3000, 10),
    Reference(NET, 5000, 5),
    Reference(NET, 5000, 10),
    Reference(NET, 10000, 3),
    Reference(NET, 10000, 6),
    Reference(NET, 10000, 10),
    Reference(NET, 10000, 20),
    Reference(NET_2, 2000, 8),
    Reference(NET_2, 5000, 6),
    Reference(NET_2, 10000, 5),
    Reference(NET_2, 10000, 12),
)
A_FILTER = Reference(NET_2, 1000, 8, seed=1)
"""The net that filters mini-a; outside the pool, and weaker than it, so that the pool stands clear of chance there."""
A_COUNT = 2000


class FromScratch(Classifier):
    """A tower and a linear head on its features as they are, without L2 normalisation."""

    def encode(self, images: Tensor) -> Tensor:
        """Features [B, D] from pixels, uint8 [B, 3, H, W]."""
        features: Tensor = self.clip(self.preprocess.normalise(images))
        return features


def fit(reference: Reference, data: ImageSet) -> Classifier:
    """The reference model, trained on the first ``reference.images`` images of ``data`` (classes are interleaved there)."""
    with torch.random.fork_rng():
        torch.manual_seed(reference.seed)
        tower: nn.Module = timm.create_model(reference.net, num_classes=0)
        small.wake(tower)
        head = nn.Linear(tower.num_features, len(CLASSES))  # type: ignore[arg-type]
        preprocess = Preprocess(PreprocessCfg(size=small.IMAGE_SIZE, mean=small.MEAN, std=small.STD))
        net = FromScratch(tower, Trained(head.weight, head.bias), preprocess, small.WordTokenizer(), origin=reference.name)
        part = replace(data, ids=data.ids[: reference.images], labels=data.labels[: reference.images])
        recipe = Recipe(
            lr=reference.lr, weight_decay=0.05, epochs=reference.epochs, batch_size=64, warmup_steps=50, label_smoothing=0.05
        )
        images = Images(part, preprocess, augment=True)
        loss = cross_entropy(recipe.label_smoothing)
        return train(net, images, recipe, loss=loss, label=reference.name)


def wrong(net: Classifier, pool: ImageSet, count: int) -> list[int]:
    """Indices of the first ``count`` images of ``pool`` that ``net`` gets wrong."""
    answers = predict({"net": lambda: net}, pool, {"own": None}, preprocess=net.preprocess)["net"]["own"]
    return [int(index) for index in np.flatnonzero(answers != pool.labels)[:count]]
