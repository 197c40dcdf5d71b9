from pathlib import Path

import numpy as np
import pytest
from fabricated import FT, make_key, make_pack, make_run, make_suite

from robustbench_ft import packs
from robustbench_ft.errors import CheckError, DataError, ProtocolError
from robustbench_ft.files import file_digest
from robustbench_ft.metrics import NO_LABEL, counts_of, grouped_labels, recount, score
from robustbench_ft.records import Counts, RunRecord
from robustbench_ft.suites import Suite

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
    counts = counts_of(score(pack, make_key(suite), suite))
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
    hits = score(packs.Pack(suite.protocol, key.digests, answers), key, suite)
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
    assert list(score(only, make_key(suite), suite)) == ["toy-v2/own"]


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


def changed(record: RunRecord, folder: Path, counts: dict[str, Counts], digest: str | None = None) -> None:
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
