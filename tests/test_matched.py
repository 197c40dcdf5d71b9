"""Alpha curves at the same ID accuracy: planted curves, ends and turns by hand, and the coverage of the intervals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fabricated import SETS, START, make_record, make_suite
from scipy.special import ndtr, ndtri

from robustbench_ft.likeness import Likeness, correlation, likeness
from robustbench_ft.matched import RANGE, A, B, Curve, Level, matched
from robustbench_ft.records import Counts
from robustbench_ft.sides import Side
from robustbench_ft.suites import Suite
from robustbench_ft.yardstick import OOD

MANY = 10**7


def expit(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.asarray(x, float)))


def logit(p: Any) -> Any:
    return np.log(p) - np.log1p(-np.asarray(p, float))


def row(suite: Suite, name: str, curves: list[dict[float, Any]], headline: float, hits: Any = (), n: int = MANY) -> Side:
    """A row of counts; ``curves``: per seed, alpha -> accuracies on SETS."""
    runs = []
    for seed, curve in enumerate(curves):
        points = {}
        for alpha, accuracies in curve.items():
            pairs = zip(SETS, accuracies, strict=True)
            points["start" if alpha == 0 else f"alpha={alpha}"] = {f"{s}/own": Counts(k=round(p * n), n=n) for s, p in pairs}
        runs.append(make_record(suite, points, f"alpha={headline}", method=name, seed=seed))
    return Side(name, tuple(runs), tuple(hits))


def line(ids: list[float], above: float) -> dict[float, list[float]]:
    """A curve whose OOD logits lie ``above`` the ID logits, plus 0.1 per shift."""
    return {j / (len(ids) - 1): [p, *(float(expit(logit(p) + above + 0.1 * s)) for s in range(5))] for j, p in enumerate(ids)}


def test_planted_lines(tmp_path: Path) -> None:
    """On straight lines the interpolation is exact, whatever points they are given by."""
    suite = make_suite(tmp_path)
    a = row(suite, "a", [line([0.6, 0.7, 0.75, 0.8], 0.4)], 1.0)
    b = row(suite, "b", [line([0.65, 0.72, 0.9], 0.1)], 0.5)
    found = matched(a, b, suite)
    assert found.levels[A].id == (pytest.approx(0.8),) and found.levels[B].id == (pytest.approx(0.72),)
    assert found.levels[RANGE].id == pytest.approx((0.65, 0.8)) and not found.turns and not found.why_not
    for name in (A, B):
        x = logit(found.levels[name].id[0])
        by_hand = [float(expit(x + 0.4 + 0.1 * s) - expit(x + 0.1 + 0.1 * s)) for s in range(5)]
        difference = found.levels[name].difference
        assert [difference[shift].value for shift in SETS[1:]] == pytest.approx(by_hand, abs=1e-6)
        assert difference[OOD].value == pytest.approx(np.mean(by_hand), abs=1e-6)
    x = logit(np.linspace(0.65, 0.8, 41))
    by_hand = [float(np.mean(expit(x + 0.4 + 0.1 * s) - expit(x + 0.1 + 0.1 * s))) for s in range(5)]
    assert found.levels[RANGE].difference[OOD].value == pytest.approx(np.mean(by_hand), abs=1e-6)


def test_a_curve_that_turns_back_counts_with_its_higher_part(tmp_path: Path) -> None:
    suite = make_suite(tmp_path)
    there, back = line([0.6, 0.7, 0.8], 0.4), line([0.8, 0.7, 0.6], 0.1)
    turning = there | {2 + alpha: values for alpha, values in back.items()}
    straight = row(suite, "b", [line([0.6, 0.8], 0.0)], 1.0)
    plain, both = (matched(row(suite, "a", [curve], 0.5), straight, suite) for curve in (there, turning))
    assert both.turns and not plain.turns
    for level in (A, RANGE):
        for name, interval in plain.levels[level].difference.items():
            assert both.levels[level].difference[name].value == pytest.approx(interval.value, abs=1e-9)


def test_all_shifts_come_from_one_place_of_the_curve() -> None:
    """The part with the higher mean counts for every shift, also for one that is lower there."""
    curve = Curve(np.array([0.0, 0.5, 1.0]), np.array([0.0, 1.0, 0.0]), np.array([[0.0, 0.0], [0.0, 0.0], [3.0, -1.0]]))
    values, alpha = curve.at(np.array([0.25]))
    assert values[0] == pytest.approx(expit([3 * 0.75, -0.75]))
    assert alpha == pytest.approx([0.5 + 0.75 / 2])
    still = Curve(np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.0, 1.0]), np.array([[9.0], [1.0], [2.0]]))
    assert still.at(np.array([0.0]))[0][0] == pytest.approx(expit([1.0]))


def test_what_has_no_answer(tmp_path: Path) -> None:
    suite = make_suite(tmp_path)
    low, high = row(suite, "a", [line([0.5, 0.6], 0.2)], 1.0), row(suite, "b", [line([0.7, 0.8], 0.2)], 1.0)
    apart = matched(low, high, suite)
    assert not apart.levels
    assert set(apart.why_not.values()) == {"the curves have no ID accuracy in common (A 50.0% to 60.0%; B 70.0% to 80.0%)"}
    wide = row(suite, "c", [line([0.55, 0.58], 0.2)], 1.0)
    inside = matched(low, wide, suite)
    assert set(inside.levels) == {B, RANGE}
    assert inside.why_not == {A: "60.0% is outside the ID range that all curves have (55.0% to 58.0%)"}
    single = Side("d", (make_record(suite, {"d": {f"{s}/own": Counts(k=5, n=9) for s in SETS}}, "d"),), ())
    assert set(matched(low, single, suite).why_not.values()) == {"no alpha curve in B"}
    standing = row(suite, "e", [line([0.55, 0.55], 0.2)], 1.0)
    assert set(matched(standing, single, suite).why_not.values()) == {"no alpha curve in A and B"}


def test_seeds_share_the_range_that_all_have(tmp_path: Path) -> None:
    suite = make_suite(tmp_path)
    a = row(suite, "a", [line([0.6, high], above) for high, above in ((0.8, 0.40), (0.78, 0.45), (0.82, 0.35))], 1.0)
    b = row(suite, "b", [line([0.55, 0.9], 0.0)] * 3, 1.0)
    found = matched(a, b, suite)
    assert found.levels[RANGE].id == pytest.approx((0.6, 0.78))
    assert set(found.why_not) == {A, B}
    one, three = matched(row(suite, "a", [line([0.6, 0.8], 0.4)], 1.0), b, suite), found.levels[RANGE].difference[OOD]
    single = one.levels[RANGE].difference[OOD]
    assert three.high - three.low > 5 * (single.high - single.low)


def test_likeness_gives_the_headlines_what_their_predictions_have(tmp_path: Path) -> None:
    suite, generator = make_suite(tmp_path), np.random.default_rng(0)
    hard = generator.standard_normal(4000)
    for common in (0.2, 0.6, 0.95):
        right = [common**0.5 * hard + (1 - common) ** 0.5 * generator.standard_normal(4000) < 0.5 for _ in range(2)]
        curve = [line([0.6, 0.7, 0.8], 0.2)]
        both = [row(suite, name, curve, 0.5, [{"s/own": hits}]) for name, hits in zip("ab", right, strict=True)]
        found = correlation([np.array([0.5]), np.array([0.5])], likeness(both, "s"))
        assert found == pytest.approx(np.corrcoef(right), abs=1e-6)
    alone = likeness([Side(side.name, side.runs, ()) for side in both], "s")
    assert correlation([np.array([0.2, 0.9])] * 2, alone) == pytest.approx(np.kron(np.eye(2), np.ones((2, 2))))


def test_correlation_by_hand() -> None:
    """Errors of start and ends 0.5 alike: halfway between two of them, var = 0.75; both starts are one model."""
    ends = np.array([0.0, 0.5, 1.0])
    found = correlation([ends, ends], Likeness(True, 0.5, 1.0, (1.0, 1.0)))
    assert np.diag(found) == pytest.approx(np.ones(6))
    assert found[0, 3] == pytest.approx(1) and found[2, 5] == pytest.approx(0.5)
    assert found[0, 1] == found[0, 4] == pytest.approx(0.75 / 0.75**0.5)
    assert found[1, 4] == pytest.approx((0.25 + 3 * 0.25 * 0.5) / 0.75)
    apart = correlation([ends, ends], Likeness(False, 0.5, 0.5, (2.0, 1.0)))
    assert apart[0, 3] == pytest.approx(0.5 * 0.5 * 2) and apart[0, 0] == pytest.approx(4)
    assert np.linalg.eigvalsh(apart).min() > -1e-12


ALPHAS = [j / 10 for j in range(11)]
PLANTED = {
    "a": (0.5, START, (0.83, 0.70, 0.90, 0.80, 0.45, 0.60), (0.885, 0.714, 0.784, 0.70, 0.40, 0.55)),
    "b": (0.6, START, (0.82, 0.66, 0.88, 0.77, 0.41, 0.57), (0.88, 0.70, 0.72, 0.66, 0.33, 0.50)),
}


def probits(name: str, alpha: Any) -> Any:
    """[K, 6] the planted curve through start, middle and end."""
    start, middle, end = (ndtri(np.array(values)) for values in PLANTED[name][1:])
    a = np.atleast_1d(alpha)[:, None]
    return (1 - a) * start + a * end + 4 * a * (1 - a) * (middle - (start + end) / 2)


def planted_row(suite: Suite, name: str, n: int, luck: dict[str, Any], generator: np.random.Generator) -> Side:
    """A row whose images are hard for all models, and whose points are tested on the same images."""
    end, headline, curve, hits = generator.standard_normal((6, n)), PLANTED[name][0], {}, {}
    for alpha, bars in zip(ALPHAS, probits(name, ALPHAS), strict=True):
        own = ((1 - alpha) * luck["start"] + alpha * end) / np.hypot(1 - alpha, alpha)
        right = 0.6**0.5 * luck["image"] + 0.4**0.5 * own < bars[:, None]
        curve[alpha] = right.mean(1)
        if alpha == headline:
            hits = {f"{test}/own": values for test, values in zip(SETS, right, strict=True)}
    return row(suite, name, [curve], headline, [hits], n)


def truth(level: str) -> float:
    """The planted difference in OOD mean."""
    fine = np.linspace(0, 1, 2001)
    curves = {name: ndtr(probits(name, fine)) for name in "ab"}
    rising = {name: curve[: curve[:, 0].argmax() + 1] for name, curve in curves.items()}
    low, high = (f(f2(c[:, 0]) for c in rising.values()) for f, f2 in ((max, np.min), (min, np.max)))
    ids = {A: ndtr(probits("a", 0.5))[:, 0], B: ndtr(probits("b", 0.6))[:, 0], RANGE: np.linspace(low, high, 101)}[level]
    a, b = (np.interp(ids, rising[name][:, 0], rising[name][:, 1:].mean(1)) for name in "ab")
    return float(np.mean(a - b))


@pytest.mark.parametrize(("paired", "most"), [(True, 0.98), (False, 1.0)])
def test_intervals_cover_planted_curves(tmp_path: Path, *, paired: bool, most: float) -> None:
    """95% intervals, 300 repeats (standard error 1.3 points): at least 93%; without predictions they are too wide."""
    suite, n, generator = make_suite(tmp_path), 1000, np.random.default_rng(5)
    inside: dict[str, list[bool]] = {level: [] for level in (A, B, RANGE)}
    truths = {level: truth(level) for level in inside}
    for _ in range(300 if paired else 100):
        luck = {"image": generator.standard_normal((6, n)), "start": generator.standard_normal((6, n))}
        sides = [planted_row(suite, name, n, luck, generator) for name in "ab"]
        if not paired:
            sides = [Side(side.name, side.runs, ()) for side in sides]
        levels: dict[str, Level] = matched(sides[0], sides[1], suite).levels
        for name, level in levels.items():
            _, low, high = level.difference[OOD]
            inside[name].append(low <= truths[name] <= high)
    coverage = {name: np.mean(values) for name, values in inside.items()}
    assert all(0.93 - 0.013 <= share <= most for share in coverage.values()), coverage
