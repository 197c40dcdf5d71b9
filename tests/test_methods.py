"""The contract over every method in the folder, and over methods with planted faults, which must fail it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import contract
import numpy as np
import planted
import pytest
import torch

from robustbench_ft import method, store
from robustbench_ft.datasets import open_set
from robustbench_ft.errors import LeakError, TrainingError
from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier, Derived, Trained, weights_hash
from robustbench_ft.suites import Suite

Plant = Callable[[str], Method]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> contract.Stores:
    return contract.make_stores(tmp_path_factory.mktemp("stores"))


@pytest.mark.parametrize("name", method.names())
def test_every_method_keeps_the_contract(name: str, start: Classifier, task: Task, stores: contract.Stores) -> None:
    contract.check(contract.quick(name), start, task, stores)


def test_every_method_says_what_it_moves() -> None:
    assert set(method.names()) - set(contract.MOVES) == {"ensemble", "random_interpolation"}  # in no one tower


def test_heads_are_of_the_kind_that_the_method_trains(start: Classifier, task: Task, stores: contract.Stores) -> None:
    kinds = {n: type(contract.fit(contract.quick(n), start, task, stores.one).head) for n in ("zeroshot", "flyp", "ft", "lp")}
    assert kinds == {"zeroshot": Derived, "flyp": Derived, "ft": Trained, "lp": Trained}


def test_flyp_moves_both_towers_and_the_logit_scale(start: Classifier, task: Task, stores: contract.Stores) -> None:
    before, after = (
        start.clip.state_dict(),
        contract.fit(contract.quick("flyp"), start, task, stores.one).clip.state_dict(),
    )
    for name in ("visual.head.proj.weight", "transformer.resblocks.0.attn.in_proj_weight", "logit_scale"):
        assert not torch.equal(before[name], after[name]), name


def test_lpft_from_a_stored_probe_equals_lpft_without_a_store(start: Classifier, task: Task, tmp_path: Path) -> None:
    kind = contract.quick("lpft")
    alone = kind.fit(start, task)  # no store: nothing is kept
    kept = store.Store(tmp_path)
    contract.fit(kind.probe, start, task, kept)  # type: ignore[attr-defined]
    found = contract.fit(kind, start, task, kept)
    assert weights_hash(found) == weights_hash(alone)


def test_zero_shot_is_the_start(start: Classifier, task: Task, stores: contract.Stores) -> None:
    fitted = contract.fit(contract.quick("zeroshot"), start, task, stores.one)
    assert fitted is not start and weights_hash(fitted) == weights_hash(start)
    assert torch.equal(contract.outputs(fitted, task), contract.outputs(start, task))


def test_wiseft_over_flyp_averages_towers_and_rebuilds_the_head(start: Classifier, task: Task, stores: contract.Stores) -> None:
    kind = contract.quick("wiseft").model_copy(update={"base": contract.quick("flyp"), "alpha": 0.25})
    fitted = contract.check(kind, start, task, stores, moves=("clip",))
    assert isinstance(fitted.head, Derived)


def test_an_ensemble_of_one_is_that_one_and_a_uniform_soup_of_one_too(
    start: Classifier, task: Task, stores: contract.Stores
) -> None:
    plain = contract.outputs(contract.fit(contract.quick("ft"), start, task, stores.one), task)
    for name in ("ensemble", "uniform_soup", "greedy_soup"):
        kind = contract.quick(name).model_copy(update={"ingredients": (contract.quick("ft"),)})
        assert torch.equal(contract.outputs(contract.fit(kind, start, task, stores.one), task), plain), name


def test_a_greedy_soup_is_no_worse_on_val_than_its_best_ingredient(
    start: Classifier, task: Task, stores: contract.Stores
) -> None:
    from robustbench_ft.predict import accuracy
    from robustbench_ft.soups import fit_each

    kind = contract.quick("greedy_soup")
    soup = contract.fit(kind, start, task, stores.one)
    with store.using(stores.one):
        ingredients = fit_each(kind.ingredients, start, task)  # type: ignore[attr-defined]
    assert accuracy(soup, task.val) >= max(accuracy(model, task.val) for model in ingredients)


def test_ingredients_of_a_soup_have_seeds_of_their_own_and_the_first_has_the_runs(
    start: Classifier, task: Task, stores: contract.Stores
) -> None:
    from robustbench_ft.soups import fit_each

    ft = contract.quick("ft")
    with store.using(stores.one):
        first, second = fit_each([ft, ft], start, task)
    assert first.origin == contract.fit(ft, start, task, stores.one).origin
    assert weights_hash(first) != weights_hash(second)


def test_a_stronger_l2sp_ends_nearer_to_the_start(start: Classifier, task: Task) -> None:
    def moved(strength: float) -> float:
        fitted = contract.quick("l2sp").model_copy(update={"strength": strength}).fit(start, task)
        before = start.frozen_head().state_dict()
        return sum(float((value - before[name]).square().sum()) for name, value in fitted.state_dict().items())

    assert moved(10.0) < 0.5 * moved(0.01)


def test_random_states_are_the_callers_after_a_fit_and_after_a_hit(start: Classifier, task: Task, tmp_path: Path) -> None:
    kind, kept = contract.quick("ft"), store.Store(tmp_path)
    for _ in ("a fit", "a hit"):
        random.seed(5), np.random.seed(5), torch.manual_seed(5)
        contract.fit(kind, start, task, kept)
        drawn = random.random(), np.random.rand(), torch.rand(()).item()
        random.seed(5), np.random.seed(5), torch.manual_seed(5)
        assert drawn == (random.random(), np.random.rand(), torch.rand(()).item())


# Planted faults: each of these methods breaks the contract in one way, and the checks above must say so.


@pytest.fixture
def plant(tiny_file: Path, tmp_path: Path) -> Plant:
    """Writes a method file and loads it as ``--method FILE`` does."""
    kept = tmp_path / "one"
    pixels, answers = kept / "pixels" / "planted.npy", kept / "predictions" / "planted.safetensors"
    for file in (pixels, answers):
        file.parent.mkdir(parents=True)
        file.write_bytes(b"")

    def write(text: str) -> Method:
        filled = (planted.HEAD + text).format(suite=str(tiny_file), store=str(kept), pixels=str(pixels), answers=str(answers))
        file = tmp_path / "planted.py"
        file.write_text(filled)
        return method.load(str(file))()

    return write


def test_a_sound_method_of_ones_own_passes(plant: Plant, start: Classifier, task: Task, tmp_path: Path) -> None:
    contract.check(plant(planted.SOUND), start, task, contract.make_stores(tmp_path), contract.TUNING)


@pytest.mark.parametrize("fault", planted.BROKEN)
def test_a_method_fails_that(fault: str, plant: Plant, start: Classifier, task: Task, tmp_path: Path, tiny: Suite) -> None:
    from robustbench_ft.model import load_start

    body, message = planted.BROKEN[fault]
    own = load_start(tiny.start, tiny)  # some of these faults spoil it
    with pytest.raises(AssertionError, match=message):
        contract.check(plant(planted.METHOD + body), own, task, contract.make_stores(tmp_path), contract.TUNING)


@pytest.mark.parametrize("leak", planted.LEAKS)
def test_a_method_is_stopped_that(leak: str, plant: Plant, start: Classifier, task: Task, tmp_path: Path) -> None:
    with pytest.raises(LeakError, match=r"while it was fitting"):
        contract.check(plant(planted.METHOD + planted.LEAKS[leak]), start, task, contract.make_stores(tmp_path))


def test_an_ensemble_of_ones_own_passes(plant: Plant, start: Classifier, task: Task, tmp_path: Path) -> None:
    own = plant(planted.BLENDED.replace("{ends}", planted.STRAIGHT["ends"]).replace("{path_ends}", planted.STRAIGHT["path_ends"]))
    contract.check(own, start, task, contract.make_stores(tmp_path), contract.TUNING)


@pytest.mark.parametrize(
    ("swapped", "message"),
    [
        ({"ends": "self.base.fit(start, task), start"}, "alpha 0 is not"),
        ({"path_ends": "tuned, start"}, "its path ends"),
    ],
)
def test_a_method_fails_that_swaps_the_ends_of_alpha(
    swapped: dict[str, str], message: str, plant: Plant, start: Classifier, task: Task, tmp_path: Path
) -> None:
    text = planted.BLENDED
    for name, ends in (planted.STRAIGHT | swapped).items():
        text = text.replace("{" + name + "}", ends)
    with pytest.raises(AssertionError, match=message):
        contract.check(plant(text), start, task, contract.make_stores(tmp_path), contract.TUNING)


@pytest.mark.parametrize("body", ["        return start\n", "        return start.clip\n", "        pass\n"])
def test_a_method_must_return_a_new_classifier(body: str, plant: Plant, start: Classifier, task: Task) -> None:
    with pytest.raises(TrainingError, match="expected a new Classifier"):
        plant(planted.METHOD + body).fit(start, task)


def test_a_method_may_open_train_and_val_again(plant: Plant, start: Classifier, task: Task, tmp_path: Path) -> None:
    body = "        assert len(open_set(lambda suite: suite.val)) == len(task.val)\n        return tune(start, task)\n"
    plant(planted.METHOD + body).fit(start, task)


def test_the_seal_ends_with_the_fit(tiny: Suite, start: Classifier, task: Task, tmp_path: Path) -> None:
    contract.fit(contract.quick("zeroshot"), start, task, store.Store(tmp_path))
    assert len(open_set(tiny, tiny.test, None, tmp_path)) == tiny.test.n
