from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import contract
import numpy as np
import pytest
import torch

from robustbench_ft import files, method, store
from robustbench_ft import train as training
from robustbench_ft.errors import LeakError, TrainingError
from robustbench_ft.losses import cross_entropy
from robustbench_ft.method import Method, Supported, Task
from robustbench_ft.model import Classifier, Derived, Ensemble, Trained, weights_hash
from robustbench_ft.seal import sealed
from robustbench_ft.store import Store, fit_key


@pytest.fixture(scope="module")
def ft() -> Method:
    return contract.quick("ft")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A copy of ft's file under a name of its own."""
    return Path(shutil.copy(method.load("ft").source, tmp_path / "own_ft.py"))


# The key


def test_a_key_is_the_same_for_the_same_fit(ft: Method, start: Classifier, task: Task) -> None:
    assert fit_key(ft, start, task) == fit_key(contract.quick("ft"), start, replace(task))


def test_a_key_changes_with_all_that_decides_a_fit(ft: Method, start: Classifier, task: Task, tiny: object) -> None:
    fit_keys = [fit_key(ft, start, task)]
    fit_keys.append(fit_key(contract.quick("lp"), start, task))
    for field, value in (("lr", 2e-3), ("epochs", 3), ("batch_size", 41), ("clip", None), ("precision", "bf16")):
        recipe = ft.recipe.model_copy(update={field: value})  # type: ignore[attr-defined]
        fit_keys.append(fit_key(ft.model_copy(update={"recipe": recipe}), start, task))
    fit_keys.append(fit_key(ft, start, task.with_seed(1)))
    other = replace(task.train, digest="another")
    for change in (
        {"train": other},
        {"val": other},
        {"supported": (Supported(other, ("a",), ("{}",)),)},
        {"suite": "s"},
        {"classes": (*task.classes[1:], task.classes[0])},
        {"templates": task.templates[:1]},
    ):
        fit_keys.append(fit_key(ft, start, replace(task, **change)))  # type: ignore[arg-type]
    moved = start.frozen_head()
    moved.origin = "another"
    fit_keys.append(fit_key(ft, moved, task))
    assert len(set(fit_keys)) == len(fit_keys)


def test_a_key_changes_with_the_number_of_threads(ft: Method, start: Classifier, task: Task) -> None:
    before, threads = fit_key(ft, start, task), torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert fit_key(ft, start, task) != before
    finally:
        torch.set_num_threads(threads)
    assert fit_key(ft, start, task) == before


def test_a_key_changes_with_the_source_of_a_method_s_file_and_of_a_nested_one_s(own: Path, start: Classifier, task: Task) -> None:
    outer, inner = contract.quick("wiseft"), method.load(str(own))()
    kinds = [inner, outer.model_copy(update={"base": inner})]
    before = [fit_key(kind, start, task) for kind in kinds]
    own.write_text(own.read_text() + "# a change\n")
    assert all(fit_key(kind, start, task) != key for kind, key in zip(kinds, before, strict=True))


def test_a_key_covers_every_file_of_the_package_that_a_fit_runs() -> None:
    """What methods import, and what that imports; but declarations, printing, and data, which has a digest."""
    import ast

    free = {
        "errors",
        "progress",
        "track",
        "files",
        "suites",
        "recipes",
        "datasets",
        "seal",
        "store",
        "packs",
        "mini",
        "labels",
        "specs",
        "values",
        "overrides",
    }
    wanted, seen = (
        {
            "soups",
            "losses",
            "train",
            "batches",
            "model",
            "predict",
            "weights",
            "method",
            "merging",
            "features",
            "probes",
            "regularisers",
            "projection",
        },
        set(),
    )
    while wanted - seen:
        name = (wanted - seen).pop()
        seen.add(name)
        for node in ast.walk(ast.parse(Path(store.__file__).with_name(f"{name}.py").read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("robustbench_ft."):
                wanted.add(node.module.split(".")[1])
        wanted -= free
    assert seen == set(store.DECISIVE)


# Hits and misses


def test_a_hit_equals_a_miss_bit_for_bit_and_does_not_adapt_again(
    ft: Method, start: Classifier, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = contract.fit(ft, start, task, Store(tmp_path))
    monkeypatch.setattr(type(ft), "adapt", None)
    found = contract.fit(ft, start, task, Store(tmp_path))
    assert weights_hash(found) == weights_hash(made) and found.origin == made.origin
    assert not found.training and found is not made
    assert torch.equal(contract.outputs(found, task), contract.outputs(made, task))


@pytest.mark.parametrize("name", ["zeroshot", "flyp", "ft", "ensemble"])
def test_every_kind_of_head_comes_back(name: str, start: Classifier, task: Task, tmp_path: Path) -> None:
    kind = contract.quick(name)
    made, found = (contract.fit(kind, start, task, Store(tmp_path)) for _ in range(2))
    assert type(made) is type(found) and type(made.head) is type(found.head)
    assert torch.equal(contract.outputs(made, task), contract.outputs(found, task))


def test_an_ensemble_of_derived_and_trained_members_comes_back(start: Classifier, task: Task, tmp_path: Path) -> None:
    trained = start.frozen_head()
    with torch.no_grad():
        trained.head.bias.add_(torch.arange(20.0))  # type: ignore[union-attr, operator]
    one = Ensemble([start, trained], probabilities=True, origin="").eval()
    store._write(tmp_path, one, {})
    two = store._read(tmp_path, start, "key")
    assert isinstance(two, Ensemble) and two.probabilities and two.origin == "key"
    assert [type(member.head) for member in two.members] == [Derived, Trained]
    assert torch.equal(contract.outputs(one, task), contract.outputs(two, task))


def test_without_a_store_nothing_is_kept_and_the_result_is_the_same(
    ft: Method, start: Classifier, task: Task, tmp_path: Path
) -> None:
    alone = ft.fit(start, task)
    kept = contract.fit(ft, start, task, Store(tmp_path))
    assert weights_hash(alone) == weights_hash(kept) and alone.origin == kept.origin


def test_a_hit_is_printed_once_with_the_time_it_saved(
    ft: Method, start: Classifier, task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contract.fit(ft, start, task, Store(tmp_path))
    capsys.readouterr()
    opened = Store(tmp_path)
    for _ in range(2):
        contract.fit(ft, start, task, opened)
    out, err = capsys.readouterr()
    assert out == "" and err.count("reused ft ") == 1 and "s saved" in err


def test_a_fine_tune_is_shared_by_what_is_built_on_it(
    start: Classifier, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ft, wise, kept = contract.quick("ft"), contract.quick("wiseft"), Store(tmp_path)
    contract.fit(ft, start, task, kept)
    monkeypatch.setattr(type(ft), "adapt", None)
    for alpha in (0.25, 0.5):
        contract.fit(wise.model_copy(update={"alpha": alpha}), start, task, kept)
    assert len(list((tmp_path / "fits").iterdir())) == 3


def test_fresh_makes_every_fit_once_more(ft: Method, start: Classifier, task: Task, tmp_path: Path) -> None:
    contract.fit(contract.quick("wiseft"), start, task, Store(tmp_path))
    fits = list((tmp_path / "fits").iterdir())
    before = {file: file.stat().st_mtime_ns for fit in fits for file in fit.iterdir()}
    assert len(fits) == 2
    again = Store(tmp_path, fresh=True)
    for _ in range(2):
        contract.fit(contract.quick("wiseft"), start, task, again)
    after = {file: file.stat().st_mtime_ns for fit in fits for file in fit.iterdir()}
    assert before.keys() == after.keys() and all(after[file] > before[file] for file in before)
    made_once = dict(after)
    contract.fit(ft, start, task, again)
    assert made_once == {file: file.stat().st_mtime_ns for file in made_once}


def test_fresh_ignores_predictions_too(tmp_path: Path) -> None:
    answers = {"own": np.arange(3, dtype=np.uint16)}
    Store(tmp_path).keep_predictions("k", answers)
    found = Store(tmp_path).predictions("k")
    assert found is not None and found["own"].tolist() == [0, 1, 2]
    assert Store(tmp_path).predictions("other") is None
    assert Store(tmp_path, fresh=True).predictions("k") is None
    with sealed(), pytest.raises(LeakError, match="predictions"):
        Store(tmp_path).predictions("k")


def test_what_a_fit_was_is_written_beside_it(ft: Method, start: Classifier, task: Task, tmp_path: Path) -> None:
    made = contract.fit(ft, start, task.with_seed(3), Store(tmp_path))
    folder = tmp_path / "fits" / made.origin
    about = json.loads((folder / "fit.json").read_text())
    assert about["method"] == ft.dump() and about["seed"] == 3 and about["seconds"] >= 0
    assert sorted(file.name for file in folder.iterdir()) == ["fit.json", "model.safetensors"]


# Interruption


def test_an_interrupted_fit_continues_and_ends_with_the_same_weights(
    start: Classifier, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LP-FT: killed in its second stage; the first is a fit of its own and is not made again."""
    kind = contract.quick("lpft")
    whole = kind.fit(start, task)
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(training, "SAVE_SHARE", 0.0)
    updates = iter(range(10_000))
    update, kill_at = training._Run.update, 13  # 8 steps of the probe, then 8 of the rest

    def killed(self: object, loss: torch.Tensor) -> None:
        if next(updates) == kill_at:
            raise KeyboardInterrupt
        update(self, loss)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(training._Run, "update", killed)
        with pytest.raises(KeyboardInterrupt):
            contract.fit(kind, start, task, Store(tmp_path))
    scratch = list(tmp_path.glob("fits/*/scratch/train-0.safetensors"))
    assert len(scratch) == 1
    steps: list[int] = []
    monkeypatch.setattr(training._Run, "update", lambda self, loss: (steps.append(self.step), update(self, loss)))
    resumed = contract.fit(kind, start, task, Store(tmp_path))
    assert steps == [5, 6, 7]
    assert weights_hash(resumed) == weights_hash(whole)
    assert not scratch[0].parent.exists()


def test_two_trainings_in_one_fit_have_a_checkpoint_each(start: Classifier, task: Task, tmp_path: Path) -> None:
    class Twice(Method):
        """Trains two times in one adapt."""

        def adapt(self, start: Classifier, task: Task) -> Classifier:
            recipe = training.Recipe(lr=1e-3, epochs=1, batch_size=80, warmup_steps=0)
            data = task.training(start, recipe)
            once = training.train(start.frozen_head(), data, recipe, loss=cross_entropy(), only=("head",))
            names.append(sorted(file.name for file in tmp_path.glob("fits/*/scratch/*")))
            again = training.train(once, data, recipe, loss=cross_entropy(), only=("head",))
            names.append(sorted(file.name for file in tmp_path.glob("fits/*/scratch/*")))
            return again

    names: list[list[str]] = []
    Twice.name, Twice.source = "zeroshot", method.load("zeroshot").source
    contract.fit(Twice(), start, task, Store(tmp_path))
    assert names == [["train-0.safetensors"], ["train-0.safetensors", "train-1.safetensors"]]


def test_a_fit_that_was_being_written_when_it_was_killed_is_not_taken_for_finished(
    ft: Method, start: Classifier, task: Task, tmp_path: Path
) -> None:
    made = contract.fit(ft, start, task, Store(tmp_path))
    folder = tmp_path / "fits" / made.origin
    (folder / "fit.json").unlink()
    (folder / "model.safetensors").write_bytes(b"half of a file")
    again = contract.fit(ft, start, task, Store(tmp_path))
    assert weights_hash(again) == weights_hash(made)


def test_a_method_that_fails_leaves_no_finished_fit(start: Classifier, task: Task, tmp_path: Path) -> None:
    ft = contract.quick("ft")
    exploding = ft.model_copy(update={"recipe": ft.recipe.model_copy(update={"lr": 1e30, "clip": None})})  # type: ignore[attr-defined]
    with pytest.raises(TrainingError, match="at step"):
        contract.fit(exploding, start, task, Store(tmp_path))
    assert not list(tmp_path.glob("fits/*/fit.json"))


def test_the_default_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RBFT_STORE", "/somewhere/store")
    assert files.default_folder() == Path("/somewhere/store")
    monkeypatch.delenv("RBFT_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere/cache")
    assert files.default_folder() == Path("/somewhere/cache/rbft")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert files.default_folder() == Path.home() / ".cache" / "rbft"
