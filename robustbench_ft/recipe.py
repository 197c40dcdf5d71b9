"""The hyperparameters of one training run, and its schedule; ``recipes`` is the table of their values per suite."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from robustbench_ft.augment import CROP, Augmentation
from robustbench_ft.batches import Data
from robustbench_ft.values import Value

Positive = Annotated[float, Field(gt=0)]


class Recipe(Value):
    """Optimisation hyperparameters; the defaults are WiSE-FT's for ImageNet (Wortsman et al., 2022, appendix D)."""

    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: Positive = 3e-5
    lr_scale: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Factors of the rate by parameter-name prefix; the longest prefix that fits counts."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """On every trained parameter, biases and norms too, as the references do."""
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    """Of SGD."""
    epochs: Positive = 10
    batch_size: Annotated[int, Field(gt=0)] = 512
    """The global batch."""
    warmup_steps: Annotated[int, Field(ge=0)] = 500
    """In a run that is no longer than this the rate only rises and never reaches ``lr``, as with the references' code."""
    schedule: Literal["cosine", "cosine_epoch", "constant"] = "cosine"
    """Cosine to 0 per step, or per epoch as LP-FT does."""
    clip: Positive | None = 1.0
    """Bound of the gradient's global norm."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    eval_mode: bool = False
    """Train with the module in eval mode: running statistics and dropout off (LP-FT's released commands)."""
    augment: bool = True
    """CLIP's random resized crop; False: the eval transform."""
    crop: Annotated[float, Field(gt=0, le=1)] = CROP
    """Smallest area of that crop."""
    flip: bool = False
    randaugment: str | None = None
    """Settings of timm's RandAugment after the crop: ``rand-m9-mstd0.5-inc1``."""
    mixup: Annotated[float, Field(ge=0)] = 0.0
    """Alpha of the Beta distribution that mixes images and targets; 0: no mixing."""
    ema: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Decay of the debiased moving average of the weights, which training then gives in place of the last."""
    validate_every: Positive | None = None
    """Epochs between looks at val, and one at the end: the weights that are best there are kept, the first of equals."""
    patience: Annotated[int, Field(gt=0)] | None = None
    """Looks without a rise after which training ends."""
    accumulate: Annotated[int, Field(gt=0)] = 1
    """Pieces that a batch is computed in, for less memory: the same gradient (``pieces``)."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the forward pass, by autocast; weights stay float32. fp16 scales its loss and leaves out steps that overflow."""
    save_every: Annotated[int, Field(gt=0)] | None = None
    """Steps between checkpoints, besides one every few seconds."""
    workers: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _patience_looks_at_val(self) -> Recipe:
        if self.patience is not None and self.validate_every is None:
            raise ValueError("patience counts looks at val: give validate_every too")
        return self

    def augmentation(self) -> Augmentation:
        """What it does to training images."""
        return Augmentation(self.crop if self.augment else None, self.flip, self.randaugment)

    def steps(self, data: Data) -> int:
        """Steps of the whole run: epochs times batches per epoch, the short last batch of an epoch counted."""
        return max(1, round(self.epochs * math.ceil(data.epoch / self.batch_size)))

    def factor(self, step: int, total: int) -> float:
        """The rate at ``step`` (from 0) over the base rate: linear warm-up (t + 1) / w, then the schedule."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "cosine_epoch":
            epoch = math.floor(step * self.epochs / total)  # not step / total * epochs, which falls short of whole epochs
            return 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))
        return 0.5 * (1 + math.cos(math.pi * (step - self.warmup_steps) / (total - self.warmup_steps)))
