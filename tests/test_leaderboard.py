"""The page, its pictures and its exports: what they say, when they are stale, what is refused."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fabricated import FT, MATCHED, START, make_baseline, make_matched, make_suite, mix
from test_ranks import board_of, root, submit, suite
from test_submission import INFO

from robustbench_ft import baselines, leaderboard, page
from robustbench_ft.errors import CheckError, DataError, MissingData, UnknownName
from robustbench_ft.leaderboard import check, export, read, write
from robustbench_ft.records import Counts
from robustbench_ft.suites import Suite

__all__ = ["root", "suite"]  # fixtures


def test_write_then_check_then_stale(root: Path, suite: Suite) -> None:
    written = write(root, lambda name: suite)
    assert [path.name for path in written] == ["leaderboard.md", "leaderboard-toy.svg", "leaderboard-toy.png"]
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
    path, *pictures = write(root, lambda name: suite)
    for picture in pictures:
        kept = picture.read_bytes()
        picture.unlink()
        with pytest.raises(CheckError, match=rf"leaderboard-toy\{picture.suffix}, which does not exist"):
            check(root, lambda name: suite)
        picture.write_bytes(kept)
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
    assert "![toy: OOD against ID accuracy of every row](docs/leaderboard-toy.svg)" in text


def test_an_empty_page_says_so(tmp_path: Path, suite: Suite) -> None:
    (tmp_path / "submissions").mkdir()
    write(tmp_path, lambda name: suite)
    assert "No submissions yet." in (tmp_path / "leaderboard.md").read_text()
    check(tmp_path, lambda name: suite)


@pytest.mark.parametrize("verb", [write, check, read])
def test_outside_a_checkout_nothing_is_written(tmp_path: Path, suite: Suite, verb: Callable[..., object]) -> None:
    (tmp_path / "leaderboard.md").write_text("mine")
    with pytest.raises(MissingData, match="no submissions/ in .*expected a checkout"):
        verb(tmp_path, lambda name: suite)
    assert [path.read_text() for path in tmp_path.iterdir() if path.suffix == ".md"] == ["mine"]


def test_exports(root: Path, suite: Suite) -> None:
    board, contents = board_of(root, suite), read(root, lambda name: suite)
    document = json.loads(export(contents, "json"))["boards"][0]
    assert [row["submission"] for row in document["rows"]] == [entry.submission.name for entry in board.entries]
    assert document["rows"][1]["rank"] == [1, 2] and document["rows"][0]["rank"] is None
    rows = list(csv.DictReader(io.StringIO(export(contents, "csv"))))
    assert float(rows[1]["ood_mean"]) == document["rows"][1]["ood_mean"]
    assert rows[1]["rank"] == "1;2" and rows[0]["rank"] == ""
    assert export(contents, "latex").count(r"\\") == len(board.entries) + 1
    assert "(1-2)" in export(contents, "markdown")
    with pytest.raises(UnknownName, match="unknown format 'html'"):
        export(contents, "html")
    assert leaderboard.FORMATS == ("markdown", "csv", "json", "latex")


def test_columns_of_effective_robustness_say_their_axis(tmp_path: Path) -> None:
    """Two shifts of 15 of the 20 classes: rho stands on ID accuracy over these, and the page says so (DESIGN 7.1)."""
    groups = {name: f"class_groups = {[[i] for i in range(15)]}" for name in MATCHED}
    suite = make_suite(tmp_path, 1000, baseline=str(tmp_path / "toy.json"), extra=groups)
    make_matched(suite).save(tmp_path / "toy.json")
    for name, accuracies in (("ft", FT), ("good", mix(0.5))):
        submit(tmp_path, suite, name, accuracies)
    write(tmp_path, lambda name: suite)
    text = (tmp_path / "leaderboard.md").read_text()
    header = next(line for line in text.splitlines() if line.startswith("| method ") and "rank" not in line)
    cells = [cell.strip() for cell in header.split("|")[2:-1]]
    assert cells.pop() == "mean,<br>all axes"
    assert ["class-matched ID" in cell for cell in cells] == [spec.name in MATCHED for spec in suite.shifts]
    assert text.count("‡") == 0 or "depends on the axes" in text


def test_rows_on_a_dead_piece_keep_their_columns(tmp_path: Path) -> None:
    """toy-v2 was filtered; below ID 80% its line says nothing: no second mean for the zero-shot row, and no shifted cells."""
    suite = make_suite(tmp_path, 1000, baseline=str(tmp_path / "toy.json"))
    baseline = make_baseline(suite, 20, noise=0.005, filtered={"toy-v2": "scratch-16"})
    models = [
        m.model_copy(update={"counts": m.counts | {"toy-v2": Counts(k=100 + i % 2, n=2000)}}) if i < 16 else m
        for i, m in enumerate(baseline.models)
    ]
    baseline.model_copy(update={"models": tuple(models)}).save(tmp_path / "toy.json")
    submit(tmp_path, suite, "zeroshot", START, deterministic=True)
    submit(tmp_path, suite, "ft", FT)
    contents = read(tmp_path, lambda name: suite)
    text = contents.text()
    assert (
        f"Baseline line `toy@1` (hash `{baselines.load(str(tmp_path / 'toy.json')).hash[:12]}`), fitted to those of 20 models"
        in text
    )
    assert (
        "Left out of the mean, as the line says nothing: v2 (ID up to 80" in text
        and "toy-v2 was filtered against scratch-16" in text
    )
    lines = [line.split("|") for line in export(contents, "markdown").splitlines() if line.startswith("|")]
    header, ft, zeroshot = (
        dict(zip((c.strip() for c in lines[0]), (c.strip() for c in row), strict=True)) for row in (lines[0], *lines[2:])
    )
    assert "with v2<br>mean over 5" in header
    assert ft["status"] == zeroshot["status"] == "rescored"
    assert ft["with v2<br>mean over 5"] != "-" == zeroshot["with v2<br>mean over 5"]
    assert zeroshot["relative<br>robustness<br>vs start"] == "0.0"
