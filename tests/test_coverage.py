"""Planted truths in small: scripts/coverage.py at full size writes docs/coverage.md."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import scipy.stats

from robustbench_ft import robustness
from robustbench_ft.statistics import NO_NOISE

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
REPEATS = 300


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("coverage_world")


@pytest.fixture
def cases(world: ModuleType) -> ModuleType:
    return importlib.import_module("coverage_cases")


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng([20, seed])


def could_be(inside: list[bool], low: float = 0.93, high: float = 0.97) -> bool:
    """Whether a coverage between ``low`` and ``high`` gives such a count in all but 1 of 1,000 cases on each side."""
    k, n = sum(inside), len(inside)
    return bool(scipy.stats.binom.cdf(k, n, low) > 1e-3 and scipy.stats.binom.sf(k - 1, n, high) > 1e-3)


def outside(inside: Mapping[tuple[str, ...], list[bool]]) -> dict[tuple[str, ...], float]:
    return {case: float(np.mean(found)) for case, found in inside.items() if not could_be(found)}


@pytest.mark.parametrize("m", [12, 85])
def test_rho_covers_the_planted_gap_inside_and_at_the_edges(cases: ModuleType, m: int) -> None:
    """V2, Sketch, few images, class-matched axis, and the mean over five correlated shifts; one seed and three."""
    kinds = {name: cases.KINDS[name] for name in (cases.PLAIN, "3 seeds")}
    found = cases.rho(generator(m), REPEATS, kinds, [m]).inside
    assert len(found) == 3 * (5 + 2)
    assert outside(found) == {}


def test_without_the_line_s_own_error_the_interval_fails_at_the_edge(cases: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robustness, "_shared_line_variance", lambda *args, **kwargs: 0.0)
    found = cases.rho(generator(2), REPEATS, {cases.PLAIN: cases.KINDS[cases.PLAIN]}, [12])
    assert not could_be(found.inside[cases.PLAIN, cases.MEAN, "12", "lower edge"])
    assert found.coverage((cases.PLAIN, "Sketch", "12", "upper edge")) < 0.6


def test_without_the_covariance_of_residuals_the_mean_s_interval_fails(
    cases: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Residuals on two shifts lean the same way: lines taken as independent give a mean that looks too sure."""
    both = robustness.shared
    monkeypatch.setattr(robustness, "shared", lambda a, b: both(a, b) if a is b else None)
    found = cases.rho(generator(3), 2 * REPEATS, {cases.PLAIN: cases.KINDS[cases.PLAIN]}, [12])
    assert np.mean([found.coverage((cases.PLAIN, cases.MEAN, "12", place)) for place in cases.PLACES]) < 0.915


def test_accuracies_and_means_cover(cases: ModuleType) -> None:
    found = cases.accuracies(generator(4), REPEATS).inside
    sound = {case: one for case, one in found.items() if case[1] in (cases.PLAIN, "3 seeds", "5 seeds, twice the noise")}
    assert len(sound) == 9 + 4 * 3
    assert outside(sound) == {}


def test_an_interval_without_seed_noise_is_too_short(cases: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "seed_noise", lambda values: NO_NOISE)
    found = cases.accuracies(generator(4), REPEATS).inside
    assert not could_be(found["OOD mean of five", "3 seeds, twice the noise"])


@pytest.mark.parametrize(("number", "seed_sd"), [(3, 0.0), (3, 0.006), (5, 0.002)])
def test_equal_rows_are_seldom_called_different(cases: ModuleType, number: int, seed_sd: float) -> None:
    found = cases.false_calls(generator(5), REPEATS, number, seed_sd)
    for name in ("two rows, s from ten", "two rows, s from these two", "one row against nine, Holm"):
        assert scipy.stats.binom.sf(sum(found[name]) - 1, REPEATS, 0.06) > 1e-3, name
    assert sum(found["two rows, s from ten"]) > 0


def test_without_seed_noise_equal_rows_are_called_different(cases: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "seed_of", lambda values: NO_NOISE)
    found = cases.false_calls(generator(5), REPEATS, 3, 0.006)
    assert np.mean(found["two rows, s from ten"]) > 0.2


@pytest.mark.parametrize("m", [12, 85])
def test_z_of_ordinary_models_is_student_s_t(cases: ModuleType, m: int) -> None:
    expected = 2 * scipy.stats.t(m - 2).sf(2)
    for name, beyond in cases.ordinary(generator(m), REPEATS, [m]).items():
        assert could_be(beyond, expected - 0.015, expected + 0.015), name


def test_the_delta_method_agrees_with_a_bootstrap_of_the_real_pool(cases: ModuleType) -> None:
    """Half-widths within 25%, ends within 0.6 points, at the middle and at both edges of imagenet-testbed@1."""
    for id_accuracy in (0.60, 0.75, 0.84):
        for name, found in cases.bootstrap(generator(6), id_accuracy, 1000).items():
            assert found.bootstrap == pytest.approx(found.delta, rel=0.25), (name, id_accuracy)
            assert found.apart < 0.006, (name, id_accuracy)


def test_what_is_planted_is_what_is_said(world: ModuleType) -> None:
    """Residuals and seeds have the stated spread and correlation; a row's true accuracy is its line's plus the gap."""
    drawn = world.residuals(generator(7), 200_000)
    assert drawn.std(axis=0) == pytest.approx([s.s for s in world.SHIFTS.values()], rel=0.02)
    correlation = np.corrcoef(drawn.T)
    assert (correlation[0, 1], correlation[1, 2], correlation[3, 4]) == pytest.approx((0.4, 0.9, 0.4), abs=0.01)
    kind = world.Kind(seeds=2, noise=1.0)
    sets = [(10**7, 0.75), (10**7, 0.5), (10**7, 0.4)]
    seeds = np.array([[[c.accuracy for c in one] for one in world.figures(generator(i), sets, kind)] for i in range(2000)])
    spread = (seeds[:, :, 0] - seeds[:, :, 1]) / 2**0.5
    assert spread.std(axis=0) == pytest.approx([0.002, 0.005, 0.005], rel=0.06)
    assert np.corrcoef(spread.T)[1, 2] == pytest.approx(0.5, abs=0.06)
    assert seeds.mean(axis=(0, 2)) == pytest.approx([0.75, 0.5, 0.4], abs=0.0005)
    shares, values = world.ties(generator(8), 2, 1, 0.0)
    hits = np.array([shares[row]["on"] for row in range(2)])
    assert np.corrcoef(hits)[0, 1] == pytest.approx(0.6, abs=0.06)
    assert values[0, 0] == pytest.approx(sum(w * shares[0][name].mean() for name, (_, w) in world.MINI.items()))


def test_common_luck_makes_half_of_the_image_error(world: ModuleType) -> None:
    draws = [world.counts(generator(i), 1000, np.array([0.6, 0.6]), generator(i + 9000).normal()) for i in range(3000)]
    k = np.array([[c.k for c in one] for one in draws])
    assert np.corrcoef(k.T)[0, 1] == pytest.approx(0.5, abs=0.05)
    assert k.std(axis=0) == pytest.approx((1000 * 0.24) ** 0.5, rel=0.05)
