"""What training does to an image before it becomes pixels."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from open_clip.transform import PreprocessCfg
from PIL import Image
from torchvision.transforms.functional import hflip

from robustbench_ft.errors import UsageError

CROP = 0.9  # smallest area of CLIP's own random resized crop


@dataclass(frozen=True)
class Augmentation:
    """Random changes, in this order; by default none, which is the eval transform."""

    crop: float | None = None
    """Smallest area of a random resized crop; None: the eval transform's resize and centre crop."""
    flip: bool = False
    """Left and right exchanged, for one image in two."""
    randaugment: str | None = None
    """timm's RandAugment, by timm's name for its settings: ``rand-m9-mstd0.5-inc1``."""

    def steps(self, config: PreprocessCfg) -> list[Callable[[Image.Image], Image.Image]]:
        """What comes after the crop; every draw is torch's global generator's."""
        steps: list[Callable[[Image.Image], Image.Image]] = [_flip] if self.flip else []
        return [*steps, RandAugment(self.randaugment, config)] if self.randaugment else steps


def _flip(image: Image.Image) -> Image.Image:
    flipped: Image.Image = hflip(image) if torch.rand(()) < 0.5 else image
    return flipped


class RandAugment:
    """timm's RandAugment, given the sizes, fill colour and resampling that timm's own training transform gives it."""

    def __init__(self, settings: str, config: PreprocessCfg) -> None:
        from timm.data.auto_augment import rand_augment_transform
        from timm.data.transforms import str_to_pil_interp

        size = config.size if isinstance(config.size, int) else min(config.size)
        resample = str_to_pil_interp(config.interpolation)  # type: ignore[no-untyped-call]
        fill = tuple(min(255, round(255 * mean)) for mean in config.mean)
        settled = {"translate_const": int(size * 0.45), "img_mean": fill, "interpolation": resample}
        try:
            self.augment = rand_augment_transform(settings, settled)
        except (AssertionError, ValueError) as error:
            raise UsageError(
                f"randaugment={settings!r} is not what timm calls a RandAugment {error}".rstrip(), hint="rand-m9-mstd0.5-inc1"
            ) from error

    def __call__(self, image: Image.Image) -> Image.Image:
        """The image, changed."""
        with _drawing_from_torch():
            changed: Image.Image = self.augment(image)
        return changed


@contextmanager
def _drawing_from_torch() -> Iterator[None]:
    """Python's and numpy's generators, which timm draws from, seeded inside by torch's and restored after."""
    python, legacy = random.getstate(), np.random.get_state()
    seed = int(torch.randint(2**32, ()))
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)
