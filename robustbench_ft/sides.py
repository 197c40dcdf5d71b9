"""The two rows of a comparison: records of all seeds and, where predictions are at hand, what was right per image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import stdev

import numpy as np

from robustbench_ft.errors import MissingData, ProtocolError
from robustbench_ft.metrics import PACK, RECORD, Hits, key_of, recount
from robustbench_ft.packs import Pack
from robustbench_ft.records import RunRecord
from robustbench_ft.score import load_run, same_row
from robustbench_ft.statistics import MIN_SEEDS, NO_NOISE, Floats, Noise, pooled_seed_variance
from robustbench_ft.suites import Suite
from robustbench_ft.yardstick import Weights, own


@dataclass(frozen=True)
class Side:
    """A row of one or more seeds: its headline."""

    name: str
    """Its path as given."""
    runs: tuple[RunRecord, ...]
    hits: tuple[Hits, ...]
    """Per seed, right or wrong per image; empty without predictions."""
    lacks: str = ""
    """Why there are no predictions."""

    @property
    def first(self) -> RunRecord:
        """The record of the first seed."""
        return self.runs[0]

    @cached_property
    def shares(self) -> dict[str, Floats]:
        """Per test set, float [N]: the share of seeds that were right on each image; empty without predictions."""
        names = [name for name in (self.hits[0] if self.hits else ()) if name == own(name.partition("/")[0])]
        return {name.partition("/")[0]: np.mean([seed[name] for seed in self.hits], axis=0) for name in names}

    @cached_property
    def within(self) -> dict[str, float]:
        """Per test set, the variance between the row's seeds on one image, mean over images; 0 with one seed."""
        if len(self.hits) < 2:
            return dict.fromkeys(self.shares, 0.0)
        return {name: float(np.var([hits[own(name)] for hits in self.hits], axis=0, ddof=1).mean()) for name in self.shares}

    def values(self, weights: Weights) -> list[float]:
        """Per seed, the weighted sum of accuracies."""
        counts = [run.headline.counts for run in self.runs]
        return [sum(weight * seed[own(name)].accuracy for name, weight in weights.items()) for seed in counts]

    def sd(self, weights: Weights) -> float | None:
        """Standard deviation of ``values``; None for one seed."""
        return stdev(self.values(weights)) if len(self.runs) > 1 else None


def read(path: Path, suite: Suite, key: Pack | None) -> Side:
    """The row at ``path``: a run folder, its record, or a submission's folder.

    Counts are checked against the packs (``metrics.recount``); without ``key``, the suite's answers, or without packs
    there are counts alone. ProtocolError where a record is not of the suite as it is now.
    """
    runs = load_run(path)
    same_row(runs)
    for run in runs:
        if run.protocol != suite.protocol:
            told = f"{path}: suite {run.suite}, protocol {run.protocol[:12]}; expected {suite.name}, {suite.protocol[:12]}"
            raise ProtocolError(told, hint="rows of one suite and protocol; --suite FILE for a suite of your own")
    folders = _folders(path)
    absent = [folder / PACK for folder in folders if not (folder / PACK).is_file()]
    lacks = ""
    if runs[0].unaligned:
        lacks = f"its data were not the official files ({', '.join(runs[0].unaligned)})"
    elif absent or not folders:
        lacks = f"there is no {absent[0] if absent else f'{PACK} beside {path}'}"
    elif key is None:
        lacks = f"suite {suite.name} has no answer key"
    hits = () if lacks else tuple(recount(folder, suite, key)[1] for folder in folders)
    return Side(str(path), tuple(runs), hits, lacks)


def answers(suite: Suite, store: Path | None = None) -> Pack | None:
    """The suite's answer key, which may lie in the store; None where there is none."""
    try:
        return key_of(suite, store)
    except MissingData:
        return None


def _folders(path: Path) -> list[Path]:
    """Where the packs lie, one folder a seed."""
    if path.is_dir():
        seeds = sorted(path.glob("seed-*"), key=lambda folder: (len(folder.name), folder.name))  # seed-10 after seed-9
        return [path] if (path / RECORD).is_file() else seeds
    return [path.parent] if path.name == RECORD else []


def seed_noise(sides: Sequence[Side], values: Sequence[Sequence[float]]) -> Noise | None:
    """Noise of a difference through the seeds; None: neither row says anything about it.

    ``values``: per side, one number a seed. Rows of ``MIN_SEEDS`` seeds or more give the variance of one seed; it
    holds for both rows. Deterministic rows add nothing.
    """
    rows = [seeds for side, seeds in zip(sides, values, strict=True) if not side.first.deterministic]
    if not rows:
        return NO_NOISE
    pooled = pooled_seed_variance(rows)
    return Noise(pooled.variance * sum(1 / len(seeds) for seeds in rows), pooled.df) if pooled else None


def seeds_known(sides: Sequence[Side]) -> bool:
    """Whether ``seed_noise`` has rows to take it from."""
    rows = [side for side in sides if not side.first.deterministic]
    return not rows or any(len(side.runs) >= MIN_SEEDS for side in rows)
