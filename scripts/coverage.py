"""Do 95% intervals hold the truth in 95 of 100 cases? Simulations with planted truth: writes docs/coverage.md.

    python scripts/coverage.py --repeats 4000 --seed 0 --out docs/coverage.md

What is planted is in coverage_world.py, what is simulated in coverage_cases.py; this file writes the page.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import coverage_cases as cases
import numpy as np
from coverage_cases import HIGH, KINDS, LOW, PLACES, RESAMPLES, SEED_SDS, TOLD, Tally, rate
from coverage_world import MINI_N, SHIFTS

from robustbench_ft.files import write_atomic
from robustbench_ft.statistics import t_pvalue
from robustbench_ft.tables import FORMATS, layout

MOST_FALSE = 0.06
PLACES_CHECKED = (0.60, 0.75, 0.84)


def main() -> None:
    """Simulate and write the page."""
    parser = argparse.ArgumentParser(description="Coverage of the package's intervals, by simulation.")
    parser.add_argument("--repeats", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/coverage.md"))
    given = parser.parse_args()
    write_atomic(given.out, page(given.repeats, given.seed))
    print(f"wrote {given.out}")


def page(repeats: int, seed: int) -> str:
    """The whole text."""
    rows = cases.rho(np.random.default_rng([seed, 1]), repeats, KINDS | TOLD)
    means = cases.accuracies(np.random.default_rng([seed, 2]), repeats)
    command = f"python scripts/coverage.py --repeats {repeats} --seed {seed} --out docs/coverage.md"
    parts = [
        HEAD.format(command=command, repeats=f"{repeats:,}", planted=_planted()),
        "## Effective robustness",
        RHO + " " + _summary(rows, KINDS),
        _by_place(rows, KINDS),
        "## Accuracies and their means",
        ACCURACIES + " " + _summary(means, KINDS),
        _plain(means, KINDS),
        "## Where an interval is known to be too short",
        TOO_SHORT,
        _by_place(rows, TOLD),
        _plain(means, TOLD),
        *_same_images(cases.same_images(np.random.default_rng([seed, 3]), repeats)),
        *_ties(seed, repeats),
        *_z(cases.ordinary(np.random.default_rng([seed, 4]), repeats)),
        *_bootstrap(seed),
    ]
    return "\n\n".join(parts) + "\n"


HEAD = """# Do the intervals cover?

<!-- written by scripts/coverage.py; do not edit -->

`{command}`

Truths are planted, test results are drawn from them {repeats} times, and the package's own functions make the
intervals. A 95% interval should hold the truth in 93 to 97% of the repeats. A cell is the coverage in percent, its
Monte Carlo error in brackets, and the mean half-width of the interval in points: `95.1 (0.3) ±1.24`. `below` and
`above` mark what lies outside 93 to 97%.

What is planted: five lines on logit axes, and reference models around them. Their ID accuracies are those of the pool
of `imagenet-testbed@1` (85 models; for smaller pools, at evenly spaced ranks). Their residuals on two shifts
correlate at 0.4, on R and Sketch at 0.9, as in that pool. Every model's counts are binomial at the true sizes: 50,000
images ID (6,250 on the class-matched axis).

{planted}

A row stands inside the pool's ID range (at its mean), at the lower or at the upper edge. The truth that its interval
should hold is its OOD accuracy minus the true line at its true ID accuracy. Seeds of a row: SD 0.2 points ID and 0.5
points on a shift (correlated at 0.5 over shifts; "twice the noise": 0.4 and 1.0), and two seeds' hits correlate at
0.75, as those of plain fine-tunes on mini do."""

RHO = """Each line is one kind of row; *mean over five* is the mean over all shifts. With one seed nothing is known of seed
noise, so the first lines plant none; what happens with it stands below."""

ACCURACIES = """\
Wilson's intervals, and weighted means of accuracies on the planted test sets. Three seeds with strong noise fall a
little short: where the seeds' part of the variance is more than about 2.5 times the images' part, Satterthwaite's
degrees of freedom are too many whenever three seeds happen to lie close together. Five seeds have no such trouble.
With weak seed noise coverage is above 95%, because images that a seed gets right by its own luck count twice: in the
image error and in the spread between seeds. Rounding of printed figures counts as an error that is even over one unit
of the last digit, with variance half**2 / 3."""

TOO_SHORT = """\
One seed says nothing about seed noise, and its interval leaves it out: it covers the trained model, not the method.
Two seeds give one degree of freedom, which is too few for Satterthwaite's formula. Rows of three seeds or more are
the ones to trust. The cases of this part are not counted in the sums above."""


def _planted() -> str:
    rows = [
        [name, f"{s.slope:.2f}", f"{s.intercept:.2f}", f"{s.s:.2f}", f"{s.n:,}", f"{100 * s.rho:+.0f}"]
        for name, s in SHIFTS.items()
    ]
    header = ["shift", "slope", "intercept", "SD of ordinary models", "images", "planted rho"]
    return _table(header, rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    return layout([[text] for text in header], rows, FORMATS["markdown"], left=left)


def _summary(tally: Tally, kinds: Iterable[str]) -> str:
    """How many cases of these kinds lie where they should."""
    judged = [case for case in tally.inside if set(kinds) & set(case)]
    found = [tally.coverage(case) for case in judged]
    sides = [sum(share < LOW for share in found), sum(share > HIGH for share in found)]
    return (
        f"{len(found) - sum(sides)} of {len(found)} cases are within 93 to 97%, {sides[0]} below and {sides[1]} above; "
        f"the lowest is {100 * min(found):.1f}%, the highest {100 * max(found):.1f}%."
    )


def _by_place(tally: Tally, kinds: Iterable[str]) -> str:
    lines = dict.fromkeys(case[:3] for kind in kinds for case in tally.inside if case[0] == kind)
    rows = []
    for line in lines:
        verdicts = [tally.verdict((*line, place)) for place in PLACES]
        told = ", ".join(f"{verdict} ({place})" for verdict, place in zip(verdicts, PLACES, strict=True) if verdict)
        rows.append([*line, *(tally.cell((*line, place)) for place in PLACES), told or "pass"])
    return _table(["row", "rho on", "pool", *PLACES, "93 to 97%"], rows, left=2)


def _plain(tally: Tally, kinds: Iterable[str]) -> str:
    rows = [[*case, tally.cell(case), tally.verdict(case) or "pass"] for case in tally.inside if case[1] in kinds]
    return _table(["value", "row", "coverage", "93 to 97%"], rows, left=2)


def _same_images(tally: Tally) -> list[str]:
    told = """Row and reference models take the same test, so a lucky draw of images lifts all of them, and part of the error
cancels in rho. The intervals leave this out. Here half of the variance of the image error is common to all models
(the hits of 26 classifiers on CIFAR-10.1 v4 correlate at 0.48), one seed, inside the ID range. The truth is covered
more often than need be, most of all where image noise outweighs the spread of ordinary models (V2): with one and the
same test for all, rho is surer than its interval says."""
    rows = [[case[1], case[2], tally.cell(case), tally.verdict(case) or "pass"] for case in tally.inside]
    return ["## Where an interval is longer than it need be", told, _table(["rho on", "pool", "coverage", "93 to 97%"], rows)]


def _ties(seed: int, repeats: int) -> list[str]:
    told = f"""Ten equal rows on six test sets of {MINI_N:,} images, paired; the hits of two rows correlate at 0.6. Share of the
repeats, in percent, in which equal rows are called different at 5%. It should be {100 * MOST_FALSE:.0f}% at most for
two rows, and for one row against its nine rivals (Holm; this is what a row's rank range rests on). The last column
says how often *any* row of the whole table is wrongly set apart: Holm is done per row, so this happens more often."""
    names: list[str] = []
    rows, worst, any_row = [], 0.0, 0.0
    for number in (3, 5):
        for place, sd in enumerate(SEED_SDS):
            found = cases.false_calls(np.random.default_rng([seed, 5, number, place]), repeats, number, sd)
            names = list(found)
            worst = max(worst, *(float(np.mean(found[name])) for name in names[:-1]))
            any_row = max(any_row, float(np.mean(found[names[-1]])))
            rows.append([str(number), f"{100 * sd:.1f}", *(rate(found[name]) for name in names)])
    verdict = (
        f"The highest of the first three columns is {100 * worst:.1f}%: {'pass' if worst <= MOST_FALSE else 'FAIL'}. "
        f"Over the whole table (last column) it is {100 * any_row:.1f}%: {'pass' if any_row <= MOST_FALSE else 'above 6%'}."
    )
    header = ["seeds", "seed SD, points", *names]
    return ["## Ties", told, _table(header, rows), verdict]


def _z(found: dict[tuple[str, ...], list[bool]]) -> list[str]:
    told = """\
Share of new ordinary models, drawn like the pool, with |z| > 2. It is Student's t with m - 2 degrees of freedom, not
the normal distribution: in a pool of 12 "z > 2" is less rare than it sounds."""
    pools = list(dict.fromkeys(case[1] for case in found))
    rows = [[m, f"{100 * t_pvalue(2.0, int(m) - 2):.1f}", *(rate(found[name, m]) for name in SHIFTS)] for m in pools]
    return ["## z of ordinary models", told, _table(["pool", "t says", *SHIFTS], rows)]


def _bootstrap(seed: int) -> list[str]:
    told = f"""\
On the real pool of `imagenet-testbed@1`: the delta method's interval against one from {RESAMPLES:,} resamples of the
reference models and of the row's own counts (percentiles). A row 10 points above the lines, full ID axis. Half-widths
in points, and how far the ends lie apart at most. The bootstrap makes no assumption about the spread of ordinary
models, so it differs where they spread unevenly."""
    rows = []
    for place, id_accuracy in enumerate(PLACES_CHECKED):
        found = cases.bootstrap(np.random.default_rng([seed, 6, place]), id_accuracy, RESAMPLES)
        rows += [[f"{id_accuracy:.2f}", name, *(f"{100 * value:.2f}" for value in one)] for name, one in found.items()]
    return ["## Delta method and bootstrap", told, _table(["ID accuracy", "rho on", "delta", "bootstrap", "apart"], rows, left=2)]


if __name__ == "__main__":
    main()
