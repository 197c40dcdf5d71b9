"""Tensors that are dear to make, kept on disk under a hash of all that decides them: zero-shot heads, features of train and val.

    weight = kept("heads", about, make, device=device)

Inside ``keeping`` a tensor made before is read back; elsewhere ``make`` is called every time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from robustbench_ft.files import digest


@dataclass(frozen=True)
class Shelf:
    """``folder/KIND/KEY.safetensors``; ``code``: versions and hashes of the source that makes them; ``fresh``: keys not in
    ``known`` are made anew.
    """

    folder: Path
    code: Mapping[str, str]
    fresh: bool
    known: set[str]


_shelf: ContextVar[Shelf | None] = ContextVar("rbft_shelf", default=None)


@contextmanager
def keeping(shelf: Shelf) -> Iterator[None]:
    """``kept`` inside reads from ``shelf`` and writes to it."""
    token = _shelf.set(shelf)
    try:
        yield
    finally:
        _shelf.reset(token)


def kept(kind: str, about: Callable[[], Any], make: Callable[[], Tensor], *, device: torch.device) -> Tensor:
    """What ``make`` gives, on ``device``; ``about`` says, as JSON, what decides it besides code and numerics, or None."""
    shelf = _shelf.get()
    told = about() if shelf is not None else None
    if shelf is None or told is None:
        return make()
    key = digest([kind, told, numerics(device), dict(shelf.code)])
    file = shelf.folder / kind / f"{key}.safetensors"
    if file.is_file() and (not shelf.fresh or key in shelf.known):
        return load_file(file, device=str(device))["value"]
    value = make()
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}.tmp")
    save_file({"value": value.detach().contiguous()}, partial)
    partial.replace(file)
    shelf.known.add(key)
    return value


def numerics(device: torch.device) -> dict[str, Any]:
    """What decides the last bits on ``device``."""
    threads = torch.get_num_threads() if device.type == "cpu" else 0
    return {"device": device.type, "threads": threads, "deterministic": torch.are_deterministic_algorithms_enabled()}
