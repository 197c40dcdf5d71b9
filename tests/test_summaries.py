import json
from pathlib import Path

import numpy as np
import pytest
from fabricated import FT, START, make_baseline, make_run, make_suite, mix
from test_submission import INFO

from robustbench_ft import packs, page, submission, summaries
from robustbench_ft.boards import boards
from robustbench_ft.errors import CheckError
from robustbench_ft.files import file_digest, write_atomic
from robustbench_ft.metrics import Scored, counts_of
from robustbench_ft.suites import Suite
from robustbench_ft.summaries import PackedHits, Summaries

BOOLS = np.array([True, False, True, True, False, False, True, False, True])


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as settled as soon as they are written."""
    monkeypatch.setattr(summaries, "SETTLED", -1)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RBFT_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


class Scorer:
    """Says that the images are right whose byte is odd, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, data: bytes) -> Scored:
        self.asked += 1
        hits = {"s/own": np.frombuffer(data, np.uint8) % 2 == 1}
        return Scored({**counts_of(hits)}, hits)


def test_hits_survive_packing() -> None:
    hits = {"a/own": BOOLS, "b/own": BOOLS[:8], "c/own": BOOLS[:1]}
    packed = PackedHits.of(hits)
    assert list(packed) == list(hits) and len(packed) == 3 and len(packed.bits) == 2 + 1 + 1
    for name, right in hits.items():
        assert packed[name].dtype == np.bool_ and packed[name].tolist() == right.tolist()
    with pytest.raises(ValueError, match="4 bytes, expected 3"):
        PackedHits({"a/own": 9, "b/own": 8}, packed.bits)


def test_a_file_is_scored_once_and_again_when_it_changes(tmp_path: Path, settled: None) -> None:
    path, score = tmp_path / "pack", Scorer()
    path.write_bytes(b"123456789")
    for _ in range(2):
        kept = Summaries(tmp_path, "protocol", "key")
        sha, (_, hits) = kept.scored(path, score)
        assert sha == file_digest(path) and hits["s/own"].tolist() == [True, False] * 4 + [True]
        kept.save()
    assert score.asked == 1
    path.write_bytes(b"223456789")  # the same size
    sha, (_, hits) = Summaries(tmp_path, "protocol", "key").scored(path, score)
    assert sha == file_digest(path) and score.asked == 2 and not hits["s/own"][0]


def test_a_known_file_is_not_read(tmp_path: Path, settled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    path, kept = tmp_path / "pack", Summaries(tmp_path, "protocol", "key")
    path.write_bytes(b"123456789")
    first = kept.scored(path, Scorer())
    monkeypatch.setattr(packs, "read", lambda path: pytest.fail("read again"))
    assert kept.scored(path, Scorer())[0] == first[0]


def test_a_file_that_was_just_written_is_read_again(tmp_path: Path) -> None:
    """It may change once more with the same size and time: its hash is not kept, but its hits are, by hash."""
    path, kept, score = tmp_path / "pack", Summaries(tmp_path, "protocol", "key"), Scorer()
    path.write_bytes(b"123456789")
    kept.scored(path, score)
    kept.save()
    assert not (kept.folder / summaries.FILES).exists()
    assert kept.scored(path, score)[0] == file_digest(path) and score.asked == 1


def test_a_copy_elsewhere_is_known_by_its_hash(tmp_path: Path, settled: None) -> None:
    kept, score = Summaries(tmp_path, "protocol", "key"), Scorer()
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"123456789")
        kept.scored(tmp_path / name, score)
    assert score.asked == 1


def test_another_protocol_or_key_has_summaries_of_its_own(tmp_path: Path) -> None:
    folders = {Summaries(tmp_path, *about).folder for about in (("p", "k"), ("p", "l"), ("q", "k"))}
    assert len(folders) == 3


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "swap", "json"])
def test_what_is_damaged_is_made_again(tmp_path: Path, settled: None, damage: str) -> None:
    kept, score = Summaries(tmp_path, "protocol", "key"), Scorer()
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"123456789")
    second.write_bytes(b"999999999")
    files = [kept.folder / f"{kept.scored(path, score)[0]}.json" for path in (first, second)]
    kept.save()
    good = files[0].read_bytes()
    bad = {
        "flip": good.replace(b'"bits": "', b'"bits": "A'),
        "cut": good[:-1],
        "empty": b"",
        "swap": files[1].read_bytes(),
        "json": good.partition(b"\n")[2],
    }[damage]
    assert bad != good
    files[0].write_bytes(bad)
    again = Summaries(tmp_path, "protocol", "key").scored(first, score)
    assert score.asked == 3 and again[1].hits["s/own"].tolist() == [True, False] * 4 + [True]
    assert files[0].read_bytes() == good


def test_damaged_lists_are_ignored(tmp_path: Path, settled: None) -> None:
    kept = Summaries(tmp_path, "protocol", "key")
    (tmp_path / "pack").write_bytes(b"123456789")
    kept.scored(tmp_path / "pack", Scorer())
    kept.keep_pairs("start", ["a", "b"], np.eye(2))
    kept.save()
    rows, matrix = kept.pairs("start")
    assert rows == ["a", "b"] and np.array_equal(matrix, np.eye(2))
    for path in (kept.folder / summaries.FILES, *kept.folder.glob("pairs-*")):
        path.write_bytes(path.read_bytes()[:-3] + b"xyz")
    again, score = Summaries(tmp_path, "protocol", "key"), Scorer()
    rows, matrix = again.pairs("start")
    assert rows == [] and matrix.shape == (0, 0)
    assert again.scored(tmp_path / "pack", score)[0] == file_digest(tmp_path / "pack") and score.asked == 0


def test_nothing_fails_where_nothing_can_be_kept(tmp_path: Path, settled: None) -> None:
    (tmp_path / "summaries").write_text("a file in the way")
    kept, score = Summaries(tmp_path, "protocol", "key"), Scorer()
    (tmp_path / "pack").write_bytes(b"123456789")
    assert kept.scored(tmp_path / "pack", score)[1].hits["s/own"].sum() == 5
    kept.keep_pairs("start", ["a"], np.eye(1))
    kept.save()
    assert kept.pairs("start")[0] == []


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    suite = make_suite(tmp_path, baseline=str(tmp_path / "toy.json"))
    make_baseline(suite).save(tmp_path / "toy.json")
    return suite


def submit(root: Path, suite: Suite, name: str, accuracies: tuple[float, ...]) -> None:
    for seed in range(3):
        make_run(root / f"{name}/seed-{seed}", suite, accuracies, seed=seed, method=name)
    write_atomic(root / f"{name}/submission.toml", INFO)


def text(root: Path, suite: Suite) -> str:
    (board,) = boards(submission.read_all(root, lambda name: suite))
    return page.section(board, "picture")


def test_the_page_is_the_same_without_with_and_with_damaged_summaries(
    tmp_path: Path, suite: Suite, store: Path, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "all"
    for name, accuracies in (("zeroshot", START), ("ft", FT), ("good", mix(0.5))):
        submit(root, suite, name, accuracies)
    cold = text(root, suite)
    (folder,) = (store / "summaries").iterdir()
    assert sorted(path.suffix for path in folder.iterdir()) == [".json"] * 10 + [".npz"]
    with monkeypatch.context() as patch:
        patch.setattr("robustbench_ft.metrics.score", lambda *_: pytest.fail("a pack was scored"))
        patch.setattr("robustbench_ft.boards.paired_variances", lambda *_: pytest.fail("pairs were multiplied"))
        assert text(root, suite) == cold
    for path in folder.iterdir():
        path.write_bytes(b"nonsense\n" + path.read_bytes())
    assert text(root, suite) == cold
    submit(root, suite, "more", mix(0.4))
    warm = text(root, suite)
    for path in folder.iterdir():
        path.unlink()
    assert text(root, suite) == warm != cold


def test_a_pack_that_changed_is_found_out_by_a_warm_run(tmp_path: Path, suite: Suite, store: Path, settled: None) -> None:
    submit(tmp_path / "all", suite, "ft", FT)
    text(tmp_path / "all", suite)
    path = tmp_path / "all/ft/seed-0/pack.safetensors"
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckError, match=r"seed-0/pack\.safetensors: SHA-256 is"):
        text(tmp_path / "all", suite)


def test_a_record_that_changed_is_found_out_by_a_warm_run(tmp_path: Path, suite: Suite, store: Path, settled: None) -> None:
    submit(tmp_path / "all", suite, "ft", FT)
    text(tmp_path / "all", suite)
    path = tmp_path / "all/ft/seed-0/record.json"
    record = json.loads(path.read_text())
    counts = next(point for point in record["points"] if point["headline"])["counts"]
    counts["toy-a/own"]["k"] += 1
    path.write_text(json.dumps(record))
    with pytest.raises(CheckError, match=r"record\.json: toy-a/own: the record says"):
        text(tmp_path / "all", suite)
