"""Pretrain a small CLIP on captioned CIFAR-10 images: the start model of docs/cifar10-small.md.

    python scripts/pretrain_cifar10.py --data DIR --out cifar10-small.safetensors

It sees the half `train-a` of the training images, strongly stylised, with captions that name style and class; the
suite docs/cifar10-half.toml fine-tunes on the other half. Killed and started again, it continues. The result is
"pretrained on CIFAR-10 captions", not zero-shot: it shows that real photos are read and run, not who is robust.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from open_clip import CLIP, ClipLoss
from open_clip.transform import PreprocessCfg
from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_ft import suites
from robustbench_ft.batches import Batch, Tokenise
from robustbench_ft.checkpoints import scratch
from robustbench_ft.datasets import ImageSet, open_set
from robustbench_ft.files import file_digest
from robustbench_ft.losses import contrastive
from robustbench_ft.mini import clip as small
from robustbench_ft.model import Classifier, Trained
from robustbench_ft.preprocess import Preprocess
from robustbench_ft.progress import say
from robustbench_ft.train import Recipe, train

SUITE = Path(__file__).parents[1] / "docs" / "cifar10-half.toml"
SYNONYMS = ("plane", "car", "fowl", "kitten", "stag", "puppy", "toad", "pony", "boat", "lorry")
FIRST = Recipe(
    lr=2.5e-3, lr_scale={"clip": 0.4, "clip.visual": 1.0, "head": 1.0}, weight_decay=0.05, betas=(0.9, 0.98),
    epochs=26, batch_size=128, warmup_steps=150,
)  # fmt: skip
SECOND = FIRST.model_copy(update={"lr": 1e-3, "epochs": 12.0})


class Style(NamedTuple):
    """How a share of the images (float [n, 3, 32, 32] in [0, 1]) is drawn, and what the caption calls it."""

    share: float
    caption: str
    draw: Callable[[Tensor], Tensor]


def plain(images: Tensor) -> Tensor:
    """The photo as it is."""
    return images


def grey(images: Tensor) -> Tensor:
    """Luminance in all channels."""
    weights = images.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    return (images * weights).sum(1, keepdim=True).expand(-1, 3, -1, -1)


def low_contrast(images: Tensor) -> Tensor:
    """Drawn towards a random grey level."""
    return torch.lerp(_each(images, 0.2, 0.8), images, _each(images, 0.2, 0.5))


def high_contrast(images: Tensor) -> Tensor:
    """Drawn away from the mean level."""
    level = images.mean((1, 2, 3), keepdim=True)
    return level + (images - level) * _each(images, 2.0, 4.0)


def blurry(images: Tensor) -> Tensor:
    """Two box blurs of 5 x 5."""
    for _ in range(2):
        images = F.avg_pool2d(F.pad(images, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    return images


def bad(images: Tensor) -> Tensor:
    """Noise, and a square of 14 x 14 cut out."""
    y, x = (torch.randint(0, 32, (len(images), 1, 1)) for _ in range(2))
    at = torch.arange(32)
    hole = ((at.view(1, 32, 1) - y).abs() < 7) & ((at.view(1, 1, 32) - x).abs() < 7)
    return (images + 0.15 * torch.randn_like(images)).masked_fill(hole[:, None], 0.5)


def little(images: Tensor) -> Tensor:
    """At 60% of its size, on a ground of its mean colour."""
    shrunk = F.interpolate(images, size=20, mode="bilinear", antialias=True)
    canvas = images.mean((2, 3), keepdim=True).expand_as(images).clone()
    y, x = torch.randint(0, 13, (2,)).tolist()
    canvas[:, :, y : y + 20, x : x + 20] = shrunk
    return canvas


def big(images: Tensor) -> Tensor:
    """A part of 20 x 20, enlarged."""
    y, x = torch.randint(2, 11, (2,)).tolist()
    return F.interpolate(images[:, :, y : y + 20, x : x + 20], size=32, mode="bilinear")


def drawing(images: Tensor) -> Tensor:
    """Dark edges on white (Sobel)."""
    ramp = images.new_tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
    padded = F.pad(grey(images)[:, :1], (1, 1, 1, 1), mode="replicate")
    edges = F.conv2d(padded, torch.stack([ramp, ramp.T])[:, None]).square().sum(1, keepdim=True).sqrt()
    return (1 - edges * _each(images, 0.4, 0.8)).expand(-1, 3, -1, -1)


def negative(images: Tensor) -> Tensor:
    """Inverted."""
    return 1 - images


def poster(images: Tensor) -> Tensor:
    """Three levels a channel, channels exchanged."""
    return (images[:, torch.randperm(3)] * 2.99).floor() / 2


def mosaic(images: Tensor) -> Tensor:
    """Tiles of 3 to 4 pixels."""
    return F.interpolate(F.interpolate(images, size=9, mode="area"), size=32, mode="nearest")


STYLES = (
    Style(0.12, "a photo of {a} {noun}", plain),
    Style(0.05, "a good photo of {a} {noun}", plain),
    Style(0.08, "a black and white photo of {a} {noun}", grey),
    Style(0.05, "a low contrast photo of {a} {noun}", low_contrast),
    Style(0.05, "a high contrast photo of {a} {noun}", high_contrast),
    Style(0.08, "a blurry photo of {a} {noun}", blurry),
    Style(0.10, "a bad photo of {a} {noun}", bad),
    Style(0.06, "a photo of {a} small {noun}", little),
    Style(0.08, "a photo of {a} big {noun}", big),
    Style(0.12, "a drawing of {a} {noun}", drawing),
    Style(0.08, "a negative of {a} {noun}", negative),
    Style(0.08, "a poster of {a} {noun}", poster),
    Style(0.05, "a mosaic of {a} {noun}", mosaic),
)
UNSTYLED = Style(0.0, "this is {a} {noun}", plain)


class Stylised:
    """Captioned images in random styles; a batch's labels are the nouns that its captions name (-1: none)."""

    def __init__(self, images: ImageSet, classes: Sequence[str], tokenise: Tokenise) -> None:
        pixels = [torch.from_numpy(np.array(images.image(i))) for i in range(len(images))]
        self.pixels, self.labels = torch.stack(pixels).permute(0, 3, 1, 2), torch.from_numpy(images.labels)
        self.epoch, nouns = len(images), nouns_of(classes)
        frames = [[style.caption.format(a=a, noun="{}") for a in ("a", "the")] for style in (*STYLES, UNSTYLED)]
        tokens = [[tokenise([frame.format(noun) for noun in nouns]) for frame in pair] for pair in frames]
        self.tokens = torch.stack([torch.stack(pair) for pair in tokens])  # [styles and unstyled, a or the, nouns, L]

    def __len__(self) -> int:
        """Number of images."""
        return self.epoch

    def batch(self, indices: npt.NDArray[np.int64]) -> Batch:
        """Stylised pixels, nouns and captions."""
        at = torch.from_numpy(indices)
        style = torch.multinomial(torch.tensor([s.share for s in STYLES]), len(at), replacement=True)
        images = shifted(self.pixels[at].float().div(255))
        for k, (_, _, draw) in enumerate(STYLES):
            rows = (style == k).nonzero().flatten()
            if len(rows):
                images[rows] = draw(images[rows])
        noun = self._nouns(self.labels[at])
        frame = torch.where(_chance(at, 0.2), len(STYLES), style)
        texts = self.tokens[frame, _chance(at, 0.5).long(), noun]
        return Batch(images.clamp(0, 1).mul(255).round().to(torch.uint8), noun, texts)

    def _nouns(self, labels: Tensor) -> Tensor:
        """The nouns of the captions: one in four a synonym, one in twenty of another class."""
        labels = torch.where(_chance(labels, 0.05), torch.randint_like(labels, 10), labels)
        return labels + 10 * _chance(labels, 0.25)


def _each(images: Tensor, low: float, high: float) -> Tensor:
    """One uniform number per image, [n, 1, 1, 1]."""
    return low + (high - low) * torch.rand(len(images), 1, 1, 1)


def _chance(like: Tensor, p: float) -> Tensor:
    return torch.rand(like.shape) < p


def shifted(images: Tensor) -> Tensor:
    """Flipped at random and moved by up to 4 pixels either way, borders repeated."""
    images = torch.where(_each(images, 0, 1) < 0.5, images, images.flip(3))
    padded = F.pad(images, (4, 4, 4, 4), mode="replicate")
    y, x = (torch.randint(0, 9, (len(images), 1)) + torch.arange(32) for _ in range(2))
    rows = torch.arange(len(images))[:, None, None]
    return padded[rows, :, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)


def nouns_of(classes: Sequence[str]) -> list[str]:
    """The nouns of the captions: the classes, then a synonym for each."""
    return [*classes, *SYNONYMS]


def tokenizer(classes: Sequence[str], templates: Sequence[str]) -> small.WordTokenizer:
    """A tokenizer that knows every word of the captions and of the suite's prompts."""
    frames = [style.caption for style in (*STYLES, UNSTYLED)] + [t.replace("{}", "{noun}") for t in templates]
    texts = [frame.format(a=a, noun=noun) for frame in frames for a in ("a", "the") for noun in nouns_of(classes)]
    words = sorted({word for text in texts for word in text.lower().replace(".", " ").split()})
    return small.WordTokenizer(("<pad>", "<start>", *words, "<end>"))


def both(model: Classifier, batch: Batch) -> Tensor:
    """Half of CLIP's loss, and the cross entropy of a linear head that names the caption's noun."""
    assert batch.texts is not None
    images, texts = model.encode(batch.images), model.clip.encode_text(batch.texts, normalize=True)
    agreement: Tensor = ClipLoss()(images, texts, model.clip.logit_scale.exp())
    return 0.5 * agreement + F.cross_entropy(model.classify(images), batch.labels)


def pretrain(images: ImageSet, suite: suites.Suite, *, first: Recipe, second: Recipe) -> tuple[nn.Module, small.WordTokenizer]:
    """The small CLIP and its tokenizer. A head on the nouns helps at first: CLIP's loss alone is slow to learn them."""
    tokenise = tokenizer(suite.classes, suite.templates)
    clip = small.build(len(tokenise.words))
    head = Trained(torch.randn(len(nouns_of(suite.classes)), small.EMBED))
    preprocess = Preprocess(PreprocessCfg(size=small.IMAGE_SIZE, mean=small.MEAN, std=small.STD))
    model = Classifier(clip, head, preprocess, tokenise, origin="")
    data = Stylised(images, suite.classes, tokenise)
    model = train(model, data, first, loss=both, label="captions and nouns")
    return train(model, data, second, loss=contrastive, only=("clip",), label="captions").clip, tokenise


def main() -> None:
    """Pretrain, save, and say how long it took and what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/<class>/*.jpg or cifar-10-batches-py")
    parser.add_argument("--out", type=Path, default=Path("cifar10-small.safetensors"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    begun = time.monotonic()
    suite = suites.load(str(SUITE))
    half = suite.train.model_copy(update={"part": "train-a", "digest": None})
    images = open_set(suite, half, given.data, given.out.parent)
    torch.manual_seed(given.seed)
    checkpoints = given.out.with_suffix(".partial")
    with scratch(checkpoints):
        clip, tokenise = pretrain(images, suite, first=FIRST, second=SECOND)
    small.save(cast(CLIP, clip), tokenise, given.out)
    shutil.rmtree(checkpoints)
    say(f"{given.out}: SHA-256 {file_digest(given.out)}, {time.monotonic() - begun:.0f} s")
    say(f"next: rbft evaluate --method wiseft --suite {SUITE} --model {given.out} --data {given.data}")


if __name__ == "__main__":
    main()
