"""Order, ranks and the smallest gap of a board, once more from the packs."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fabricated import FT, START, make_baseline, make_run, make_suite, mix, shares
from test_submission import INFO

from robustbench_ft.boards import Board, boards, image_variances, rankable, seed_values
from robustbench_ft.files import write_atomic
from robustbench_ft.statistics import Noise, difference_pvalue, paired_variance, pooled_seed_variance
from robustbench_ft.submission import read_all
from robustbench_ft.suites import Suite

GOOD, TWIN = mix(0.5), tuple(value - 0.002 for value in mix(0.5))


def submit(root: Path, suite: Suite, name: str, accuracies: tuple[float, ...], **fields: Any) -> None:
    """Three seeds (one for a deterministic method) whose accuracies differ by a few images."""
    seeds = fields.pop("seeds", 1 if fields.get("deterministic") else 3)
    shake = fields.pop("shake", 0.004)
    for seed in range(seeds):
        shaken = tuple(value + shake * (seed - 1) * (seeds > 1) for value in accuracies)
        make_run(root / f"submissions/{name}/seed-{seed}", suite, shaken, seed=seed, method=name, **fields)
    write_atomic(root / f"submissions/{name}/submission.toml", INFO.replace("Fine-tuning", f"Method {name}"))


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    suite = make_suite(tmp_path, 1000, baseline=str(tmp_path / "toy.json"))
    make_baseline(suite).save(tmp_path / "toy.json")
    return suite


@pytest.fixture
def root(tmp_path: Path, suite: Suite) -> Path:
    submit(tmp_path, suite, "zeroshot", START, deterministic=True)
    submit(tmp_path, suite, "ft", FT)
    submit(tmp_path, suite, "good", GOOD)
    submit(tmp_path, suite, "twin", TWIN)
    submit(tmp_path, suite, "oracle", tuple(v + 0.02 for v in GOOD), selection={"alpha": "oracle"})
    submit(tmp_path, suite, "unsaid", tuple(v - 0.02 for v in GOOD), selection={"lr": "unstated:my taste"}, seeds=2)
    return tmp_path


def board_of(root: Path, suite: Suite) -> Board:
    (board,) = boards(read_all(root / "submissions", lambda name: suite))
    return board


def test_order_and_ranks(root: Path, suite: Suite) -> None:
    board = board_of(root, suite)
    ranks = {entry.submission.name: entry.rank for entry in board.entries}
    assert list(ranks) == ["oracle", "good", "twin", "unsaid", "ft", "zeroshot"]
    assert ranks["oracle"] is None and ranks["unsaid"] is None
    assert ranks["good"] == ranks["twin"] == (1, 2)
    assert ranks["ft"] == (3, 3) and ranks["zeroshot"] == (4, 4)


def test_every_pair_of_ranks_by_hand(root: Path, suite: Suite) -> None:
    """Ranks once more from the packs: plain loops, p-values times the number of comparisons left."""
    items = [item for item in read_all(root / "submissions", lambda name: suite) if rankable(item)]
    s2 = pooled_seed_variance(
        seed_values(item) for item in read_all(root / "submissions", lambda name: suite) if item.name != "zeroshot"
    )
    assert s2 and s2.df == 4 * 2
    sets = {"toy-test/own": 0.5} | {f"{spec.name}/own": 0.1 for spec in suite.shifts}
    expected = {}
    for a in items:
        tests = []
        for b in items:
            if a is not b:
                share = sum(0 if item.name == "zeroshot" else 1 / 3 for item in (a, b))
                difference = float(np.mean(seed_values(a)) - np.mean(seed_values(b)))
                variance = paired_variance(shares(a), shares(b), sets)
                tests.append((difference_pvalue(difference, variance, Noise(s2.variance * share, 8)), difference))
        better = worse = 0
        for step, (p, difference) in enumerate(sorted(tests)):
            if p * (len(tests) - step) > 0.05:
                break
            better, worse = better + (difference < 0), worse + (difference > 0)
        expected[a.name] = (1 + better, len(items) - worse)
    assert {e.submission.name: e.rank for e in board_of(root, suite).entries if e.rank} == expected


def test_deterministic_rows_have_no_seed_noise(tmp_path: Path, suite: Suite) -> None:
    """Rows one point apart; seeds of the trained ones differ by 3 points, which hides their order alone."""
    for name, deterministic in (("a", True), ("b", True), ("c", False), ("d", False)):
        accuracies = tuple(value - 0.01 * (name in "bd") for value in FT)
        submit(tmp_path, suite, name, accuracies, deterministic=deterministic, shake=0.03)
    ranks = {entry.submission.name: entry.rank for entry in board_of(tmp_path, suite).entries}
    assert ranks["a"] == (1, 3) and ranks["b"] == (2, 4)
    assert ranks["c"] == ranks["d"] == (1, 4)


def test_smallest_gap(root: Path, suite: Suite) -> None:
    gap = board_of(root, suite).gap
    assert gap and gap.seed
    assert gap.seed.df == 4 * 2  # two seeds of `unsaid` and the deterministic row do not count
    assert gap.seed.variance == pytest.approx(0.004**2, rel=0.02)
    assert gap.value == pytest.approx(2.9 * (gap.image_variance + gap.seed.variance * 2 / 3) ** 0.5, rel=0.05)


def test_image_noise_is_the_median_of_all_pairs(root: Path, suite: Suite) -> None:
    items = [item for item in read_all(root / "submissions", lambda name: suite) if rankable(item)]
    sets = {"toy-test/own": 0.5} | {f"{spec.name}/own": 0.1 for spec in suite.shifts}
    by_hand = {(a.name, b.name): paired_variance(shares(a), shares(b), sets) for a, b in itertools.permutations(items, 2)}
    found = image_variances(items)
    for (i, a), (j, b) in itertools.permutations(enumerate(items), 2):
        assert found[i, j] == pytest.approx(by_hand[a.name, b.name], rel=1e-9)
    gap = board_of(root, suite).gap
    assert gap and gap.image_variance == pytest.approx(np.median(list(by_hand.values())), rel=1e-9)


def test_boards_never_mix_start_models(root: Path, suite: Suite) -> None:
    submit(root, suite, "other", FT, start={"name": "other-clip", "weights": "ab" * 32})
    found = boards(read_all(root / "submissions", lambda name: suite))
    assert [board.name for board in found] == ["toy-00000000", "toy-abababab"]
    assert [len(board.entries) for board in found] == [6, 1]
    assert found[1].gap is None and found[1].entries[0].rank == (1, 1)
