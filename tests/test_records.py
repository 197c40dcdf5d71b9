import json
from pathlib import Path
from typing import Any

import pytest
from fabricated import make_record, make_suite
from pydantic import ValidationError

from robustbench_ft import records
from robustbench_ft.errors import DataError
from robustbench_ft.records import Cost, Counts, RunRecord

POINTS = {"start": {"toy-test/own": Counts(k=3, n=4)}, "ft": {"toy-test/own": Counts(k=4, n=4)}}


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    return make_record(make_suite(tmp_path), POINTS, "ft")


def test_round_trip_and_same_bytes(record: RunRecord, tmp_path: Path) -> None:
    record.save(tmp_path / "a.json")
    assert records.load(tmp_path / "a.json") == record
    records.load(tmp_path / "a.json").save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text())["schema"] == 1


def test_headline_and_partial(record: RunRecord) -> None:
    assert record.headline.counts["toy-test/own"].accuracy == 1.0
    assert not record.partial
    assert record.model_copy(update={"missing": ("toy-a",)}).partial


def test_hash_leaves_out_cost_date_and_host_only(record: RunRecord) -> None:
    other = {"cost": Cost(fit_seconds=9, evaluate_seconds=9), "created": "later", "host": "elsewhere"}
    assert record.model_copy(update=other).record_hash == record.record_hash
    for change in ({"seed": 1}, {"config": {"lr": 1}}, {"commit": "abc"}, {"protocol": "x"}):
        assert record.model_copy(update=change).record_hash != record.record_hash


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("schema", 2, "schema: .*later than this rbft reads"),
        ("surprise", 1, "surprise: Extra inputs"),
        ("seed", "one", "seed: "),
        ("points", [], "exactly one point is the headline"),
        ("numerics", {"device": "cpu"}, r"numerics\.precision: Field required"),
    ],
)
def test_errors_name_file_and_field(record: RunRecord, tmp_path: Path, field: str, value: Any, said: str) -> None:
    record.save(tmp_path / "r.json")
    changed = json.loads((tmp_path / "r.json").read_text()) | {field: value}
    (tmp_path / "r.json").write_text(json.dumps(changed))
    with pytest.raises(DataError, match=rf"r\.json: .*{said}"):
        records.load(tmp_path / "r.json")


def test_points_have_one_headline_and_their_own_names(record: RunRecord) -> None:
    start, ft = (point.model_dump() for point in record.points)
    for points in (
        [start | {"headline": True}, ft],
        [start | {"name": "ft"}, ft],
        [start | {"alpha": float("nan")}, ft],
    ):
        with pytest.raises(ValidationError):
            RunRecord.model_validate(record.model_dump(by_alias=True) | {"points": points})


@pytest.mark.parametrize("values", [{"k": 5, "n": 4}, {"k": -1, "n": 4}, {"k": 0, "n": 0}, {"k": 0.5, "n": 4}])
def test_counts_that_cannot_be(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Counts(**values)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_files_that_are_no_record(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(DataError, match=r"r\.json"):
        records.load(tmp_path / "r.json")
    with pytest.raises(DataError, match="no record at"):
        records.load(tmp_path / "none.json")
