"""What training reads: batches that depend on (data, seed, step) alone, so that a run resumes at any step, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from robustbench_ft.augment import CROP, Augmentation
from robustbench_ft.datasets import ImageSet
from robustbench_ft.errors import RbftError, UsageError
from robustbench_ft.preprocess import Preprocess
from robustbench_ft.words import prompt

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """``images``: uint8 [B, 3, H, W] (mixed: float; or features, float [B, D]); ``labels``: int64 [B], or soft targets, float
    [B, C]; ``texts``: tokens int64 [B, L].
    """

    images: Tensor
    labels: Tensor
    texts: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on ``device``."""
        texts = None if self.texts is None else self.texts.to(device, non_blocking=True)
        return Batch(self.images.to(device, non_blocking=True), self.labels.to(device, non_blocking=True), texts)

    def pin_memory(self) -> Batch:
        """The same batch in pinned memory (DataLoader's protocol)."""
        texts = None if self.texts is None else self.texts.pin_memory()
        return Batch(self.images.pin_memory(), self.labels.pin_memory(), texts)

    def split(self, count: int) -> list[Batch]:
        """The batch in ``count`` pieces at most, in order and of equal size but for the last."""
        columns = [column.chunk(count) for column in (self.images, self.labels, self.texts) if column is not None]
        return [Batch(*piece) for piece in zip(*columns, strict=True)]


class Data(Protocol):
    """Anything that training can draw batches from."""

    @property
    def epoch(self) -> int:
        """Examples in an epoch."""

    def __len__(self) -> int:
        """Examples in a pass: each is drawn once before any is drawn again."""

    def batch(self, indices: Indices) -> Batch:
        """The examples at ``indices``; randomness from torch's global generator, which is seeded for the step."""


@dataclass(frozen=True)
class Mixup:
    """Mixup (Zhang et al., 2018, https://arxiv.org/abs/1710.09412), one share a batch, as timm does it.

    ``alpha``: of the Beta distribution of the share; ``classes``: C of the soft targets.
    """

    alpha: float
    classes: int

    def __call__(self, batch: Batch) -> Batch:
        """Every example with its counterpart from the batch's other end: pixels float [B, 3, H, W], targets float [B, C]."""
        share = torch.distributions.Beta(self.alpha, self.alpha).sample()
        pixels, targets = batch.images.float(), F.one_hot(batch.labels, self.classes).float()
        return Batch(*(torch.lerp(column.flip(0), column, share) for column in (pixels, targets)))


class Images:
    """A labelled image set under the eval transform, CLIP's random crop (``augment=True``) or another augmentation."""

    def __init__(
        self, images: ImageSet, preprocess: Preprocess, *, augment: bool | Augmentation, mixup: Mixup | None = None
    ) -> None:
        self.images, self.epoch, self.mixup = images, len(images), mixup
        wanted = augment if isinstance(augment, Augmentation) else Augmentation(crop=CROP if augment else None)
        self.transform = preprocess.transform(wanted)

    def __len__(self) -> int:
        return self.epoch

    def batch(self, indices: Indices) -> Batch:
        pixels = torch.stack([self.transform(self.images.image(int(i))) for i in indices])
        plain = Batch(pixels, torch.from_numpy(self.images.labels[indices]))
        return self.mixup(plain) if self.mixup else plain


class Captioned:
    """Every (image, template) pair of a labelled set: the product that FLYP samples without replacement.

    An epoch is as many pairs as there are images (FLYP's csv loader).
    """

    def __init__(self, images: Images, classes: Sequence[str], templates: Sequence[str], tokenise: Tokenise) -> None:
        if images.mixup:
            raise UsageError("mixup mixes two classes, and a caption names one", hint="--set recipe.mixup=0")
        self.images, self.epoch, self.templates = images, len(images), len(templates)
        self.tokens = prompt_tokens(classes, templates, tokenise)

    def __len__(self) -> int:
        return self.epoch * self.templates

    def batch(self, indices: Indices) -> Batch:
        plain = self.images.batch(indices // self.templates)
        return Batch(plain.images, plain.labels, self.tokens[plain.labels, torch.from_numpy(indices % self.templates)])


@dataclass(frozen=True)
class Features:
    """Cached features, float [N, D], with labels, int64 [N]."""

    features: Tensor
    labels: Tensor

    @property
    def epoch(self) -> int:
        """Examples in an epoch."""
        return len(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Indices) -> Batch:
        at = torch.from_numpy(indices)
        return Batch(self.features[at], self.labels[at])


class Tokenise(Protocol):
    """open_clip's tokenizer interface: texts to tokens, int64 [N, L]."""

    def __call__(self, texts: str | list[str], context_length: int | None = None) -> Tensor: ...


def prompt_tokens(classes: Sequence[str], templates: Sequence[str], tokenise: Tokenise) -> Tensor:
    """The tokens of every template filled with every class name, int64 [C, T, L]."""
    return torch.stack([tokenise([prompt(template, name) for template in templates]) for name in classes])


class Steps(Dataset[Batch]):
    """The batches of a training run, by step: pass after pass over shuffled data, the last batch of a pass kept short."""

    def __init__(self, data: Data, batch_size: int, *, seed: int, total: int) -> None:
        self.data, self.batch_size, self.seed, self.total = data, batch_size, seed, total
        self._order = lru_cache(maxsize=1)(self._shuffle)

    def __len__(self) -> int:
        return self.total

    def __getitem__(self, step: int) -> Batch:
        in_pass = -(-len(self.data) // self.batch_size)
        order = self._order(step // in_pass)
        at = step % in_pass * self.batch_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(step_seed(self.seed, step))
            return self.data.batch(order[at : at + self.batch_size])

    def _shuffle(self, number: int) -> Indices:
        return np.random.Generator(np.random.PCG64([self.seed, number])).permutation(len(self.data))


class Told(Dataset[Batch | RbftError]):
    """``Steps``, with the error of what cannot be read in place of its batch: one that a worker raises would lose its hint."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps

    def __getitem__(self, step: int) -> Batch | RbftError:
        try:
            return self.steps[step]
        except RbftError as error:
            return error


def step_seed(seed: int, step: int) -> int:
    """One seed per (training seed, step), well mixed."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)
