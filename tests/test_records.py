import json
from pathlib import Path
from typing import Any

import pytest
from fabricated import make_record, make_suite
from pydantic import ValidationError

from robustbench_ft import records
from robustbench_ft.errors import DataError
from robustbench_ft.records import Cost, Counts, Figure, Publication, RunRecord, load_publication

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
        ("surprise", 1, "surprise: unknown field"),
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


# printed figures


@pytest.mark.parametrize(
    ("text", "half"), [("0.70", 0.005), ("0.7", 0.05), ("0.7031", 0.00005), ("1.0", 0.05), ("0.000", 0.0005)]
)
def test_a_figure_knows_its_rounding(text: str, half: float) -> None:
    figure = Figure.model_validate({"value": text, "n": 10})
    assert (figure.accuracy, figure.n) == (float(text), 10) and figure.half == pytest.approx(half)
    again = Figure.model_validate_json(figure.model_dump_json())
    assert again == figure and again.half == figure.half
    assert Counts(k=7, n=10).half == 0.0


def test_a_figure_written_as_a_number_would_lose_its_decimals() -> None:
    with pytest.raises(ValidationError):
        Figure.model_validate_json('{"value": 0.70}')


RECORD = {
    "suite": "imagenet",
    "table": "Table 5",
    "start": "ViT-B/16",
    "method": "wiseft",
    "alpha": 0.5,
    "provenance": "own",
    "selection": {"alpha": "default"},
    "values": {"imagenet-val": {"value": "0.817", "n": 50000}, "imagenet-a": {"value": "0.36"}},
}
PUBLICATION = {
    "kind": "published",
    "schema": 1,
    "source": "A paper",
    "short": "Paper",
    "records": [RECORD | {"method": "ft"}, RECORD],
}


def published(folder: Path, **changes: Any) -> Path:
    (folder / "published.json").write_text(json.dumps(PUBLICATION | changes))
    return folder / "published.json"


def test_a_publication_is_read_with_its_decimals(tmp_path: Path) -> None:
    found = load_publication(published(tmp_path))
    assert (found.short, len(found.records), found.records[1].alpha) == ("Paper", 2, 0.5)
    values = found.records[1].values
    assert (values["imagenet-val"].half, values["imagenet-val"].n) == (0.0005, 50000)
    assert (values["imagenet-a"].half, values["imagenet-a"].n) == (0.005, None)
    assert Publication.model_validate_json(found.model_dump_json(by_alias=True)) == found


def figure(value: object, **more: object) -> dict[str, object]:
    return {"values": {"imagenet-r": {"value": value, **more}}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"surprise": 1}, r"records\.1\.surprise: unknown field"),
        (figure("1.2"), r"records\.1\.values\.imagenet-r\.value: .*less than or equal to 1"),
        (figure("71.2"), r"records\.1\.values\.imagenet-r\.value"),
        (figure("-0.1"), r"records\.1\.values\.imagenet-r\.value: .*greater than or equal to 0"),
        (figure("NaN"), r"records\.1\.values\.imagenet-r\.value: .*finite"),
        (figure("Infinity"), r"records\.1\.values\.imagenet-r\.value: .*finite"),
        (figure("high"), r"records\.1\.values\.imagenet-r\.value"),
        (figure(None), r"records\.1\.values\.imagenet-r\.value"),
        (figure("0.7", n=0), r"records\.1\.values\.imagenet-r\.n"),
        (figure("0.7", n=2.5), r"records\.1\.values\.imagenet-r\.n"),
        (figure("0.7", unit="%"), r"records\.1\.values\.imagenet-r\.unit: unknown field"),
        ({"values": {}}, r"records\.1\.values"),
        ({"provenance": "rumour"}, r"records\.1\.provenance"),
        ({"alpha": 1.5}, r"records\.1\.alpha"),
        ({"table": None}, r"records\.1\.table"),
    ],
)
def test_errors_name_file_record_and_field(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"published\.json: {said}"):
        load_publication(published(tmp_path, records=[RECORD, RECORD | change]))


def test_a_bare_nan_is_refused(tmp_path: Path) -> None:
    text = published(tmp_path).read_text().replace('"0.36"', "NaN", 1)
    (tmp_path / "published.json").write_text(text)
    with pytest.raises(
        DataError, match=r"published\.json: records\.0\.values\.imagenet-a\.value|published\.json: the file: Invalid JSON"
    ):
        load_publication(tmp_path / "published.json")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": 2}, "schema: .*later than this rbft reads"),
        ({"schema": "one"}, "schema: "),
        ({"surprise": 1}, "surprise: unknown field"),
        ({"kind": "run"}, "kind: "),
        ({"records": None}, "records: "),
    ],
)
def test_errors_of_a_publication_name_file_and_field(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"published\.json: {said}"):
        load_publication(published(tmp_path, **changes))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_files_that_are_no_publication(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "published.json").write_bytes(content)
    with pytest.raises(DataError, match=r"published\.json"):
        load_publication(tmp_path / "published.json")
    with pytest.raises(DataError, match="no published figures at"):
        load_publication(tmp_path / "none.json")
