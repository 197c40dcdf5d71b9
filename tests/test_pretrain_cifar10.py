import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from robustbench_ft import suites
from robustbench_ft.datasets import ImageSet
from robustbench_ft.model import load_start

SUITE = suites.load(str(Path(__file__).parents[1] / "docs" / "cifar10-half.toml"))
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
IMAGES = ImageSet(
    "train-a", [f"train/{k:04d}" for k in range(40)], np.arange(40) % 10, lambda i: Image.fromarray(PIXELS[i]), "none"
)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parents[1] / "scripts" / "pretrain_cifar10.py"
    spec = importlib.util.spec_from_file_location("pretrain_cifar10", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pretrain_cifar10"] = module
    spec.loader.exec_module(module)
    return module


def test_every_style_draws_another_picture_of_the_same_size(script: ModuleType) -> None:
    images = torch.from_numpy(PIXELS[:6]).permute(0, 3, 1, 2).float() / 255
    before = images.clone()
    seen = [style.draw(images).clamp(0, 1) for style in script.STYLES if style.draw is not script.plain]
    assert all(drawn.shape == images.shape for drawn in seen)
    differences = [(a - b).abs().mean() for k, a in enumerate(seen) for b in [images, *seen[:k]]]
    assert min(differences) > 0.01, "every style differs from the photo and from every other style"
    assert torch.equal(images, before), "the images of the set are left as they are"
    assert sum(style.share for style in script.STYLES) == pytest.approx(1)


def test_captions_name_the_noun_and_batches_follow_the_seed(script: ModuleType) -> None:
    tokenise = script.tokenizer(SUITE.classes, SUITE.templates)
    data = script.Stylised(IMAGES, SUITE.classes, tokenise)
    torch.manual_seed(3)
    batch = data.batch(np.arange(40))
    torch.manual_seed(3)
    again = data.batch(np.arange(40))
    assert torch.equal(batch.images, again.images) and torch.equal(batch.texts, again.texts)
    nouns = [tokenise.ids[noun] for noun in script.nouns_of(SUITE.classes)]
    assert all(nouns[label] in text for label, text in zip(batch.labels.tolist(), batch.texts.tolist(), strict=True))
    assert (batch.labels % 10 == torch.arange(40) % 10).float().mean() > 0.8, "most captions are right"
    assert batch.images.dtype == torch.uint8 and batch.images.shape == (40, 3, 32, 32)


def test_pretraining_gives_a_start_model_that_loads(script: ModuleType, tmp_path: Path) -> None:
    torch.manual_seed(0)
    short = {"epochs": 1.0, "batch_size": 20, "warmup_steps": 1}
    first, second = script.FIRST.model_copy(update=short), script.SECOND.model_copy(update=short)
    clip, tokenise = script.pretrain(IMAGES, SUITE, first=first, second=second)
    script.small.save(clip, tokenise, tmp_path / "small.safetensors")
    start = load_start(str(tmp_path / "small.safetensors"), SUITE)
    assert start(torch.from_numpy(PIXELS[:5]).permute(0, 3, 1, 2)).shape == (5, 10)
