from pathlib import Path

import numpy as np
import pytest
from fabricated import FT, make_key, make_pack, make_run, make_suite

from robustbench_ft import packs
from robustbench_ft.errors import CheckError, DataError, MissingData, ProtocolError
from robustbench_ft.files import file_digest
from robustbench_ft.metrics import NO_LABEL, Truth, counts_of, grouped_labels, keep_key, key_of, recount, score, scored, truth_of
from robustbench_ft.records import Counted, Counts, RunRecord
from robustbench_ft.suites import Suite
from robustbench_ft.tallies import Tallies

GROUPED = {"toy-a": "class_groups = [[3], [1, 2], []]"}


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return make_suite(tmp_path)


def test_grouped_labels_by_hand() -> None:
    labels = np.array([0, 1, 2, 3, 19], np.uint16)
    assert grouped_labels(labels, None).tolist() == [0, 1, 2, 3, 19]
    assert grouped_labels(labels, ((3,), (1, 2), ())).tolist() == [NO_LABEL, 1, 1, 0, NO_LABEL]


def test_counts_are_right_answers(suite: Suite) -> None:
    pack = make_pack(suite, FT)
    counts = score(pack, make_key(suite), suite).counts
    assert list(counts) == [f"{spec.name}/own" for spec in suite.tests]
    for name, answers in pack.answers.items():
        assert counts[name] == Counts(k=int((answers == make_key(suite).answers[name]).sum()), n=400)
    assert counts["toy-test/own"].accuracy == pytest.approx(FT[0], abs=0.005)


def test_class_matched_id_counts(tmp_path: Path) -> None:
    """Under a shift's groups only ID images of its classes count, and the answer is a group."""
    suite = make_suite(tmp_path, 6, extra=GROUPED)
    key = make_key(suite)
    answers = dict(make_pack(suite, (1.0,) * 6).answers)
    key.answers["toy-test/own"][:] = [3, 1, 2, 0, 3, 7]
    answers["toy-test/own"] = np.zeros(6, np.uint16)
    answers["toy-test/toy-a"] = np.array([0, 1, 0, 1, 1, 1], np.uint16)
    hits = score(packs.Pack(suite.protocol, key.digests, answers), key, suite).hits
    assert hits["toy-test/toy-a"].tolist() == [True, True, False, False]
    assert counts_of(hits)["toy-test/toy-a"] == Counts(k=2, n=4)
    assert counts_of(hits)["toy-test/own"] == Counts(k=1, n=6)


def test_missing_sets_are_left_out_but_groupings_are_not_optional(tmp_path: Path) -> None:
    suite = make_suite(tmp_path, extra=GROUPED)
    full = make_pack(suite, FT)
    pack = full._replace(answers={name: given for name, given in full.answers.items() if name != "toy-test/toy-a"})
    with pytest.raises(DataError, match="toy-test/toy-a: the pack has nothing, the answer key 400 images"):
        score(pack, make_key(suite), suite)
    only = pack._replace(answers={"toy-v2/own": pack.answers["toy-v2/own"]})
    assert list(score(only, make_key(suite), suite).hits) == ["toy-v2/own"]


def test_protocols_digests_and_lengths_are_checked(suite: Suite) -> None:
    pack, key = make_pack(suite, FT), make_key(suite)
    with pytest.raises(ProtocolError, match="the pack has protocol other"):
        score(pack._replace(protocol="other"), key, suite)
    with pytest.raises(ProtocolError, match="the answer key has protocol other"):
        score(pack, key._replace(protocol="other"), suite)
    with pytest.raises(ProtocolError, match="toy-a: the pack's images"):
        score(pack._replace(digests=pack.digests | {"toy-a": "x"}), key, suite)
    with pytest.raises(DataError, match="toy-a/own: the pack has 3 images, the answer key 400 images"):
        score(pack._replace(answers=pack.answers | {"toy-a/own": np.zeros(3, np.uint16)}), key, suite)


def test_recount_accepts_an_honest_run(suite: Suite, tmp_path: Path) -> None:
    record = make_run(tmp_path / "run", suite, FT)
    found, hits = recount(tmp_path / "run", suite)
    assert found == record
    assert counts_of(hits) == record.headline.counts


def changed(record: RunRecord, folder: Path, counts: dict[str, Counted], digest: str | None = None) -> None:
    headline = record.headline.model_copy(update={"counts": counts, "pack": digest or record.headline.pack})
    others = tuple(point for point in record.points if not point.headline)
    record.model_copy(update={"points": (*others, headline)}).save(folder / "record.json")


def test_recount_names_file_set_and_both_numbers(suite: Suite, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    record = make_run(folder, suite, FT)
    counts = record.headline.counts
    k = counts["toy-a/own"].k
    changed(record, folder, counts | {"toy-a/own": Counts(k=k + 1, n=400)})
    with pytest.raises(CheckError, match=rf"record\.json: toy-a/own: the record says {k + 1} of 400, .*gives {k} of 400"):
        recount(folder, suite)
    changed(record, folder, {name: c for name, c in counts.items() if name != "toy-a/own"})
    with pytest.raises(CheckError, match="toy-a/own: the record says nothing"):
        recount(folder, suite)
    changed(record, folder, counts | {"toy-b/own": Counts(k=1, n=1)})
    with pytest.raises(CheckError, match=r"toy-b/own: .* gives nothing"):
        recount(folder, suite)


def test_recount_refuses_another_pack_or_protocol(suite: Suite, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    record = make_run(folder, suite, FT)
    packs.save(make_pack(suite, FT, seed=1), folder / "pack.safetensors")
    with pytest.raises(CheckError, match="SHA-256"):
        recount(folder, suite)
    changed(record, folder, record.headline.counts, file_digest(folder / "pack.safetensors"))
    record.model_copy(update={"protocol": "older"}).save(folder / "record.json")
    with pytest.raises(ProtocolError, match=r"record\.json: protocol older, but suite toy is now"):
        recount(folder, suite)


VIDEO = {
    "toy-v2": 'metric = "pm"\nwithin = 10',
    "toy-sketch": 'images_of = "toy-v2"\nmetric = "pm"\nwithin = 0\nheadline = false',
    "toy-rendition": 'images_of = "toy-v2"\nmetric = "pm"\nwithin = 1\nheadline = false',
    "toy-objectnet": 'metric = "macro-f1"',
    "toy-a": 'images_of = "toy-objectnet"\nmetric = "top1"\nheadline = false',
}
ANCHORS = {
    "anchor": np.array([0, 0, 0, 1, 1, 2]),
    "distance": np.array([0, 1, 7, 0, 2, 0]),
    "also-1": np.array([-1, 5, -1, -1, 6, 8]),
    "also-2": np.array([-1, -1, -1, -1, 9, -1]),
}
FRAMES = np.array([3, 3, 3, 4, 4, 7])


def test_pm_k_needs_the_anchor_and_every_near_neighbour_right_on_its_label_set(tmp_path: Path) -> None:
    suite = make_suite(tmp_path, 6, extra=VIDEO)
    answers = np.array([3, 5, 0, 4, 9, 8], np.uint16)  # anchor 0: the frame 7 away is wrong; 1 and 2: right by their other labels
    counts = scored(suite, suite.spec("toy-v2"), {"own": answers}, Truth(FRAMES, ANCHORS)).counts
    assert counts == {
        "toy-v2/own": Counts(k=2, n=3),
        "toy-sketch/own": Counts(k=3, n=3),
        "toy-rendition/own": Counts(k=3, n=3),
    }
    answers[[1, 3]] = 1  # now anchor 0 fails next door too, and anchor 1 itself is wrong
    counts = scored(suite, suite.spec("toy-v2"), {"own": answers}, Truth(FRAMES, ANCHORS)).counts
    assert [counts[f"{name}/own"].accuracy for name in ("toy-v2", "toy-rendition", "toy-sketch")] == [1 / 3, 1 / 3, 2 / 3]


def test_sets_that_share_images_are_packed_once_and_scored_each(tmp_path: Path) -> None:
    suite = make_suite(tmp_path, 6, extra=VIDEO)
    assert [spec.name for spec in suite.read] == ["toy-test", "toy-v2", "toy-objectnet"]
    for spec, truth in (
        (suite.test, Truth(np.arange(6), {})),
        (suite.spec("toy-v2"), Truth(FRAMES, ANCHORS)),
        (suite.spec("toy-objectnet"), Truth(np.array([0, 0, 1, 1, 1, 2]), {"unit": np.array([0, 0, 0, 1, 1, 1])})),
    ):
        keep_key(tmp_path / "store", suite, spec.name, truth, f"digest of {spec.name}")
    suite.file.with_suffix(".key.safetensors").unlink()
    key = key_of(suite, tmp_path / "store")
    truth = truth_of(key, "toy-v2")
    assert truth is not None and {name: values.tolist() for name, values in truth.columns.items()} == {
        name: values.tolist() for name, values in ANCHORS.items()
    }, "nothing is nothing again after the key's file"
    answers = {f"{name}/own": np.array([0, 0, 1, 1, 0, 0], np.uint16) for name in ("toy-test", "toy-v2", "toy-objectnet")}
    found = score(packs.Pack(suite.protocol, key.digests, answers), key, suite)
    f1 = found.counts["toy-objectnet/own"]
    assert isinstance(f1, Tallies) and f1.accuracy == pytest.approx((4 / 6 + 4 / 5 + 0) / 3)
    assert found.counts["toy-a/own"] == Counts(k=4, n=6)
    assert found.hits["toy-objectnet/own"].mean() == pytest.approx(f1.accuracy) and len(found.counts) == 6


def test_without_a_key_the_error_says_how_to_make_one(tmp_path: Path) -> None:
    suite = make_suite(tmp_path, 6)
    suite.file.with_suffix(".key.safetensors").unlink()
    with pytest.raises(MissingData, match="right answers of suite toy are not on this machine") as caught:
        key_of(suite, tmp_path)
    assert "rbft data index --suite toy" in caught.value.hint


def test_a_changed_tally_is_found(tmp_path: Path) -> None:
    """Also one that leaves the value as it is: counts are compared, not values."""
    suite = make_suite(tmp_path, extra={"toy-objectnet": 'metric = "macro-f1"'})
    record = make_run(tmp_path / "run", suite, FT)
    assert recount(tmp_path / "run", suite)[0] == record
    honest = record.headline.counts["toy-objectnet/own"]
    assert isinstance(honest, Tallies)
    for field in ("right", "called"):
        values = list(getattr(honest, field))
        values[0] -= 1
        false = honest.model_copy(update={field: tuple(values)})
        changed(record, tmp_path / "run", dict(record.headline.counts) | {"toy-objectnet/own": false})
        with pytest.raises(CheckError, match=r"toy-objectnet/own: the record says macro-f1 0\.\d+ from \d+ of 400"):
            recount(tmp_path / "run", suite)
