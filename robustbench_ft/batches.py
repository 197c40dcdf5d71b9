"""What training reads: batches that depend on (data, seed, step) alone, so that a run resumes at any step, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from robustbench_ft.datasets import ImageSet
from robustbench_ft.preprocess import Preprocess
from robustbench_ft.words import prompt

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """``images``: uint8 [B, 3, H, W] (or features, float [B, D]); ``labels``: int64 [B]; ``texts``: tokens int64 [B, L]."""

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


class Data(Protocol):
    """Anything that training can draw batches from."""

    @property
    def epoch(self) -> int:
        """Examples in an epoch."""

    def __len__(self) -> int:
        """Examples in a pass: each is drawn once before any is drawn again."""

    def batch(self, indices: Indices) -> Batch:
        """The examples at ``indices``; randomness from torch's global generator, which is seeded for the step."""


class Images:
    """A labelled image set under the train or the eval transform."""

    def __init__(self, images: ImageSet, preprocess: Preprocess, *, augment: bool) -> None:
        self.images, self.epoch = images, len(images)
        self.transform: Callable[..., Tensor] = preprocess.train if augment else preprocess.eval

    def __len__(self) -> int:
        return self.epoch

    def batch(self, indices: Indices) -> Batch:
        pixels = torch.stack([self.transform(self.images.image(int(i))) for i in indices])
        return Batch(pixels, torch.from_numpy(self.images.labels[indices]))


class Captioned:
    """Every (image, template) pair of a labelled set: the product that FLYP samples without replacement.

    An epoch is as many pairs as there are images (FLYP's csv loader).
    """

    def __init__(self, images: Images, classes: Sequence[str], templates: Sequence[str], tokenise: Tokenise) -> None:
        self.images, self.epoch, self.templates = images, len(images), len(templates)
        self.tokens = torch.stack([tokenise([prompt(t, name) for t in templates]) for name in classes])  # [C, T, L]

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


def step_seed(seed: int, step: int) -> int:
    """One seed per (training seed, step), well mixed."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)
