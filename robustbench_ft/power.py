"""The verb ``power``: the smallest true gap between two rows that a suite can show, and the images that a gap needs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from robustbench_ft import records, suites, tables
from robustbench_ft.errors import MissingData, UsageError
from robustbench_ft.files import printed_json
from robustbench_ft.metrics import PACK, RECORD
from robustbench_ft.sides import Side, answers, read
from robustbench_ft.specs import TestSet
from robustbench_ft.statistics import NO_NOISE, Noise, images_needed, pooled_seed_variance, smallest_gap
from robustbench_ft.suites import Panel, Suite, Track
from robustbench_ft.yardstick import Weights, measures

SEEDS = (1, 3, 5, 10)
DISAGREEMENTS = (0.05, 0.1, 0.2)
"""Assumed where nothing was measured: about what two fine-tuned models show on the mini suite's test sets (5%, median, 95%)."""
SUBMISSIONS = "submissions"
Measures = dict[str, Weights]
"""Per measure, the test sets that it is a mean of."""


@dataclass(frozen=True)
class Case:
    """One column: what two rows are like."""

    name: str
    images: dict[str, float]
    """Per measure, the image variance of the difference between the rows, at the sizes of the test sets."""
    one_image: dict[str, float]
    """The same if every test set had one image."""
    seed: dict[str, Noise]
    """Per measure, of the difference between the rows; none where it is left out."""


@dataclass(frozen=True)
class Resolution:
    """What one case can show in one measure."""

    case: str
    gap: float
    """Found with 80% probability; a fraction."""
    images: int | None
    """Images per test set that the asked gap needs; None: none was asked, or seed noise alone hides it."""


@dataclass(frozen=True)
class Power:
    """What a suite can resolve."""

    suite: str
    title: str
    sizes: dict[str, int | None]
    """Per measure, its images; None for means."""
    resolutions: dict[str, tuple[Resolution, ...]]
    """Per measure."""
    gap: float | None
    notes: tuple[str, ...]


def run(
    suite: str,
    *,
    root: Path | None,
    gap: float | None,
    accuracy: float | None,
    disagreement: float | None,
    form: str,
    as_json: bool,
) -> str:
    """What ``rbft power SUITE`` prints; ``gap`` in points, ``accuracy`` and ``disagreement`` as fractions."""
    tables.check_form(form)
    found = power(suite, root=root, gap=gap, accuracy=accuracy, disagreement=disagreement)
    return printed_json(to_json(found)) if as_json else render(found, form)


def power(
    suite: str, *, root: Path | None, gap: float | None = None, accuracy: float | None = None, disagreement: float | None = None
) -> Power:
    """The smallest gaps that two rows of ``suite`` show, as measured on the submissions below ``root`` or as assumed."""
    _check(gap, accuracy, disagreement)
    panel = suites.panel(suite)
    sets = [spec for spec in _sets(panel) if spec.binomial and spec.n]
    left_out = [spec.name for spec in _sets(panel) if spec not in sets]
    if not sets:
        raise UsageError(
            f"{suite}: no test set is a share of a known number of images: its power needs predictions", hint="rbft list suites"
        )
    assumed = accuracy is not None or disagreement is not None
    if root and not (root / SUBMISSIONS).is_dir():
        raise MissingData(f"--root {root}: no {SUBMISSIONS}/ there; expected a checkout", hint=f"rbft power {suite}")
    evaluated = suites.load(suite) if suites.is_suite(suite) else None
    rows = [] if assumed or evaluated is None else _rows((root or Path()) / SUBMISSIONS, evaluated)
    pairs = [(a, b) for a, b in itertools.combinations(rows, 2) if a.first.start.weights == b.first.start.weights]
    known = {spec.name for spec in (evaluated.tests if evaluated and pairs else sets)}
    n = {spec.name: spec.n for spec in sets if spec.n and spec.name in known}
    asked = _measures(panel, list(n))
    cases, notes = _measured(rows, pairs, asked, n) if pairs else _assumed(asked, n, accuracy, disagreement)
    notes.append("One test: Holm's correction over several asks for more.")
    if left_out:
        notes.append(
            f"Left out, as nobody says their number of images or they are no share of right answers: {', '.join(left_out)}."
        )
    found = {name: tuple(_resolution(name, case, gap) for case in cases) for name in asked}
    return Power(panel.name, panel.title, {name: n.get(name) for name in asked}, found, gap, tuple(notes))


def _check(gap: float | None, accuracy: float | None, disagreement: float | None) -> None:
    if gap is not None and not 0 < gap < 100:
        raise UsageError(f"--gap {gap}: expected points, above 0 and below 100", hint="--gap 0.5")
    for option, value in (("--accuracy", accuracy), ("--disagreement", disagreement)):
        if value is not None and not 0 < value < 1:
            raise UsageError(f"{option} {value}: expected a fraction, above 0 and below 1", hint=f"{option} 0.1")
    if accuracy is not None and disagreement is not None:
        raise UsageError("--accuracy and --disagreement: give one of them; an accuracy says how far two rows may disagree")


def _sets(panel: Panel | Track) -> tuple[TestSet, ...]:
    return panel.sets if isinstance(panel, Track) else panel.tests


def _measures(panel: Panel | Track, present: Sequence[str]) -> Measures:
    if isinstance(panel, Panel):
        return measures(panel, present)
    every: Measures = {name: {name: 1.0} for name in present}
    return every | ({"mean": dict.fromkeys(present, 1 / len(present))} if len(present) == len(panel.sets) else {})


def _rows(folder: Path, suite: Suite) -> list[Side]:
    """The submissions of the suite as it is now that hold predictions on every test set."""
    found, key = [], answers(suite)
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        file = next(iter(sorted(path.glob(f"seed-*/{RECORD}"))), None)
        if file and records.load(file).protocol == suite.protocol and (file.parent / PACK).is_file():
            found.append(read(path, suite, key))
    return [row for row in found if {spec.name for spec in suite.tests} <= row.shares.keys()]


def _measured(
    rows: Sequence[Side], pairs: Sequence[tuple[Side, Side]], asked: Measures, n: Mapping[str, int]
) -> tuple[list[Case], list[str]]:
    """Median over ``pairs`` of rows of one start model; seed variance pooled over the rows with seeds enough."""
    free = [row for row in rows if not row.first.deterministic]
    pooled = {name: pooled_seed_variance(row.values(weights) for row in free) for name, weights in asked.items()}
    splits = [{name: _split(a, b, name) for name in n} for a, b in pairs]
    cases = []
    for k in SEEDS:
        variances = [{name: split.at(k) for name, split in per_set.items()} for per_set in splits]
        seed = {name: Noise(s.variance * 2 / k, s.df) for name, s in pooled.items() if s}
        cases.append(_case(f"{k} seed{'s' * (k > 1)}", variances, asked, n, seed))
    df = max((s.df for s in pooled.values() if s), default=0)
    notes = [
        f"Measured on {len(rows)} submissions: image noise is the median over {len(pairs)} pairs of rows on the same images."
    ]
    seeds = f"Seed noise is pooled over the rows with three seeds or more ({df:.0f} degrees of freedom)."
    return cases, [*notes, seeds if df else "Seed noise is unknown and left out: no row has three seeds."]


def _case(
    name: str, variances: Sequence[dict[str, float]], asked: Measures, n: Mapping[str, int], seed: dict[str, Noise]
) -> Case:
    """``variances``: per pair of rows, per test set, of one image."""

    def middle(weights: Weights, sizes: Mapping[str, int]) -> float:
        return median(sum(w**2 * v[part] / sizes[part] for part, w in weights.items()) for v in variances)

    one = dict.fromkeys(n, 1)
    images, one_image = ({measure: middle(weights, s) for measure, weights in asked.items()} for s in (n, one))
    return Case(name, images, one_image, seed)


class _Split(NamedTuple):
    """The variance over images of the difference of two rows, in the part that seeds average out and the rest."""

    between: float
    within: float

    def at(self, seeds: int) -> float:
        """With that many seeds a row."""
        return self.between + self.within / seeds


def _split(a: Side, b: Side, name: str) -> _Split:
    """From rows of any number of seeds: an image's share of right seeds varies by within / seeds about its own chance."""
    seen = float(np.var(a.shares[name] - b.shares[name], ddof=1))
    noise = sum(side.within[name] / len(side.runs) for side in (a, b))
    return _Split(max(0.0, seen - noise), a.within[name] + b.within[name])


def _assumed(
    asked: Measures, n: Mapping[str, int], accuracy: float | None, disagreement: float | None
) -> tuple[list[Case], list[str]]:
    """One case per assumed disagreement: two equal models, of which exactly one is right on that share of the images."""
    seeds = "Two trained models; seed noise is left out."
    if accuracy is not None:
        shares = {f"accuracy {accuracy:.0%}": 2 * accuracy * (1 - accuracy)}
        told = f"Assumed: unpaired, each model on images of its own (or published figures), both near {accuracy:.1%}."
    else:
        given = (disagreement,) if disagreement is not None else DISAGREEMENTS
        shares = {f"disagree {share:.0%}": share for share in given}
        told = "Assumed: paired, with exactly one of the two models right on that share of every test set."
    cases = [_case(name, [dict.fromkeys(n, share)], asked, n, {}) for name, share in shares.items()]
    return cases, [f"{told} {seeds}"]


def _resolution(name: str, case: Case, gap: float | None) -> Resolution:
    noise = case.seed.get(name, NO_NOISE)
    needed = images_needed(gap / 100, case.one_image[name], noise) if gap is not None else None
    return Resolution(case.name, smallest_gap(case.images[name], noise), needed)


def to_json(found: Power) -> dict[str, Any]:
    """The document of ``rbft power --json``; gaps as fractions."""
    rows = {name: [one.__dict__ for one in cases] for name, cases in found.resolutions.items()}
    asked = None if found.gap is None else found.gap / 100
    return {"suite": found.suite, "gap": asked, "n": found.sizes, "resolutions": rows, "notes": list(found.notes)}


def render(found: Power, form: str) -> str:
    """The tables in one of ``tables.CHOICES``."""
    if form == "csv":
        return tables.to_csv(_csv_rows(found))
    style = tables.FORMATS[form]

    parts = [
        tables.sentence(f"{found.title}: smallest true gap, in points, that one test at 5% finds with 80% probability.", form)
    ]
    parts.append(_table(found, style, lambda one: f"{100 * one.gap:.2f}"))
    if found.gap is not None:
        parts.append(
            tables.sentence(f"Images per test set that a gap of {found.gap:g} points needs (-: seed noise alone hides it):", form)
        )
        parts.append(_table(found, style, lambda one: f"{one.images:,}" if one.images else tables.ABSENT))
    return "\n\n".join([*parts, *(tables.sentence(note, form) for note in found.notes)]) + "\n"


def _table(found: Power, style: tables.Format, cell: Callable[[Resolution], str]) -> str:
    header = [["test set"], ["n"], *([one.case] for one in next(iter(found.resolutions.values())))]
    body = [
        [name, f"{found.sizes[name]:,}" if found.sizes[name] else "", *map(cell, cases)]
        for name, cases in found.resolutions.items()
    ]
    return tables.layout(header, body, style)


def _csv_rows(found: Power) -> Iterable[dict[str, Any]]:
    for name, cases in found.resolutions.items():
        for one in cases:
            yield {"name": name, "n": found.sizes[name]} | one.__dict__
