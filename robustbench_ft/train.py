"""The recipe, and the only training loop of the project.

    trained = train(model, data, recipe, loss=lambda model, batch: ..., only=("clip.visual", "head"))

``data`` is any ``batches.Data``; ``loss`` maps (model, batch) to a scalar; ``only`` names the parameters that move, by prefix.
Batches, augmentation and dropout depend on (seed, step) alone and the seed is one draw from torch's global generator, so a run
killed at any step and started again ends with the same weights, bit for bit on the CPU.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar

import torch
from pydantic import Field
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from robustbench_ft.batches import Batch, Data, Steps, step_seed
from robustbench_ft.errors import TrainingError, UsageError
from robustbench_ft.files import digest
from robustbench_ft.progress import progress
from robustbench_ft.values import Value

M = TypeVar("M", bound=nn.Module)
SAVE_EVERY = 5.0  # seconds between checkpoints
SAVE_SHARE = 20.0  # or as many times what writing one takes, where that is more
DROPOUT = 2**32  # sets a step's seed for the forward pass apart from its seed for augmentation
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
    schedule: Literal["cosine", "cosine_epoch", "constant"] = "cosine"
    """Cosine to 0 per step, or per epoch as LP-FT does."""
    clip: Positive | None = 1.0
    """Bound of the gradient's global norm."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    eval_mode: bool = False
    """Train with the module in eval mode: running statistics and dropout off (LP-FT's released commands)."""
    augment: bool = True
    """CLIP's random resized crop; False: the eval transform."""
    precision: Literal["fp32", "bf16"] = "fp32"
    workers: Annotated[int, Field(ge=0)] = 0

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
            epoch = math.floor(step / total * self.epochs)
            return 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))
        return 0.5 * (1 + math.cos(math.pi * (step - self.warmup_steps) / (total - self.warmup_steps)))


@dataclass(frozen=True)
class Scratch:
    """Where the training runs of one fit keep their checkpoints, numbered in order."""

    folder: Path
    numbers: Iterator[int]


_scratch: ContextVar[Scratch | None] = ContextVar("rbft_scratch", default=None)


@contextmanager
def scratch(folder: Path) -> Iterator[None]:
    """Training inside keeps its checkpoints in ``folder`` and resumes from those found there."""
    token = _scratch.set(Scratch(folder, count()))
    try:
        yield
    finally:
        _scratch.reset(token)


def train(
    model: M,
    data: Data,
    recipe: Recipe,
    *,
    loss: Callable[[M, Batch], Tensor],
    only: tuple[str, ...] = ("",),
    label: str = "training",
    checkpoint: Path | None = None,
) -> M:
    """A trained copy of ``model``, in eval mode; ``model`` itself is untouched.

    ``checkpoint``: where progress is kept; inside a fit the default is a file of that fit. TrainingError when the loss is not
    finite (the last good checkpoint stays), UsageError when ``only`` fits no parameter.
    """
    if checkpoint is None and (current := _scratch.get()) is not None:
        checkpoint = current.folder / f"train-{next(current.numbers)}.safetensors"
    seed = int(torch.randint(2**31, ()))
    device = next(model.parameters()).device
    run = _Run(copy.deepcopy(model), recipe, only, total=recipe.steps(data), file=checkpoint, seed=seed)
    loader = DataLoader(
        Steps(data, recipe.batch_size, seed=seed, total=run.total),
        batch_size=None,
        sampler=range(run.step, run.total),
        num_workers=recipe.workers,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),
    )
    run.model.train(not recipe.eval_mode)
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), progress(label, run.total, done=run.step) as bar:
        for batch in loader:
            torch.manual_seed(step_seed(seed, run.step + DROPOUT))
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
                value = loss(run.model, batch.to(device))
            run.update(value)
            bar.advance(f"loss {value.item():.3f}")
    return run.finish()


class _Run(Generic[M]):
    """The state of one training run, and the checkpoint that holds it."""

    def __init__(self, model: M, recipe: Recipe, only: tuple[str, ...], *, total: int, file: Path | None, seed: int) -> None:
        self.model, self.recipe, self.total, self.file, self.step = model, recipe, total, file, 0
        self.identity = digest([recipe.model_dump(mode="json"), only, total, seed])
        self.parameters = self._select(only)
        self.optimizer = self._build_optimizer()
        self.saved_at, self.save_cost, self.saved_step = time.monotonic(), 0.0, -1
        if file is not None and file.is_file():
            self._load(file)

    def update(self, loss: Tensor) -> None:
        """One optimisation step."""
        if not math.isfinite(loss.item()):
            kept = f"; the last good checkpoint is {self.file}" if self.file and self.file.is_file() else ""
            raise TrainingError(
                f"the loss is {loss.item()} at step {self.step} of {self.total}{kept}",
                hint="a lower rate: --set recipe.lr=...",
            )
        factor = self.recipe.factor(self.step, self.total)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip is not None:
            nn.utils.clip_grad_norm_(list(self.parameters.values()), self.recipe.clip)
        self.optimizer.step()
        self.step += 1
        if time.monotonic() - self.saved_at > max(SAVE_EVERY, SAVE_SHARE * self.save_cost):
            self._save()

    def finish(self) -> M:
        """Keep the end, and hand the model over in eval mode, every parameter open again."""
        if self.saved_step != self.step:
            self._save()
        for parameter in self.model.parameters():
            parameter.grad = None
        self.model.requires_grad_(True)
        self.model.eval()
        return self.model

    def _select(self, only: tuple[str, ...]) -> dict[str, nn.Parameter]:
        chosen = {}
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name.startswith(only))
            if parameter.requires_grad:
                chosen[name] = parameter
        if not chosen:
            raise UsageError(f"no parameter begins with any of {only}")
        return chosen

    def _build_optimizer(self) -> torch.optim.Optimizer:
        rates: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self.parameters.items():
            fits = [prefix for prefix in self.recipe.lr_scale if name.startswith(prefix)]
            scale = self.recipe.lr_scale[max(fits, key=len)] if fits else 1.0
            rates.setdefault(scale, []).append(parameter)
        lr = self.recipe.lr
        groups = [{"params": group, "lr": lr * scale, "base_lr": lr * scale} for scale, group in rates.items()]
        if self.recipe.optimizer == "sgd":
            return torch.optim.SGD(groups, momentum=self.recipe.momentum, weight_decay=self.recipe.weight_decay)
        betas, decay = self.recipe.betas, self.recipe.weight_decay
        return torch.optim.AdamW(groups, betas=betas, weight_decay=decay, fused=True)

    def _save(self) -> None:
        self.saved_step = self.step
        if self.file is None:
            return
        begun = time.monotonic()
        tensors = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": value for name, value in state.items() if value is not None}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        partial = self.file.with_suffix(f".{os.getpid()}.tmp")  # two processes may do the same fit
        save_file(
            {name: value.detach().clone().contiguous() for name, value in tensors.items()},
            partial,
            metadata={"step": str(self.step), "identity": self.identity},
        )
        partial.replace(self.file)
        self.saved_at = time.monotonic()
        self.save_cost = self.saved_at - begun

    def _load(self, file: Path) -> None:
        with safe_open(file, "pt") as content:
            metadata = content.metadata()
            if metadata["identity"] != self.identity:
                raise UsageError(f"{file} belongs to another training run", hint="remove it or give another file")
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        self.model.load_state_dict({n.removeprefix("model/"): v for n, v in tensors.items() if n.startswith("model/")})
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer/"):
                _, index, key = name.split("/")
                state.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})
        self.step = self.saved_step = int(metadata["step"])
