"""Benchmark suite and leaderboard harness for robust fine-tuning of zero-shot vision models.

The public names. Each is imported when it is first used: ``import robustbench_ft`` does not import torch.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Classifier": "model",
    "Method": "method",
    "Recipe": "train",
    "RunRecord": "records",
    "Suite": "suites",
    "Task": "method",
    "average": "weights",
    "interpolate": "weights",
    "load_method": "method",
    "load_start": "model",
    "load_suite": "suites",
    "train": "train",
}
_RENAMED = {"load_method": "load", "load_suite": "load"}

__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), _RENAMED.get(name, name))


def __dir__() -> list[str]:
    return list(__all__)
