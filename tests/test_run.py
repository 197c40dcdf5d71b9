from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import contract
import numpy as np
import pytest

from robustbench_ft import packs, predict, records, run
from robustbench_ft.datasets import open_set
from robustbench_ft.errors import DataError, LeakError, MissingData
from robustbench_ft.files import file_digest
from robustbench_ft.method import Method, PathPoint, Task
from robustbench_ft.metrics import PACK, RECORD, recount
from robustbench_ft.model import Classifier
from robustbench_ft.records import Counts, RunRecord
from robustbench_ft.run import Run, evaluate
from robustbench_ft.specs import DatasetSpec
from robustbench_ft.store import Store
from robustbench_ft.suites import Suite


class Done(NamedTuple):
    run: Run
    record: RunRecord


def wise() -> Method:
    return contract.quick("wiseft").model_copy(update={"path_steps": 2})


def order(suite: Suite, folder: Path, method: Method | None = None) -> Run:
    return Run(suite, method or wise(), suite.start, Store(folder / "store"), folder / "out")


@pytest.fixture(scope="module", autouse=True)
def _one_commit() -> Iterator[None]:
    """A record names the commit: one made while these tests run must not tell two records apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "_commit", lambda: (None, None))
        yield


@pytest.fixture(scope="module")
def done(tiny: Suite, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A finished run of WiSE-FT."""
    what = order(tiny, tmp_path_factory.mktemp("run"))
    return Done(what, evaluate(what))


def again(done: Done, folder: Path, **fields: object) -> Run:
    """The same run in another folder, with a copy of its store."""
    shutil.copytree(done.run.store.folder, folder / "store")
    return replace(done.run, store=Store(folder / "store"), out=folder / "out", **fields)  # type: ignore[arg-type]


def test_the_same_run_in_a_fresh_store_gives_the_same_record_and_the_same_pack(done: Done, tmp_path: Path) -> None:
    other = replace(done.run, store=Store(tmp_path / "store"), out=tmp_path / "out")
    record = evaluate(other)
    assert record.record_hash == done.record.record_hash
    assert (other.out / PACK).read_bytes() == (done.run.out / PACK).read_bytes()


def test_the_same_run_again_neither_fits_nor_predicts(done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        pytest.fail("work that was done is done again")

    for name in ("wiseft", "ft"):
        monkeypatch.setattr(type(contract.quick(name)), "adapt", fail)
    monkeypatch.setattr(run, "predict", fail)
    record = evaluate(again(done, tmp_path))
    assert record.record_hash == done.record.record_hash
    assert (tmp_path / "out" / PACK).read_bytes() == (done.run.out / PACK).read_bytes()


def test_fresh_does_the_work_again(done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    monkeypatch.setattr(run, "predict", lambda *a, **k: (passes.append(a[1].name), predict.predict(*a, **k))[1])
    what = again(done, tmp_path)
    record = evaluate(replace(what, store=Store(what.store.folder, fresh=True)))
    assert passes == [spec.name for spec in done.run.suite.tests]
    assert record.record_hash == done.record.record_hash


def test_another_seed_is_another_record_and_the_start_is_not_evaluated_again(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(run, "predict", lambda *a, **k: (asked.append(list(a[0])), predict.predict(*a, **k))[1])
    record = evaluate(again(done, tmp_path, seed=1))
    assert asked == [["alpha=0.5", "alpha=1"]] * len(done.run.suite.tests)
    assert record.seed == 1 and record.record_hash != done.record.record_hash
    assert record.points[0] == done.record.points[0]
    assert record.headline.pack != done.record.headline.pack


def test_the_points_are_the_start_and_the_path_in_order_with_one_headline(done: Done) -> None:
    assert [(point.name, point.alpha, point.headline) for point in done.record.points] == [
        ("start", 0.0, False),
        ("alpha=0.5", 0.5, True),
        ("alpha=1", 1.0, False),
    ]


def test_a_headline_between_the_path_s_points_is_one_more_point(done: Done, tmp_path: Path) -> None:
    method = done.run.method.model_copy(update={"alpha": 0.7})
    record = evaluate(again(done, tmp_path, method=method))
    assert [point.name for point in record.points] == ["start", "alpha=0.5", "alpha=0.7", "alpha=1"]
    assert record.headline.name == "alpha=0.7"
    counts = {point.name: point.counts for point in record.points}
    assert counts["alpha=1"] == {point.name: point.counts for point in done.record.points}["alpha=1"]


def test_the_headline_s_counts_are_those_of_the_pack_against_the_answer_key(done: Done, tiny: Suite) -> None:
    record, hits = recount(done.run.out, tiny)  # CheckError where a count differs
    assert record.record_hash == done.record.record_hash
    pack, key = packs.load(done.run.out / PACK), packs.load(tiny.file.with_suffix(".key.safetensors"))
    assert record.headline.pack == file_digest(done.run.out / PACK)
    assert set(hits) == set(pack.answers) == {f"{spec.name}/own" for spec in tiny.tests}
    for name, answers in pack.answers.items():
        right = sum(int(a) == int(b) for a, b in zip(answers, key.answers[name], strict=True))
        assert record.headline.counts[name] == Counts(k=right, n=len(answers))


def test_a_pack_holds_what_the_fitted_model_answers(done: Done, tiny: Suite, start: Classifier, task: Task) -> None:
    fitted = contract.fit(done.run.method, start, task, done.run.store)
    pack = packs.load(done.run.out / PACK)
    for spec in tiny.tests:
        images = open_set(tiny, spec, None, done.run.store.folder)
        answers = predict.predict({"m": lambda: fitted}, images, {"own": None}, preprocess=fitted.preprocess)
        assert np.array_equal(answers["m"]["own"], pack.answers[f"{spec.name}/own"])
        assert pack.digests[spec.name] == images.digest == spec.digest


def test_the_start_point_is_the_zeroshot_method_s(done: Done, tmp_path: Path) -> None:
    record = evaluate(again(done, tmp_path, method=contract.quick("zeroshot")))
    counts = {point.name: point.counts for point in record.points}
    assert list(counts) == ["start", "zeroshot"]
    assert counts["zeroshot"] == counts["start"] == done.record.points[0].counts
    assert record.deterministic and not done.record.deterministic


def test_the_end_of_the_path_is_the_ft_method_s(done: Done, tmp_path: Path) -> None:
    record = evaluate(again(done, tmp_path, method=contract.quick("ft")))
    assert record.headline.counts == done.record.points[-1].counts


def test_a_record_says_what_was_run(done: Done, tiny: Suite, start: Classifier) -> None:
    record = records.load(done.run.out / RECORD)
    assert record == done.record
    assert record.config == wise().dump() and record.method == "wiseft" and record.seed == 0
    assert record.suite == "tiny" and record.protocol == tiny.protocol
    assert record.start.name == tiny.start and record.start.weights == start.origin
    assert record.selection == dict.fromkeys(("alpha", "choose_alpha", "fisher", "base", "path_steps"), "default")
    assert record.numerics.model_dump() == {"device": "cpu", "precision": "fp32", "batch_size": 256, "threads": 1}
    assert not record.partial and record.missing == () and record.unaligned == ()
    assert set(record.versions) == {"python", *run.RECORDED}


def test_the_hash_of_a_record_leaves_out_cost_date_and_host(done: Done) -> None:
    same = {"cost": records.Cost(fit_seconds=9, evaluate_seconds=9), "created": "2001-01-01", "host": "elsewhere"}
    assert done.record.model_copy(update=same).record_hash == done.record.record_hash
    assert done.record.model_copy(update={"seed": 5}).record_hash != done.record.record_hash


def test_class_groups_decide_a_shift_and_the_class_matched_answers_on_the_id_test_set(tiny: Suite, tmp_path: Path) -> None:
    groups = tuple((c,) for c in reversed(range(20)))  # every class, in another order
    shift = tiny.shifts[0].model_copy(update={"class_groups": groups})
    suite = tiny.model_copy(update={"shifts": (shift,)})
    method = contract.quick("zeroshot")
    grouped = evaluate(order(suite, tmp_path / "grouped", method))
    plain = evaluate(order(tiny, tmp_path / "plain", method))
    pack, other = packs.load(tmp_path / "grouped/out" / PACK), packs.load(tmp_path / "plain/out" / PACK)
    assert grouped.headline.counts.keys() == {"tiny-test/own", "tiny-test/tiny-v2", "tiny-v2/own"}
    for one, two in (("tiny-test/tiny-v2", "tiny-test/own"), ("tiny-v2/own", "tiny-v2/own")):
        assert (19 - pack.answers[one].astype(int) == other.answers[two]).all()
    assert grouped.headline.counts["tiny-test/tiny-v2"] == plain.headline.counts["tiny-test/own"]


# Partial runs and failures


def without(suite: Suite, name: str) -> Suite:
    """The suite, with one set said to lie in class folders that are not there."""
    missing = {"format": "cifar", "path": "nowhere", "keep": None}

    def moved(spec: DatasetSpec) -> DatasetSpec:
        return spec.model_copy(update=missing) if spec.name == name else spec

    shifts = tuple(moved(spec) for spec in suite.shifts)
    return suite.model_copy(update={"shifts": shifts, "test": moved(suite.test), "train": moved(suite.train)})


def test_a_missing_shift_makes_the_run_partial_and_the_rest_is_given(
    tiny: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    what = replace(order(without(tiny, "tiny-v2"), tmp_path, contract.quick("zeroshot")), data=tmp_path)
    record = evaluate(what)
    assert record.partial and record.missing == ("tiny-v2",)
    assert record.headline.counts.keys() == {"tiny-test/own", "tiny-sketch/own"}
    assert "missing" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["tiny-test", "tiny-train"])
def test_a_missing_id_set_ends_the_run(name: str, tiny: Suite, tmp_path: Path) -> None:
    what = replace(order(without(tiny, name), tmp_path, contract.quick("lp")), data=tmp_path)
    with pytest.raises(MissingData):
        evaluate(what)
    assert not (tmp_path / "out" / RECORD).exists()


def test_a_method_that_reads_neither_train_nor_val_does_without_them(tiny: Suite, tmp_path: Path) -> None:
    what = replace(order(without(tiny, "tiny-train"), tmp_path, contract.quick("zeroshot")), data=tmp_path)
    assert not evaluate(what).partial


@pytest.mark.parametrize(
    ("change", "message"),
    [({"n": 81}, "80 examples, expected 81"), ({"digest": "0" * 64}, "renders .* expected 000000000000")],
)
def test_a_shift_that_is_there_but_wrong_ends_the_run(
    change: dict[str, object], message: str, tiny: Suite, tmp_path: Path
) -> None:
    suite = tiny.model_copy(update={"shifts": (tiny.shifts[0].model_copy(update=change),)})
    with pytest.raises(DataError, match=message):
        evaluate(order(suite, tmp_path, contract.quick("zeroshot")))


def test_rendered_pixels_that_were_spoilt_are_rendered_again(done: Done, tmp_path: Path) -> None:
    what = again(done, tmp_path)
    for file in (what.store.folder / "pixels").iterdir():
        pixels = np.array(np.load(file))
        pixels[0, 0, 0, 0] ^= 1
        np.save(file, pixels)
    shutil.rmtree(what.store.folder / "predictions")
    assert evaluate(what).record_hash == done.record.record_hash


def test_a_path_is_made_under_the_seal(done: Done, tiny: Suite, tmp_path: Path) -> None:
    class Choosing(type(contract.quick("zeroshot"))):  # type: ignore[misc]
        """Chooses its path by a look at the test set."""

        def path(self, start: Classifier, task: Task) -> list[PathPoint]:
            open_set(tiny, tiny.test, None, tmp_path)
            return []

    Choosing.name, Choosing.source = "zeroshot", contract.quick("zeroshot").source
    with pytest.raises(LeakError, match="tiny-test"):
        evaluate(again(done, tmp_path, method=Choosing()))


# Killed and continued


@pytest.mark.parametrize("kills", [3])
def test_a_run_killed_at_random_moments_and_continued_gives_the_same_record(kills: int, tiny_file: Path, tmp_path: Path) -> None:
    """The small version of ``scripts/kill_test.py``."""
    script = Path(__file__).parents[1] / "scripts" / "kill_test.py"
    command = [sys.executable, str(script), "--kills", str(kills), "--suite", str(tiny_file), "--workdir", str(tmp_path)]
    command += ["--set", "base.recipe.epochs=4", "--set", "path_steps=2", "--spare", "0.4", "--json"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert found.returncode == 0, found.stdout + found.stderr
    result = json.loads(found.stdout)
    assert result["pass"] and len(result["kills"]) == kills
    assert result["record_hash"][0] == result["record_hash"][1]
