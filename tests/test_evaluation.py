from pathlib import Path

import pytest
from fabricated import make_record, make_suite

from robustbench_ft import evaluation, run
from robustbench_ft.evaluation import Order
from robustbench_ft.metrics import RECORD
from robustbench_ft.records import Counts


def evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sets: int, **fields: object) -> str:
    """What ``evaluate`` prints for a run on a user's own suite file that answered the first ``sets`` test sets."""
    suite = make_suite(tmp_path)
    suite.file.write_text(suite.file.read_text().replace('recipes = "toy"', 'recipes = "mini"'))
    names = [spec.name for spec in suite.tests]
    kept = {f"{name}/own": Counts(k=280, n=400) for name in names[:sets]}
    record = make_record(suite, {"start": kept, "ft": kept}, "ft", **({"missing": tuple(names[sets:])} | fields))
    record.save(tmp_path / "out" / RECORD)
    monkeypatch.setattr(run, "evaluate", lambda asked: record)
    return evaluation.evaluate(Order(method="ft", suite=str(suite.file), model="x", out=tmp_path / "out", store=tmp_path))


def test_next_command_names_a_suite_file_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = evaluated(tmp_path, monkeypatch, 6)
    assert f"rbft score {tmp_path / 'out'} --suite {tmp_path}" in printed
    assert (tmp_path / "out" / "curve.png").is_file()


def test_without_an_ood_mean_there_is_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = evaluated(tmp_path, monkeypatch, 1)
    assert "picture  none" in printed and "partial: no images of" in printed
    assert not (tmp_path / "out" / "curve.png").exists()


def test_data_that_is_not_the_official_files_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = evaluated(tmp_path, monkeypatch, 6, unaligned=("toy-test",))
    assert "unaligned: toy-test" in printed
    assert "unaligned" not in evaluated(tmp_path, monkeypatch, 6)
