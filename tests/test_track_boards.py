"""Tracks: what they are made of, their boards from submissions, worked by hand, and what the page and the exports say."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fabricated import make_run, make_suite
from test_submission import INFO

from robustbench_ft import leaderboard, suites, tables, track_page
from robustbench_ft.errors import CheckError, UnknownName, UsageError
from robustbench_ft.files import write_atomic
from robustbench_ft.leaderboard import Contents, export
from robustbench_ft.statistics import wilson
from robustbench_ft.submission import Submission, read_all
from robustbench_ft.suites import Suite, Track
from robustbench_ft.track_boards import TrackBoard, boards

N = 1000
TRACK = Track(name="pair", title="A made-up track", suites=("one", "two"), error_reduction=True)


@pytest.fixture
def known(tmp_path: Path) -> dict[str, Suite]:
    """Two suites of 1,000 ID images without headline shifts, on sets of their own."""
    found = {}
    for name in ("one", "two"):
        plain = {f"toy-{kind}": "headline = false" for kind in ("v2", "sketch", "rendition", "objectnet", "a")}
        made = make_suite(tmp_path / name, N, extra=plain)
        text = made.file.read_text().replace('name = "toy"', f'name = "{name}"')
        write_atomic(tmp_path / name / f"{name}.toml", text)
        found[name] = _keyed(suites.load(str(tmp_path / name / f"{name}.toml")), made)
    return found


def _keyed(suite: Suite, made: Suite) -> Suite:
    """The renamed suite with the answer key of the one it was made from, under its own protocol."""
    from fabricated import make_key

    from robustbench_ft import packs

    key = make_key(made)
    packs.save(packs.Pack(suite.protocol, key.digests, key.answers), suite.file.with_suffix(".key.safetensors"))
    return suite


def submit(root: Path, suite: Suite, name: str, title: str, accuracy: float, **fields: Any) -> None:
    make_run(root / f"{name}/seed-0", suite, (accuracy, 0.5, 0.5, 0.5, 0.5, 0.5), seed=0, **{"method": "ft"} | fields)
    write_atomic(root / f"{name}/submission.toml", INFO.replace("Fine-tuning", title))


def read(root: Path, known: Mapping[str, Suite]) -> list[Submission]:
    return read_all(root, lambda name: known[name])


@pytest.fixture
def board(tmp_path: Path, known: dict[str, Suite]) -> TrackBoard:
    root = tmp_path / "submissions"
    for name, ft, better in (("one", 0.8, 0.9), ("two", 0.85, 0.88)):
        submit(root, known[name], f"{name}-ft", "Fine-tuning", ft)
        submit(root, known[name], f"{name}-better", "Better", better, method="wiseft")
    submit(root, known["two"], "two-only", "Only one", 0.95, method="lp")
    (found,) = boards(read(root, known), [TRACK])
    return found


def test_rows_by_hand(board: TrackBoard) -> None:
    better, ft, only = board.entries
    assert [entry.title for entry in board.entries] == ["Better", "Fine-tuning", "Only one"] and board.measures == ("ID",)
    assert {suite: round(score.value, 9) for suite, score in better.scores["ID"].items()} == {"one": 0.9, "two": 0.88}
    assert better.means["ID"].value == pytest.approx(0.89) and ft.means["ID"].value == pytest.approx(0.825)
    assert not only.means and set(only.items) == {"two"} and only.scores["ID"]["two"].value == pytest.approx(0.95)
    # the start model has 0.765 in every run; errors 0.235, of ft 0.2 and 0.15
    assert better.reductions["vs start"] == pytest.approx({"one": 0.135 / 0.235, "two": 0.115 / 0.235})
    assert better.reductions["vs ft"] == pytest.approx({"one": 0.5, "two": 0.2})
    assert better.mean_reductions == pytest.approx({"vs start": 0.25 / 0.47, "vs ft": 0.35})
    assert ft.mean_reductions == pytest.approx({"vs start": (0.035 + 0.085) / 0.47, "vs ft": 0.0})
    assert only.reductions["vs ft"] == pytest.approx({"two": 2 / 3}) and not only.mean_reductions


def test_the_mean_s_interval_is_of_independent_halves(board: TrackBoard) -> None:
    mean = board.entries[0].means["ID"]
    low, high = (math.hypot(*((wilson(p, N)[end] - p) / 2 for p in (0.9, 0.88))) for end in (1, 2))
    assert (mean.value - mean.low, mean.high - mean.value) == pytest.approx((low, high))


def test_a_reference_without_error_says_nothing(tmp_path: Path, known: dict[str, Suite]) -> None:
    for name in ("one", "two"):
        submit(tmp_path / "all", known[name], f"{name}-ft", "Fine-tuning", 1.0 if name == "one" else 0.8)
        submit(tmp_path / "all", known[name], f"{name}-b", "B", 0.9, method="lp")
    (found,) = boards(read(tmp_path / "all", known), [TRACK])
    row = next(entry for entry in found.entries if entry.title == "B")
    assert row.reductions["vs ft"] == pytest.approx({"two": 0.5}) and "vs ft" not in row.mean_reductions


def test_ft_chosen_on_test_scores_is_no_reference(tmp_path: Path, known: dict[str, Suite]) -> None:
    for name in ("one", "two"):
        submit(tmp_path / "all", known[name], f"{name}-a", "FT, best", 0.9, selection={"lr": "oracle"})
        submit(tmp_path / "all", known[name], f"{name}-b", "FT", 0.8)
        submit(tmp_path / "all", known[name], f"{name}-c", "C", 0.84, method="lp")
    (found,) = boards(read(tmp_path / "all", known), [TRACK])
    row = next(entry for entry in found.entries if entry.title == "C")
    assert row.reductions["vs ft"] == pytest.approx({"one": 0.2, "two": 0.2})


def test_start_models_have_boards_of_their_own(tmp_path: Path, known: dict[str, Suite]) -> None:
    for number, weights in enumerate(("a" * 64, "b" * 64)):
        for name in ("one", "two"):
            start = {"name": f"model-{number}", "weights": weights}
            submit(tmp_path / "all", known[name], f"{name}-{number}", "FT", 0.8 + number / 10, start=start)
    found = boards(read(tmp_path / "all", known), [TRACK])
    assert [(one.start.name, round(one.entries[0].means["ID"].value, 9)) for one in found] == [("model-0", 0.8), ("model-1", 0.9)]


def test_two_submissions_of_one_title_and_suite_are_refused(tmp_path: Path, known: dict[str, Suite]) -> None:
    for name in ("first", "second"):
        submit(tmp_path / "all", known["one"], name, "FT", 0.8)
    with pytest.raises(CheckError, match="first and second are both called 'FT' on one"):
        boards(read(tmp_path / "all", known), [TRACK])


def test_no_submission_no_board_and_no_text(tmp_path: Path, known: dict[str, Suite]) -> None:
    submit(tmp_path / "all", known["one"], "ft", "FT", 0.8)
    assert boards(read(tmp_path / "all", known), [TRACK.model_copy(update={"suites": ("three", "two")})]) == []


def test_means_under_shift_are_shown_for_tracks_of_suites_with_shifts(tmp_path: Path) -> None:
    """Both suites have the same shifts, as patching's have: a mean over them has no interval."""
    found = {}
    for name in ("one", "two"):
        made = make_suite(tmp_path / name, N)
        write_atomic(tmp_path / name / f"{name}.toml", made.file.read_text().replace('name = "toy"', f'name = "{name}"'))
        found[name] = _keyed(suites.load(str(tmp_path / name / f"{name}.toml")), made)
        make_run(tmp_path / f"all/{name}/seed-0", found[name], (0.9, 0.5, 0.6, 0.7, 0.8, 0.4), seed=0)
        write_atomic(tmp_path / f"all/{name}/submission.toml", INFO)
    track = TRACK.model_copy(update={"shifts": True, "error_reduction": False})
    (board,) = boards(read(tmp_path / "all", found), [track])
    (entry,) = board.entries
    assert board.measures == ("ID", "OOD mean", "ID/OOD mean") and not board.references
    values = {name: round(mean.value, 9) for name, mean in entry.means.items()}
    assert values == {"ID": 0.9, "OOD mean": 0.6, "ID/OOD mean": 0.75}
    assert math.isnan(entry.means["OOD mean"].low) and not math.isnan(entry.scores["OOD mean"]["one"].low)
    text = track_page.section(board)
    assert text.index("ID, per suite:") < text.index("OOD mean, per suite:") < text.index("ID/OOD mean, per suite:")
    assert "error reduction" not in text.lower()


def test_the_page_s_section(board: TrackBoard) -> None:
    text = track_page.section(board)
    lines = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in text.splitlines() if "|" in line
    }
    assert lines["method"] == ["one", "two", "mean", "error<br>reduction<br>vs start", "error<br>reduction<br>vs ft"]
    assert lines["Better"][0] == "[90.0 ±2.0](submissions/one-better)" and lines["Better"][2:] == ["89.0 ±1.5", "+53.2", "+35.0"]
    assert lines["Fine-tuning"][3:] == ["+25.5", "0.0"] and lines["Only one"][0] == lines["Only one"][2] == tables.ABSENT
    assert text.startswith("## pair, toy-clip: mean over suites") and "never ranked" in text and "No row has" not in text
    wider = TrackBoard(TRACK.model_copy(update={"suites": ("one", "two", "three")}), board.start, board.measures, board.entries)
    assert "No row has three." in track_page.section(wider)


def test_exports_carry_the_boards(board: TrackBoard) -> None:
    contents = Contents([], [], {}, [board])
    (track,) = json.loads(export(contents, "json"))["tracks"]
    assert (track["track"], track["suites"], [row["title"] for row in track["rows"]]) == (
        "pair", ["one", "two"], ["Better", "Fine-tuning", "Only one"],
    )  # fmt: skip
    assert track["rows"][0]["error_reduction_mean"]["vs ft"] == pytest.approx(0.35)
    assert track["rows"][0]["submissions"] == {"one": "one-better", "two": "two-better"}
    rows = list(csv.DictReader(io.StringIO(export(contents, "csv"))))
    assert [row["suite"] for row in rows] == ["pair"] * 3 and float(rows[0]["means.ID.value"]) == pytest.approx(0.89)
    assert float(rows[1]["error_reduction.vs ft.two"]) == 0 and rows[2]["means.ID.value"] == ""
    assert "Only one" in export(contents, "latex") and "submissions/" not in export(contents, "latex")


def test_the_leaderboard_has_a_section_where_a_track_has_submissions(
    tmp_path: Path, board: TrackBoard, known: dict[str, Suite], monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(name: str) -> Suite:
        return known[name]

    assert board.entries  # the submissions are written
    assert leaderboard.read(tmp_path, find).track_boards == []
    monkeypatch.setattr(suites, "track_names", lambda: ["pair"])
    monkeypatch.setattr(suites, "track", lambda name: TRACK)
    contents = leaderboard.read(tmp_path, find)
    assert [one.track.name for one in contents.track_boards] == ["pair"]
    text = contents.text()
    assert "- [pair, toy-clip: mean over suites](#pair-toy-clip-mean-over-suites)" in text and text.count("## pair") == 1


# the tracks of the package


@pytest.mark.parametrize("name", suites.track_names())
def test_a_track_s_suites_are_there_and_its_sets_their_id_test_sets(name: str) -> None:
    track = suites.track(name)
    members = [suites.load(suite) for suite in track.suites]
    assert track.name == name and [spec.name for spec in track.sets] == [suite.test.name for suite in members]
    assert suites.panel(name) == track and name in suites.panel_names() and not suites.is_suite(name)
    assert all(suite.headline_shifts for suite in members) == track.shifts
    with pytest.raises(UsageError, match=f"{name} is a track; its suites: {track.suites[0]}"):
        suites.load(name)


def test_the_tracks_are_those_of_the_benchmark() -> None:
    assert suites.track_names() == ["patching", "transfer", "wilds"]
    assert len(suites.track("transfer").sets) == 11 and suites.track("transfer").error_reduction
    tasks = {"cars", "dtd", "eurosat", "gtsrb", "kitti", "mnist", "resisc45", "sun397", "svhn"}
    assert {name.removeprefix("patching-") for name in suites.track("patching").suites} == tasks
    with pytest.raises(UnknownName, match="track"):
        suites.track("patchwork")


@pytest.mark.parametrize("name", suites.track("patching").suites)
def test_patching_keeps_five_supported_tasks_under_heads_of_their_own(name: str) -> None:
    suite = suites.load(name)
    assert [spec.val and f"{spec.val.dataset}/{spec.val.part}" for spec in suite.shifts] == [
        "imagenet/val", "cifar10/val", "cifar100/val", "stl10/val", "food101/val"
    ]  # fmt: skip
    supported = [(spec.dataset, spec.split) for spec in suite.shifts]
    assert supported == [("imagenet", "val"), ("cifar10", "test"), ("cifar100", "test"), ("stl10", "test"), ("food101", "test")]
    for spec in suite.shifts:
        assert spec.head == "own" and spec.headline and spec.class_groups is None and spec.classes and spec.templates
        assert spec.name.endswith("-own-names") and not spec.aliases  # another head, another column (DESIGN 5)
    assert suite.no_baseline and suite.test.dataset == name.removeprefix("patching-") and suite.test.head == "suite"


def test_a_name_that_two_sets_of_a_track_go_by_is_neither_s() -> None:
    assert all("id_test" in suites.panel(name).test.aliases for name in ("iwildcam", "fmow"))  # type: ignore[union-attr]
    assert not any("id_test" in spec.aliases for spec in suites.track("wilds").sets)


SHARED = """
[[shifts]]
name = "shared"
format = "made-up"
path = "."
split = "shared"
n = 10
"""


def test_shifts_may_be_shared_by_suites(tmp_path: Path) -> None:
    text = make_suite(tmp_path).file.read_text().replace("version = 1", 'version = 1\nshifts_from = "shared.toml"')
    file = tmp_path / "other.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"other\.toml: shifts_from: no file at .*shared\.toml"):
        suites.parse(file)
    (tmp_path / "shared.toml").write_text(SHARED)
    assert [spec.name for spec in suites.parse(file).shifts] == [*(s.name for s in make_suite(tmp_path).shifts), "shared"]
    file.write_text(text.replace("shared.toml", "sported"))
    with pytest.raises(UnknownName, match=r"shared shifts 'sported'\. Did you mean supported\?"):
        suites.parse(file)
