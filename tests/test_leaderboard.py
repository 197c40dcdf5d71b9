import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fabricated import FT, START, make_baseline, make_run, make_suite, mix
from test_submission import INFO

from robustbench_ft import leaderboard, page
from robustbench_ft.errors import CheckError, DataError, UnknownName
from robustbench_ft.files import write_atomic
from robustbench_ft.leaderboard import Board, boards, check, export, rankable, seed_values, write
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
                variance = paired_variance(a.shares, b.shares, sets)
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


def test_boards_never_mix_start_models(root: Path, suite: Suite) -> None:
    submit(root, suite, "other", FT, start={"name": "other-clip", "weights": "ab" * 32})
    found = boards(read_all(root / "submissions", lambda name: suite))
    assert [board.name for board in found] == ["toy-00000000", "toy-abababab"]
    assert [len(board.entries) for board in found] == [6, 1]
    assert found[1].gap is None and found[1].entries[0].rank == (1, 1)


def test_write_then_check_then_stale(root: Path, suite: Suite) -> None:
    written = write(root, lambda name: suite)
    assert [path.name for path in written] == ["leaderboard.md", "leaderboard-toy.svg"]
    check(root, lambda name: suite)
    first = [path.read_bytes() for path in written]
    assert [path.read_bytes() for path in write(root, lambda name: suite)] == first
    text = written[0].read_text().replace("# Leaderboard", "# My own words")
    written[0].write_text(text)
    check(root, lambda name: suite)
    write(root, lambda name: suite)
    assert written[0].read_text() == text
    written[0].write_text(text.replace("(1-2)", "(1)"))
    with pytest.raises(CheckError, match=r"(?sm)is stale.*^-\| \(1\).*^\+\| \(1-2\)") as error:
        check(root, lambda name: suite)
    assert error.value.exit_code == 6 and error.value.hint == "rbft leaderboard"


def test_check_wants_page_picture_and_markers(root: Path, suite: Suite) -> None:
    with pytest.raises(CheckError, match=r"no .*leaderboard\.md"):
        check(root, lambda name: suite)
    path, picture = write(root, lambda name: suite)
    picture.unlink()
    with pytest.raises(CheckError, match=r"leaderboard-toy\.svg, which does not exist"):
        check(root, lambda name: suite)
    for broken in (page.EMPTY.replace(page.END, ""), page.EMPTY + page.BEGIN, f"{page.END} {page.BEGIN}"):
        path.write_text(broken)
        with pytest.raises(CheckError, match=r"leaderboard\.md: expected one line"):
            write(root, lambda name: suite)
        assert path.read_text() == broken


def test_nothing_is_written_where_a_submission_is_wrong(root: Path, suite: Suite) -> None:
    (root / "submissions/ft/seed-1/pack.safetensors").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"ft/seed-1/pack\.safetensors"):
        write(root, lambda name: suite)
    assert not (root / "leaderboard.md").exists()


def test_the_page_tells_what_a_reader_must_know(root: Path, suite: Suite) -> None:
    submit(root, suite, "lone", FT, seeds=1)
    info = root / "submissions/ft/submission.toml"
    info.write_text(INFO.replace("Fine-tuning", "A | <b>sly</b> title") + 'data_beyond_id = "10 more images"\n')
    write(root, lambda name: suite)
    text = (root / "leaderboard.md").read_text()
    lines = [line.split("|") for line in text.splitlines() if "(submissions/" in line]
    rows = {cells[2].strip(): [cell.strip() for cell in cells] for cells in lines}
    assert r"[A \| \<b\>sly\</b\> title](submissions/ft)" in text
    assert rows["[Method lone](submissions/lone)"][3] == "1 (seed noise unknown)"
    assert rows["[Method unsaid](submissions/unsaid)"][1:4:2] == ["-", "2 (few)"]
    assert rows["[Method unsaid](submissions/unsaid)"][-3] == "lr: unstated"
    assert rows["[Method zeroshot](submissions/zeroshot)"][3] == "deterministic"
    assert rows["[Method good](submissions/good)"][1] == "(1-2)"
    assert "Smallest gap this board can resolve: **" in text
    assert "10 more images" in text
    assert "![toy: OOD mean against ID of every row](docs/leaderboard-toy.svg)" in text


def test_an_empty_page_says_so(tmp_path: Path, suite: Suite) -> None:
    write(tmp_path, lambda name: suite)
    assert "No submissions yet." in (tmp_path / "leaderboard.md").read_text()
    check(tmp_path, lambda name: suite)


def test_exports(root: Path, suite: Suite) -> None:
    board = board_of(root, suite)
    document = json.loads(export([board], "json"))["boards"][0]
    assert [row["submission"] for row in document["rows"]] == [entry.submission.name for entry in board.entries]
    assert document["rows"][1]["rank"] == [1, 2] and document["rows"][0]["rank"] is None
    rows = list(csv.DictReader(io.StringIO(export([board], "csv"))))
    assert float(rows[1]["ood_mean"]) == document["rows"][1]["ood_mean"]
    assert rows[1]["rank"] == "1;2" and rows[0]["rank"] == ""
    assert export([board], "latex").count(r"\\") == len(board.entries) + 1
    assert "(1-2)" in export([board], "markdown")
    with pytest.raises(UnknownName, match="unknown format 'html'"):
        export([board], "html")
    assert leaderboard.FORMATS == ("markdown", "csv", "json", "latex")
