"""Lines and what two of them share: every number against scipy, a bootstrap, a case worked by hand or the plain sum."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from fabricated import LINES, SETS, make_baseline, make_suite
from scipy.special import expit, logit, ndtri

from robustbench_ft.errors import DataError
from robustbench_ft.lines import ASSUMED_N, SCALES, BaselineLine, Line, TransformName, bounded, clamp, fit, shared, transform
from robustbench_ft.records import Accuracy, Counts, Figure
from robustbench_ft.suites import Suite


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return make_suite(tmp_path)


def pool_of(ids: list[int], oods: list[int]) -> dict[str, tuple[Counts, Counts]]:
    return {str(i): (Counts(k=a, n=1000), Counts(k=b, n=1000)) for i, (a, b) in enumerate(zip(ids, oods, strict=True))}


@pytest.mark.parametrize("scale", SCALES)
def test_fits_agree_with_linregress(suite: Suite, scale: TransformName) -> None:
    baseline = make_baseline(suite)
    forward: Any = {"logit": logit, "probit": ndtri, "linear": np.asarray}[scale]
    for name, axes in baseline.lines(suite, scale).items():
        (line,) = axes["full"].pieces
        x, y = (forward([m.counts[s].accuracy for m in baseline.models]) for s in (SETS[0], name))
        theirs = scipy.stats.linregress(x, y)
        assert line.scale == scale
        assert line.slope == pytest.approx(theirs.slope, abs=1e-9)
        assert line.intercept == pytest.approx(theirs.intercept, abs=1e-9)
        assert line.r2 == pytest.approx(theirs.rvalue**2, abs=1e-9)
        assert line.s / line.sxx**0.5 == pytest.approx(theirs.stderr, abs=1e-9)
        at_zero = line.s * (1 / line.m + line.mean_x**2 / line.sxx) ** 0.5
        assert at_zero == pytest.approx(theirs.intercept_stderr, abs=1e-9)
        assert line.residuals == pytest.approx(y - theirs.intercept - theirs.slope * x, abs=1e-9)


def test_planted_lines_are_found(suite: Suite) -> None:
    for name, axes in make_baseline(suite, 40, 10**6, noise=0.01).lines(suite).items():
        (line,) = axes["full"].pieces
        assert (line.slope, line.intercept) == pytest.approx(LINES[name], abs=0.02)
        assert line(0.7) == pytest.approx(float(expit(LINES[name][1] + LINES[name][0] * logit(0.7))), abs=0.005)
        assert line.unusable == ""


@pytest.mark.parametrize("scale", SCALES)
def test_transforms_invert_and_their_slopes_are_derivatives(scale: TransformName) -> None:
    forward, inverse, slope = transform(scale)
    for p in (0.03, 0.5, 0.97):
        x = forward(p)
        assert inverse(x) == pytest.approx(p, abs=1e-12)
        assert slope(x) == pytest.approx((inverse(x + 1e-6) - inverse(x - 1e-6)) / 2e-6, rel=1e-6)
    assert transform("logit").inverse(-800) == 0.0


def test_scales_are_the_textbook_s() -> None:
    theirs: dict[TransformName, float] = {"logit": float(logit(0.83)), "probit": float(ndtri(0.83)), "linear": 0.83}
    for name, place in theirs.items():
        assert transform(name).forward(0.83) == pytest.approx(place, abs=1e-12)
    assert transform("linear").inverse(1.2) == 1.2  # an extrapolated straight line may leave [0, 1]


def test_clamp() -> None:
    assert (clamp(0.0, 99), clamp(1.0, 99), clamp(0.3, 99)) == (0.005, 0.995, 0.3)


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [
        (Counts(k=0, n=99), 0.005),
        (Figure(value="0.000", n=99), 0.005),
        (Figure(value="1.0"), (ASSUMED_N + 0.5) / (ASSUMED_N + 1)),
        (Figure(value="0.831"), 0.831),
    ],
)
def test_an_accuracy_has_a_place_on_every_scale(accuracy: Accuracy, expected: float) -> None:
    assert bounded(accuracy, "logit") == bounded(accuracy, "probit") == pytest.approx(expected)
    assert bounded(accuracy, "linear") == accuracy.accuracy


def prediction_error(line: BaselineLine, x: float) -> float:
    """SE of the line at ``x``, from what it shares with itself."""
    common = shared(line, line)
    assert common
    one, of_a, of_b, of_both = common.share
    t = (x - line.mean_x) / line.sxx
    return math.sqrt(common.covariance * (one + (of_a + of_b) * t + of_both * t * t))


def test_prediction_errors_against_a_pool_bootstrap() -> None:
    """SE of the line at three ID accuracies: the formula against resampling the reference models."""
    generator = np.random.default_rng(0)
    x = generator.normal(0.8, 0.7, 400)
    y = -1 + 0.8 * x + generator.normal(0, 0.2, 400)
    n = 10**7
    pool = {
        str(i): (Counts(k=round(n * expit(a)), n=n), Counts(k=round(n * expit(b)), n=n))
        for i, (a, b) in enumerate(zip(x, y, strict=True))
    }
    line = fit(pool, "logit", axis="full", chance=0.01)
    at = np.array([-0.5, 0.8, 2.2])
    fits = []
    for _ in range(2000):
        drawn = generator.integers(0, 400, 400)
        fits.append(np.polyval(np.polyfit(x[drawn], y[drawn], 1), at))
    formula = [prediction_error(line, float(v)) for v in at]
    assert formula == pytest.approx(np.std(fits, axis=0), rel=0.12)
    by_hand = line.s * (1 / line.m + (at[0] - line.mean_x) ** 2 / line.sxx) ** 0.5
    assert formula[0] == pytest.approx(by_hand, rel=1e-9)
    assert line.prediction_sd(float(at[0])) == pytest.approx((line.s**2 + by_hand**2) ** 0.5, rel=1e-9)


def two_lines() -> tuple[BaselineLine, BaselineLine]:
    """Lines of two shifts: 20 models, of which the first lacks five and the second has them in another order."""
    generator = np.random.default_rng(4)
    ids = [int(k) for k in np.linspace(350, 880, 20)]
    pools = [
        pool_of(ids, [int(0.6 * k + generator.normal(0, 20)) for k in ids]),
        pool_of(ids, [int(0.9 * k - 60 + generator.normal(0, 25)) for k in ids]),
    ]
    fewer = {name: pair for name, pair in pools[0].items() if int(name) % 4}
    turned = dict(reversed(pools[1].items()))
    a, b = (fit(pool, "logit", axis="full", chance=0.01) for pool in (fewer, turned))
    assert (a.m, b.m) == (15, 20)
    return a, b


@pytest.mark.parametrize(("x_a", "x_b"), [(0.1, 0.1), (-0.6, 2.3), (3.0, 0.8)])
def test_what_two_lines_share_is_the_sum_over_their_common_models(x_a: float, x_b: float) -> None:
    """cov(line_a(x_a), line_b(x_b)) = cov(residuals) sum_i w_a,i w_b,i over models of both; w = 1/m + dx t."""
    a, b = two_lines()
    direct, products = 0.0, 0.0
    for i, name in enumerate(a.names):
        j = b.names.index(name)
        w_a = 1 / a.m + (x_a - a.mean_x) / a.sxx * (a.x[i] - a.mean_x)
        w_b = 1 / b.m + (x_b - b.mean_x) / b.sxx * (b.x[j] - b.mean_x)
        direct += w_a * w_b
        products += a.residuals[i] * b.residuals[j]
    for first, second, x_1, x_2 in ((a, b, x_a, x_b), (b, a, x_b, x_a)):
        common = shared(first, second)
        assert common
        t_1, t_2 = (x_1 - first.mean_x) / first.sxx, (x_2 - second.mean_x) / second.sxx
        closed = common.share[0] + common.share[1] * t_1 + common.share[2] * t_2 + common.share[3] * t_1 * t_2
        assert closed == pytest.approx(direct, abs=1e-12)
        assert common.covariance == pytest.approx(products / (15 - 2), rel=1e-9)


def test_a_line_shares_its_own_variance_and_strangers_share_nothing() -> None:
    a, b = two_lines()
    common = shared(a, a)
    assert common and common.covariance == pytest.approx(a.s**2)
    assert common.share == pytest.approx((1 / a.m, 0, 0, a.sxx), abs=1e-12)
    few = fit(
        {n: (Counts(k=k, n=9), Counts(k=k, n=9)) for n, k in {"1": 3, "2": 5, "x": 7}.items()}, "logit", axis="full", chance=0
    )
    assert shared(few, b) is None and shared(b, few) is None


def test_lines_that_say_nothing_say_why() -> None:
    flat = fit(pool_of([400, 500, 600, 700], [300, 350, 290, 340]), "logit", axis="full", chance=0.05)
    assert "R2 0." in flat.unusable and "is below 0.5" in flat.unusable
    chance = fit(pool_of([400, 500, 600, 700], [60, 70, 80, 90]), "logit", axis="full", chance=0.05)
    assert chance.unusable == "the pool's median 7.5% is within 5 points of chance (5.0%)"
    assert fit(pool_of([400, 500, 600, 700], [60, 80, 130, 190]), "logit", axis="full", chance=0.05).unusable == ""
    both = fit(pool_of([400, 500, 600, 700], [60, 60, 61, 60]), "logit", axis="full", chance=0.05)
    assert both.unusable.count("R2 0.") == both.unusable.count(" and the pool's median 6.0%") == 1
    with pytest.raises(DataError, match="same ID accuracy"):
        fit(pool_of([500, 500, 500], [1, 2, 3]), "logit", axis="full", chance=0.05)


def test_zero_and_full_marks_have_a_line() -> None:
    line = fit(pool_of([0, 500, 1000], [0, 400, 900]), "logit", axis="full", chance=0.01)
    assert line.x[0] == pytest.approx(float(logit(0.5 / 1001)))
    assert line.id_range == (0.0, 1.0)
    straight = fit(pool_of([0, 500, 1000], [0, 400, 800]), "linear", axis="full", chance=0.01)
    assert (straight.slope, straight.intercept) == pytest.approx((0.8, 0.0))
    assert straight.s == pytest.approx(0, abs=1e-12) and straight.r2 == pytest.approx(1)


def test_a_line_of_two_pieces_holds_up_to_its_split() -> None:
    low = fit(pool_of([300, 400, 500], [200, 210, 260]), "logit", axis="full", chance=0.01)
    high = fit(pool_of([600, 700, 800], [500, 510, 530]), "logit", axis="full", chance=0.5)
    line = Line((low, high), 0.55)
    assert line.at(0.1) is line.at(0.55) is low
    assert line.at(math.nextafter(0.55, 1)) is line.at(0.99) is high
    assert line.unusable == f"above: {high.unusable}" and "chance (50.0%)" in line.unusable
    assert Line((high, low), 0.55).unusable == f"ID up to 55.0%: {high.unusable}"
    assert Line((high, high), 0.55).unusable == f"ID up to 55.0%: {high.unusable}; above: {high.unusable}"
    assert Line((low, low), 0.55).unusable == Line((low,)).unusable == ""
    assert Line((high,)).unusable == high.unusable
    assert Line((low,)).at(0.9) is low
    document = line.to_json()
    assert document["split"] == 0.55 and [piece["slope"] for piece in document["pieces"]] == [low.slope, high.slope]
