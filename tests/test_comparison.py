"""Differences, images kept and lost, and classes: by hand, against scipy.stats, and with planted truth."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from fabricated import CLASSES, FT, SETS, WISE, make_key, make_record, make_run, make_suite

from robustbench_ft.compare import compare, render
from robustbench_ft.comparison import SHOWN, class_names, of_sides
from robustbench_ft.records import Counts
from robustbench_ft.sides import Side
from robustbench_ft.statistics import holm, mcnemar
from robustbench_ft.suites import Suite
from robustbench_ft.yardstick import BOTH, OOD

SUBMISSIONS = Path(__file__).parents[1] / "submissions"


def side(suite: Suite, name: str, seeds: list[dict[str, Any]], *, deterministic: bool = False) -> Side:
    """A row in memory; ``seeds``: per seed, per test set, right or wrong per image."""
    runs, hits = [], []
    for seed, right in enumerate(seeds):
        hits.append({f"{test}/own": np.array(values, bool) for test, values in right.items()})
        counts = {test: Counts(k=int(values.sum()), n=len(values)) for test, values in hits[-1].items()}
        points = {name: counts}
        runs.append(make_record(suite, points, name, method=name, seed=seed, deterministic=deterministic))
    return Side(name, tuple(runs), tuple(hits))


def two_runs(folder: Path, n: int = 400, **suite: Any) -> tuple[Suite, Path, Path]:
    made = make_suite(folder, n, **suite)
    make_run(folder / "wise", made, WISE, method="wiseft")
    make_run(folder / "ft", made, FT, method="ft")
    return made, folder / "wise", folder / "ft"


def test_two_single_runs_against_scipy(tmp_path: Path) -> None:
    suite, a, b = two_runs(tmp_path)
    found = compare(a, b, str(suite.file))
    for spec in suite.tests:
        one = found.differences[spec.name]
        x, y = found.a.shares[spec.name], found.b.shares[spec.name]
        z = scipy.stats.ttest_rel(x, y).statistic
        assert one.p == pytest.approx(2 * scipy.stats.norm.sf(abs(z)), rel=1e-9)
        assert one.difference.value == pytest.approx(x.mean() - y.mean())
        assert one.difference.high - one.difference.value == pytest.approx(1.959964 * (x.mean() - y.mean()) / z, rel=1e-6)
        only_a, only_b = int((x > y).sum()), int((x < y).sum())
        assert one.overlap == pytest.approx((np.mean(x * y), only_a / 400, only_b / 400, np.mean((1 - x) * (1 - y))))
        exact = scipy.stats.binomtest(only_a, only_a + only_b).pvalue
        assert one.mcnemar and exact / 2 <= one.mcnemar <= exact * (1 + 1e-9)
        assert one.mcnemar == mcnemar(only_a, only_b)
        assert (one.n, one.seed) == (400, None)
    mean = found.differences[OOD]
    assert mean.difference.value == pytest.approx(np.mean([found.differences[name].difference.value for name in SETS[1:]]))
    assert mean.image_variance == pytest.approx(sum(found.differences[name].image_variance for name in SETS[1:]) / 25)
    both = found.differences[BOTH].difference.value
    assert both == pytest.approx((mean.difference.value + found.differences[SETS[0]].difference.value) / 2)


def test_holm_is_over_the_shifts_alone(tmp_path: Path) -> None:
    suite, a, b = two_runs(tmp_path)
    found = compare(a, b, str(suite.file)).differences
    assert [found[name].holm for name in SETS[1:]] == holm([found[name].p for name in SETS[1:]])
    assert found[SETS[0]].holm is found[OOD].holm is found[BOTH].holm is None


def test_seeds_by_hand(tmp_path: Path) -> None:
    """Three seeds against one: the pooled variance is A's, and one seed of B has all of it."""
    suite = make_suite(tmp_path, 4)
    test = SETS[0]
    a = side(suite, "a", [{test: s} for s in ([1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1])])
    b = side(suite, "b", [{test: [0, 1, 0, 0]}])
    one = of_sides(a, b, suite, None).differences[test]
    assert (one.a, one.b) == (pytest.approx(0.75), 0.25)
    assert one.image_variance == pytest.approx(np.var([1, 0, 2 / 3, 1 / 3], ddof=1) / 4)
    assert one.seed == pytest.approx((np.var([0.75, 0.5, 1.0], ddof=1) * (1 / 3 + 1), 2))
    assert one.seed
    total = one.image_variance + one.seed.variance
    df = total**2 / (one.seed.variance**2 / 2)
    assert one.p == pytest.approx(2 * scipy.stats.t(df).sf(0.5 / total**0.5))
    assert one.difference.high == pytest.approx(0.5 + scipy.stats.t(df).ppf(0.975) * total**0.5)
    assert one.mcnemar is None
    # right in both: image 1 alone, in 1 of 1 pairs of seeds; only A: images 0 (3 of 3 pairs), 2 (2 of 3) and 3 (1 of 3)
    assert one.overlap == pytest.approx((1 / 4, 2 / 4, 0, 1 / 4))


def test_overlap_is_the_mean_over_all_pairs_of_seeds(tmp_path: Path) -> None:
    suite, generator = make_suite(tmp_path, 50), np.random.default_rng(0)
    a, b = ([{SETS[0]: generator.random(50) < 0.7} for _ in range(k)] for k in (3, 2))
    pairs = [(x[SETS[0]], y[SETS[0]]) for x in a for y in b]
    by_pair = np.mean([[np.mean(p) for p in (x & y, x & ~y, ~x & y, ~x & ~y)] for x, y in pairs], axis=0)
    found = of_sides(side(suite, "a", a), side(suite, "b", b), suite, None)
    assert found.differences[SETS[0]].overlap == pytest.approx(by_pair.tolist())


def test_deterministic_rows_have_no_seed_noise(tmp_path: Path) -> None:
    suite = make_suite(tmp_path, 4)
    seeds = [{SETS[0]: s} for s in ([1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1])]
    fixed = side(suite, "fixed", [{SETS[0]: [0, 1, 0, 0]}] * 3, deterministic=True)
    other = side(suite, "other", [{SETS[0]: [0, 1, 1, 0]}], deterministic=True)
    free = of_sides(side(suite, "free", seeds), fixed, suite, None)
    assert free.differences[SETS[0]].seed == pytest.approx((np.var([0.75, 0.5, 1.0], ddof=1) / 3, 2))
    assert of_sides(fixed, other, suite, None).differences[SETS[0]].seed == (0.0, math.inf)
    assert "unknown" not in render(of_sides(fixed, other, suite, None), "table")
    assert "deterministic" in render(free, "table")


def test_a_class_by_hand_and_against_the_chi_square(tmp_path: Path) -> None:
    suite, a, b = two_runs(tmp_path, 2000)
    found, key = compare(a, b, str(suite.file)), make_key(suite)
    name = SETS[3]
    labels, changes = key.answers[f"{name}/own"], found.classes[name]
    x, y = found.a.shares[name], found.b.shares[name]
    by_hand = {f"c{c}": float((x - y)[labels == c].mean()) for c in range(CLASSES)}
    order = sorted(by_hand.values())
    assert [change.difference for change in changes.gains] == pytest.approx(order[: -SHOWN - 1 : -1])
    assert [change.difference for change in changes.losses] == pytest.approx([v for v in order if v < 0][:SHOWN])
    raw = []
    for c in range(CLASSES):
        only_a, only_b = ((side_ * (1 - other))[labels == c].sum() for side_, other in ((x, y), (y, x)))
        raw.append(scipy.stats.chi2.sf((only_a - only_b) ** 2 / (only_a + only_b), 1))
    adjusted = holm(raw)
    for change in (*changes.gains, *changes.losses):
        number = int(change.name[1:])
        assert change.p == pytest.approx(adjusted[number], rel=1e-9)
        assert change.difference == pytest.approx(by_hand[change.name])
        assert (change.n, change.a) == (int((labels == number).sum()), pytest.approx(x[labels == number].mean()))


@pytest.mark.parametrize(("n", "seeds"), [(200, 1), (200, 3), (2000, 1), (2000, 3)])
def test_classes_of_equal_models_are_rarely_called_different(tmp_path: Path, n: int, seeds: int) -> None:
    """Planted tie, 10 or 100 images a class: a false star in at most 6% of 200 repeats of one shift."""
    suite, generator = make_suite(tmp_path, n), np.random.default_rng(n + seeds)
    key, name = make_key(suite), SETS[1]
    labels, called = key.answers[f"{name}/own"], 0
    for _ in range(200):
        hard = generator.standard_normal(n)

        def row(hard: Any = hard) -> list[dict[str, Any]]:
            drift = 0.05 * generator.standard_normal((seeds, CLASSES)) * (seeds > 1)
            return [{name: 0.8 * hard + 0.6 * generator.standard_normal(n) < 0.7 + d[labels]} for d in drift]

        found = of_sides(side(suite, "a", row()), side(suite, "b", row()), suite, key)
        called += any(change.p <= 0.05 for changes in found.classes[name] for change in changes)
    assert called <= 12


def test_class_names_of_groups(tmp_path: Path) -> None:
    groups = [[3], [0, 5], [], *([[i] for i in range(6, 12)])]
    suite = make_suite(tmp_path, extra={SETS[4]: f"class_groups = {groups}"})
    spec = next(spec for spec in suite.shifts if spec.name == SETS[4])
    assert class_names(suite, spec)[:4] == ["c3", "c0/c5", "class 2", "c6"]
    key = make_key(suite)
    labels = key.answers[f"{SETS[4]}/own"]
    rows = [side(suite, name, [{SETS[4]: right}]) for name, right in (("a", labels < 2), ("b", labels == 1))]
    changes = of_sides(rows[0], rows[1], suite, key).classes[SETS[4]]
    assert [(change.name, change.difference) for change in changes.gains] == [("c3", 1.0)]
    assert changes.losses == ()


def test_unpaired_at_the_ends_of_the_scale(tmp_path: Path) -> None:
    """0 of 10 against 10 of 10: binomial variances of 0 would make any difference certain."""
    suite = make_suite(tmp_path, 10)
    ends = [side(suite, name, [{SETS[0]: [value] * 10}]) for name, value in (("none", 0), ("all", 1))]
    bare = [Side(s.name, s.runs, ()) for s in ends]
    one = of_sides(bare[0], bare[1], suite, None).differences[SETS[0]]
    p = 0.5 / 11
    assert one.image_variance == pytest.approx(2 * p * (1 - p) / 10)
    assert one.difference.low < -1 < one.difference.high < 0
