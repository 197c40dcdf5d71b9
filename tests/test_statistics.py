"""Every formula against an independent implementation or a case worked by hand; coverage by simulation."""

import math

import numpy as np
import pytest
import scipy.stats

from robustbench_ft.statistics import (
    NO_NOISE,
    Floats,
    Noise,
    Term,
    difference_pvalue,
    holm,
    images_needed,
    linear,
    mcnemar,
    paired_variance,
    pooled_seed_variance,
    rank_ranges,
    satterthwaite,
    seed_noise,
    smallest_gap,
    t_interval,
    t_pvalue,
    t_quantile,
    wilson,
)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (1698, 2000), (1, 50_000)])
def test_wilson(k: int, n: int) -> None:
    theirs = scipy.stats.binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k / n, n) == pytest.approx((k / n, theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize("df", [1, 2, 7.3, 40, math.inf])
def test_student_t(df: float) -> None:
    ours = scipy.stats.norm if math.isinf(df) else scipy.stats.t(df)
    assert t_quantile(df) == pytest.approx(ours.ppf(0.975), rel=1e-9)
    assert t_quantile(df, 0.8) == pytest.approx(ours.ppf(0.8), rel=1e-9)
    assert t_pvalue(-1.7, df) == pytest.approx(2 * ours.sf(1.7), rel=1e-9)


def test_satterthwaite_is_welchs_formula() -> None:
    a, b = np.array([1.0, 4.0, 2.0, 9.0]), np.array([3.0, 3.5, 8.0])
    parts = [(float(v.var(ddof=1)) / len(v), len(v) - 1.0) for v in (a, b)]
    welch = scipy.stats.ttest_ind(a, b, equal_var=False)
    interval = t_interval(float(a.mean() - b.mean()), parts)
    assert satterthwaite(parts).df == pytest.approx(welch.df, rel=1e-9)
    assert interval[1:] == pytest.approx(tuple(welch.confidence_interval()), rel=1e-9)
    assert satterthwaite([(2.0, math.inf), (0.0, 3.0)]) == (2.0, math.inf)


def test_linear_is_wilson_for_one_term_and_newcombe_for_a_difference() -> None:
    assert linear([Term(1, 0.3, 40)]) == pytest.approx(wilson(0.3, 40))
    # Newcombe (1998), method 10, example (a): 56/70 - 48/80 gives 0.0524 to 0.3339
    assert linear([Term(1, 56 / 70, 70), Term(-1, 48 / 80, 80)]) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_linear_with_seed_noise() -> None:
    """On many images the interval is the t interval of the seeds; with no noise it is the images'."""
    values = [0.80, 0.82, 0.87]
    noise = seed_noise(values)
    theirs = scipy.stats.ttest_1samp(values, 0).confidence_interval()
    many = linear([Term(1, float(np.mean(values)), 10**12)], noise)
    assert many[1:] == pytest.approx((theirs.low, theirs.high), abs=1e-6)
    p, n = 0.83, 1000
    images = ((wilson(p, n).high - p) / 1.959964) ** 2
    df = (images + noise.variance) ** 2 / (noise.variance**2 / 2)
    half = scipy.stats.t(df).ppf(0.975) * (images + noise.variance) ** 0.5
    assert linear([Term(1, p, n)], noise).high == pytest.approx(p + half, abs=1e-7)
    assert seed_noise([0.5]) == NO_NOISE


def test_rounding_of_printed_figures_is_an_even_error_over_one_unit() -> None:
    """Its variance, half**2 / 3, is that of draws; it adds to the images' on either side."""
    draws = np.random.default_rng(0).uniform(-0.05, 0.05, 200_000)
    assert np.var(draws) == pytest.approx(0.05**2 / 3, rel=0.01)
    exact = linear([Term(0.5, 0.3, 40), Term(-0.25, 0.6, 80)])
    shown = linear([Term(0.5, 0.3, 40, 0.05), Term(-0.25, 0.6, 80, 0.005)])
    wider = 1.959964 / 3**0.5 * math.hypot(0.5 * 0.05, 0.25 * 0.005)
    assert shown.low == pytest.approx(exact.value - math.hypot(exact.value - exact.low, wider), abs=1e-7)
    assert shown.high == pytest.approx(exact.value + math.hypot(exact.high - exact.value, wider), abs=1e-7)
    assert shown.high > exact.high + 0.001


@pytest.mark.parametrize("noise", [NO_NOISE, Noise(1e-4, 2)])
def test_without_a_size_there_is_a_value_and_no_interval(noise: Noise) -> None:
    assert wilson(0.3, None)[0] == 0.3 and all(math.isnan(end) for end in wilson(0.3, None)[1:])
    value, low, high = linear([Term(0.5, 0.3, None), Term(0.5, 0.5, 100)], noise)
    assert value == pytest.approx(0.4) and math.isnan(low) and math.isnan(high)
    value, low, high = t_interval(0.2, [(math.nan, math.inf), (1e-4, 5), (noise.variance, noise.df)])
    assert value == 0.2 and math.isnan(low) and math.isnan(high)


def test_holm_by_hand_and_order() -> None:
    # 0.01 x 4, 0.02 x 3, then max(0.06, 0.03 x 2), then max(0.06, 0.04)
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.7, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_pooled_seed_variance_by_hand() -> None:
    assert pooled_seed_variance([[1.0, 2.0, 3.0], [0.0, 10.0], [2.0, 2.0, 2.0, 2.0]]) == pytest.approx((2 / 5, 5))
    assert pooled_seed_variance([[1.0, 2.0]]) is None


def test_paired_variance_is_the_paired_t_tests() -> None:
    generator = np.random.default_rng(0)
    a, b = (generator.random((2, 50)) < 0.6).astype(float)
    one = paired_variance({"s": a}, {"s": b}, {"s": 1.0})
    assert (a.mean() - b.mean()) / one**0.5 == pytest.approx(scipy.stats.ttest_rel(a, b).statistic)
    double = paired_variance({"s": a, "t": a}, {"s": b, "t": b}, {"s": 0.5, "t": 0.5})
    assert double == pytest.approx(one / 2)


def test_difference_pvalue() -> None:
    assert difference_pvalue(1.96, 1.0, NO_NOISE) == pytest.approx(0.05, abs=1e-4)
    assert difference_pvalue(2.0, 0.0, Noise(1.0, 4)) == pytest.approx(2 * scipy.stats.t(4).sf(2.0))
    assert (difference_pvalue(0.0, 0.0, NO_NOISE), difference_pvalue(0.1, 0.0, NO_NOISE)) == (1.0, 0.0)


def test_rank_ranges_by_hand() -> None:
    """A is significantly better than C and D, B only than D."""
    differences = np.array([[0, 1, 2, 3], [-1, 0, 1, 2], [-2, -1, 0, 1], [-3, -2, -1, 0]], float)
    p = np.array([[1, 0.5, 0.01, 0.001], [0.5, 1, 0.5, 0.001], [0.01, 0.5, 1, 0.5], [0.001, 0.001, 0.5, 1]])
    assert rank_ranges(differences, p) == [(1, 2), (1, 3), (2, 4), (3, 4)]
    p[0, 2] = p[2, 0] = 0.03  # 0.03 x 2 is above 5%: Holm takes it back
    assert rank_ranges(differences, p) == [(1, 3), (1, 3), (1, 4), (3, 4)]
    assert rank_ranges(np.zeros((1, 1)), np.ones((1, 1))) == [(1, 1)]


def test_smallest_gap_is_found_with_that_power() -> None:
    assert smallest_gap(1.0, NO_NOISE) == pytest.approx(2.8016, abs=1e-4)
    generator = np.random.default_rng(1)
    gap = smallest_gap(0.5, Noise(0.5, 20))
    seeds = generator.chisquare(20, 4000) / 20 * 0.5
    found = [
        difference_pvalue(difference, 0.5, Noise(float(seed), 20)) <= 0.05
        for difference, seed in zip(generator.normal(gap, 1.0, 4000), seeds, strict=True)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.025)


def rows_of_equal_skill(generator: np.random.Generator, n: int = 500) -> tuple[list[dict[str, Floats]], list[list[float]]]:
    """Eight rows of three seeds: shares right per image, and each seed's accuracy; luck per image, row and seed."""
    hard = generator.standard_normal(n)
    shares, values = [], []
    for _ in range(8):
        own = 0.8 * hard + 0.4 * generator.standard_normal(n)
        bars = 0.8 + 0.03 * generator.standard_normal(3)
        right = [own + 0.45 * generator.standard_normal(n) < bar for bar in bars]
        shares.append({"s": np.mean(right, axis=0)})
        values.append([float(np.mean(seed)) for seed in right])
    return shares, values


def test_two_equal_rows_with_seed_noise_are_rarely_called_different() -> None:
    """Planted tie, s pooled over eight rows: at most 6% of 400 repeats."""
    generator, called = np.random.default_rng(2), 0
    for _ in range(400):
        shares, values = rows_of_equal_skill(generator)
        s2 = pooled_seed_variance(values)
        assert s2
        variance = paired_variance(shares[0], shares[1], {"s": 1.0})
        difference = float(np.mean(values[0]) - np.mean(values[1]))
        called += difference_pvalue(difference, variance, Noise(s2.variance * 2 / 3, s2.df)) <= 0.05
    assert 1 <= called <= 24


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (0, 1), (3, 9), (9, 3), (0, 25), (12, 13)])
def test_mcnemar_is_the_exact_binomial_test_on_few_images(only_a: int, only_b: int) -> None:
    n = only_a + only_b
    assert mcnemar(only_a, only_b) == pytest.approx(scipy.stats.binomtest(only_a, n).pvalue if n else 1.0, rel=1e-9)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 26), (20, 6), (13, 13), (900, 1001)])
def test_mcnemar_is_mid_p_on_many_images(only_a: int, only_b: int) -> None:
    n, least = only_a + only_b, min(only_a, only_b)
    beyond = math.fsum(scipy.stats.binom.pmf(range(least), n, 0.5))
    assert mcnemar(only_a, only_b) == pytest.approx(min(1, 2 * beyond + scipy.stats.binom.pmf(least, n, 0.5)), rel=1e-9)
    assert mcnemar(only_a, only_b) < scipy.stats.binomtest(only_a, n).pvalue or only_a == only_b


def test_mcnemar_calls_equal_models_different_in_at_most_six_percent() -> None:
    """The probability that p is at most 5%, exactly: over the binomial distribution of the images that only one got right."""
    for n in (10, 25, 26, 60, 400):
        called = [k for k in range(n + 1) if mcnemar(k, n - k) <= 0.05]
        assert 0.01 < scipy.stats.binom.pmf(called, n, 0.5).sum() <= 0.06


def test_images_needed_is_the_first_number_that_shows_the_gap() -> None:
    assert images_needed(0.005, 0.1, NO_NOISE) == math.ceil(0.1 * (2.8015853 / 0.005) ** 2) == 31396
    noise = Noise(1e-6, 12)
    n = images_needed(0.004, 0.1, noise)
    assert n and smallest_gap(0.1 / n, noise) <= 0.004 < smallest_gap(0.1 / (n - 1), noise)
    assert images_needed(0.002, 0.1, noise) is None
    assert images_needed(0.9, 0.01, NO_NOISE) == 1
