"""The simulations of coverage.py: planted truths (coverage_world.py) held against the package's own intervals and tests."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import coverage_world as world
import numpy as np
from coverage_world import MATCHED, MINI, SHIFTS, Floats, Generator, Kind

from robustbench_ft import baselines, suites
from robustbench_ft.lines import BaselineLine, expit, shared, transform
from robustbench_ft.records import Counts
from robustbench_ft.robustness import Measured, Rho, effective_robustness, mean_effective_robustness, plain_value
from robustbench_ft.statistics import (
    ALPHA,
    Interval,
    Noise,
    Term,
    difference_pvalue,
    linear,
    paired_variance,
    pooled_seed_variance,
    rank_ranges,
    seed_noise,
)
from robustbench_ft.suites import Panel

logit = transform("logit").forward
LOW, HIGH = 0.93, 0.97
POOLS = (12, 30, 85)
PLACES = ("inside", "lower edge", "upper edge")
MEAN = "mean over five"
PLAIN = "1 seed, no seed noise"
ID = "imagenet-val"
KINDS = {
    PLAIN: Kind(),
    "3 seeds": Kind(3, 1),
    "5 seeds": Kind(5, 1),
    "3 seeds, twice the noise": Kind(3, 2),
    "5 seeds, twice the noise": Kind(5, 2),
    "printed to 0.1 points": Kind(printed=True),
}
TOLD = {"1 seed, its noise unknown": Kind(1, 1), "2 seeds": Kind(2, 1), "2 seeds, twice the noise": Kind(2, 2)}
"""Shown, and not held against 93 to 97%."""
ALONE = {PLAIN: ("V2", "Sketch", "small", MATCHED), "printed to 0.1 points": ("V2", "Sketch")}
"""Shifts looked at beside the mean; of the other kinds Sketch."""
JITTER = 0.01
"""Rows stand so far around a place, in logits: no truth lies on the raster of k / n or of printed digits."""
SEED_SDS = (0.0, 0.002, 0.006)
RESAMPLES = 2000
Case = tuple[str, ...]


class Tally:
    """Per case, how often the truth was inside, and how wide the interval was."""

    def __init__(self) -> None:
        self.inside: dict[Case, list[bool]] = defaultdict(list)
        self.width: dict[Case, list[float]] = defaultdict(list)

    def add(self, case: Case, found: Interval | Rho, truth: float) -> None:
        """Hold one interval against the truth."""
        self.inside[case].append(found.low <= truth <= found.high)
        self.width[case].append((found.high - found.low) / 2)

    def coverage(self, case: Case) -> float:
        """Share of the repeats with the truth inside."""
        return float(np.mean(self.inside[case]))

    def verdict(self, case: Case) -> str:
        """Empty where that share lies where it should."""
        share = self.coverage(case)
        return "below" if share < LOW else "above" if share > HIGH else ""

    def cell(self, case: Case) -> str:
        """``95.1 (0.3) ±1.24``: coverage and its Monte Carlo error in percent, mean half-width in points."""
        return f"{rate(self.inside[case])} ±{100 * float(np.mean(self.width[case])):.2f}"


def rate(found: Sequence[bool]) -> str:
    """``95.1 (0.3)``: a share and its Monte Carlo error, in percent."""
    share = float(np.mean(found))
    return f"{100 * share:.1f} ({100 * math.sqrt(share * (1 - share) / len(found)):.1f})"


def rho(generator: Generator, repeats: int, kinds: Mapping[str, Kind], pools: Iterable[int] = POOLS) -> Tally:
    """Coverage of rho against the true line at the row's true ID accuracy. Cases: kind, shift, pool, place."""
    tally = Tally()
    for m, _ in itertools.product(pools, range(repeats)):
        fitted = world.lines(generator, m, np.zeros(6))
        x = world.reference_x(m)
        places = dict(zip(PLACES, (x.mean(), x.min(), x.max()), strict=True))
        for (place, at), (name, kind) in itertools.product(places.items(), kinds.items()):
            found = world.row(generator, float(at + generator.uniform(-JITTER, JITTER)), kind, fitted)
            for shift in ALONE.get(name, ("Sketch",)):
                truth = SHIFTS["ObjectNet" if shift == MATCHED else shift].rho
                tally.add((name, shift, str(m), place), effective_robustness(found[shift]), truth)
            five = mean_effective_robustness([found[shift] for shift in SHIFTS])
            tally.add((name, MEAN, str(m), place), five, float(np.mean([s.rho for s in SHIFTS.values()])))
        shared.cache_clear()
    return tally


def same_images(generator: Generator, repeats: int, pools: Iterable[int] = POOLS) -> Tally:
    """As ``rho`` inside the ID range, where row and reference models take the same test: half of the luck is common."""
    tally = Tally()
    for m, _ in itertools.product(pools, range(repeats)):
        luck = generator.standard_normal(6)
        fitted, x = world.lines(generator, m, luck), world.reference_x(m).mean(keepdims=True)
        id_ = world.counts(generator, world.ID_N, world.expit(x), luck[0])
        found = {
            name: Measured(fitted[name], id_, world.counts(generator, s.n, s.at(x) + s.rho, one))
            for (name, s), one in zip(SHIFTS.items(), luck[1:], strict=True)
        }
        for shift in ("V2", "Sketch", "small"):
            tally.add(("same images", shift, str(m), "inside"), effective_robustness(found[shift]), SHIFTS[shift].rho)
        five = mean_effective_robustness(list(found.values()))
        tally.add(("same images", MEAN, str(m), "inside"), five, float(np.mean([s.rho for s in SHIFTS.values()])))
        shared.cache_clear()
    return tally


def ordinary(generator: Generator, repeats: int, pools: Iterable[int] = POOLS) -> dict[Case, list[bool]]:
    """Whether |z| > 2, of new models drawn like the pool. Cases: shift, pool."""
    found: dict[Case, list[bool]] = defaultdict(list)
    for m, _ in itertools.product(pools, range(repeats)):
        fitted = world.lines(generator, m, np.zeros(6))
        x = generator.choice(world.reference_x(m), 1)
        for name, (ids, oods) in world.tested(generator, x, world.residuals(generator, 1), np.zeros(6)).items():
            found[name, str(m)].append(abs(effective_robustness(Measured(fitted[name], ids, oods)).z) > 2)
    return found


def accuracies(generator: Generator, repeats: int) -> Tally:
    """Coverage of single accuracies (Wilson) and of weighted means. Cases: what, kind."""
    sets = [(world.ID_N, 0.75), (10_000, 0.65), (30_000, 0.5), (50_000, 0.4), (18_574, 0.4), (2_000, 0.3)]
    ood, both = [0.0, *[0.2] * 5], [0.5, *[0.1] * 5]
    every = [*KINDS, *TOLD]
    single = [(f"accuracy {p:g}, n {n:,}", [(n, p)], [1.0], [PLAIN]) for p in (0.5, 0.9, 0.99) for n in (2_000, 10_000, 50_000)]
    cases = [
        *single,
        ("ID (0.75, n 50,000)", sets[:1], [1.0], every),
        ("Sketch (0.4, n 50,000)", sets[::3][:2], [0.0, 1.0], every),
    ]
    cases += [("OOD mean of five", sets, ood, every), ("ID/OOD mean", sets, both, every)]
    tally = Tally()
    for (name, tests, weights, kinds), _ in itertools.product(cases, range(repeats)):
        for kind in kinds:
            true = [(n, expit(logit(p) + generator.uniform(-JITTER, JITTER))) for n, p in tests]
            found = world.figures(generator, true, (KINDS | TOLD)[kind])
            per_seed = np.array([[one.accuracy for one in seeds] for seeds in found])
            means = np.average(per_seed, axis=1)
            terms = [Term(w, float(p), s[0].n, s[0].half) for w, p, s in zip(weights, means, found, strict=True) if w]
            interval = linear(terms, seed_noise((np.array(weights) @ per_seed).tolist()))
            tally.add((name, kind), interval, sum(w * p for w, (_, p) in zip(weights, true, strict=True)))
    return tally


def false_calls(generator: Generator, repeats: int, number: int, seed_sd: float) -> dict[str, list[bool]]:
    """Whether equal rows of ``number`` seeds are called different: the first two of ten, and tables of all ten."""
    weights = {name: weight for name, (_, weight) in MINI.items()}
    found: dict[str, list[bool]] = defaultdict(list)
    for _ in range(repeats):
        shares, values = world.ties(generator, 10, number, seed_sd)
        differences = values.mean(axis=1)[:, None] - values.mean(axis=1)[None, :]
        images, pvalues = np.zeros((10, 10)), np.ones((10, 10))
        pooled = seed_of(values)
        for i, j in itertools.combinations(range(10), 2):
            images[i, j] = paired_variance(shares[i], shares[j], weights)
            pvalues[i, j] = pvalues[j, i] = difference_pvalue(differences[i, j], images[i, j], pooled)
        found["two rows, s from ten"].append(pvalues[0, 1] <= ALPHA)
        two = difference_pvalue(differences[0, 1], images[0, 1], seed_of(values[:2]))
        found["two rows, s from these two"].append(two <= ALPHA)
        ranges = rank_ranges(differences, pvalues)
        found["one row against nine, Holm"].append(ranges[0] != (1, 10))
        found["any row of the table, Holm per row"].append(any(one != (1, 10) for one in ranges))
    return found


def seed_of(values: Floats) -> Noise:
    """Seed variance of a difference of two of these rows, as boards take it."""
    one = pooled_seed_variance(values.tolist())
    assert one
    return Noise(one.variance * 2 / values.shape[1], one.df)


class Checked(NamedTuple):
    """The half-widths of one interval by two ways, and how far its ends lie apart at most."""

    delta: float
    bootstrap: float
    apart: float


def bootstrap(generator: Generator, id_accuracy: float, resamples: int) -> dict[str, Checked]:
    """The delta method's interval of rho on the real pool of imagenet-testbed@1 against one by resampling its models.

    A row 10 points above every line at that ID accuracy; its own counts are redrawn with every resample. Full ID axis,
    four shifts and their mean.
    """
    panel = suites.panel("imagenet")
    assert isinstance(panel, Panel)
    n = {spec.name: spec.n or 0 for spec in panel.tests}
    real = {name: axes["full"].at(id_accuracy) for name, axes in baselines.load("imagenet-testbed@1").lines(panel).items()}
    real = {name: real[name] for name in ("imagenet-v2", "imagenet-r", "imagenet-sketch", "objectnet")}
    names = sorted(set.intersection(*(set(one.names) for one in real.values())))
    pool = {model.name: model.counts for model in baselines.load("imagenet-testbed@1").models}
    full = {name: world.line(*zip(*((pool[m][ID], pool[m][name]) for m in names), strict=True)) for name in real}

    def measured(lines: Mapping[str, BaselineLine], draw: Callable[[int, float], int]) -> dict[str, Measured]:
        id_ = Counts(k=draw(n[ID], id_accuracy), n=n[ID])
        oods = {name: Counts(k=draw(n[name], full[name](id_accuracy) + 0.1), n=n[name]) for name in full}
        return {name: Measured(lines[name], [id_], [ood]) for name, ood in oods.items()}

    drawn = []
    for _ in range(resamples):
        some = generator.choice(names, len(names))
        again = {name: world.line(*zip(*((pool[m][ID], pool[m][name]) for m in some), strict=True)) for name in real}
        shifts = measured(again, lambda n, p: int(generator.binomial(n, p)))
        drawn.append([*(plain_value([one]) for one in shifts.values()), plain_value(list(shifts.values()))])
    ends = np.quantile(drawn, [0.025, 0.975], axis=0).T
    shifts = measured(full, lambda n, p: round(n * p))
    deltas = [*(mean_effective_robustness([one]) for one in shifts.values()), mean_effective_robustness(list(shifts.values()))]
    return {
        name: Checked((d.high - d.low) / 2, float(high - low) / 2, float(max(abs(d.low - low), abs(d.high - high))))
        for name, d, (low, high) in zip([*full, "mean over four"], deltas, ends, strict=True)
    }
