"""The transforms of a start model, up to the uint8 pixels that it normalises on its device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from open_clip.transform import AugmentationCfg, PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose

from robustbench_ft.augment import CROP, Augmentation


@dataclass(frozen=True)
class Preprocess:
    """open_clip's transforms for one model, cut where pixels are still uint8.

    Evaluation resizes the short side (bicubic, antialias) and crops the centre, in PIL, bit for bit as open_clip does;
    training is CLIP's own augmentation: a random resized crop of 90 to 100% of the area, no flip.
    """

    config: PreprocessCfg

    def eval(self, image: Image.Image) -> Tensor:
        """Uint8 [3, H, W]."""
        return self._pixels(self._eval_geometry, image)

    def train(self, image: Image.Image) -> Tensor:
        """Uint8 [3, H, W], random: draws from torch's global generator."""
        return self._pixels(self._train_geometry, image)

    def transform(self, augmentation: Augmentation) -> Callable[[Image.Image], Tensor]:
        """To uint8 [3, H, W] under that augmentation, with draws from torch's global generator."""
        geometry = self._eval_geometry if augmentation.crop is None else self._crop(augmentation.crop)
        return partial(self._pixels, Compose([*geometry.transforms, *augmentation.steps(self.config)]))

    def normalise(self, pixels: Tensor) -> Tensor:
        """float32 [B, 3, H, W] from uint8, with the arithmetic of ToTensor and Normalize."""
        mean = torch.tensor(self.config.mean, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(self.config.std, device=pixels.device).view(3, 1, 1)
        return pixels.float().div(255).sub(mean).div(std)

    def describe(self) -> dict[str, Any]:
        """What decides pixels and their normalisation, as JSON."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in vars(self.config).items()}

    @staticmethod
    def _pixels(geometry: Compose, image: Image.Image) -> Tensor:
        pixels = np.asarray(geometry(image)).transpose(2, 0, 1).copy()
        return torch.from_numpy(pixels)  # contiguous: stacking views of interleaved pixels costs as much as decoding

    @cached_property
    def _eval_geometry(self) -> Compose:
        return Compose(image_transform_v2(self.config, is_train=False).transforms[:-2])

    @cached_property
    def _train_geometry(self) -> Compose:
        return self._crop(CROP)

    def _crop(self, smallest: float) -> Compose:
        wanted = AugmentationCfg(scale=(smallest, 1.0))
        return Compose(image_transform_v2(self.config, is_train=True, aug_cfg=wanted).transforms[:-2])
