"""Classifiers: CLIP's two towers and a linear head; loading start models; the zero-shot head."""

from __future__ import annotations

import copy
import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_ft import start
from robustbench_ft.batches import Tokenise
from robustbench_ft.errors import UsageError
from robustbench_ft.kept import kept
from robustbench_ft.preprocess import Preprocess
from robustbench_ft.progress import progress
from robustbench_ft.start import BUILT_IN as BUILT_IN
from robustbench_ft.start import weights_hash as weights_hash
from robustbench_ft.suites import Suite
from robustbench_ft.words import prompt

PROMPTS = 256  # encoded at once


class Derived(nn.Module):
    """A zero-shot head: a function of text tower and logit scale. Its matrix is a cache, never kept while towers train."""

    def __init__(self, classes: Sequence[str], templates: Sequence[str]) -> None:
        super().__init__()
        self.classes, self.templates = tuple(classes), tuple(templates)
        self.cache: Tensor | None = None
        self.normalize = True


class Trained(nn.Module):
    """A linear head of its own: ``weight`` [C, D] (the logit scale is in it), ``bias`` [C].

    ``normalize``: whether it reads L2-normalised features, as CLIP's own head does; LP-FT's reads them as they are.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, normalize: bool = True) -> None:
        super().__init__()
        self.normalize = normalize
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = nn.Parameter(torch.zeros_like(self.weight[:, 0]) if bias is None else bias.detach().clone())


class Classifier(nn.Module):
    """CLIP's towers and a linear head on the image features, L2-normalised unless the head says otherwise.

    ``origin`` is provenance: the weights hash of a loaded model, the store key of a fitted one. ``chosen``: the method's fields
    that it chose on val while it fitted, with what it chose.
    """

    def __init__(
        self, clip: nn.Module, head: Derived | Trained, preprocess: Preprocess, tokenise: Tokenise, *, origin: str
    ) -> None:
        super().__init__()
        self.clip: Any = clip  # open_clip's CLIP or CustomTextCLIP; it carries no types
        self.head = head
        self.preprocess, self.tokenise, self.origin = preprocess, tokenise, origin
        self.chosen: dict[str, Any] = {}

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float32 [B, C], from pixels, uint8 [B, 3, H, W]."""
        return self.classify(self.encode(images))

    def encode(self, images: Tensor) -> Tensor:
        """Image features [B, D] as the head reads them, L2-normalised or not, from pixels, uint8 [B, 3, H, W]."""
        features: Tensor = self.clip.encode_image(self.preprocess.normalise(images), normalize=self.head.normalize)
        return features

    def encode_text(self, tokens: Tensor) -> Tensor:
        """L2-normalised text features [B, D] from tokens, int64 [B, L]; UsageError where there is no text tower."""
        return _encode_text(self.clip, tokens)

    def classify(self, features: Tensor) -> Tensor:
        """Logits, float32 [B, C], from features [B, D]; outside autocast, since in bf16 many top logits tie."""
        with torch.autocast(features.device.type, enabled=False):
            weight, bias = self.matrix()
            return F.linear(features.float(), weight, bias)

    def matrix(self) -> tuple[Tensor, Tensor]:
        """The head as weight [C, D] and bias [C].

        A derived head is encoded once and kept; not where gradients are recorded, since there the towers may move between calls.
        """
        if isinstance(self.head, Trained):
            return self.head.weight, self.head.bias
        if torch.is_grad_enabled():
            weight = zero_shot_matrix(self.clip, self.tokenise, self.head.classes, self.head.templates)
        elif self.head.cache is None:
            weight = self.head.cache = self._kept_matrix(self.head)
        else:
            weight = self.head.cache
        return weight, weight.new_zeros(len(self.head.classes))

    def _kept_matrix(self, head: Derived) -> Tensor:
        """``zero_shot_matrix``, from the store where the same text tower encoded the same words before."""

        def about() -> list[object] | None:
            if (read := start.reads(self.clip)) is None:
                return None
            text = {name: value for name, value in self.clip.state_dict().items() if not name.startswith("visual.")}
            return [start.state_hash(text), read, head.classes, head.templates]

        def make() -> Tensor:
            return zero_shot_matrix(self.clip, self.tokenise, head.classes, head.templates)

        return kept("heads", about, make, device=next(self.clip.parameters()).device)

    def frozen_head(self) -> Classifier:
        """A copy whose head is ``Trained``: the derived matrix becomes a weight of its own, with a zero bias."""
        with torch.no_grad():
            weight, bias = self.matrix()
        return self.with_head(Trained(weight, bias, normalize=self.head.normalize))

    def with_head(self, head: Derived | Trained) -> Classifier:
        """A copy with another head."""
        clip = copy.deepcopy(self.clip)
        return Classifier(clip, head, self.preprocess, self.tokenise, origin=self.origin).train(self.training)

    def reading(self, classes: Sequence[str], templates: Sequence[str]) -> Classifier:
        """The same towers, shared, behind a zero-shot head of other names: what the text tower as it is now makes of them."""
        return Classifier(self.clip, Derived(classes, templates), self.preprocess, self.tokenise, origin=self.origin)

    def __deepcopy__(self, memo: dict[int, Any]) -> Classifier:
        head = copy.deepcopy(self.head, memo)
        if isinstance(head, Derived):
            head.cache = None
        clip = copy.deepcopy(self.clip, memo)
        return type(self)(clip, head, self.preprocess, self.tokenise, origin=self.origin).train(self.training)


class Ensemble(Classifier):
    """A classifier that averages its members' outputs: a forward pass for each instead of one set of weights.

    ``weights``: the members' shares, equal where none are given. ``probabilities``: after the softmax, in place of logits.
    ``coin``: no average; every image gets the output of one member, drawn with the shares as odds. The draw is a hash of the
    image's pixels under that seed, so it does not depend on the batch.
    """

    def __init__(
        self,
        members: Sequence[Classifier],
        *,
        weights: Sequence[float] = (),
        probabilities: bool = False,
        coin: int | None = None,
        origin: str,
    ) -> None:
        first = members[0]
        super().__init__(nn.Identity(), Derived((), ()), first.preprocess, first.tokenise, origin=origin)
        self.members, self.probabilities, self.coin = nn.ModuleList(members), probabilities, coin
        self.weights = tuple(weights) or (1 / len(members),) * len(members)

    def forward(self, images: Tensor) -> Tensor:
        """Mean logits, or log of the mean probabilities, float32 [B, C]."""
        logits = torch.stack([member(images) for member in self.members])
        if self.coin is not None:
            return logits[self._drawn(images), torch.arange(len(images))]
        shares = logits.new_tensor(self.weights)[:, None, None]
        return (shares * logits.softmax(-1)).sum(0).log() if self.probabilities else (shares * logits).sum(0)

    def _drawn(self, images: Tensor) -> list[int]:
        """The member that answers, for each image."""
        key = (self.coin or 0).to_bytes(8, "little")
        hashes = [hashlib.blake2b(image.numpy().tobytes(), digest_size=8, key=key).digest() for image in images.cpu()]
        ends = list(accumulate(self.weights))[:-1]
        return [bisect_right(ends, (int.from_bytes(found, "little") >> 11) / 2**53) for found in hashes]

    def options(self) -> dict[str, Any]:
        """All but the members, as JSON."""
        return {"weights": list(self.weights), "probabilities": self.probabilities, "coin": self.coin}

    def reading(self, classes: Sequence[str], templates: Sequence[str]) -> Ensemble:
        """Each member behind a zero-shot head of other names."""
        members = [member.reading(classes, templates) for member in self.members if isinstance(member, Classifier)]
        return Ensemble(members, **self.options(), origin=self.origin)

    def __deepcopy__(self, memo: dict[int, Any]) -> Ensemble:
        members = [copy.deepcopy(member, memo) for member in self.members if isinstance(member, Classifier)]
        return Ensemble(members, **self.options(), origin=self.origin)


@torch.no_grad()
def zero_shot_matrix(clip: Any, tokenise: Tokenise, classes: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Zero-shot head, float32 [C, D] (Radford et al., 2021): per class the prompts' embeddings, each normalised, averaged,
    normalised again, times exp(logit scale). Each distinct prompt is encoded once, ``PROMPTS`` at a time.
    """
    device = next(clip.parameters()).device
    prompts = {name: [prompt(template, name) for template in templates] for name in classes}
    distinct = list(dict.fromkeys(text for texts in prompts.values() for text in texts))
    was_training = clip.training
    clip.eval()
    parts = []
    with progress("encoding prompts", len(distinct)) as bar:
        for first in range(0, len(distinct), PROMPTS):
            tokens = tokenise(distinct[first : first + PROMPTS]).to(device)
            parts.append(_encode_text(clip, tokens).float())
            bar.advance(by=len(tokens))
    clip.train(was_training)
    embedded, place = torch.cat(parts), {text: k for k, text in enumerate(distinct)}
    means = [embedded[[place[text] for text in prompts[name]]].mean(0) for name in classes]
    matrix: Tensor = F.normalize(torch.stack(means), dim=-1) * clip.logit_scale.exp()
    return matrix


def _encode_text(clip: Any, tokens: Tensor) -> Tensor:
    if not hasattr(clip, "encode_text"):
        raise UsageError(
            f"this model is no CLIP: {type(clip).__name__} has no text tower",
            hint="a start model with two towers: rbft list models",
        )
    features: Tensor = clip.encode_text(tokens, normalize=True)
    return features


def load_start(name: str, suite: Suite, *, pretrained: str | None = None, device: str = "cpu") -> Classifier:
    """The start model ``name`` with the zero-shot head of ``suite``, in float32 and eval mode.

    ``name``: ``mini-clip``; a ``.safetensors`` file of the project's small CLIP; an open_clip model (``ViT-B-32`` with
    ``pretrained="openai"`` or a checkpoint file, or ``ViT-B-32:openai``; ``hf-hub:...``, ``local-dir:...``);
    ``random:ViT-B-32`` for plumbing.
    """
    clip, preprocess, tokenise, origin = start.load(name, pretrained)
    return Classifier(clip.to(device), Derived(suite.classes, suite.templates), preprocess, tokenise, origin=origin).eval()
