"""The seal: while a method fits, test and OOD data cannot be opened by accident.

``Method.fit`` holds the seal; readers, the renderer of the embedded suite and the store ask ``require_open``. Under the seal an
audit hook also refuses to open any file below the store's cached test data, so reading a cache by path fails too.
This stops accidents. Against intent there is review.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from robustbench_ft.errors import LeakError

TRAINING_SPLITS = frozenset({"train", "val"})

_sealed: ContextVar[bool] = ContextVar("rbft_sealed", default=False)
_closed_folders: set[str] = set()
_hook_installed = False
_EVENTS = frozenset({"open", "os.listdir", "os.scandir"})  # listing too: safetensors opens files where no hook sees it


def is_sealed() -> bool:
    """Whether a method is fitting in this context."""
    return _sealed.get()


@contextmanager
def sealed(active: bool = True) -> Iterator[None]:
    """Hold the seal; ``active=False`` lifts it (the store does, to write what it owns)."""
    if active:
        _install_hook()
    token = _sealed.set(active)
    try:
        yield
    finally:
        _sealed.reset(token)


def require_open(what: str) -> None:
    """LeakError under the seal; ``what`` names the data that was about to be opened."""
    if is_sealed():
        raise LeakError(
            f"a method opened {what} while it was fitting; it may use task.train and task.val only",
            hint="choose hyperparameters on task.val",
        )


def close_folder(path: Path) -> None:
    """Refuse, under the seal, to open files below ``path``: it holds test data or answers to it."""
    _closed_folders.add(os.path.realpath(path) + os.sep)


def _install_hook() -> None:
    """Install the audit hook once per process; Python keeps audit hooks until it exits."""
    global _hook_installed
    if not _hook_installed:
        _hook_installed = True
        sys.addaudithook(_on_event)


def _on_event(event: str, args: tuple[object, ...]) -> None:
    if event not in _EVENTS or not _closed_folders or not _sealed.get() or not isinstance(args[0], str | bytes | os.PathLike):
        return
    path = os.path.realpath(os.fsdecode(args[0]))
    if (path + os.sep).startswith(tuple(_closed_folders)):
        require_open(path)
