"""What the verb prints and refuses."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fabricated import FT, SETS, START, WISE, make_record, make_run, make_suite, mix
from test_comparison import two_runs

from robustbench_ft import suites
from robustbench_ft.compare import compare, pvalue, render, run
from robustbench_ft.comparison import Comparison
from robustbench_ft.errors import CheckError, DataError, ProtocolError, UnknownName, UsageError
from robustbench_ft.records import Counts
from robustbench_ft.yardstick import OOD

SUBMISSIONS = Path(__file__).parents[1] / "submissions"


def printed(a: Path, b: Path, suite: Path | None = None, form: str = "table", *, as_json: bool = False) -> str:
    return run(a, b, suite=str(suite) if suite else None, form=form, as_json=as_json)


def test_unpaired_where_a_side_has_counts_alone(tmp_path: Path) -> None:
    suite, a, b = two_runs(tmp_path)
    paired = compare(a, b, str(suite.file))
    (b / "pack.safetensors").unlink()
    found = compare(a / "record.json", b, str(suite.file))
    assert paired.paired and not found.paired and not found.classes
    one = found.differences[SETS[1]]
    p, q = one.a, one.b
    assert one.image_variance == pytest.approx((p * (1 - p) + q * (1 - q)) / 400)
    assert one.image_variance > paired.differences[SETS[1]].image_variance
    assert one.overlap is one.mcnemar is None
    text = re.sub(r"\s+", " ", render(found, "table"))
    assert f"unpaired (B has no predictions: there is no {b / 'pack.safetensors'})" in text
    assert "McNemar" not in text and "Classes" not in text


def test_unpaired_without_a_key_from_other_files_and_from_unofficial_data(tmp_path: Path) -> None:
    suite, a, b = two_runs(tmp_path)
    copy = tmp_path / "copy.json"
    copy.write_bytes((b / "record.json").read_bytes())
    assert "no pack.safetensors beside" in compare(a, copy, str(suite.file)).b.lacks
    make_run(tmp_path / "odd", suite, FT, method="odd", unaligned=(SETS[1],))
    assert "not the official files (toy-v2)" in compare(a, tmp_path / "odd", str(suite.file)).b.lacks
    suite.file.with_suffix(".key.safetensors").unlink()
    assert compare(a, b, str(suite.file)).a.lacks == "suite toy has no answer key"


def test_partial_runs_are_compared_on_what_they_share(tmp_path: Path) -> None:
    suite = make_suite(tmp_path)
    make_run(tmp_path / "a", suite, WISE, method="wiseft")
    whole = {f"{name}/own": Counts(k=200, n=400) for name in SETS}
    few = {name: whole[f"{name}/own"] for name in ()} | {f"{name}/own": Counts(k=210, n=400) for name in SETS[:2]}
    record = make_record(suite, {"start": few, "ft": few}, "ft", missing=SETS[2:])
    record.save(tmp_path / "b" / "record.json")
    found = compare(tmp_path / "a", tmp_path / "b", str(suite.file))
    assert list(found.differences) == [*SETS[:2]]
    assert found.absent == SETS[2:]
    assert f"Not compared, as a row lacks them or they need more than counts: {', '.join(SETS[2:])}" in render(found, "markdown")
    other = {f"{SETS[3]}/own": Counts(k=1, n=400)}
    make_record(suite, {"ft": other}, "ft", missing=SETS[:3] + SETS[4:]).save(tmp_path / "c" / "record.json")
    with pytest.raises(DataError, match="have no test set in common"):
        compare(tmp_path / "b", tmp_path / "c", str(suite.file))


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    suite, a, b = two_runs(tmp_path)
    file = str(suite.file)
    with pytest.raises(UsageError, match="share a record"):
        compare(a, a / "record.json", file)
    with pytest.raises(DataError, match="no record at .*nowhere"):
        compare(a, tmp_path / "nowhere", file)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds neither record.json nor"):
        compare(tmp_path / "empty", b, file)
    with pytest.raises(ProtocolError, match="cannot be compared: .*suite toy.*suite mini"):
        compare(a, SUBMISSIONS / "mini-ft")
    later = make_suite(tmp_path / "later", version=2)
    make_run(tmp_path / "later" / "run", later, FT)
    with pytest.raises(ProtocolError, match="cannot be compared"):
        compare(a, tmp_path / "later" / "run", file)
    with pytest.raises(ProtocolError, match="expected toy, "):
        compare(a, b, str(later.file))
    with pytest.raises(UnknownName, match="unknown format 'html'"):
        printed(a, b, suite.file, "html")
    make_run(b / "seed-1" / "deep", suite, START)  # not a seed: left alone
    pack = b / "pack.safetensors"
    pack.write_bytes(pack.read_bytes()[:-2] + b"\x01\x00")
    with pytest.raises(CheckError, match="SHA-256"):
        compare(a, b, file)


def test_seeds_of_different_rows_are_refused(tmp_path: Path) -> None:
    suite, a, _ = two_runs(tmp_path)
    for seed, method in enumerate(("ft", "lp")):
        make_run(tmp_path / "mixed" / f"seed-{seed}", suite, FT, method=method, seed=seed)
    with pytest.raises(DataError, match="differ in method"):
        compare(a, tmp_path / "mixed", str(suite.file))


@pytest.fixture(scope="module")
def mini() -> Comparison:
    return compare(SUBMISSIONS / "mini-wiseft", SUBMISSIONS / "mini-ft")


def test_the_mini_submissions(mini: Comparison) -> None:
    """WiSE-FT against fine-tuning: less ID accuracy, far more under shift, whatever the seeds."""
    assert [len(s.runs) for s in (mini.a, mini.b)] == [3, 3] and mini.paired
    accuracies = {name: (one.a, one.b) for name, one in mini.differences.items()}
    assert accuracies["mini-test"] == pytest.approx((0.861, 0.879), abs=5e-4)
    assert accuracies[OOD] == pytest.approx((0.783, 0.707), abs=5e-4)
    assert mini.differences["mini-test"].difference.high < 0 < mini.differences[OOD].difference.low
    for name, one in mini.differences.items():
        assert one.difference.value == pytest.approx(one.a - one.b)
        if one.overlap:
            assert sum(one.overlap) == pytest.approx(1)
            assert one.overlap.both + one.overlap.only_a == pytest.approx(one.a), name
            assert one.overlap.only_a - one.overlap.only_b == pytest.approx(one.difference.value)
    assert mini.matched.levels == {} and set(mini.matched.why_not.values()) == {"no alpha curve in B"}


def test_the_terminal_table_fits_and_says_what_was_tested(mini: Comparison) -> None:
    text = render(mini, "table")
    assert max(map(len, text.splitlines())) <= 120
    line = next(line for line in text.splitlines() if line.startswith("objectnet"))
    assert line.split() == [
        "objectnet",
        "2000",
        "67.2",
        "53.5",
        "+13.7",
        "±1.6",
        "<0.001",
        "<0.001",
        "51.4",
        "15.8",
        "2.1",
        "30.6",
    ]
    assert "paired: both rows answered the same images" in text
    assert "Holm's correction is over the 5 shifts, not over ID and means" in text
    assert "No comparison at the same ID accuracy: no alpha curve in B." in text
    assert "Seed noise" not in text and "McNemar" not in text


def test_single_runs_say_what_a_test_between_them_means(tmp_path: Path) -> None:
    text = printed(SUBMISSIONS / "mini-wiseft" / "seed-0", SUBMISSIONS / "mini-ft" / "seed-0")
    assert "Seed noise is unknown and left out" in text and "seed 0 alone" in text
    assert "McNemar compares these two trained models, not the two methods" in text
    assert "images alone: seed noise is unknown" in text
    text = printed(SUBMISSIONS / "mini-wiseft", SUBMISSIONS / "mini-ft" / "seed-0")
    assert "B has fewer than 3 seeds: its seed noise is taken to be the other row's" in text
    suite = make_suite(tmp_path)
    for name in ("a", "b"):
        start = {"start": {"name": name, "weights": name * 64}}
        make_run(tmp_path / name, suite, FT, method=name, **start)
    assert "The start models differ: A a, B b." in printed(tmp_path / "a", tmp_path / "b", suite.file)


def test_json_csv_markdown_and_latex(tmp_path: Path) -> None:
    suite = make_suite(tmp_path)
    path = {f"alpha={a / 10:g}": mix(a / 10) for a in range(1, 11) if a != 5}
    for name, shift in (("a", 0.0), ("b", 0.02)):
        values = {point: tuple(v - shift for v in accuracies) for point, accuracies in path.items()}
        make_run(tmp_path / name, suite, tuple(v - shift for v in mix(0.5)), values, method=name, headline="alpha=0.5")
    a, b = tmp_path / "a", tmp_path / "b"
    document = json.loads(printed(a, b, suite.file, as_json=True))
    assert json.dumps(document, allow_nan=False)
    assert document["paired"] and document["differences"][OOD]["difference"]["value"] > 0
    assert set(document["matched_id"]["levels"]["common range"]["difference"]) == {OOD, *SETS[1:]}
    rows = list(csv.DictReader(io.StringIO(printed(a, b, suite.file, "csv"))))
    assert {row["table"] for row in rows} >= {"difference", "matched at B's ID", "matched at common range", "class gains"}
    found = next(row for row in rows if row["name"] == OOD)
    assert float(found["difference.value"]) == document["differences"][OOD]["difference"]["value"]
    for form, mark in (("markdown", "|:---"), ("latex", r"\begin{tabular}"), ("table", "At the same ID accuracy")):
        assert mark in printed(a, b, suite.file, form)


def test_pvalues_as_text() -> None:
    assert [pvalue(p) for p in (None, 0.0, 0.0009, 0.001, 0.0123, 1.0)] == ["", "<0.001", "<0.001", "0.001", "0.012", "1.000"]


def test_nothing_of_this_imports_torch() -> None:
    code = "import robustbench_ft.compare, robustbench_ft.power, sys; sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_suites_ship_with_their_keys() -> None:
    assert suites.load("mini").file.with_suffix(".key.safetensors").is_file()
