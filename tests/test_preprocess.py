from __future__ import annotations

import numpy as np
import pytest
import torch
from open_clip.transform import AugmentationCfg, PreprocessCfg, image_transform_v2
from PIL import Image

from robustbench_ft.preprocess import Preprocess

SIZES = [(32, 32), (57, 91), (200, 33), (16, 16), (31, 33)]
CONFIGS = [
    PreprocessCfg(size=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
    PreprocessCfg(size=(48, 48)),
    PreprocessCfg(size=40, interpolation="bilinear", resize_mode="squash"),
]


def picture(width: int, height: int, mode: str, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    return Image.fromarray(noise).convert(mode) if mode != "L" else Image.fromarray(noise[..., 0])


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
@pytest.mark.parametrize("config", CONFIGS, ids=["mini", "clip", "squash"])
def test_eval_and_normalise_are_open_clip_s_own_transform_bit_for_bit(config: PreprocessCfg, mode: str) -> None:
    ours, theirs = Preprocess(config), image_transform_v2(config, is_train=False)
    for seed, size in enumerate(SIZES):
        image = picture(*size, mode, seed)
        pixels = ours.eval(image)
        assert pixels.dtype == torch.uint8
        assert torch.equal(ours.normalise(pixels[None])[0], theirs(image)), (mode, size)


def test_train_is_open_clip_s_own_augmentation_bit_for_bit() -> None:
    config = CONFIGS[0]
    ours, theirs = Preprocess(config), image_transform_v2(config, is_train=True, aug_cfg=AugmentationCfg())
    image = picture(57, 91, "RGB")
    for seed in range(5):
        torch.manual_seed(seed)
        pixels = ours.train(image)
        torch.manual_seed(seed)
        assert torch.equal(ours.normalise(pixels[None])[0], theirs(image))


def test_its_description_tells_configurations_apart_and_is_json() -> None:
    from robustbench_ft.files import digest

    assert len({digest(Preprocess(config).describe()) for config in CONFIGS}) == len(CONFIGS)
