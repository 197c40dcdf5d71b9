from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from fabricated import LINES, SETS, make_baseline, make_suite
from scipy.special import expit, logit, ndtri

from robustbench_ft import baselines
from robustbench_ft.baselines import Baseline, Reference, clamp, fit, transform
from robustbench_ft.errors import DataError, UnknownName
from robustbench_ft.records import Counts
from robustbench_ft.suites import Suite


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return make_suite(tmp_path)


@pytest.mark.parametrize("scale", ["logit", "probit", "linear"])
def test_fits_agree_with_linregress(suite: Suite, scale: baselines.TransformName) -> None:
    baseline = make_baseline(suite)
    forward: Any = {"logit": logit, "probit": ndtri, "linear": np.asarray}[scale]
    for name, line in baseline.lines(suite, scale).items():
        x, y = (forward([m.counts[s].accuracy for m in baseline.models]) for s in (SETS[0], name))
        theirs = scipy.stats.linregress(x, y)
        assert line.slope == pytest.approx(theirs.slope, abs=1e-9)
        assert line.intercept == pytest.approx(theirs.intercept, abs=1e-9)
        assert line.r2 == pytest.approx(theirs.rvalue**2, abs=1e-9)
        assert line.s / line.sxx**0.5 == pytest.approx(theirs.stderr, abs=1e-9)
        at_zero = line.s * (1 / line.m + line.mean_x**2 / line.sxx) ** 0.5
        assert at_zero == pytest.approx(theirs.intercept_stderr, abs=1e-9)


def test_planted_lines_are_found(suite: Suite) -> None:
    for name, line in make_baseline(suite, 40, 10**6, noise=0.01).lines(suite).items():
        assert (line.slope, line.intercept) == pytest.approx(LINES[name], abs=0.02)
        assert line(0.7) == pytest.approx(float(expit(LINES[name][1] + LINES[name][0] * logit(0.7))), abs=0.005)
        assert line.unusable == ""


@pytest.mark.parametrize("scale", ["logit", "probit", "linear"])
def test_transforms_invert_and_their_slopes_are_derivatives(scale: baselines.TransformName) -> None:
    forward, inverse, slope = transform(scale)
    for p in (0.03, 0.5, 0.97):
        x = forward(p)
        assert inverse(x) == pytest.approx(p, abs=1e-12)
        assert slope(x) == pytest.approx((inverse(x + 1e-6) - inverse(x - 1e-6)) / 2e-6, rel=1e-6)
    assert transform("logit").inverse(-800) == 0.0


def test_clamp() -> None:
    assert (clamp(0.0, 99), clamp(1.0, 99), clamp(0.3, 99)) == (0.005, 0.995, 0.3)


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
    formula = [line.s * float((line.weights(float(v)) ** 2).sum()) ** 0.5 for v in at]
    assert formula == pytest.approx(np.std(fits, axis=0), rel=0.12)
    by_hand = line.s * (1 / line.m + (at[0] - line.mean_x) ** 2 / line.sxx) ** 0.5
    assert formula[0] == pytest.approx(by_hand, rel=1e-9)
    assert line.prediction_sd(float(at[0])) == pytest.approx((line.s**2 + by_hand**2) ** 0.5, rel=1e-9)


def pool_of(ids: list[int], oods: list[int]) -> dict[str, tuple[Counts, Counts]]:
    return {str(i): (Counts(k=a, n=1000), Counts(k=b, n=1000)) for i, (a, b) in enumerate(zip(ids, oods, strict=True))}


def test_lines_that_say_nothing_say_why() -> None:
    flat = fit(pool_of([400, 500, 600, 700], [300, 350, 290, 340]), "logit", axis="full", chance=0.05)
    assert "R2 0." in flat.unusable and "is below 0.5" in flat.unusable
    chance = fit(pool_of([400, 500, 600, 700], [60, 70, 80, 90]), "logit", axis="full", chance=0.05)
    assert chance.unusable == "the pool's median 7.5% is within 5 points of chance (5.0%)"
    assert fit(pool_of([400, 500, 600, 700], [60, 80, 130, 190]), "logit", axis="full", chance=0.05).unusable == ""
    with pytest.raises(DataError, match="same ID accuracy"):
        fit(pool_of([500, 500, 500], [1, 2, 3]), "logit", axis="full", chance=0.05)


def test_zero_and_full_marks_have_a_line() -> None:
    line = fit(pool_of([0, 500, 1000], [0, 400, 900]), "logit", axis="full", chance=0.01)
    assert line.x[0] == pytest.approx(float(logit(0.5 / 1001)))
    assert line.id_range == (0.0, 1.0)


def test_class_matched_axis_where_the_pool_has_it(tmp_path: Path) -> None:
    suite = make_suite(tmp_path, extra={"toy-a": "class_groups = [[3], [1, 2], []]"})
    baseline = make_baseline(suite)
    assert baseline.lines(suite)["toy-a"].axis == "full"
    models = tuple(
        Reference(name=m.name, counts=m.counts | {"toy-test/toy-a": Counts(k=m.counts["toy-test"].k // 2, n=1500)})
        for m in baseline.models
    )
    line = baseline.model_copy(update={"models": models}).lines(suite)["toy-a"]
    assert line.axis == "class-matched"
    assert line.id_range[1] == pytest.approx((baseline.models[-1].counts["toy-test"].k // 2) / 1500)


def test_shifts_with_fewer_than_three_models_have_no_line(suite: Suite) -> None:
    baseline = make_baseline(suite)
    models = tuple(
        Reference(name=m.name, counts={k: v for k, v in m.counts.items() if k != "toy-a" or i < 2})
        for i, m in enumerate(baseline.models)
    )
    assert set(baseline.model_copy(update={"models": models}).lines(suite)) == set(SETS[1:5])


def test_round_trip_hash_and_errors(suite: Suite, tmp_path: Path) -> None:
    baseline = make_baseline(suite)
    path = tmp_path / "toy@1.json"
    baseline.save(path)
    assert baselines.load(str(path)) == baseline
    assert baselines.load(str(path)).hash == baseline.hash
    assert make_baseline(suite, source="another").hash != baseline.hash
    path.write_text(path.read_text().replace('"source"', '"sauce"'))
    with pytest.raises(DataError, match=r"toy@1\.json: "):
        baselines.load(str(path))
    with pytest.raises(DataError, match="no baseline at"):
        baselines.load(str(tmp_path / "none.json"))
    with pytest.raises(UnknownName, match="unknown baseline 'nope@1'"):
        baselines.load("nope@1")


def test_a_model_listed_twice_is_refused(suite: Suite) -> None:
    values = make_baseline(suite).model_dump()
    with pytest.raises(ValueError, match="listed twice"):
        Baseline.model_validate(values | {"models": [values["models"][0]] * 3})


def test_shipped_baselines_load_and_are_named_like_their_files() -> None:
    for name in baselines.names():
        assert baselines.load(name).id == name
