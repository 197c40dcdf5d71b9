"""The contract that every method file keeps (DESIGN 4), as checks that raise AssertionError.

``check`` runs all of them; test_methods.py runs it over the folder and over methods with planted faults.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from robustbench_ft import method, store
from robustbench_ft.batches import Images
from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier, Trained, weights_hash

TABLE = "mini"
TEXT = (
    "clip.transformer",
    "clip.token_embedding",
    "clip.positional_embedding",
    "clip.ln_final",
    "clip.text_projection",
)
TUNING = ("clip.visual", "head")
MOVES: dict[str, tuple[str, ...]] = {
    "zeroshot": (),
    "lp": ("head",),
    "ft": TUNING,
    "lpft": TUNING,
    "l2sp": TUNING,
    "wiseft": TUNING,
    "uniform_soup": TUNING,
    "greedy_soup": TUNING,
    "learned_soup": TUNING,
    "model_stock": TUNING,
    "paint": ("clip.visual",),
    "flyp": ("clip",),
    "flyp_ce": ("clip",),
    "ema": TUNING,
    "trajectory": TUNING,
    "lipsum_ft": TUNING,
    "car_ft": TUNING,
    "tpgm": TUNING,
    "lora": TUNING,
    "distill": ("head",),
    "lc_reg": ("head",),
}
"""What a method may move, by prefix; a method that is not named here may move everything."""


class Stores(NamedTuple):
    """Two stores that know nothing of each other: what is fitted in both is fitted twice."""

    one: store.Store
    two: store.Store


def make_stores(folder: Path) -> Stores:
    return Stores(store.Store(folder / "one"), store.Store(folder / "two"))


def check(kind: Method, start: Classifier, task: Task, stores: Stores, moves: tuple[str, ...] | None = None) -> Classifier:
    """Hold ``kind`` to the contract; returns what it fitted."""
    survives_json(kind)
    before = snapshot(start)
    fitted = fit(kind, start, task, stores.one)
    assert snapshot(start) == before, f"{kind.name} changed its input"
    assert not fitted.training, f"{kind.name} returned a classifier in training mode"
    same_again(kind, start, task, stores, fitted)
    seed_matters(kind, start, task, stores, fitted)
    stays_still(kind, start, fitted, MOVES.get(kind.name) if moves is None else moves)
    learns(kind, start, fitted, task)
    ends_are_exact(kind, start, task, stores)
    return fitted


def quick(name: str) -> Method:
    """The method with few and large steps, and two ingredients at most."""
    return _revived(_quick(method.configure(name, recipe_table=TABLE).dump()))


def fit(kind: Method, start: Classifier, task: Task, where: store.Store) -> Classifier:
    with store.using(where):
        return kind.fit(start, task)


def survives_json(kind: Method) -> None:
    """A dump, through JSON and back, is the same method; so are its fields given one by one as on the command line."""
    text = json.dumps(kind.dump(), allow_nan=False)
    again = _revived(json.loads(text))
    assert again == kind and again.dump() == kind.dump(), f"{kind.name} does not survive JSON"
    fields = [(name, value) for name, value in json.loads(text).items() if name != "method"]
    given = method.configure(kind.name, recipe_table=TABLE, overrides=fields)
    assert given.dump() == kind.dump(), f"{kind.name} differs when its fields are given by --set"


def snapshot(start: Classifier) -> dict[str, Any]:
    """All that a method must leave as it is: the start's state, and the random states of the process."""
    return {
        "weights": weights_hash(start),
        "modes": [module.training for module in start.modules()],
        "open": [parameter.requires_grad for parameter in start.parameters()],
        "gradients": [parameter.grad is None for parameter in start.parameters()],
        "head": type(start.head).__name__,
        "origin": start.origin,
        "python": random.getstate(),
        "numpy": [str(part) for part in np.random.get_state()],
        "torch": torch.random.get_rng_state().tolist(),
    }


def same_again(kind: Method, start: Classifier, task: Task, stores: Stores, fitted: Classifier) -> None:
    """The same seed gives the same weights bit for bit, whatever the caller's random state; a hit gives them back."""
    with torch.random.fork_rng():
        torch.manual_seed(99)
        again = fit(kind, start, task, stores.two)
    assert weights_hash(again) == weights_hash(fitted), f"{kind.name} gives other weights from the same seed"
    kept = fit(kind, start, task, stores.one)
    assert kept.origin == fitted.origin
    assert torch.equal(outputs(kept, task), outputs(fitted, task)), f"{kind.name} comes back changed from the store"


def seed_matters(kind: Method, start: Classifier, task: Task, stores: Stores, fitted: Classifier) -> None:
    """Another seed gives other weights, exactly where the method does not say that it is deterministic."""
    other = fit(kind, start, task.with_seed(task.seed + 1), stores.one)
    same = weights_hash(other) == weights_hash(fitted)
    assert same == kind.deterministic, f"{kind.name}: deterministic is {kind.deterministic}, but another seed says {same}"


def stays_still(kind: Method, start: Classifier, fitted: Classifier, moves: tuple[str, ...] | None) -> None:
    """What is not named in ``moves`` is the start's bit for bit."""
    if moves is None:
        return
    if isinstance(fitted.head, Trained) and "head" not in moves:
        assert torch.equal(fitted.head.weight, start.frozen_head().head.weight), f"{kind.name} moved the head"
    before, after = start.state_dict(), fitted.state_dict()
    moved = [n for n, value in before.items() if not n.startswith(moves or ("nothing",)) and not torch.equal(value, after[n])]
    assert not moved, f"{kind.name} moved {moved[:3]}, which should stay still"


def learns(kind: Method, start: Classifier, fitted: Classifier, task: Task) -> None:
    """The cross entropy on the training images is lower than the start's, unless nothing was trained."""
    if kind.deterministic:
        return
    before, after = (error(model, task) for model in (start, fitted))
    assert after < before, f"{kind.name}: the loss on train went from {before:.4f} to {after:.4f}"


def ends_are_exact(kind: Method, start: Classifier, task: Task, stores: Stores) -> None:
    """An ensemble in weight space of start (0) and base (1) gives exactly these two at its ends, and along its path."""
    if not {"alpha", "base"} <= set(type(kind).model_fields):
        return
    values = kind.dump()
    tuned = outputs(fit(_revived(values["base"]), start, task, stores.one), task)
    zero, one = (outputs(fit(_revived(values | {"alpha": end}), start, task, stores.one), task) for end in (0.0, 1.0))
    assert torch.equal(zero, outputs(start, task)), f"{kind.name}: alpha 0 is not the start"
    assert torch.equal(one, tuned), f"{kind.name}: alpha 1 is not the fine-tuned model"
    with store.using(stores.one):
        points = {point.alpha: point for point in kind.path(start, task)}
        assert torch.equal(outputs(points[1.0].classifier(), task), tuned), f"{kind.name}: its path ends elsewhere"


@torch.no_grad()
def outputs(model: Classifier, task: Task) -> torch.Tensor:
    """Logits on the first training images, float32 [40, C]."""
    assert not model.training
    logits: torch.Tensor = model(Images(task.train, model.preprocess, augment=False).batch(np.arange(40)).images)
    return logits


@torch.no_grad()
def error(model: Classifier, task: Task) -> float:
    """Mean cross entropy on the training images, without augmentation."""
    batch = Images(task.train, model.preprocess, augment=False).batch(np.arange(len(task.train)))
    return float(F.cross_entropy(model(batch.images), batch.labels))


def _revived(dump: dict[str, Any]) -> Method:
    """The method of a dump, with no recipe table to fill in what it lacks."""
    return method.load(dump["method"]).model_validate({name: value for name, value in dump.items() if name != "method"})


def _quick(value: Any) -> Any:
    if isinstance(value, list):
        return [_quick(part) for part in value]
    if not isinstance(value, dict):
        return value
    value = {name: _quick(part) for name, part in value.items()}
    if value.get("choose_alpha"):
        value["choose_alpha"] = [0.5, 1.0]  # on so few images the start may be the best
    if "ingredients" in value:
        value["ingredients"] = value["ingredients"][:2]
    if {"lr", "epochs"} <= value.keys():
        value |= {"lr": 1e-3, "epochs": 2, "batch_size": 40, "warmup_steps": 0}
    return value
