from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from fabricated import FT, START, make_baseline, make_run, make_suite, mix
from fabricated import shares as shares_of
from test_submission import INFO

from robustbench_ft import pairs, submission, summaries
from robustbench_ft.boards import image_variances, weights
from robustbench_ft.files import write_atomic
from robustbench_ft.pairs import Seeds, paired_variances
from robustbench_ft.statistics import (
    ALPHA,
    Floats,
    Noise,
    difference_pvalue,
    difference_pvalues,
    holm,
    paired_variance,
    rank_ranges,
)
from robustbench_ft.submission import Submission
from robustbench_ft.suites import Suite

WEIGHTS = {"a/own": 0.5, "b/own": 0.3, "c/own": 0.2}
SIZES = {"a/own": 1000, "b/own": 37, "c/own": 5000}


def rows_of(*seeds: int) -> list[Seeds]:
    """Made-up rows that find the same images hard."""
    generator = np.random.default_rng(0)
    hard = {name: generator.standard_normal(n) for name, n in SIZES.items()}
    return [
        [{name: h + generator.standard_normal(len(h)) < generator.uniform(-1, 2) for name, h in hard.items()} for _ in range(k)]
        for k in seeds
    ]


def shares(row: Seeds) -> dict[str, Floats]:
    return {name: np.mean([seed[name] for seed in row], axis=0) for name in SIZES}


def by_hand(rows: Sequence[Seeds]) -> Floats:
    """Pair by pair, from float shares."""
    return np.array([[paired_variance(shares(a), shares(b), WEIGHTS) for b in rows] for a in rows])


@pytest.mark.parametrize("exact", [pairs.EXACT, 9 * 50, 1])
def test_all_pairs_at_once_are_the_pairs(exact: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """``exact``: also with blocks of 50 images and of one."""
    monkeypatch.setattr(pairs, "EXACT", exact)
    rows = rows_of(1, 3, 2, 1, 3, 3)
    expected = by_hand(rows)
    found = paired_variances(rows, WEIGHTS)
    assert np.allclose(found, expected, rtol=1e-12, atol=0)
    assert np.array_equal(found, found.T)
    assert np.array_equal(paired_variances(rows, WEIGHTS, 4), found[4:])


def test_rows_that_answer_alike_have_no_variance() -> None:
    (one,) = rows_of(1)
    assert paired_variances([one, [*one] * 3, [*one] * 7], WEIGHTS).tolist() == [[0.0] * 3] * 3


def test_sums_are_exact_up_to_float32s_whole_numbers() -> None:
    """255 seeds that are all right on 300 images: each block's sum stays below 2^24."""
    right = np.ones(300, np.bool_)
    rows = [[{"s": right}] * 255, [{"s": right}] * 254 + [{"s": ~right}], [{"s": np.arange(300) < 299}] * 255]
    found = paired_variances(rows, {"s": 1.0})
    assert found[0, 1] == pytest.approx(0.0, abs=1e-18)
    assert found[0, 2] == pytest.approx(np.var(np.arange(300) < 299, ddof=1) / 300, rel=1e-12)


def test_pvalues_of_arrays() -> None:
    differences, images = np.array([0.02, -0.01, 0.0, 0.03, 0.0, 0.01]), np.array([1e-4, 1e-4, 1e-4, 0.0, 0.0, 0.0])
    seeds = np.array([2e-4, 0.0, 1e-4, 1e-4, 0.0, 0.0])
    found = difference_pvalues(differences, images, seeds, 8)
    total = images[:4] + seeds[:4]
    df = [total[0] ** 2 / (seeds[0] ** 2 / 8), np.inf, total[2] ** 2 / (seeds[2] ** 2 / 8), 8]
    t = np.abs(differences[:4]) / np.sqrt(total)
    assert np.allclose(found[:4], 2 * scipy.stats.t.sf(t, df), rtol=1e-12)
    assert found[4:].tolist() == [1.0, 0.0]
    for d, v, s, p in zip(differences, images, seeds, found, strict=True):
        assert difference_pvalue(float(d), float(v), Noise(float(s), 8)) == p


def test_rank_ranges_are_holms_row_by_row() -> None:
    generator = np.random.default_rng(1)
    for rows in (1, 2, 3, 12):
        values = np.sort(generator.integers(0, 6, rows))[::-1] / 100
        differences = values[:, None] - values
        p = np.minimum(1.0, np.exp(-np.abs(differences) * generator.uniform(50, 300)) * generator.uniform(0.2, 2, (rows, rows)))
        expected = []
        for row in range(rows):
            others = [j for j in range(rows) if j != row]
            adjusted = holm([float(p[row, j]) for j in others])
            different = [j for a, j in zip(adjusted, others, strict=True) if a <= ALPHA]
            better, worse = (sum(sign * differences[row, j] > 0 for j in different) for sign in (-1, 1))
            expected.append((1 + better, rows - worse))
        assert rank_ranges(differences, p) == expected


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    monkeypatch.setenv("RBFT_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(summaries, "SETTLED", -1)
    suite = make_suite(tmp_path, baseline=str(tmp_path / "toy.json"))
    make_baseline(suite).save(tmp_path / "toy.json")
    return suite


def submit(root: Path, suite: Suite, name: str, accuracies: tuple[float, ...], seeds: int) -> None:
    for seed in range(seeds):
        make_run(root / f"{name}/seed-{seed}", suite, accuracies, seed=seed, method=name)
    write_atomic(root / f"{name}/submission.toml", INFO)


def test_only_new_rows_are_multiplied(tmp_path: Path, suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    root, multiplied = tmp_path / "all", []

    def counted(rows: Sequence[Seeds], weights: dict[str, float], first: int) -> Floats:
        multiplied.append(len(rows) - first)
        return paired_variances(rows, weights, first)

    def variances(items: Sequence[Submission]) -> Floats:
        found = image_variances(items)
        for i, a in enumerate(items):
            for j, b in enumerate(items):
                expected = paired_variance(shares_of(a), shares_of(b), weights(a))
                assert found[i, j] == pytest.approx(expected, rel=1e-12, abs=1e-30), (a.name, b.name)
        return found

    monkeypatch.setattr("robustbench_ft.boards.paired_variances", counted)
    submit(root, suite, "b", FT, 3)
    submit(root, suite, "c", START, 1)
    items = submission.read_all(root, lambda name: suite)
    first = variances(items)
    assert np.array_equal(variances(items[::-1]), first[::-1, ::-1])
    assert multiplied == [2]
    submit(root, suite, "a", mix(0.5), 2)
    submit(root, suite, "d", FT, 3)  # the packs of b
    items = submission.read_all(root, lambda name: suite)
    found = variances(items)
    assert multiplied == [2, 1] and found[1, 3] == 0
    variances(items[2:])
    submit(root, suite, "c", mix(0.3), 1)
    variances(submission.read_all(root, lambda name: suite))
    assert multiplied == [2, 1, 1]
