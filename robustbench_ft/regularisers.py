"""Losses that hold a fine-tune near its start: by what the two say of the same images, or by the weights of the head.

Whatever is the start's, its features, texts and weights, is detached and float32 before it meets the model's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from robustbench_ft.batches import Batch, prompt_tokens
from robustbench_ft.errors import UsageError
from robustbench_ft.model import Classifier
from robustbench_ft.pieces import Loss, PerExample


def random_strings(start: Classifier, count: int, length: int) -> Callable[[], Tensor]:
    """A source of ``count`` texts, int64 [count, L], each of ``length`` random tokens between the marks of start and end.

    The marks and the padding are those of the model's tokenizer; every other id is as likely. Draws are torch's global
    generator's. UsageError where the tokenizer has no such marks, or the text tower reads no texts as long as that.
    """
    begin, end, *padding = start.tokenise([""])[0].tolist()
    if begin == end or len(set(padding)) != 1 or len(padding) < length:
        raise UsageError(
            f"random strings of {length} tokens need a tokenizer with marks of start and end and room for {length + 2} tokens; "
            f"this one makes {len(padding) + 2} of no text: {[begin, end, *padding][:6]}...",
            hint="another start model, or a smaller --set length=...",
        )
    ids = torch.arange(start.clip.vocab_size)
    ordinary = ids[(ids != begin) & (ids != end)]

    def draw() -> Tensor:
        texts = torch.full((count, len(padding) + 2), padding[0])
        texts[:, 0], texts[:, length + 1] = begin, end
        texts[:, 1 : length + 1] = ordinary[torch.randint(len(ordinary), (count, length))]
        return texts

    return draw


def cross_entropy_and_energies(
    start: Classifier, strings: Callable[[], Tensor], strength: float, *, label_smoothing: float = 0.0
) -> Loss[Classifier]:
    """Cross entropy + strength x the mean over images and strings of (s (f - f0) . t)^2 / 2 (Nam et al., 2024).

    f and f0 [B, D]: features of the same images by the model and by ``start``; t [K, D]: the start's features of ``strings()``,
    drawn at every step, so that this is no ``PerExample``; s: the start's logit scale.
    """

    def loss(model: Classifier, batch: Batch) -> Tensor:
        features = model.encode(batch.images)
        with torch.no_grad():
            texts = start.clip.encode_text(strings().to(batch.images.device), normalize=True)
            scale, before = start.clip.logit_scale.exp(), start.encode(batch.images)
        with torch.autocast(features.device.type, enabled=False):  # the two differ by less than bf16 can tell
            change: Tensor = scale * (features.float() - before.float()) @ texts.float().T
        error = F.cross_entropy(model.classify(features), batch.labels, label_smoothing=label_smoothing)
        return error + strength * change.square().mean() / 2

    return loss


@torch.no_grad()
def context_matrix(start: Classifier, classes: Sequence[str], templates: Sequence[str]) -> Tensor:
    """One row per template, float32 [T, D]: its prompts' embeddings, each normalised, averaged over the classes, normalised.

    It is the zero-shot head with classes and templates changed places, without the logit scale (Mao et al., 2024).
    """
    device = next(start.parameters()).device
    total = torch.zeros((), device=device)
    for tokens in prompt_tokens(classes, templates, start.tokenise):
        total = total + start.clip.encode_text(tokens.to(device), normalize=True).float()
    rows: Tensor = F.normalize(total, dim=-1)
    return rows


def cross_entropy_and_contexts(
    start: Classifier, contexts: Tensor, strength: float, *, label_smoothing: float = 0.0
) -> PerExample[Classifier]:
    """Cross entropy + strength x the mean over images of KL(p0 || p) between distributions over contexts (Mao et al., 2024).

    p = softmax(s f . c) over the rows c of ``contexts`` [T, D], from the model's features f; p0 is the start's; s: its logit
    scale.
    """

    def loss(model: Classifier, batch: Batch) -> Tensor:
        features = model.encode(batch.images)
        with torch.no_grad():
            scaled, before = start.clip.logit_scale.exp() * contexts, start.encode(batch.images)
        with torch.autocast(features.device.type, enabled=False):
            now, then = ((seen.float() @ scaled.T).log_softmax(-1) for seen in (features, before))
        error = F.cross_entropy(model.classify(features), batch.labels, label_smoothing=label_smoothing)
        return error + strength * F.kl_div(now, then, reduction="batchmean", log_target=True)

    return PerExample(loss)


def distillation_of_features(
    start: Classifier, share: float, temperature: float, *, label_smoothing: float = 0.0
) -> PerExample[Classifier]:
    """(1 - share) x cross entropy with the labels + share x T^2 x cross entropy with the start's outputs, both at temperature T.

    The batch holds features, float [B, D]. T^2 keeps the second gradient's size (Hinton et al., 2015,
    https://arxiv.org/abs/1503.02531).
    """

    def loss(model: Classifier, batch: Batch) -> Tensor:
        logits = model.classify(batch.images)
        with torch.no_grad():
            targets = (start.classify(batch.images) / temperature).softmax(-1)
        error = F.cross_entropy(logits, batch.labels, label_smoothing=label_smoothing)
        return (1 - share) * error + share * temperature**2 * F.cross_entropy(logits / temperature, targets)

    return PerExample(loss)


def cross_entropy_and_head_penalty(
    start: Classifier, to_start: float, l1: float, *, label_smoothing: float = 0.0
) -> PerExample[Classifier]:
    """Cross entropy + to_start x the head's squared distance from the start's, bias too, + l1 x the sum of its |weight|.

    The batch holds features, float [B, D].
    """
    with torch.no_grad():
        weight, bias = (part.detach().clone() for part in start.matrix())

    def loss(model: Classifier, batch: Batch) -> Tensor:
        here, there = model.matrix()
        error = F.cross_entropy(model.classify(batch.images), batch.labels, label_smoothing=label_smoothing)
        distance = (here - weight).square().sum() + (there - bias).square().sum()
        return error + to_start * distance + l1 * here.abs().sum()

    return PerExample(loss)
