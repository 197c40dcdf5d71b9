"""Boards: submissions of one suite, protocol and start model, ordered and ranked with ties (DESIGN 7.4, 7.8, 7.10)."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from robustbench_ft.files import digest
from robustbench_ft.pairs import paired_variances
from robustbench_ft.rows import Scores
from robustbench_ft.statistics import (
    NO_NOISE,
    Floats,
    Noise,
    difference_pvalues,
    pooled_seed_variance,
    rank_ranges,
    smallest_gap,
)
from robustbench_ft.submission import Submission
from robustbench_ft.yardstick import measures, own, ranked_by

UNRANKED = {"unstated", "oracle"}


@dataclass(frozen=True)
class Entry:
    """One row of a board."""

    submission: Submission
    rank: tuple[int, int] | None
    """Rank and the worst rank it may have; None: shown, never ranked."""
    status: str = "rescored"
    """What this page verifies by itself: the arithmetic, from packs."""


@dataclass(frozen=True)
class Gap:
    """The smallest true gap in what rows are ranked by that two rows of three seeds show, and what it is made of (variances)."""

    value: float
    image_variance: float
    seed: Noise | None
    """Variance of one seed's ID/OOD mean, pooled over rows; None: no row has three seeds."""


@dataclass(frozen=True)
class Board:
    """Rows that may be compared: one suite, one protocol, one start model; best ID/OOD mean first."""

    name: str
    """Of the picture's file: the suite's, with the start model's hash where a suite has several boards."""
    entries: tuple[Entry, ...]
    gap: Gap | None

    @property
    def first(self) -> Submission:
        """Any of its submissions: suite, baseline and start model are the same for all."""
        return self.entries[0].submission

    @property
    def drawable(self) -> bool:
        """Whether a row has an OOD mean, and so a place in a picture."""
        return any(entry.submission.scores.headline.ood_mean for entry in self.entries)

    @functools.cached_property
    def scores(self) -> Scores:
        """The headline rows of all, in the board's order."""
        rows = tuple(entry.submission.scores.headline for entry in self.entries)
        return Scores(self.first.scores.yardstick, rows, self.first.scores.used)


def boards(submissions: Iterable[Submission]) -> list[Board]:
    """One board per (suite, protocol, start weights), by name."""
    groups: dict[tuple[str, str, str], list[Submission]] = {}
    for item in submissions:
        groups.setdefault((item.first.suite, item.first.protocol, item.first.start.weights), []).append(item)
    per_suite = [suite for suite, _, _ in groups]
    return [
        _board(suite if per_suite.count(suite) == 1 else f"{suite}-{weights[:8]}", groups[suite, protocol, weights])
        for suite, protocol, weights in sorted(groups)
    ]


def _board(name: str, members: Sequence[Submission]) -> Board:
    members = sorted(members, key=lambda item: (-_value(item), item.name))
    ranked = [item for item in members if rankable(item)]
    seed = pooled_seed_variance(seed_values(item) for item in members if not item.first.deterministic)
    ranks: dict[str, tuple[int, int]] = {}
    gap = None
    if ranked:
        images = image_variances(ranked)
        ranks = dict(zip((item.name for item in ranked), _ranks(ranked, images, seed), strict=True))
    if len(ranked) > 1:
        median = float(np.median(images[np.triu_indices(len(ranked), 1)]))
        noise = Noise(seed.variance * 2 / 3, seed.df) if seed else Noise(0.0, math.inf)
        gap = Gap(smallest_gap(median, noise), median, seed)
    return Board(name, tuple(Entry(item, ranks.get(item.name)) for item in members), gap)


def rankable(item: Submission) -> bool:
    """Complete, and chosen by a rule that saw no test score."""
    return _ranked_value(item) is not None and not UNRANKED & set(item.selection.values())


def _ranked_value(item: Submission) -> float | None:
    row = item.scores.headline
    found = row.id_ood_mean if item.scores.panel.headline_shifts else row.id
    return found.value if found else None


def _value(item: Submission) -> float:
    found = _ranked_value(item)
    return -1.0 if found is None else found


def weights(item: Submission) -> dict[str, float]:
    """What rows are ranked by is made of: half ID, half the plain mean over the headline shifts; ID alone without shifts."""
    panel = item.scores.panel
    made_of = measures(panel, [spec.name for spec in panel.tests])[ranked_by(panel)]
    return {own(name): weight for name, weight in made_of.items()}


def seed_values(item: Submission) -> list[float]:
    """What rows are ranked by, of each seed."""
    return [sum(w * run.headline.counts[name].accuracy for name, w in weights(item).items()) for run in item.runs]


def image_variances(items: Sequence[Submission]) -> Floats:
    """[R, R] V_img of the difference of every two rows' ID/OOD means, on the same images; kept ones are not made again."""
    names = [digest([run.headline.pack for run in item.runs]) for item in items]
    kept, start = items[0].kept, items[0].first.start.weights
    known, matrix = kept.pairs(start)
    place = {name: index for index, name in enumerate(known)}
    order = sorted(range(len(items)), key=lambda index: names[index] not in place)
    old = [place[names[index]] for index in order if names[index] in place]
    found = np.zeros((len(items), len(items)))
    found[: len(old), : len(old)] = matrix[np.ix_(old, old)]
    if len(old) < len(items):
        new = paired_variances([items[index].hits for index in order], weights(items[0]), len(old))
        found[len(old) :], found[:, len(old) :] = new, new.T
        kept.keep_pairs(start, [names[index] for index in order], found)
    back = np.argsort(order)
    return found[np.ix_(back, back)]


def _ranks(ranked: Sequence[Submission], images: Floats, seed: Noise | None) -> list[tuple[int, int]]:
    values = np.array([_value(item) for item in ranked])
    shares = np.array([0 if item.first.deterministic else 1 / len(item.runs) for item in ranked])
    noise = seed or NO_NOISE
    a, b = np.triu_indices(len(ranked), 1)
    pvalues = np.ones_like(images)
    pvalues[a, b] = difference_pvalues(values[a] - values[b], images[a, b], noise.variance * (shares[a] + shares[b]), noise.df)
    pvalues[b, a] = pvalues[a, b]
    return rank_ranges(values[:, None] - values, pvalues)
