"""One pass over a data set, any number of classifiers: images are decoded once, weights are made one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

from robustbench_ft.batches import Features
from robustbench_ft.datasets import ImageSet
from robustbench_ft.errors import RbftError, TrainingError, in_batches
from robustbench_ft.model import Classifier
from robustbench_ft.packs import Answers
from robustbench_ft.preprocess import Preprocess
from robustbench_ft.progress import progress
from robustbench_ft.specs import Groups

Words = tuple[tuple[str, ...], tuple[str, ...]]
"""Class names and templates."""
CHUNK_BYTES = 1 << 30  # decoded pixels held at once
SMALLER = "--batch-size {}"


@dataclass(frozen=True)
class Evaluation:
    """How a pass is run; part of a record's numerics."""

    batch_size: int = 256
    precision: str = "fp32"
    workers: int = 0


def predict(
    classifiers: Mapping[str, Callable[[], Classifier]],
    images: ImageSet,
    groupings: Mapping[str, Groups | None],
    *,
    words: Words | None = None,
    how: Evaluation = Evaluation(),
    preprocess: Preprocess,
) -> dict[str, dict[str, Answers]]:
    """The answers of every classifier under every grouping, uint16 [N] each.

    An answer is the class (of the grouping) with the largest logit, a group's being the largest of its members'; in float32, the
    lowest index wins a tie. ``words``: class names and templates of a zero-shot head that reads the images in place of each
    classifier's own head.
    """
    answers: dict[str, dict[str, list[Answers]]] = {name: {g: [] for g in groupings} for name in classifiers}
    makers = {name: _maker(make, words, once=len(classifiers) == 1) for name, make in classifiers.items()}
    held = in_batches(f"evaluating on {images.name}", how.batch_size, SMALLER)
    with held, progress(f"evaluating on {images.name}", len(images) * len(classifiers)) as bar:
        for pixels in _chunks(images, preprocess, how, readers=len(classifiers)):
            for name, make in makers.items():
                for logits in _logits(make(), pixels, how):
                    for grouping, groups in groupings.items():
                        answers[name][grouping].append(_answer(logits, groups))
                    bar.advance(name, by=len(logits))
    return {name: {g: np.concatenate(parts) for g, parts in kept.items()} for name, kept in answers.items()}


def encode(model: Classifier, images: ImageSet, how: Evaluation = Evaluation()) -> Features:
    """The features that the model's head reads, float32 [N, D], of the eval transform, with labels; on the CPU.

    Methods take ``features.encode``, which keeps them.
    """
    parts, device = [], _device(model)
    model.eval()
    held = in_batches(f"encoding {images.name}", how.batch_size, SMALLER)
    with torch.no_grad(), held, progress(f"encoding {images.name}", len(images)) as bar:
        for pixels in _chunks(images, model.preprocess, how):
            for batch in pixels:
                with torch.autocast(device.type, torch.bfloat16, enabled=how.precision == "bf16"):
                    parts.append(model.encode(batch.to(device)).float().cpu())
                bar.advance(by=len(batch))
    return Features(torch.cat(parts), torch.from_numpy(images.labels))


def accuracy(model: Classifier, images: ImageSet) -> float:
    """Top-1 in [0, 1], for choices on val."""
    return accuracies([lambda: model], images, preprocess=model.preprocess)[0]


def accuracies(
    makes: Sequence[Callable[[], Classifier]], images: ImageSet, *, preprocess: Preprocess, words: Words | None = None
) -> list[float]:
    """Top-1 in [0, 1] of several classifiers, each made when it is evaluated, in one pass over the images.

    ``words``: see ``predict``.
    """
    named = {f"model {number}": make for number, make in enumerate(makes)}
    found = predict(named, images, {"own": None}, words=words, preprocess=preprocess)
    return [float(np.mean(answers["own"] == images.labels)) for answers in found.values()]


def best_alpha(grid: Sequence[float], scores: Sequence[float]) -> float:
    """The alpha with the highest score; of equals the lowest, which keeps most of the start."""
    return max(zip(scores, grid, strict=True), key=lambda pair: (pair[0], -pair[1]))[1]


def _maker(make: Callable[[], Classifier], words: Words | None, *, once: bool) -> Callable[[], Classifier]:
    """Makes a classifier under its own words or others; ``once``: at the first call, to be held for the others."""

    def made() -> Classifier:
        return make() if words is None else make().reading(*words)

    return cache(made) if once else made


class _Decoded(Dataset[Tensor | RbftError]):
    """Pixels, or the error of an image that cannot be read: an error that a worker raises would lose its hint on the way."""

    def __init__(self, images: ImageSet, preprocess: Preprocess) -> None:
        self.images, self.preprocess = images, preprocess

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor | RbftError:
        try:
            return self.preprocess.eval(self.images.image(index))
        except RbftError as error:
            return error


def _together(pixels: list[Tensor | RbftError]) -> Tensor | RbftError:
    """A batch, or the first error in it.

    In a worker right where the main process reads it; else by numpy on one thread: where cores are shared, torch's threads
    spin for one another longer than an image takes.
    """
    read = [one for one in pixels if isinstance(one, Tensor)]
    if len(read) < len(pixels):
        return next(one for one in pixels if isinstance(one, RbftError))
    batch: Tensor = default_collate(read) if get_worker_info() else torch.from_numpy(np.stack([one.numpy() for one in read]))
    return batch


def _chunks(images: ImageSet, preprocess: Preprocess, how: Evaluation, *, readers: int = 1) -> Iterator[list[Tensor]]:
    """Batches of pixels, uint8 [B, 3, H, W]: one at a time for one reader, for several as many as CHUNK_BYTES hold."""
    loader = DataLoader(
        _Decoded(images, preprocess), how.batch_size, num_workers=how.workers, collate_fn=_together, generator=torch.Generator()
    )
    held: list[Tensor] = []
    for batch in loader:
        if isinstance(batch, RbftError):
            raise batch
        if batch.is_shared() and readers > 1:  # to be held, and there is little shared memory
            batch = torch.from_numpy(batch.numpy().copy())
        held.append(batch)
        if readers == 1 or sum(part.numel() for part in held) + batch.numel() > CHUNK_BYTES:
            yield held
            held = []
    if held:
        yield held


def _logits(model: Classifier, pixels: list[Tensor], how: Evaluation) -> Iterator[npt.NDArray[np.float32]]:
    device = _device(model)
    model.eval()
    for batch in pixels:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=how.precision == "bf16"):
            logits = model(batch.to(device, non_blocking=True)).float().cpu()
        if not torch.isfinite(logits).all():
            raise TrainingError(f"the classifier {model.origin[:8]} gives logits that are not finite", hint="a lower rate")
        yield logits.numpy()


def _answer(logits: npt.NDArray[np.float32], groups: Groups | None) -> Answers:
    """Index of the largest (group's) logit, uint16 [B]; the first of equals, and an empty group never wins."""
    if groups is not None:
        filled = [number for number, group in enumerate(groups) if group]
        starts = np.cumsum([0, *(len(groups[number]) for number in filled[:-1])])
        members = [index for group in groups for index in group]
        grouped = np.full((len(logits), len(groups)), -np.inf, np.float32)
        grouped[:, filled] = np.maximum.reduceat(logits[:, members], starts, axis=1)
        logits = grouped
    largest: Answers = logits.argmax(1).astype(np.uint16)
    return largest


def _device(model: Classifier) -> torch.device:
    return next(model.parameters()).device
