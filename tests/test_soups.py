"""The soups against loops over state dicts that hold everything at once; and that the soups hold no more than they say."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from robustbench_ft import method, soups, store
from robustbench_ft.batches import Images
from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier, Derived, Trained, weights_hash
from robustbench_ft.soups import Fits, Mixture, MixtureLoss, fit_each
from robustbench_ft.train import Recipe

SCALES = (0.03, 0.01, 0.02, 0.005, 0.04, 0.015)
State = dict[str, Tensor]


def noisy(scale: float = 0.02, **fields: Any) -> Method:
    return method.load(str(Path(__file__).with_name("noisy.py"))).model_validate({"scale": scale, **fields})


@pytest.fixture(scope="module")
def ingredients() -> tuple[Method, ...]:
    return tuple(noisy(scale) for scale in SCALES)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> store.Store:
    return store.Store(tmp_path_factory.mktemp("kept"))


@pytest.fixture
def in_store(kept: store.Store) -> Iterator[None]:
    with store.using(kept):
        yield


@pytest.fixture(scope="module")
def states(ingredients: tuple[Method, ...], start: Classifier, task: Task, kept: store.Store) -> list[State]:
    """Every ingredient's tensors, float64, all at once; the start's with a trained head is the first."""
    with store.using(kept):
        models = [start.frozen_head(), *fit_each(ingredients, start, task)]
    return [{name: value.double() for name, value in model.state_dict().items()} for model in models]


@pytest.fixture(scope="module")
def frame(start: Classifier) -> Classifier:
    return start.frozen_head()


def soup_of(name: str, ingredients: Sequence[Method], **fields: Any) -> Method:
    return method.load(name).model_validate({"ingredients": list(ingredients), **fields})


def mean(states: Sequence[State]) -> State:
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


def right(frame: Classifier, state: State, task: Task) -> int:
    """Val images that a model with those tensors answers rightly."""
    frame.load_state_dict({name: value.float() for name, value in state.items()})
    images = Images(task.val, frame.preprocess, augment=False).batch(np.arange(len(task.val)))
    with torch.no_grad():
        return int((frame(images.images).argmax(1) == images.labels).sum())


def apart(model: Classifier, state: State) -> float:
    """The largest difference of any tensor, in units of 1 or of the tensor's own largest where that is more."""
    found = model.state_dict()
    assert found.keys() == state.keys()
    return max(float((found[n].double() - v).abs().max() / max(1.0, float(v.abs().max()))) for n, v in state.items())


def still(model: Classifier, start: Classifier) -> bool:
    """Whether the text side is the start's bit for bit."""
    before = start.clip.state_dict()
    return all(torch.equal(v, before[n]) for n, v in model.clip.state_dict().items() if not n.startswith("visual."))


# The uniform soup


@pytest.mark.parametrize("started", [False, True])
def test_a_uniform_soup_is_the_mean(
    started: bool, ingredients: tuple[Method, ...], start: Classifier, task: Task, states: list[State], in_store: None
) -> None:
    soup = soup_of("uniform_soup", ingredients, start_counts=started).fit(start, task)
    assert apart(soup, mean(states if started else states[1:])) < 1e-6 and still(soup, start)
    assert apart(soup, mean(states[1:] if started else states)) > 1e-4


# The greedy soup


def greedy(states: Sequence[State], frame: Classifier, task: Task, *, strict: bool) -> tuple[State, str]:
    """Recipe 1 of model soups from scratch: the soup, and what became of each candidate in turn (+ or -)."""
    scores = [right(frame, state, task) for state in states]
    order = np.argsort(scores, kind="stable")[::-1]  # ascending, then reversed, as released
    kept, best, steps = [states[order[0]]], scores[order[0]], ""
    for index in order[1:]:
        score = right(frame, mean([*kept, states[index]]), task)
        accepted = score > best if strict else score >= best
        kept, best = ([*kept, states[index]], score) if accepted else (kept, best)
        steps += "+" if accepted else "-"
    return mean(kept), steps


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_greedy_soup_is_that_of_a_loop_from_scratch(
    strict: bool, started: bool, seed: int, ingredients: tuple[Method, ...], start: Classifier, task: Task, frame: Classifier,
    kept: store.Store,
) -> None:  # fmt: skip
    task = task.with_seed(seed)
    with store.using(kept):
        soup = soup_of("greedy_soup", ingredients, strict=strict, start_counts=started).fit(start, task)
        models = [start.frozen_head()] * started + list(fit_each(ingredients, start, task))
    states = [{name: value.double() for name, value in model.state_dict().items()} for model in models]
    expected, _ = greedy(states, frame, task, strict=strict)
    assert apart(soup, expected) < 1e-6 and still(soup, start)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Classifier]]:
    """Gives a greedy soup made-up scores: of the ingredients, then of each candidate; returns the candidates it will try."""

    def write(alone: list[float], together: list[float]) -> list[Classifier]:
        tried: list[Classifier] = []
        scores = iter(together)

        def accuracy(model: Classifier, images: object) -> float:
            tried.append(model)
            return next(scores)

        module = sys.modules[method.load("greedy_soup").__module__]
        monkeypatch.setattr(module, "accuracies", lambda makes, images, **_: alone)
        monkeypatch.setattr(module, "accuracy", accuracy)
        return tried

    return write


@pytest.mark.parametrize(
    ("together", "strict", "members"),
    [
        ([0.6, 0.8, 0.7, 0.9, 0.1], True, [0, 2, 4]),  # a rejected one is no part of the counts
        ([0.7, 0.7, 0.7, 0.7, 0.7], True, [0]),  # strict: equal is not enough
        ([0.7, 0.6, 0.7, 0.7, 0.6], False, [0, 1, 3, 4]),
        ([0.75, 0.72, 0.8, 0.78, 0.9], True, [0, 1, 3, 5]),  # against the best so far, not against the first
    ],
)
def test_a_greedy_soup_keeps_what_raises_its_best(
    together: list[float], strict: bool, members: list[int], scripted: Callable[..., list[Classifier]],
    ingredients: tuple[Method, ...], start: Classifier, task: Task, states: list[State], in_store: None,
) -> None:  # fmt: skip
    tried = scripted([0.7, 0.6, 0.5, 0.4, 0.3, 0.2], together)
    soup = soup_of("greedy_soup", ingredients, strict=strict).adapt(start, task)
    assert apart(soup, mean([states[1 + k] for k in members])) < 1e-6
    assert len(tried) == 5  # each candidate once


def test_of_equal_ingredients_the_later_comes_first(
    scripted: Callable[..., list[Classifier]], ingredients: tuple[Method, ...], start: Classifier, task: Task,
    states: list[State], in_store: None,
) -> None:  # fmt: skip
    tried = scripted([0.5, 0.7, 0.5, 0.7, 0.7, 0.5], [0.0] * 5)
    soup = soup_of("greedy_soup", ingredients).adapt(start, task)
    assert apart(soup, states[1 + 4]) == 0
    for candidate, index in zip(tried, (3, 1, 5, 2, 0), strict=True):
        assert apart(candidate, mean([states[1 + 4], states[1 + index]])) < 1e-6


def test_a_duplicate_is_accepted_only_where_equal_is_enough(
    start: Classifier, task: Task, in_store: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soups, "SEEDS_APART", 0)
    twice = (noisy(0.01), noisy(0.01))
    plain = twice[0].fit(start, task)
    module, counted = sys.modules[method.load("greedy_soup").__module__], []
    honest = module.accuracy  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "accuracy", lambda *given: counted.append(0) or honest(*given))
    for strict in (True, False):
        assert weights_hash(soup_of("greedy_soup", twice, strict=strict).adapt(start, task)) == weights_hash(plain)
    assert len(counted) == 2


# The learned soup


def independent_loss(stacked: State, frame: Classifier, logits: Tensor, temperature: Tensor, batch: Any) -> Tensor:
    """The cross entropy of the mixture with every ingredient in memory, by plain autograd."""
    shares = logits.softmax(1).expand(len(stacked), -1)
    mixed = {
        name: torch.tensordot(share, values, dims=1).float()
        for (name, values), share in zip(stacked.items(), shares, strict=True)
    }
    return F.cross_entropy(temperature * functional_call(frame, mixed, (batch.images,)), batch.labels)


@pytest.mark.parametrize("by_layer", [False, True])
@pytest.mark.parametrize("text", [False, True])
def test_shares_have_the_gradient_of_a_mixture_that_is_all_in_memory(
    by_layer: bool, text: bool, start: Classifier, task: Task, in_store: None
) -> None:
    models = Fits([noisy(scale, text=text) for scale in (0.01, 0.02, 0.03)], start, task)
    assert isinstance(models[0].head, Derived if text else Trained)
    loss = MixtureLoss(start, models)
    batch = Images(task.val, start.preprocess, augment=False).batch(np.arange(12))
    mixture = Mixture(len(loss.names) if by_layer else 1, 3)
    with torch.no_grad():
        mixture.logits.copy_(torch.randn(mixture.logits.shape, generator=torch.Generator().manual_seed(0)))
        mixture.temperature.fill_(0.3)
    value = loss(mixture, batch)
    found = torch.autograd.grad(value, [mixture.logits, mixture.temperature])

    every = [model.state_dict() for model in models]
    stacked = {name: torch.stack([state[name] for state in every]).double() for name in loss.names}
    frame = loss.frame.with_head(loss.frame.head)
    logits = mixture.logits.detach().double().requires_grad_()
    temperature = mixture.temperature.detach().double().requires_grad_()
    expected = independent_loss(stacked, frame, logits, temperature, batch)
    gradients = torch.autograd.grad(expected, [logits, temperature])
    assert value.item() == pytest.approx(expected.item(), abs=1e-6)
    for one, other in zip(found, gradients, strict=True):
        assert float((one - other).abs().max()) < 1e-6 and float(other.abs().max()) > 1e-4


@pytest.mark.parametrize("by_layer", [False, True])
def test_a_learned_soup_is_the_mean_under_shares_that_adamw_finds(
    by_layer: bool, ingredients: tuple[Method, ...], start: Classifier, task: Task, states: list[State], frame: Classifier,
    in_store: None,
) -> None:  # fmt: skip
    recipe = {"epochs": 4, "batch_size": len(task.val)}  # one batch an epoch: its order does not matter
    kind = soup_of("learned_soup", ingredients[:3], by_layer=by_layer, recipe=recipe)
    assert kind.recipe == Recipe(  # type: ignore[attr-defined]
        lr=0.05, weight_decay=0.0, epochs=4, batch_size=60, warmup_steps=0, schedule="constant", clip=None, augment=False
    )
    soup = kind.fit(start, task)

    stacked = {name: torch.stack([state[name] for state in states[1:4]]) for name in states[1]}
    batch = Images(task.val, start.preprocess, augment=False).batch(np.arange(len(task.val)))
    logits = torch.zeros(len(stacked) if by_layer else 1, 3, dtype=torch.float64, requires_grad=True)
    temperature = torch.ones((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.AdamW([logits, temperature], lr=0.05, weight_decay=0.0)
    for _ in range(4):
        optimizer.zero_grad()
        gradients = torch.autograd.grad(independent_loss(stacked, frame, logits, temperature, batch), [logits, temperature])
        logits.grad, temperature.grad = gradients
        optimizer.step()
    shares = logits.detach().softmax(1).expand(len(stacked), -1)
    assert float((shares - 1 / 3).abs().max()) > 0.02
    expected = {name: torch.tensordot(share, stacked[name], dims=1) for name, share in zip(stacked, shares, strict=True)}
    assert apart(soup, expected) < 2e-5 and still(soup, start)  # float32 gradients, normalised by Adam
    assert apart(soup, mean(states[1:4])) > 1e-4


def test_a_learned_soup_lowers_the_loss_on_val(start: Classifier, task: Task, in_store: None) -> None:
    kinds = [noisy(0.001), noisy(0.3)]
    batch = Images(task.val, start.preprocess, augment=False).batch(np.arange(len(task.val)))

    def error(name: str, **fields: Any) -> float:
        soup = soup_of(name, kinds, **fields).fit(start, task)
        with torch.no_grad():
            return float(F.cross_entropy(soup(batch.images), batch.labels))

    uniform = error("uniform_soup")
    for by_layer in (False, True):
        assert error("learned_soup", by_layer=by_layer, recipe={"epochs": 30, "batch_size": 60}) < uniform


# What is held


def test_fits_are_read_one_at_a_time_and_kept_only_without_a_store(
    start: Classifier, task: Task, ingredients: tuple[Method, ...], kept: store.Store
) -> None:
    alone = Fits(ingredients[:2], start, task)
    assert alone[0] is alone[0] and len(alone) == 2
    with store.using(kept):
        read = Fits(ingredients[:2], start, task, started=True)
        assert read[1] is not read[1] and len(read) == 3
        assert [weights_hash(model) for model in read][1:] == [weights_hash(model) for model in alone]
        assert weights_hash(read[0]) == weights_hash(start.frozen_head()) and weights_hash(read[-1]) == weights_hash(alone[1])
    with pytest.raises(IndexError):
        alone[2]
    for models in (alone, read):
        with store.using(kept):
            copied, before = models.own(0), weights_hash(models[0])
            next(copied.parameters()).data.add_(1)
            assert weights_hash(models[0]) == before


@pytest.mark.parametrize(
    ("name", "fields", "beside"),
    [
        ("uniform_soup", {}, 1),
        ("uniform_soup", {"fisher": 2}, 1),
        ("uniform_soup", {"start_counts": True}, 1),
        ("greedy_soup", {"strict": False}, 2),
        ("learned_soup", {"recipe": {"epochs": 1}}, 2),
        ("model_stock", {}, 1),
    ],
)
def test_a_soup_holds_two_models_and_a_running_mean_however_many_ingredients(
    name: str, fields: dict[str, Any], beside: int, start: Classifier, task: Task, kept: store.Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Counts the classifiers that are alive when one is read: the start, which the caller holds, and ``beside``."""
    made: weakref.WeakSet[Classifier] = weakref.WeakSet()
    counts: list[int] = []
    build, read = Classifier.__init__, store._read

    def counting_init(self: Classifier, *given: Any, **named: Any) -> None:
        build(self, *given, **named)
        made.add(self)

    def counting_read(*given: Any) -> Classifier:
        counts.append(len({id(model.clip) for model in made} - {id(start.clip)}))  # some share their towers
        return read(*given)

    with store.using(kept):
        kinds = [noisy(0.01)] * 8
        fit_each(kinds, start, task)
        monkeypatch.setattr(Classifier, "__init__", counting_init)
        monkeypatch.setattr(store, "_read", counting_read)
        soup_of(name, kinds, **fields).adapt(start, task)
    assert max(counts) <= beside and len(counts) >= 16, counts


def test_a_float32_mean_of_72_does_not_drift(start: Classifier, task: Task) -> None:
    """As a sum in half precision does."""
    from robustbench_ft.weights import average

    base = start.frozen_head()

    class Many(Sequence[Classifier]):
        def __len__(self) -> int:
            return 72

        def __getitem__(self, index: Any) -> Any:
            if index >= len(self):
                raise IndexError(index)
            made, generator = base.with_head(base.head), torch.Generator().manual_seed(index)
            with torch.no_grad():
                made.clip.visual.head.proj.weight.add_(torch.randn(made.clip.visual.head.proj.weight.shape, generator=generator))
            return made

    found = average(Many(), [1.0] * 72).clip.visual.head.proj.weight.detach()
    parts = [model.clip.visual.head.proj.weight.detach() for model in Many()]
    exact = torch.stack([part.double() for part in parts]).mean(0)
    assert float((found.double() - exact).abs().max()) < 1e-6
    half = torch.zeros_like(parts[0], dtype=torch.float16)
    for part in parts:
        half += (part / 72).half()
    assert float((half.double() - exact).abs().max()) > 1e-4
