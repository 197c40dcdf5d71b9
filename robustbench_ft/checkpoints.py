"""Checkpoints of training runs: where they lie, and the file itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from robustbench_ft.errors import UsageError

Sections = Mapping[str, Mapping[str, Tensor]]
"""Tensors by section (model, optimizer, ...) and name."""


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


def next_file() -> Path | None:
    """The file of the next training run of this fit; None outside of a fit."""
    current = _scratch.get()
    return None if current is None else current.folder / f"train-{next(current.numbers)}.safetensors"


def write_checkpoint(file: Path, sections: Sections, *, step: int, identity: str, rest: Mapping[str, Any]) -> None:
    """Write a checkpoint whole or not at all. ``identity`` tells the run from others; ``rest`` is whatever else, as JSON."""
    tensors = {f"{section}/{name}": value for section, state in sections.items() for name, value in state.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}.tmp")  # two processes may do the same fit
    save_file(
        {name: value.detach().clone().contiguous() for name, value in tensors.items()},
        partial,
        metadata={"step": str(step), "identity": identity, "rest": json.dumps(rest)},
    )
    partial.replace(file)


def read_checkpoint(file: Path, identity: str) -> tuple[dict[str, dict[str, Tensor]], int, dict[str, Any]]:
    """Sections, step and rest of a checkpoint; UsageError when it is another run's."""
    sections: dict[str, dict[str, Tensor]] = {}
    with safe_open(file, "pt") as content:
        metadata = content.metadata()
        if metadata["identity"] != identity:
            raise UsageError(f"{file} belongs to another training run", hint="remove it or give another file")
        for name in content.keys():  # noqa: SIM118
            section, _, rest = name.partition("/")
            sections.setdefault(section, {})[rest] = content.get_tensor(name)
    return sections, int(metadata["step"]), json.loads(metadata["rest"])
