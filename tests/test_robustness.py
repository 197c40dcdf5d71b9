import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import scipy.stats
from fabricated import make_baseline, make_panel
from scipy.special import expit, logit, ndtr, ndtri

from robustbench_ft.lines import SCALES, BaselineLine, TransformName, fit
from robustbench_ft.records import Accuracy, Counts, Figure
from robustbench_ft.robustness import (
    Measured,
    Sensitivity,
    effective_robustness,
    mean_effective_robustness,
    ordinary,
    plain_value,
)


def counts(p: float, n: int = 2000) -> Counts:
    return Counts(k=round(p * n), n=n)


@pytest.fixture
def lines() -> dict[str, BaselineLine]:
    return on_scale(None)


def on_scale(scale: TransformName | None) -> dict[str, BaselineLine]:
    return {name: axes["full"].pieces[0] for name, axes in make_baseline(make_panel()).lines(make_panel(), scale).items()}


def figure(value: str, n: int | None = 2000) -> Figure:
    return Figure(value=value, n=n)


def by_hand(line: BaselineLine, p: float, q: float, n: int) -> tuple[float, float, float]:
    """Value and ends of rho, written out as in DESIGN 7.4."""
    x = float(logit(p))
    y = line.intercept + line.slope * x
    g = float(expit(y))
    v_line = (g * (1 - g)) ** 2 * line.s**2 * (1 / line.m + (x - line.mean_x) ** 2 / line.sxx)
    v_id = (g * (1 - g) * line.slope) ** 2 / (n * p * (1 - p))
    v_ood = q * (1 - q) / n
    v = v_line + v_id + v_ood
    half = scipy.stats.t(v**2 / (v_line**2 / (line.m - 2))).ppf(0.975) * math.sqrt(v)
    return q - g, q - g - half, q - g + half


def test_effective_robustness_by_hand(lines: dict[str, BaselineLine]) -> None:
    line = lines["toy-rendition"]
    rho = effective_robustness(Measured(line, [counts(0.765)], [counts(0.784)]))
    assert rho[:3] == pytest.approx(by_hand(line, 0.765, 0.784, 2000), abs=1e-9)
    residual = float(logit(0.784) - line.intercept - line.slope * logit(0.765))
    spread = line.s * math.sqrt(1 + 1 / line.m + (float(logit(0.765)) - line.mean_x) ** 2 / line.sxx)
    assert rho.z == pytest.approx(residual / spread)
    assert (rho.axis, rho.id, rho.extrapolated) == ("full", 0.765, False)


AXES: dict[TransformName, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "logit": (lambda p: float(logit(p)), lambda x: float(expit(x))),
    "probit": (lambda p: float(ndtri(p)), lambda x: float(ndtr(x))),
    "linear": (float, float),
}


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_against_numerical_derivatives(scale: TransformName) -> None:
    """The delta method once more: rho as a function of slope, intercept, ID and OOD accuracy, its slopes by differences."""
    line, (to, back) = on_scale(scale)["toy-objectnet"], AXES[scale]
    p, q, n = 0.83, 0.41, 2000

    def rho(p: float, q: float, at_mean: float = 0.0, slope: float = 0.0) -> float:
        return q - back(line.intercept + line.slope * to(p) + at_mean + slope * (to(p) - line.mean_x))

    h = 1e-5
    by = [(rho(p + h, q) - rho(p - h, q)), rho(p, q + h) - rho(p, q - h), rho(p, q, h) - rho(p, q, -h)]
    by.append(rho(p, q, 0, h) - rho(p, q, 0, -h))
    of_p, of_q, of_level, of_slope = (d / (2 * h) for d in by)
    v_line = line.s**2 * (of_level**2 / line.m + of_slope**2 / line.sxx)
    v = v_line + of_p**2 * p * (1 - p) / n + of_q**2 * q * (1 - q) / n
    half = scipy.stats.t(v**2 / (v_line**2 / (line.m - 2))).ppf(0.975) * math.sqrt(v)
    found = effective_robustness(Measured(line, [counts(p)], [counts(q)]))
    assert found[:3] == pytest.approx((rho(p, q), rho(p, q) - half, rho(p, q) + half), abs=1e-7)
    spread = line.s * math.sqrt(1 + 1 / line.m + (to(p) - line.mean_x) ** 2 / line.sxx)
    assert found.z == pytest.approx((to(q) - line.intercept - line.slope * to(p)) / spread)


def rounded(line: BaselineLine, halves: tuple[float, float], p: float, q: float) -> tuple[float, float]:
    """Variance of rho and half-width of its interval, written out, with halves of a unit of ID and OOD; n = 2000."""
    g, x = line(p), float(logit(p))
    steep = g * (1 - g) * line.slope / (p * (1 - p))
    v_line = (g * (1 - g) * line.s) ** 2 * (1 / line.m + (x - line.mean_x) ** 2 / line.sxx)
    v_id, v_ood = (a * (1 - a) / 2000 + half**2 / 3 for a, half in zip((p, q), halves, strict=True))
    v = v_line + steep**2 * v_id + v_ood
    return v, scipy.stats.t(v**2 / (v_line**2 / (line.m - 2))).ppf(0.975) * math.sqrt(v)


@pytest.mark.parametrize(("id_", "ood", "halves"), [("0.765", "0.784", (0.0005, 0.0005)), ("0.8", "0.78", (0.05, 0.005))])
def test_rounding_of_printed_figures_is_part_of_the_error(
    lines: dict[str, BaselineLine], id_: str, ood: str, halves: tuple[float, float]
) -> None:
    line = lines["toy-rendition"]
    shown = effective_robustness(Measured(line, [figure(id_)], [figure(ood)]))
    _, half = rounded(line, halves, float(id_), float(ood))
    assert shown.high - shown.value == pytest.approx(half, abs=1e-9) == shown.value - shown.low
    exact = effective_robustness(Measured(line, [counts(float(id_))], [counts(float(ood))]))
    assert exact.high - exact.value == pytest.approx(rounded(line, (0.0, 0.0), float(id_), float(ood))[1], abs=1e-9)
    assert shown.high > exact.high and shown.z == pytest.approx(exact.z) and not shown.extrapolated


def test_the_mean_s_rounding_is_one_error_of_id_and_one_per_shift(lines: dict[str, BaselineLine]) -> None:
    """Against the same mean of exact counts on images so few that the binomial variance is larger by the rounding's."""
    names = ("toy-v2", "toy-sketch")
    shown = [Measured(lines[n], [figure("0.765")], [figure(q)]) for n, q in zip(names, ("0.6", "0.45"), strict=True)]

    def fewer(p: float, half: float) -> int:
        return round(p * (1 - p) / (p * (1 - p) / 2000 + half**2 / 3) * 1000)

    size = {p: fewer(p, half) / 1000 for p, half in ((0.765, 0.0005), (0.6, 0.05), (0.45, 0.005))}
    same = [Measured(lines[n], [Sized(0.765, size[0.765])], [Sized(q, size[q])]) for n, q in zip(names, (0.6, 0.45), strict=True)]
    assert mean_effective_robustness(shown) == pytest.approx(mean_effective_robustness(same), abs=1e-6)  # type: ignore[arg-type]


class Sized(NamedTuple):
    """An accuracy on any number of images, whole or not."""

    accuracy: float
    n: float
    half: float = 0.0


@pytest.mark.parametrize(("id_n", "ood_n"), [(None, 2000), (2000, None), (None, None)])
def test_without_n_there_is_a_value_and_no_interval(lines: dict[str, BaselineLine], id_n: int | None, ood_n: int | None) -> None:
    line = lines["toy-v2"]
    known = effective_robustness(Measured(line, [figure("0.8")], [figure("0.6")]))
    rho = effective_robustness(Measured(line, [figure("0.8", id_n)], [figure("0.6", ood_n)]))
    assert (rho.value, rho.z, rho.id) == (known.value, known.z, known.id)
    assert math.isnan(rho.low) and math.isnan(rho.high)
    good = Measured(lines["toy-a"], [figure("0.8")], [figure("0.5")])
    mean = mean_effective_robustness([Measured(line, [figure("0.8", id_n)], [figure("0.6", ood_n)]), good])
    assert mean.value == pytest.approx((known.value + effective_robustness(good).value) / 2) and math.isnan(mean.low)


def test_plain_value_is_the_mean_without_an_interval(lines: dict[str, BaselineLine]) -> None:
    ids: list[Accuracy] = [counts(0.8), counts(0.82)]
    shifts = [Measured(lines[n], ids, [counts(q), counts(q + 0.03)]) for n, q in (("toy-v2", 0.6), ("toy-a", 0.5))]
    assert plain_value(shifts) == pytest.approx(mean_effective_robustness(shifts).value, abs=1e-12)


def test_a_line_that_says_nothing_is_told_with_the_value() -> None:
    pool = {str(i): (Counts(k=a, n=100), Counts(k=b, n=100)) for i, (a, b) in enumerate(((40, 30), (50, 35), (60, 31), (70, 30)))}
    line = fit(pool, "logit", axis="class-matched", chance=0.05)
    rho = effective_robustness(Measured(line, [counts(0.6)], [counts(0.6)]))
    assert rho.unusable == line.unusable != "" and rho.axis == "class-matched"


@pytest.mark.parametrize(
    ("low", "high", "changes"), [(-0.1, 0.1, True), (0.0, 0.1, False), (-0.2, -0.1, False), (0.1, 0.2, False)]
)
def test_a_range_over_0_changes_sign(low: float, high: float, changes: bool) -> None:
    assert Sensitivity(low, high).changes_sign is changes


def test_a_pool_without_scatter_puts_no_row_above_it_that_is_below() -> None:
    pool = {str(i): (Counts(k=k, n=100), Counts(k=k // 2, n=100)) for i, k in enumerate((40, 60, 80))}
    line = fit(pool, "linear", axis="full", chance=0.05)
    assert line.s == 0.0
    signs = [effective_robustness(Measured(line, [Counts(k=50, n=100)], [Counts(k=k, n=100)])).z for k in (20, 30)]
    assert signs == [-math.inf, math.inf]


def test_extrapolated_beyond_half_a_point(lines: dict[str, BaselineLine]) -> None:
    line = lines["toy-a"]
    for sign, edge in zip((-1, 1), line.id_range, strict=True):
        for beyond, expected in ((0.004, False), (0.006, True)):
            p = counts(edge + sign * beyond, 10_000)
            assert effective_robustness(Measured(line, [p], [counts(0.5)])).extrapolated is expected


def test_none_and_all_right_are_finite(lines: dict[str, BaselineLine]) -> None:
    line = lines["toy-v2"]
    for k in (0, 2000):
        rho = effective_robustness(Measured(line, [Counts(k=k, n=2000)], [Counts(k=k, n=2000)]))
        assert all(math.isfinite(v) for v in rho[:4])
        place = float(expit(line.intercept + line.slope * logit((k + 0.5) / 2001)))
        assert rho.value == pytest.approx(k / 2000 - place)


def test_seeds_are_averaged_and_their_noise_added(lines: dict[str, BaselineLine]) -> None:
    line = lines["toy-v2"]
    single = [effective_robustness(Measured(line, [counts(p)], [counts(q)])) for p, q in ((0.80, 0.60), (0.82, 0.66))]
    both = effective_robustness(Measured(line, [counts(0.80), counts(0.82)], [counts(0.60), counts(0.66)]))
    assert both.value == pytest.approx((single[0].value + single[1].value) / 2)
    assert both.high - both.low > 2 * (single[0].high - single[0].low)
    same = effective_robustness(Measured(line, [counts(0.8)] * 3, [counts(0.6)] * 3))
    assert same == pytest.approx(effective_robustness(Measured(line, [counts(0.8)], [counts(0.6)])))


def test_the_mean_of_one_shift_is_its_rho(lines: dict[str, BaselineLine]) -> None:
    shift = Measured(lines["toy-sketch"], [counts(0.8)], [counts(0.4)])
    assert mean_effective_robustness([shift]) == pytest.approx(effective_robustness(shift)[:3])


def test_the_same_shift_twice_shares_its_line_and_id_error(lines: dict[str, BaselineLine]) -> None:
    """Twice the same line on new OOD images: line and ID variance stay, only the OOD part is halved."""
    shift = Measured(lines["toy-sketch"], [counts(0.8)], [counts(0.4, 10**9)])
    assert mean_effective_robustness([shift, shift]) == pytest.approx(mean_effective_robustness([shift]), abs=1e-6)
    shift = Measured(lines["toy-sketch"], [counts(0.8, 10**9)], [counts(0.4, 50)])
    one, two = mean_effective_robustness([shift]), mean_effective_robustness([shift, shift])
    assert (one.high - one.low) / (two.high - two.low) == pytest.approx(2**0.5, rel=0.01)


def planted_pool(generator: np.random.Generator, m: int, n: int) -> list[BaselineLine]:
    """Lines of three shifts, intercepts -1, slope 0.8; a model's residuals lean the same way on all shifts."""
    x = generator.normal(0.6, 0.8, m)
    common = generator.normal(0, 0.08, m)
    found = []
    for _ in range(3):
        y = -1 + 0.8 * x + common + generator.normal(0, 0.06, m)
        pool = {
            str(i): (Counts(k=round(n * expit(a)), n=n), Counts(k=round(n * expit(b)), n=n))
            for i, (a, b) in enumerate(zip(x, y, strict=True))
        }
        found.append(fit(pool, "logit", axis="full", chance=0.01))
    return found


@pytest.mark.parametrize(("m", "x"), [(12, 0.8), (12, 2.4), (30, 2.4)])
def test_intervals_cover_the_planted_truth(m: int, x: float) -> None:
    """Planted line and gap, inside and at the edge of the ID range: 95% intervals cover 93 to 97% (of 800 repeats)."""
    generator = np.random.default_rng([m, round(10 * x)])
    n, repeats, single, mean = 2000, 800, 0, 0
    p, g = float(expit(x)), float(expit(-1 + 0.8 * x))
    truth = 0.1
    for _ in range(repeats):
        lines = planted_pool(generator, m, 10**8)
        id_ = Counts(k=int(generator.binomial(n, p)), n=n)
        shifts = [Measured(line, [id_], [Counts(k=int(generator.binomial(n, g + truth)), n=n)]) for line in lines]
        rho, average = effective_robustness(shifts[0]), mean_effective_robustness(shifts)
        single += rho.low <= truth <= rho.high
        mean += average.low <= truth <= average.high
    assert 0.93 <= single / repeats <= 0.97
    assert 0.93 <= mean / repeats <= 0.97


def test_ordinary_models_lie_in_the_band() -> None:
    """The band of the mean line holds about 95% of new models drawn like the pool; one line gives its prediction SD."""
    generator = np.random.default_rng(5)
    inside = 0
    for _ in range(300):
        lines = planted_pool(generator, 30, 10**8)
        x = float(generator.normal(0.6, 0.8))
        common = generator.normal(0, 0.08)
        mean = float(np.mean([expit(-1 + 0.8 * x + common + generator.normal(0, 0.06)) for _ in lines]))
        band = ordinary(lines, float(expit(x)))
        inside += band.low <= mean <= band.high
    assert 0.92 <= inside / 300 <= 0.98
    line, p = lines[0], 0.7
    g = line(p)
    half = scipy.stats.t(line.m - 2).ppf(0.975) * line.prediction_sd(float(logit(p)))
    assert ordinary([line], p) == pytest.approx((g, expit(logit(g) - half), expit(logit(g) + half)))
