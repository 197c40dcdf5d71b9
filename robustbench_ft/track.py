"""Scalars of a training run (loss, rate, gradient norm, val accuracy) to TensorBoard, W&B or MLflow; by default nowhere."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from robustbench_ft.errors import UnknownName, UsageError

TRACKERS = ("tensorboard", "wandb", "mlflow")
PROJECT = "robustbench_ft"
Log = Callable[[Mapping[str, float], int], None]
"""From values by name, and a step."""


class Tracker:
    """A run's log; its training runs are told apart by their label, and by a number where a label comes again.

    Steps count on from one training run to the next, since W&B drops what comes at a step before the last one.
    """

    def __init__(self, log: Log) -> None:
        self._log, self._labels, self._last = log, Counter[str](), 0

    def begin(self, label: str) -> Log:
        """The log of one training run."""
        self._labels[label] += 1
        number, before = self._labels[label], self._last
        prefix = label if number == 1 else f"{label}-{number}"

        def log(values: Mapping[str, float], step: int) -> None:
            self._last = before + step
            self._log({f"{prefix}/{name}": value for name, value in values.items()}, self._last)

        return log


_tracker: ContextVar[Tracker | None] = ContextVar("rbft_tracker", default=None)


def begin_log(label: str) -> Log:
    """The log of a training run that begins here."""
    tracker = _tracker.get()
    return (lambda values, step: None) if tracker is None else tracker.begin(label)


@contextmanager
def tracking(kind: str, folder: Path, config: Mapping[str, Any]) -> Iterator[None]:
    """Training inside logs to ``kind``, one of ``TRACKERS``, through accelerate; ``config`` describes the run.

    ``folder``: where the files of TensorBoard go. UsageError where accelerate or the tracker is not installed.
    """
    accelerator = _accelerator(kind, folder)
    flat = {name: value if isinstance(value, (bool, int, float, str)) else json.dumps(value) for name, value in config.items()}
    accelerator.init_trackers(PROJECT, config=flat)
    if not accelerator.trackers:  # accelerate leaves out, without a word, what is not installed
        raise UsageError(f"--track {kind}: {kind} is not installed", hint=f"pip install {kind}")
    token = _tracker.set(Tracker(lambda values, step: accelerator.log(dict(values), step=step)))
    try:
        yield
    finally:
        _tracker.reset(token)
        accelerator.end_training()


def _accelerator(kind: str, folder: Path) -> Any:
    if kind not in TRACKERS:
        raise UnknownName("tracker", kind, TRACKERS)
    try:
        accelerate = importlib.import_module("accelerate")
    except ImportError as error:
        raise UsageError(
            f"--track {kind} needs accelerate, which is not installed", hint='pip install "robustbench-ft[track]"'
        ) from error
    return accelerate.Accelerator(log_with=kind, project_dir=str(folder))
