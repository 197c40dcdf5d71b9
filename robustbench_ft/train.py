"""The only training loop of the project.

    trained = train(model, data, recipe, loss=lambda model, batch: ..., only=("clip.visual", "head"))

``data`` is any ``batches.Data``; ``loss`` maps (model, batch) to a scalar, and its type says whether a batch may be split
(``pieces``); ``only`` names the parameters that move, by prefix. Batches, augmentation and dropout depend on (seed, step)
alone and the seed is one draw from torch's global generator, so a run killed at any step and started again ends with the same
weights, bit for bit on the CPU.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from robustbench_ft.averages import Average, Best
from robustbench_ft.batches import Data, Features, Steps, Told, step_seed
from robustbench_ft.checkpoints import next_file, read_checkpoint, write_checkpoint
from robustbench_ft.errors import RbftError, TrainingError, UsageError, in_batches
from robustbench_ft.files import digest
from robustbench_ft.pieces import Forward, Loss, Part, parts
from robustbench_ft.progress import progress, say
from robustbench_ft.recipe import Recipe as Recipe
from robustbench_ft.track import begin_log

M = TypeVar("M", bound=nn.Module)
SAVE_EVERY = 5.0  # seconds between checkpoints
SAVE_SHARE = 20.0  # or as many times what writing one takes, where that is more
DROPOUT = 2**32  # sets a step's seed for the forward pass apart from its seed for augmentation
AUTOCAST = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def train(
    model: M,
    data: Data,
    recipe: Recipe,
    *,
    loss: Loss[M],
    only: tuple[str, ...] = ("",),
    label: str = "training",
    checkpoint: Path | None = None,
    validate: Callable[[M], float] | None = None,
    observe: Callable[[int, M], None] | None = None,
    until: int | None = None,
) -> M:
    """A trained copy of ``model``, in eval mode; ``model`` itself is untouched.

    ``checkpoint``: where progress is kept; inside a fit the default is a file of that fit. ``validate``: val accuracy, for
    recipes that look at it. ``observe`` is told the number of steps done and the live weights after each, and changes nothing.
    ``until``: the number of steps after which to end, on the schedule of the whole run. TrainingError when loss or gradient is
    not finite (the last good checkpoint stays); UsageError when ``only`` fits no parameter, or where loss or data do not allow
    what the recipe wants.
    """
    if recipe.validate_every is not None and validate is None:
        raise UsageError(f"{label} does not look at val while it trains", hint="without recipe.validate_every")
    if isinstance(data, Features) and (recipe.mixup or recipe.flip or recipe.randaugment):
        raise UsageError(f"{label} trains on features that are encoded once", hint="without mixup, flip and randaugment")
    checkpoint = checkpoint or next_file()
    seed = int(torch.randint(2**31, ()))
    run = _Run(copy.deepcopy(model), data, recipe, only=only, until=until, file=checkpoint, seed=seed)
    device, log = run.device, begin_log(label)
    if run.total < recipe.warmup_steps:
        say(f"{label}: {recipe.warmup_steps} steps of warm-up in a run of {run.total}: the rate never reaches {recipe.lr:g}")
    loader = DataLoader(
        Told(Steps(data, recipe.batch_size, seed=seed, total=run.total)),
        batch_size=None,
        sampler=range(run.step, run.until),
        num_workers=recipe.workers,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),
    )
    run.model.train(not recipe.eval_mode)
    cuda = [device] if device.type == "cuda" else []
    smaller = "--set recipe.accumulate=2, for the same gradient in half the memory, or recipe.batch_size={}"
    held = in_batches(label, recipe.batch_size, smaller)
    with torch.random.fork_rng(devices=cuda), held, progress(label, run.until, done=run.step) as bar:
        for batch in loader:
            if isinstance(batch, RbftError):
                raise batch
            run.update(parts(loss, run.model, batch.to(device), run.forward()))
            if observe is not None:
                observe(run.step, run.model)
            if validate is not None and run.looks():
                run.scalars["val"] = run.look(validate)
            log(run.scalars, run.step)
            run.save_if_due()
            bar.advance(f"loss {run.scalars['loss']:.3f}")
            if run.step == run.until:
                break
    return run.finish()


class _Run(Generic[M]):
    """The state of one training run, and the checkpoint that holds it."""

    def __init__(
        self, model: M, data: Data, recipe: Recipe, *, only: tuple[str, ...], until: int | None, file: Path | None, seed: int
    ) -> None:
        self.model, self.recipe, self.file, self.seed, self.step = model, recipe, file, seed, 0
        self.total = recipe.steps(data)
        self.until = min(until or self.total, self.total)
        self.look_every = max(1, round((recipe.validate_every or recipe.epochs) * self.total / recipe.epochs))
        self.identity = digest([recipe.model_dump(mode="json"), only, self.total, self.until, seed])
        self.parameters = self._select(only)
        self.device = next(model.parameters()).device
        self.optimizer = self._build_optimizer()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision == "fp16")
        self.average = Average(recipe.ema) if recipe.ema is not None else None
        self.best, self.scalars = Best(), dict[str, float]()
        self.saved_at, self.save_cost, self.saved_step = time.monotonic(), 0.0, -1
        if file is not None and file.is_file():
            self._load(file)

    def forward(self) -> Forward:
        """How this step's loss is to be computed."""
        kind = AUTOCAST[self.recipe.precision]
        autocast = torch.autocast(self.device.type, kind if kind.itemsize < 4 else None, enabled=kind.itemsize < 4)
        seed = step_seed(self.seed, self.step + DROPOUT)
        return Forward(self.recipe.accumulate, seed, autocast, scale=self.scaler.get_scale())

    def update(self, parts: Iterable[Part]) -> None:
        """One optimisation step, on the sum of the parts' gradients. fp16: clipped after unscaling, left out on overflow."""
        factor, loss = self.recipe.factor(self.step, self.total), 0.0
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        self.optimizer.zero_grad(set_to_none=True)
        for part in parts:
            loss += part.loss
            self._require_finite("loss", loss)
            self.scaler.scale(part.scalar).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(list(self.parameters.values()), self.recipe.clip or math.inf).item()
        if not self.scaler.is_enabled():
            self._require_finite("gradient's norm", norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        if self.average is not None:
            self.average.update(self._moving(), self.step)
        self.scalars = {"loss": loss, "lr": self.recipe.lr * factor, "gradient_norm": norm}

    def looks(self) -> bool:
        """Whether val is to be looked at after this step."""
        return self.recipe.validate_every is not None and (self.step % self.look_every == 0 or self.step == self.until)

    def look(self, validate: Callable[[M], float]) -> float:
        """Val accuracy now: keeps the weights if they are the best, and ends the run when patience is at its end."""
        now = self._moving() if self.average is None else self.average.mean
        score = validate(_with_state(copy.deepcopy(self.model), now))  # a copy: what evaluation caches is not for training
        self.best.offer(score, now)
        self._end_if_patience_has()
        return score

    def save_if_due(self) -> None:
        """Write the checkpoint if the last one is old."""
        by_step = self.recipe.save_every is not None and self.step % self.recipe.save_every == 0
        if by_step or time.monotonic() - self.saved_at > max(SAVE_EVERY, SAVE_SHARE * self.save_cost):
            self._save()

    def finish(self) -> M:
        """Keep the end, and hand the model over in eval mode, every parameter open again."""
        if self.saved_step != self.step:
            self._save()
        for parameter in self.model.parameters():
            parameter.grad = None
        self.model.requires_grad_(True)
        averaged = {} if self.average is None else self.average.mean
        return _with_state(self.model, self.best.state or averaged)

    def _require_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            kept = f"; the last good checkpoint is {self.file}" if self.file and self.file.is_file() else ""
            raise TrainingError(
                f"the {what} is {value} at step {self.step} of {self.total}{kept}", hint="a lower rate: --set recipe.lr=..."
            )

    def _end_if_patience_has(self) -> None:
        if self.recipe.patience is not None and self.best.since >= self.recipe.patience:
            self.until = self.step

    def _moving(self) -> dict[str, Tensor]:
        """The state that training changes: the chosen parameters and the buffers."""
        still = {name for name, _ in self.model.named_parameters()} - self.parameters.keys()
        return {name: value for name, value in self.model.state_dict().items() if name not in still}

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
        states = self.optimizer.state_dict()["state"].items()
        sections: dict[str, Mapping[str, Tensor]] = {
            "model": self.model.state_dict(),
            "optimizer": {f"{k}/{name}": value for k, state in states for name, value in state.items() if value is not None},
            "average": {} if self.average is None else self.average.mean,
            "best": self.best.state,
        }
        rest = {"score": self.best.score, "since": self.best.since, "scaler": self.scaler.state_dict()}
        write_checkpoint(self.file, sections, step=self.step, identity=self.identity, rest=rest)
        self.saved_at = time.monotonic()
        self.save_cost = self.saved_at - begun

    def _load(self, file: Path) -> None:
        sections, self.step, rest = read_checkpoint(file, self.identity)
        self.saved_step = self.step
        self.model.load_state_dict(sections["model"])
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in sections.get("optimizer", {}).items():
            index, _, key = name.partition("/")
            state.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})
        self.scaler.load_state_dict(rest["scaler"])
        if self.average is not None:
            self.average.mean = self._on_device(sections.get("average", {}))
        self.best = Best(self._on_device(sections.get("best", {})), rest["score"], rest["since"])
        self._end_if_patience_has()

    def _on_device(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.to(self.device) for name, value in state.items()}


def _with_state(model: M, state: Mapping[str, Tensor]) -> M:
    """``model`` itself in eval mode, with ``state`` in place of its own where it has an entry."""
    model.load_state_dict(model.state_dict() | dict(state))
    return model.eval()
