"""The store: finished fits, rendered pixels and predictions on disk, found by content.

    fits/<key>/model.safetensors, fit.json      a finished fit
    fits/<key>/scratch/                         checkpoints of one that is not finished
    heads/<key>, features/<key>                 zero-shot heads, and image features of train and val (robustbench_ft.kept)
    pixels/, predictions/, keys/, index/        of test sets too: closed while a method fits

A key hashes everything that decides the content, so nothing is ever stale; removing any of it is safe.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save as arrays_to_bytes
from safetensors.torch import save_file

from robustbench_ft import seal
from robustbench_ft.checkpoints import scratch
from robustbench_ft.errors import TrainingError
from robustbench_ft.files import digest, file_digest, write_atomic
from robustbench_ft.kept import Shelf, keeping
from robustbench_ft.kept import numerics as numerics
from robustbench_ft.method import Method, Task, load
from robustbench_ft.model import Classifier, Derived, Ensemble, Trained
from robustbench_ft.packs import Answers
from robustbench_ft.progress import say

# The files whose text decides what training and evaluation give; a change in one invalidates every fit and all predictions.
DECISIVE = (
    "train",
    "batches",
    "model",
    "preprocess",
    "weights",
    "losses",
    "method",
    "predict",
    "soups",
    "words",
    "merging",
    "recipe",
    "pieces",
    "averages",
    "checkpoints",
    "augment",
    "start",
    "kept",
    "features",
    "probes",
    "regularisers",
    "projection",
)
FORMAT = 1


@dataclass(frozen=True)
class Store:
    """A folder of finished work; ``fresh``: ignore the fits that are there."""

    folder: Path
    fresh: bool = False
    known: set[str] = field(default_factory=set)
    """Keys made or read since the store was opened: not news again, and not made anew by ``fresh``."""

    def __post_init__(self) -> None:
        for name in ("pixels", "predictions", "keys", "index"):
            seal.close_folder(self.folder / name)

    def fit_folder(self, key: str) -> Path:
        """Where the fit of that key lies, or will."""
        return self.folder / "fits" / key

    def has(self, key: str) -> bool:
        """Whether a finished fit of that key is there; under ``fresh`` the ones from before are removed."""
        if self.fresh and key not in self.known:
            shutil.rmtree(self.fit_folder(key), ignore_errors=True)
        return (self.fit_folder(key) / "fit.json").is_file()

    def predictions(self, key: str) -> dict[str, Answers] | None:
        """Answers kept under that key, uint16 [N] per grouping; none under ``fresh``; LeakError under the seal."""
        seal.require_open("cached predictions")
        if self.fresh:
            return None
        path = self.folder / "predictions" / f"{key}.safetensors"
        return dict(load_arrays(path)) if path.is_file() else None

    def keep_predictions(self, key: str, answers: Mapping[str, Answers]) -> None:
        """Keep answers under that key."""
        write_atomic(self.folder / "predictions" / f"{key}.safetensors", arrays_to_bytes(dict(answers)))


_store: ContextVar[Store | None] = ContextVar("rbft_store", default=None)


def keeps() -> bool:
    """Whether finished fits are kept here, so that they can be read back."""
    return _store.get() is not None


@contextmanager
def using(store: Store) -> Iterator[Store]:
    """Fits inside are looked up and kept in ``store``; outside of any, nothing is kept."""
    token = _store.set(store)
    try:
        with keeping(Shelf(store.folder, code(), store.fresh, store.known)):
            yield store
    finally:
        _store.reset(token)


def fit(method: Method, start: Classifier, task: Task) -> Classifier:
    """The fitted classifier, from the store or made now; the caller's random state is the same after either."""
    key, store = fit_key(method, start, task), _store.get()
    folder = store.fit_folder(key) if store else None
    if folder is not None and store is not None and store.has(key):
        if key not in store.known:
            say(f"reused {method.name} {key[:8]}, {json.loads((folder / 'fit.json').read_text())['seconds']:.0f} s saved")
        store.known.add(key)
        return _read(folder, start, key)
    begun = time.monotonic()
    with _seeded(task.seed), seal.sealed():
        if folder is None:
            fitted = method.adapt(start, task)
        else:
            with scratch(folder / "scratch"):
                fitted = method.adapt(start, task)
    if not isinstance(fitted, Classifier) or fitted is start:
        raise TrainingError(f"{method.name}.adapt returned {type(fitted).__name__}, expected a new Classifier")
    fitted.origin = key
    fitted.eval()
    if folder is not None and store is not None:
        store.known.add(key)
        _write(folder, fitted, {"method": method.dump(), "seed": task.seed, "seconds": time.monotonic() - begun})
    return fitted


def keep(method: Method, start: Classifier, task: Task, fitted: Classifier) -> None:
    """Keep ``fitted`` as what ``method.fit`` gives: a longer training has come by it. Does nothing without a store."""
    key, store = fit_key(method, start, task), _store.get()
    if store is not None and not store.has(key):
        store.known.add(key)
        about = {"method": method.dump(), "seed": task.seed, "chosen": fitted.chosen, "seconds": 0.0}
        _write(store.fit_folder(key), fitted, about)


def fit_key(method: Method, start: Classifier, task: Task) -> str:
    """SHA-256 of all that decides a fit: method, start, task, seed, numerics, torch, and the source of what trains."""
    device = next(start.parameters()).device
    return digest(
        {
            "format": FORMAT,
            "method": method.dump(),
            "start": start.origin,
            "task": [task.suite, task.train.digest, task.val.digest, [one.described() for one in task.supported]],
            "words": [task.classes, task.templates],
            "preprocess": start.preprocess.describe(),
            "seed": task.seed,
            "numerics": numerics(device),
            "code": code(method.dump()),
        }
    )


def code(dump: Any = None) -> dict[str, str]:
    """Minor versions of what computes, and the SHA-256 of all source that decides: the core's, and each method's in a dump."""
    found = {name: file_digest(Path(__file__).with_name(f"{name}.py")) for name in DECISIVE}
    for library in ("torch", "open_clip_torch", "timm"):
        found[library] = version(library).split("+")[0].rsplit(".", 1)[0]
    return found | {f"methods/{name}": sha for name, sha in method_sources(dump).items()}


def method_sources(dump: Any) -> dict[str, str]:
    """SHA-256 of the file of each method in a dump."""
    return {name: file_digest(load(name).source) for name in sorted(_method_names(dump))}


def _method_names(dump: Any) -> set[str]:
    if isinstance(dump, dict):
        nested = set().union(*(_method_names(value) for value in dump.values())) if dump else set()
        return nested | ({dump["method"]} if "method" in dump else set())
    return set().union(*(_method_names(value) for value in dump)) if isinstance(dump, list) and dump else set()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Python's, numpy's and torch's random states, seeded inside and restored after."""
    python, legacy = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)


def _write(folder: Path, fitted: Classifier, about: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in fitted.state_dict().items()}
    partial = folder / f"model.{os.getpid()}.tmp"
    save_file(tensors, partial, metadata={"heads": json.dumps(_shape(fitted)), "chosen": json.dumps(fitted.chosen)})
    partial.replace(folder / "model.safetensors")
    write_atomic(folder / "fit.json", json.dumps(about, indent=1, sort_keys=True))
    shutil.rmtree(folder / "scratch", ignore_errors=True)


def _shape(model: Classifier) -> dict[str, Any]:
    """What the tensors do not tell: the kind of head, or the members of an ensemble."""
    if isinstance(model, Ensemble):
        members = [_shape(member) for member in model.members if isinstance(member, Classifier)]
        return {"ensemble": members, "options": model.options()}
    if isinstance(model.head, Trained):
        return {"head": "trained", "normalize": model.head.normalize}
    return {"head": "derived", "classes": model.head.classes, "templates": model.head.templates}


def _read(folder: Path, start: Classifier, key: str) -> Classifier:
    file, device = folder / "model.safetensors", str(next(start.parameters()).device)
    with safe_open(file, "pt") as content:
        about = content.metadata()
    fitted = _build(json.loads(about["heads"]), start, key)
    fitted.chosen = json.loads(about["chosen"])
    state = fitted.state_dict()
    names = list(state)
    for at in range(0, len(names), 16):
        with safe_open(file, "pt", device=device) as content:  # anew: what was read stays in memory until it is closed
            for name in names[at : at + 16]:
                state[name].copy_(content.get_tensor(name))
    return fitted.eval()


def _build(shape: dict[str, Any], start: Classifier, key: str) -> Classifier:
    """A classifier of that shape, on the start's architecture, its weights still to be loaded."""
    if "ensemble" in shape:
        members = [_build(member, start, key) for member in shape["ensemble"]]
        return Ensemble(members, **shape["options"], origin=key)
    if shape["head"] == "trained":
        built = start.frozen_head()
        built.head.normalize = shape["normalize"]
    else:
        built = start.with_head(Derived(shape["classes"], shape["templates"]))
    built.origin = key
    return built
