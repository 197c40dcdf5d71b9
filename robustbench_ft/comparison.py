"""Two rows of one suite, A against B: differences with intervals and tests, images kept, gained and lost, classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from robustbench_ft import sides, suites
from robustbench_ft.errors import DataError, ProtocolError, UsageError
from robustbench_ft.lines import clamp
from robustbench_ft.matched import Matched, matched
from robustbench_ft.packs import Pack
from robustbench_ft.rows import plain
from robustbench_ft.score import load_run
from robustbench_ft.sides import Side, seed_noise
from robustbench_ft.specs import DatasetSpec
from robustbench_ft.statistics import (
    MIN_SEEDS,
    NO_NOISE,
    Interval,
    Noise,
    difference_pvalue,
    holm,
    mcnemar,
    paired_variance,
    pooled_seed_variance,
    t_interval,
)
from robustbench_ft.suites import Suite
from robustbench_ft.yardstick import Weights, measures, own

SHOWN = 5
"""Classes listed per shift, of those that lose and of those that gain."""


class Overlap(NamedTuple):
    """Shares of images, mean over all pairs of one seed of A and one of B."""

    both: float
    """Right in both."""
    only_a: float
    only_b: float
    neither: float


@dataclass(frozen=True)
class Difference:
    """A - B in one accuracy or mean of accuracies."""

    a: float
    b: float
    difference: Interval
    image_variance: float
    seed: Noise | None
    """Variance of the difference through the seeds; None: not known, and left out."""
    p: float
    holm: float | None
    """The p-value after Holm over the shifts; None for ID and the means."""
    mcnemar: float | None
    """For one trained model on each side: the p-value of McNemar's test between these two models."""
    overlap: Overlap | None
    n: int | None
    """Images; None for means."""


class ClassChange(NamedTuple):
    """One class of a shift, A against B."""

    name: str
    n: int
    a: float
    b: float
    difference: float
    p: float
    """After Holm over the classes of the shift."""


class Changes(NamedTuple):
    """The classes that changed most, the most first."""

    losses: tuple[ClassChange, ...]
    gains: tuple[ClassChange, ...]


@dataclass(frozen=True)
class Comparison:
    """A against B. All values are fractions."""

    suite: Suite
    a: Side
    b: Side
    differences: dict[str, Difference]
    """Per test set, ``OOD mean`` and ``ID/OOD mean``."""
    classes: dict[str, Changes]
    """Per shift; empty without predictions."""
    matched: Matched

    @property
    def paired(self) -> bool:
        """Whether both rows have predictions."""
        return bool(self.a.hits and self.b.hits)

    @property
    def absent(self) -> tuple[str, ...]:
        """Test sets of the suite that could not be compared."""
        return tuple(spec.name for spec in self.suite.tests if spec.name not in self.differences)


def compare(a: Path, b: Path, suite: str | None = None) -> Comparison:
    """Compare the rows at ``a`` and ``b`` (``sides.read``); ``suite``: a suite file, for runs on a suite of your own.

    ProtocolError where they are not of one protocol; UsageError where they share a record; DataError where they have
    no test set in common.
    """
    first, other = (load_run(path)[0] for path in (a, b))
    if first.protocol != other.protocol:
        told = (f"{path}: suite {run.suite}, protocol {run.protocol[:12]}" for path, run in ((a, first), (b, other)))
        raise ProtocolError(f"these rows cannot be compared: {'; '.join(told)}")
    of = suites.load(suite or first.suite)
    key = sides.answers(of)
    return of_sides(sides.read(a, of, key), sides.read(b, of, key), of, key)


def of_sides(a: Side, b: Side, suite: Suite, key: Pack | None) -> Comparison:
    """Compare two rows that were read."""
    shared = {run.record_hash for run in a.runs} & {run.record_hash for run in b.runs}
    if shared:
        raise UsageError(f"{a.name} and {b.name} share a record ({min(shared)[:12]}): nothing to compare")
    counts = [run.headline.counts for side in (a, b) for run in side.runs]
    paired = bool(a.hits and b.hits)
    comparable = [spec for spec in suite.tests if spec.binomial or paired]  # other metrics have no variance without predictions
    present = [spec.name for spec in comparable if all(own(spec.name) in known for known in counts)]
    if not present:
        raise DataError(f"{a.name} and {b.name} have no test set in common", hint="rbft score RUN shows what a run has")
    found = {name: _difference(a, b, weights) for name, weights in measures(suite, present).items()}
    shifts = [spec for spec in suite.shifts if spec.name in present]
    for spec, p in zip(shifts, holm([found[spec.name].p for spec in shifts]), strict=True):
        found[spec.name] = replace(found[spec.name], holm=p)
    changes = {}
    if paired and key:
        plain_sets = [spec for spec in shifts if spec.metric == "top1" and spec.images_of is None]
        changes = {spec.name: _changes(a, b, spec, suite, key.answers[own(spec.name)]) for spec in plain_sets}
    return Comparison(suite, a, b, found, changes, matched(a, b, suite))


def _difference(a: Side, b: Side, weights: Weights) -> Difference:
    per_seed = [side.values(weights) for side in (a, b)]
    means = [float(np.mean(values)) for values in per_seed]
    value = means[0] - means[1]
    paired, single = bool(a.hits and b.hits), len(weights) == 1
    name = next(iter(weights))
    images = paired_variance(a.shares, b.shares, weights) if paired else _unpaired_variance((a, b), weights)
    seed = seed_noise((a, b), per_seed)
    images_seen = single and a.first.headline.counts[own(name)].n is not None
    overlap = _overlap(a, b, name) if paired and images_seen else None
    return Difference(
        a=means[0],
        b=means[1],
        difference=t_interval(value, [(images, float("inf")), seed or NO_NOISE]),
        image_variance=images,
        seed=seed,
        p=difference_pvalue(value, images, seed or NO_NOISE),
        holm=None,
        mcnemar=_mcnemar(a, b, name) if overlap and len(a.runs) == len(b.runs) == 1 else None,
        overlap=overlap,
        n=a.first.headline.counts[own(name)].n if single else None,
    )


def _unpaired_variance(both: Sequence[Side], weights: Weights) -> float:
    """Image variance of a difference of two rows as if each had images of its own: binomial, one term a row and set."""
    total = 0.0
    for side in both:
        for name, weight in weights.items():
            n = side.first.headline.counts[own(name)].n
            assert n is not None, "compared without predictions"
            p = clamp(float(np.mean(side.values({name: 1.0}))), n)
            total += weight**2 * p * (1 - p) / n
    return total


def _overlap(a: Side, b: Side, name: str) -> Overlap:
    x, y = a.shares[name], b.shares[name]
    return Overlap(*(float(np.mean(part)) for part in (x * y, x * (1 - y), (1 - x) * y, (1 - x) * (1 - y))))


def _mcnemar(a: Side, b: Side, name: str) -> float:
    x, y = (side.hits[0][own(name)] for side in (a, b))
    return mcnemar(int(np.count_nonzero(x & ~y)), int(np.count_nonzero(y & ~x)))


def _changes(a: Side, b: Side, spec: DatasetSpec, suite: Suite, labels: npt.NDArray[Any]) -> Changes:
    """The classes of one shift that changed most.

    Score test per class: under the hypothesis of no difference the image variance is the mean *square* of the
    per-image differences over n, which for one seed a row is McNemar's chi-square; it stays sound on few images.
    """
    names, n = class_names(suite, spec), np.bincount(labels)

    def per_class(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return np.bincount(labels, values.astype(np.float64)) / np.maximum(n, 1)

    x, y = a.shares[spec.name], b.shares[spec.name]
    squares, seed = per_class((x - y) ** 2), _class_noise([a, b], spec.name, n, per_class)
    mine, theirs = per_class(x), per_class(y)
    known = np.flatnonzero(n)
    adjusted = holm([difference_pvalue(mine[c] - theirs[c], squares[c] / n[c], seed) for c in known])
    found = [
        ClassChange(names[c], int(n[c]), float(mine[c]), float(theirs[c]), float(mine[c] - theirs[c]), p)
        for c, p in zip(known, adjusted, strict=True)
    ]
    order = sorted(found, key=lambda change: (change.difference, change.p))
    losses = [change for change in order if change.difference < 0]
    gains = [change for change in reversed(order) if change.difference > 0]
    return Changes(tuple(losses[:SHOWN]), tuple(gains[:SHOWN]))


def _class_noise(both: Sequence[Side], name: str, n: npt.NDArray[Any], per_class: Any) -> Noise:
    """Seed noise of one class's difference: one class has too few seeds to tell, so all classes of the set are pooled."""
    seeds = [np.array([per_class(hits[own(name)]) for hits in side.hits]) for side in both if not side.first.deterministic]
    pooled = pooled_seed_variance(values for side in seeds if len(side) >= MIN_SEEDS for values in side.T[n > 0])
    return Noise(pooled.variance * sum(1 / len(side) for side in seeds), pooled.df) if pooled else NO_NOISE


def class_names(suite: Suite, spec: DatasetSpec) -> list[str]:
    """Per class of the set, its name; where several of the suite's classes count for it, all their names."""
    if spec.class_groups is None:
        return list(suite.classes)
    return ["/".join(suite.classes[c] for c in group) or f"class {number}" for number, group in enumerate(spec.class_groups)]


def to_json(found: Comparison) -> dict[str, Any]:
    """The document of ``rbft compare --json``; fractions."""
    return {
        "suite": found.suite.name,
        "protocol": found.a.first.protocol,
        "a": _side_json(found.a, found),
        "b": _side_json(found.b, found),
        "paired": found.paired,
        "seed_noise_known": sides.seeds_known((found.a, found.b)),
        "absent": list(found.absent),
        "differences": {name: _json(difference.__dict__) for name, difference in found.differences.items()},
        "classes": {
            name: {kind: [plain(change) for change in side] for kind, side in changes._asdict().items()}
            for name, changes in found.classes.items()
        },
        "matched_id": {
            "levels": {
                name: {"id": list(level.id), "difference": _json(level.difference)}
                for name, level in found.matched.levels.items()
            },
            "why_not": found.matched.why_not,
            "turns": found.matched.turns,
        },
    }


def _side_json(side: Side, found: Comparison) -> dict[str, Any]:
    first = side.first
    sds = {name: side.sd(weights) for name, weights in measures(found.suite, found.differences).items()}
    return {
        "path": side.name,
        "method": first.method,
        "start": first.start.model_dump(),
        "deterministic": first.deterministic,
        "seeds": [run.seed for run in side.runs],
        "sd": {name: sd for name, sd in sds.items() if sd is not None},
        "predictions": bool(side.hits),
        "why_not": side.lacks,
    }


def _json(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: plain(value) for name, value in values.items()}
