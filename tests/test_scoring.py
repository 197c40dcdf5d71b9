from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from robustbench_ft import baselines, scoring, suites
from robustbench_ft.errors import DataError, PartialError, RbftError, UnknownName, UsageError
from robustbench_ft.scoring import Pool, Request

ROOT = Path(__file__).resolve().parents[1]
TABLE = """model,dataset,value
zero-shot,ImageNet,68.3
zero-shot,ImageNetV2,61.9
zero-shot,ImageNet-R,77.7
zero-shot,ImageNet-Sketch,48.2
zero-shot,ObjectNet,55.3
zero-shot,ImageNet-A,50.0
wise,ImageNet,81.7
wise,imagenet v2,72.8
wise,IN-R,78.7
wise,sketch,53.9
wise,objectnet,57.3
wise,ImageNet.A,52.2
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(TABLE)
    return path


def document(asked: Request) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(scoring.run(asked), parse_constant=refuse)


def test_a_table_in_percent_gives_the_document_of_the_issue(table: Path) -> None:
    found = document(Request(table, percent=True, as_json=True))
    assert found["baseline"] == "imagenet-testbed@1"
    zero, wise = found["rows"]
    assert (zero["model"], zero["id"]) == ("zero-shot", 0.683)
    assert zero["ood_mean"] == pytest.approx((0.619 + 0.777 + 0.482 + 0.553 + 0.5) / 5)
    assert set(zero["scores"]["imagenet-v2"]) == {"value", "low", "high", "n"}
    assert zero["scores"]["imagenet-v2"]["n"] == 10_000
    assert {"value", "low", "high", "axis", "extrapolated"} <= set(zero["effective_robustness"]["imagenet-r"])
    assert wise["relative_robustness"]["imagenet-v2"]["value"] == pytest.approx(0.728 - 0.619)
    assert zero["relative_robustness_mean"] == {"value": 0, "low": 0, "high": 0}


def test_rho_by_hand_from_the_lines_coefficients(table: Path) -> None:
    row = document(Request(table, percent=True, as_json=True))["rows"][1]
    piece = baselines.load("imagenet-testbed@1").lines(suites.panel("imagenet"))["objectnet"]["full"].pieces[0]  # type: ignore[arg-type]
    logit = piece.intercept + piece.slope * math.log(0.817 / 0.183)
    rho = row["effective_robustness"]["objectnet"]
    assert rho["value"] == pytest.approx(0.573 - 1 / (1 + math.exp(-logit)), abs=1e-12)
    assert (rho["axis"], rho["extrapolated"]) == ("full", False)
    assert row["effective_robustness_mean"]["over"] == ["imagenet-v2", "imagenet-r", "imagenet-sketch", "objectnet"]
    assert row["effective_robustness_mean_all"]["over"][-1] == "imagenet-a"


def test_the_axes_can_be_chosen(table: Path) -> None:
    values = {
        axes: document(Request(table, axes=axes, percent=True, as_json=True))["rows"][1]["effective_robustness"]["objectnet"]
        for axes in ("logit", "probit", "linear")
    }
    low, high = (values["logit"]["sensitivity"][end] for end in ("low", "high"))
    assert len({v["value"] for v in values.values()}) == 3
    assert (low, high) == pytest.approx((min(v["value"] for v in values.values()), max(v["value"] for v in values.values())))


def test_one_row_a_model_in_every_format(table: Path) -> None:
    text = scoring.run(Request(table, percent=True))
    assert "2 models of table.csv on imagenet, baseline imagenet-testbed@1, relative to zero-shot" in text
    assert "effective" in text and "with a" in text and "(+48.0 ±1.2)" in text
    assert scoring.run(Request(table, percent=True, form="csv")).startswith("model,")
    assert r"\begin{tabular}" in scoring.run(Request(table, percent=True, form="latex"))
    with pytest.raises(UnknownName, match="csv, latex, markdown, table"):
        scoring.run(Request(table, percent=True, form="html"))


def test_a_table_without_a_shift_needs_partial(table: Path) -> None:
    table.write_text(TABLE.replace("wise,ImageNet.A,52.2\n", ""))
    with pytest.raises(PartialError, match="table.csv: model 'wise' has no imagenet-a: no OOD mean over 5 shifts") as caught:
        scoring.run(Request(table, percent=True))
    assert caught.value.hint.endswith("--partial")
    row = document(Request(table, percent=True, partial=True, as_json=True))["rows"][1]
    assert row["ood_mean"] is None and row["id_ood_mean"] is None and row["partial"] == ["imagenet-a"]
    assert row["effective_robustness"]["imagenet-r"]["value"] > 0


def test_the_start_model_is_named_or_not_known(table: Path) -> None:
    assert document(Request(table, percent=True, start="wise", as_json=True))["rows"][1]["relative_robustness_mean"]["value"] == 0
    with pytest.raises(UnknownName, match="unknown model 'nobody'"):
        scoring.run(Request(table, percent=True, start="nobody"))
    table.write_text(TABLE.replace("zero-shot", "clip"))
    assert document(Request(table, percent=True, as_json=True))["rows"][0]["relative_robustness"] == {}


def test_class_matched_id_is_used_with_the_size_that_the_baseline_knows(table: Path) -> None:
    table.write_text(TABLE + "wise,val-on-objectnet-classes,85.0\n")
    rows = document(Request(table, percent=True, as_json=True))["rows"]
    rho = rows[1]["effective_robustness"]["objectnet"]
    assert (rho["axis"], rho["id"]) == ("class-matched", 0.85)
    assert rho["low"] is not None
    text = scoring.run(Request(table, percent=True))
    assert "†" in text and "full ID axis" in text


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (("wise,sketch,53.9", "wise,sketch,nan"), ("row 11", "value", "nan")),
        (("wise,sketch,53.9", "wise,sketch,530"), ("row 11", "value", "530")),
        (("wise,sketch,53.9", "wise,sketchy,53.9"), ("row 11", "dataset", "sketchy", "imagenet-sketch")),
        (("wise,sketch,53.9", "wise,IN-R,53.9"), ("row 11", "a second figure of 'wise' on imagenet-r", "row 10")),
        (("model,dataset,value", "model,dataset,colour"), ("colour",)),
    ],
)
def test_what_is_wrong_is_named_by_file_row_and_field(table: Path, change: tuple[str, str], parts: tuple[str, ...]) -> None:
    assert change[0] in TABLE
    table.write_text(TABLE.replace(*change))
    with pytest.raises(DataError) as caught:
        scoring.run(Request(table, percent=True))
    assert all(part in str(caught.value) for part in ("table.csv", *parts)), str(caught.value)
    assert list(table.parent.iterdir()) == [table]


def test_fractions_are_expected_unless_percent_is_said(table: Path) -> None:
    with pytest.raises(DataError, match=r"68.3: expected a fraction in \[0, 1\]; --percent reads percent"):
        scoring.run(Request(table))


def test_published_figures_are_scored_like_a_table() -> None:
    text = scoring.run(Request(ROOT / "submissions" / "tpgm", partial=True))
    assert "imagenet, start model ViT-B/16" in text and "tpgm" in text
    found = document(Request(ROOT / "submissions" / "wiseft-paper" / "published.json", as_json=True))
    rows = [row for board in found["boards"] for row in board["rows"]]
    assert {"Table 1", "Table 5"} <= {row["table"] for row in rows} and all(row["status"] == "published" for row in rows)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: d | {"colour": 1}, "colour: unknown field"),
        (lambda d: d | {"schema": 2}, "schema 2 is later than this rbft reads"),
        (
            lambda d: d | {"records": [d["records"][0] | {"values": {"mnist": {"value": "0.5"}}}]},
            "records.0.values: mnist is no test",
        ),
        (
            lambda d: d | {"records": [d["records"][0] | {"values": {"imagenet-a": {"value": "50"}}}]},
            "records.0.values.imagenet-a",
        ),
    ],
)
def test_a_wrong_publication_is_named_by_file_record_and_field(tmp_path: Path, change: Any, told: str) -> None:
    value = json.loads((ROOT / "submissions" / "tpgm" / "published.json").read_text())
    (tmp_path / "published.json").write_text(json.dumps(change(value)))
    with pytest.raises(DataError) as caught:
        scoring.run(Request(tmp_path))
    assert "published.json" in str(caught.value) and told in str(caught.value)


def test_scoring_a_table_imports_no_torch(table: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from robustbench_ft import scoring\n"
        f"scoring.run(scoring.Request(Path({str(table)!r}), percent=True)); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


POOL = "model,dataset,value\n" + "".join(
    f"m{i},{name},{v:.3f}\n" for i in range(6) for name, v in (("home", 0.3 + i / 20), ("away", 0.2 + i / 25))
)


def pool(path: Path, **more: Any) -> Pool:
    return Pool(path, "mine@1", path.with_name("mine.json"), **{"id_set": "home", "classes": 10, **more})


def test_a_baseline_of_ones_own_is_fitted_written_and_used(tmp_path: Path) -> None:
    path = tmp_path / "pool.csv"
    path.write_text(POOL)
    assert "wrote" in scoring.fit(pool(path))
    line = baselines.load(str(tmp_path / "mine.json")).lines(baselines.load(str(tmp_path / "mine.json")).panel())
    from scipy.stats import linregress

    logit = [
        [math.log(v / (1 - v)) for v in values] for values in ([0.3 + i / 20 for i in range(6)], [0.2 + i / 25 for i in range(6)])
    ]
    expected = linregress(*logit)
    piece = line["away"]["full"].pieces[0]
    assert (piece.slope, piece.intercept) == pytest.approx((expected.slope, expected.intercept), abs=1e-9)
    rows = document(Request(path, baseline=str(tmp_path / "mine.json"), as_json=True))["rows"]
    assert rows[2]["effective_robustness"]["away"]["value"] == pytest.approx(0, abs=0.01)


def test_another_pool_never_takes_the_place_of_a_baseline_or_of_the_table(tmp_path: Path) -> None:
    path = tmp_path / "pool.csv"
    path.write_text(POOL)
    scoring.fit(pool(path))
    before = (tmp_path / "mine.json").read_bytes()
    scoring.fit(pool(path))  # the same pool again is no other
    path.write_text(POOL.replace("0.300", "0.310"))
    with pytest.raises(UsageError, match="mine.json holds another baseline") as caught:
        scoring.fit(pool(path))
    assert caught.value.hint.startswith("--name mine@2") and (tmp_path / "mine.json").read_bytes() == before
    table = path.with_suffix(".json")
    table.write_text(json.dumps([{"model_name": f"m{i}", "home": 0.3 + i / 20, "away": 0.2 + i / 25} for i in range(6)]))
    with pytest.raises(UsageError, match="is the table itself"):
        scoring.fit(Pool(table, "mine@1", table, id_set="home", classes=10))
    with pytest.raises(UsageError, match="imagenet-testbed@1 is a baseline of the package"):
        scoring.fit(Pool(path, "imagenet-testbed@1", tmp_path / "x.json", id_set="home", classes=10))
    with pytest.raises(UsageError, match="expected a .json file"):
        scoring.fit(Pool(path, "mine@1", tmp_path / "mine.txt", id_set="home", classes=10))
    with pytest.raises(UsageError, match="cannot write"):
        scoring.fit(Pool(path, "mine@1", path / "x.json", id_set="home", classes=10))
    assert path.read_text().startswith("model,dataset,value")


def test_a_hint_keeps_what_was_given_and_a_run_takes_no_option_of_tables(table: Path) -> None:
    table.write_text(TABLE.replace("wise,ImageNet.A,52.2\n", ""))
    with pytest.raises(PartialError) as caught:
        scoring.run(Request(table, percent=True, baseline="imagenet-testbed@1"))
    assert caught.value.hint == f"rbft score {table} --baseline imagenet-testbed@1 --percent --partial"
    with pytest.raises(UsageError, match="are for tables; .* is a run"):
        scoring.run(Request(ROOT / "submissions" / "mini-ft", percent=True))
    with pytest.raises(DataError, match="no such file or folder; expected a run, a submission or a table"):
        scoring.run(Request(table.with_name("none.csv")))


def test_published_figures_are_one_csv_with_their_suite_and_start(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(scoring.run(Request(ROOT / "submissions" / "wiseft-paper", form="csv")).splitlines()))
    assert {(row["suite"], row["start"]) for row in rows} >= {("imagenet", "ViT-B/16"), ("fmow", "ViT-L/14@336px")}
    assert {row["seeds"] for row in rows} == {""}


def test_a_wilds_pool_takes_macro_f1(tmp_path: Path) -> None:
    path = tmp_path / "pool.csv"
    path.write_text(POOL.replace("home", "iwildcam id").replace("away", "iwildcam ood"))
    assert "rbft baseline fit TABLE.csv --suite iwildcam" in scoring.run(Request(path)).replace("\n", " ")
    scoring.fit(Pool(path, "iwildcam@1", tmp_path / "wild.json", suite="iwildcam", classes=182))
    row = document(Request(path, baseline=str(tmp_path / "wild.json"), as_json=True))["rows"][0]
    rho = row["effective_robustness"]["iwildcam-test"]
    assert abs(rho["value"]) < 0.02 and rho["low"] is None and row["scores"]["iwildcam-test"]["low"] is None


@pytest.mark.parametrize(
    ("more", "kind", "told"),
    [
        ({"id_set": "nowhere"}, UnknownName, "nowhere"),
        ({"suite": "imagenet"}, UsageError, "--suite and --id-set"),
        ({"classes": None}, UsageError, "number of classes"),
    ],
)
def test_a_pool_that_cannot_be_fitted_writes_nothing(tmp_path: Path, more: Any, kind: type[RbftError], told: str) -> None:
    path = tmp_path / "pool.csv"
    path.write_text(POOL)
    with pytest.raises(kind, match=told):
        scoring.fit(pool(path, **more))
    assert not (tmp_path / "mine.json").exists()


def test_a_pool_needs_a_versioned_name_and_three_models_with_a_shift(tmp_path: Path) -> None:
    path = tmp_path / "pool.csv"
    path.write_text(POOL)
    with pytest.raises(UsageError, match="id: .*expected a name and a version"):
        scoring.fit(Pool(path, "mine", tmp_path / "x.json", id_set="home", classes=10))
    path.write_text("\n".join(POOL.splitlines()[:5]))
    with pytest.raises(DataError, match="2 reference models; a line needs 3"):
        scoring.fit(pool(path))
    path.write_text("\n".join(line for line in POOL.splitlines() if "away" not in line))
    with pytest.raises(DataError, match="no line"):
        scoring.fit(pool(path))
    assert list(tmp_path.iterdir()) == [path]
