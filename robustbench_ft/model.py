"""Classifiers: CLIP's two towers and a linear head; loading start models; the zero-shot head."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from open_clip.transform import PreprocessCfg
from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_ft.batches import Tokenise
from robustbench_ft.errors import DataError, UnknownName, UsageError
from robustbench_ft.files import DATA
from robustbench_ft.preprocess import Preprocess
from robustbench_ft.suites import Suite
from robustbench_ft.words import prompt

BUILT_IN = {"mini-clip": DATA / "mini-clip.safetensors"}


class Derived(nn.Module):
    """A zero-shot head: a function of text tower and logit scale. Its matrix is a cache, never kept while towers train."""

    def __init__(self, classes: Sequence[str], templates: Sequence[str]) -> None:
        super().__init__()
        self.classes, self.templates = tuple(classes), tuple(templates)
        self.cache: Tensor | None = None


class Trained(nn.Module):
    """A linear head of its own: ``weight`` [C, D] (the logit scale is in it), ``bias`` [C]."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = nn.Parameter(torch.zeros_like(self.weight[:, 0]) if bias is None else bias.detach().clone())


class Classifier(nn.Module):
    """CLIP's towers and a linear head on the L2-normalised image features.

    ``origin`` is provenance: the weights hash of a loaded model, the store key of a fitted one.
    """

    def __init__(
        self, clip: nn.Module, head: Derived | Trained, preprocess: Preprocess, tokenise: Tokenise, *, origin: str
    ) -> None:
        super().__init__()
        self.clip: Any = clip  # open_clip's CLIP or CustomTextCLIP; it carries no types
        self.head = head
        self.preprocess, self.tokenise, self.origin = preprocess, tokenise, origin

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float32 [B, C], from pixels, uint8 [B, 3, H, W]."""
        return self.classify(self.encode(images))

    def encode(self, images: Tensor) -> Tensor:
        """L2-normalised image features [B, D] from pixels, uint8 [B, 3, H, W]."""
        features: Tensor = self.clip.encode_image(self.preprocess.normalise(images), normalize=True)
        return features

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
        weight = self.head.cache
        if weight is None or torch.is_grad_enabled():
            weight = zero_shot_matrix(self.clip, self.tokenise, self.head.classes, self.head.templates)
        if not torch.is_grad_enabled():
            self.head.cache = weight
        return weight, weight.new_zeros(len(self.head.classes))

    def frozen_head(self) -> Classifier:
        """A copy whose head is ``Trained``: the derived matrix becomes a weight of its own, with a zero bias."""
        with torch.no_grad():
            weight, bias = self.matrix()
        return self.with_head(Trained(weight, bias))

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
    """A classifier that averages its members' outputs: two forward passes instead of one set of weights."""

    def __init__(self, members: Sequence[Classifier], *, probabilities: bool = False, origin: str) -> None:
        first = members[0]
        super().__init__(nn.Identity(), Derived((), ()), first.preprocess, first.tokenise, origin=origin)
        self.members, self.probabilities = nn.ModuleList(members), probabilities

    def forward(self, images: Tensor) -> Tensor:
        """Mean logits, or log of the mean probabilities, float32 [B, C]."""
        logits = torch.stack([member(images) for member in self.members])
        return logits.softmax(-1).mean(0).log() if self.probabilities else logits.mean(0)

    def reading(self, classes: Sequence[str], templates: Sequence[str]) -> Ensemble:
        """Each member behind a zero-shot head of other names."""
        members = [member.reading(classes, templates) for member in self.members if isinstance(member, Classifier)]
        return Ensemble(members, probabilities=self.probabilities, origin=self.origin)

    def __deepcopy__(self, memo: dict[int, Any]) -> Ensemble:
        members = [copy.deepcopy(member, memo) for member in self.members if isinstance(member, Classifier)]
        return Ensemble(members, probabilities=self.probabilities, origin=self.origin)


@torch.no_grad()
def zero_shot_matrix(clip: Any, tokenise: Tokenise, classes: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Zero-shot head, float32 [C, D] (Radford et al., 2021): per class the prompts' embeddings, each normalised, averaged,
    normalised again, times exp(logit scale). Each distinct prompt is encoded once.
    """
    device = next(clip.parameters()).device
    was_training = clip.training
    clip.eval()
    rows: dict[str, Tensor] = {}
    for name in dict.fromkeys(classes):
        tokens = tokenise([prompt(template, name) for template in templates]).to(device)
        rows[name] = F.normalize(clip.encode_text(tokens, normalize=True).float().mean(0), dim=-1)
    clip.train(was_training)
    matrix: Tensor = torch.stack([rows[name] for name in classes]) * clip.logit_scale.exp()
    return matrix


def load_start(name: str, suite: Suite, *, pretrained: str | None = None, device: str = "cpu") -> Classifier:
    """The start model ``name`` with the zero-shot head of ``suite``, in float32 and eval mode.

    ``name``: ``mini-clip``; a ``.safetensors`` file of the project's small CLIP; an open_clip model (``ViT-B-32`` with
    ``pretrained="openai"``, or ``ViT-B-32:openai``; ``hf-hub:...``, ``local-dir:...``); ``random:ViT-B-32`` for plumbing.
    """
    path = BUILT_IN.get(name, Path(name) if name.endswith(".safetensors") else None)
    if path is not None and pretrained is None:
        clip, preprocess, tokenise = _load_small(path)
    else:
        clip, preprocess, tokenise = _load_open_clip(name, pretrained)
    clip = clip.float().to(device).eval()
    head = Derived(suite.classes, suite.templates)
    return Classifier(clip, head, preprocess, tokenise, origin=weights_hash(clip)).eval()


def weights_hash(module: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of a module's state."""
    state = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        state.update(f"{name}|{plain.dtype}|{tuple(plain.shape)}|".encode())
        state.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()


def _load_small(path: Path) -> tuple[nn.Module, Preprocess, Tokenise]:
    from robustbench_ft.mini import clip as small

    if not path.is_file():
        raise DataError(f"no start model at {path}", hint="rbft list models")
    clip, tokenise = small.load(path)
    return clip, Preprocess(PreprocessCfg(size=small.IMAGE_SIZE, mean=small.MEAN, std=small.STD)), tokenise


def _load_open_clip(name: str, pretrained: str | None) -> tuple[nn.Module, Preprocess, Tokenise]:
    import open_clip

    random = name.startswith("random:")
    name = name.removeprefix("random:")
    if pretrained is None and not name.startswith(("hf-hub:", "local-dir:")) and ":" in name:
        name, pretrained = name.rsplit(":", 1)
    if not name.startswith(("hf-hub:", "local-dir:")):
        _check_open_clip_name(name, pretrained, random)
    logging.disable(logging.ERROR)  # the hub's client logs every retry; the error below says it once
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # a random model is the same model every time
            clip = open_clip.create_model(name, pretrained=None if random else pretrained, load_weights=not random)
    except Exception as error:  # open_clip and its downloaders raise whatever they raise
        raise DataError(
            f"the weights of {name}:{pretrained} could not be loaded: {' '.join(str(error).split())[:240]}",
            hint="run once where there is a network, or give a local file: --pretrained path/to/weights",
        ) from error
    finally:
        logging.disable(logging.NOTSET)
    return clip, Preprocess(PreprocessCfg(**open_clip.get_model_preprocess_cfg(clip))), open_clip.get_tokenizer(name)


def _check_open_clip_name(name: str, pretrained: str | None, random: bool) -> None:
    import open_clip

    models = open_clip.list_models()
    if name not in models:
        raise UnknownName("model", name, [*BUILT_IN, *models], hint="rbft list models")
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not random and pretrained is None:
        raise UsageError(f"which weights of {name}? Known: {', '.join(tags)}.", hint="--pretrained TAG, or random:NAME")
    if not random and pretrained not in tags and not Path(str(pretrained)).is_file():
        raise UnknownName("weights tag", str(pretrained), tags, hint="--pretrained TAG, or a checkpoint file")
