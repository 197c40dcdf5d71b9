"""The orderings of methods that papers report, and whether a suite's runs show them: what scripts/methods_report.py writes.

Every difference is paired: the same images, and the seeds' noise (docs/compare.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from robustbench_ft.comparison import Comparison
from robustbench_ft.matched import RANGE, A
from robustbench_ft.sides import Side
from robustbench_ft.statistics import Interval, paired_variance, seed_noise, t_interval
from robustbench_ft.suites import Suite
from robustbench_ft.yardstick import OOD

WISE, KUMAR, SOUPS, FLYP, TRACER = "WiSE-FT", "LP-FT", "Model soups", "FLYP", "TRACER, table 2"
SOURCES = {
    WISE: "https://arxiv.org/abs/2109.01903",
    KUMAR: "https://arxiv.org/abs/2202.10054",
    SOUPS: "https://arxiv.org/abs/2203.05482",
    FLYP: "https://arxiv.org/abs/2212.00638",
    TRACER: "../submissions/tracer-paper/published.json",
    "TPGM": "https://arxiv.org/abs/2303.10720",
    "PAINT": "https://arxiv.org/abs/2208.05592",
}

On = Literal["ID", "OOD", "segment", "matched", "range"]
"""Of what: ID accuracy; OOD mean; OOD mean above the segment from the start to B; OOD mean at A's ID accuracy, or over all."""
Says = Literal["above", "at least", "the same"]


class Claim(NamedTuple):
    """A is above B, as a paper reports."""

    a: str
    b: str
    on: On
    source: str
    """Empty: no paper that reports it is known."""
    says: Says = "above"


CLAIMS = (
    Claim("ft", "zeroshot", "ID", WISE),
    Claim("zeroshot", "ft", "OOD", WISE),
    Claim("wiseft", "ft", "segment", WISE),
    Claim("wiseft", "zeroshot", "OOD", WISE),
    Claim("wiseft", "ft", "OOD", WISE),
    Claim("wiseft", "random_interpolation", "matched", WISE),
    Claim("wiseft", "trajectory", "range", WISE),
    Claim("ema", "ft", "OOD", WISE, "the same"),
    Claim("ft", "lp", "ID", KUMAR),
    Claim("lp", "ft", "OOD", KUMAR),
    Claim("lpft", "ft", "ID", KUMAR),
    Claim("lpft", "ft", "OOD", KUMAR),
    Claim("l2sp", "ft", "OOD", TRACER),
    Claim("flyp", "ft", "ID", FLYP),
    Claim("flyp", "ft", "OOD", FLYP),
    Claim("flyp", "lpft", "OOD", FLYP),
    Claim("greedy_soup", "best_ingredient", "ID", SOUPS, "at least"),
    Claim("greedy_soup", "best_ingredient", "OOD", SOUPS),
    Claim("learned_soup", "best_ingredient", "ID", SOUPS, "at least"),
    Claim("learned_soup", "best_ingredient", "OOD", SOUPS),
    Claim("best_ingredient", "uniform_soup", "ID", SOUPS),
    Claim("uniform_soup", "best_ingredient", "OOD", SOUPS),
    Claim("greedy_soup", "uniform_soup", "ID", SOUPS),
    Claim("uniform_soup", "greedy_soup", "OOD", SOUPS),
    Claim("ensemble", "best_ingredient", "ID", SOUPS),
    Claim("paint", "zeroshot", "ID", "PAINT"),
    Claim("paint", "ft", "OOD", ""),
    Claim("model_stock", "ft", "ID", TRACER),
    Claim("model_stock", "ft", "OOD", TRACER),
    Claim("tpgm", "ft", "OOD", "TPGM"),
    Claim("lipsum_ft", "ft", "OOD", TRACER),
    Claim("car_ft", "ft", "OOD", TRACER),
    Claim("lora", "ft", "OOD", ""),
)


def difference(claim: Claim, found: Comparison, start: Side | None) -> Interval | None:
    """A - B in what the claim is about; None where it cannot be had. ``found``: A against B; ``start``: the start's row."""
    if claim.on in ("ID", "OOD"):
        return found.differences[found.suite.test.name if claim.on == "ID" else OOD].difference
    if claim.on == "segment":
        return above_segment(found.a, found.b, start, found.suite) if start else None
    level = found.matched.levels.get(A if claim.on == "matched" else RANGE)
    return level.difference[OOD] if level else None


def above_segment(middle: Side, end: Side, start: Side, suite: Suite) -> Interval:
    """OOD mean of ``middle`` above the segment from ``start`` to ``end`` (linear axes) at the same ID accuracy.

    With t the share of the ID gain, it is M - (1 - t) S - t E in OOD mean. By the delta method its error is that of
    M - (1 - t) S - t E on every image, OOD ones with the weights of the mean, ID ones with minus the segment's slope.
    ``middle`` and ``end`` have the same seeds; ``start`` is deterministic.
    """
    shifts = {spec.name: 1 / len(suite.headline_shifts) for spec in suite.headline_shifts}
    ids = {suite.test.name: 1.0}

    def parts(m: Mapping[str, float], e: Mapping[str, float], s: Mapping[str, float]) -> tuple[float, float, float]:
        """Height above the segment, share of the ID gain, slope of the segment."""
        ood = [sum(weight * one[name] for name, weight in shifts.items()) for one in (m, e, s)]
        at = [one[suite.test.name] for one in (m, e, s)]
        share, slope = (at[0] - at[2]) / (at[1] - at[2]), (ood[1] - ood[2]) / (at[1] - at[2])
        return ood[0] - ood[2] - share * (ood[1] - ood[2]), share, slope

    def values(side: Side, seed: int) -> dict[str, float]:
        return {name: side.values({name: 1.0})[seed] for name in shifts | ids}

    seeds = range(len(middle.runs))
    if [run.seed for run in middle.runs] != [run.seed for run in end.runs]:
        raise ValueError(f"{middle.name} and {end.name} have different seeds")
    per_seed = [parts(values(middle, k), values(end, k), values(start, 0))[0] for k in seeds]
    means = [{name: float(np.mean(side.shares[name])) for name in shifts | ids} for side in (middle, end, start)]
    _, share, slope = parts(*means)
    segment = {name: (1 - share) * start.shares[name] + share * end.shares[name] for name in shifts | ids}
    images = paired_variance(middle.shares, segment, shifts | {suite.test.name: -slope})
    return t_interval(float(np.mean(per_seed)), [(images, float("inf")), seed_noise(per_seed)])


HOLDS, REVERSED, DIFFERENT = "holds", "does **not** hold: the other way round", "does **not** hold: they differ"
UNRESOLVED = {"above": "is not resolved", "at least": "is not contradicted", "the same": "holds: no difference found"}


def verdict(interval: Interval | None, says: Says) -> str:
    """Whether the interval lies on the side that the claim says."""
    if interval is None:
        return "cannot be compared"
    if interval.low <= 0 <= interval.high:
        return UNRESOLVED[says]
    if says == "the same":
        return DIFFERENT
    return HOLDS if interval.low > 0 else REVERSED
