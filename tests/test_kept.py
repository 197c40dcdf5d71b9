"""Zero-shot heads and image features in the store: found again, and never stale."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import contract
import pytest
import torch

from robustbench_ft import model as models
from robustbench_ft import predict, seal, store
from robustbench_ft.batches import Features
from robustbench_ft.datasets import open_set
from robustbench_ft.errors import LeakError
from robustbench_ft.features import encode
from robustbench_ft.method import Task
from robustbench_ft.mini.clip import WordTokenizer
from robustbench_ft.model import Classifier, Derived, load_start
from robustbench_ft.predict import Evaluation
from robustbench_ft.store import Store
from robustbench_ft.suites import Suite
from robustbench_ft.train import Recipe
from robustbench_ft.weights import interpolate


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Store]:
    """A store in use."""
    with store.using(Store(tmp_path)) as used:
        yield used


def files(kept: Store, kind: str) -> int:
    return len(list((kept.folder / kind).glob("*.safetensors")))


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by a name whenever a data set is encoded."""
    names: list[str] = []
    plain = predict.encode

    def counting(model: Classifier, images: object, how: Evaluation) -> Features:
        names.append(images.name)  # type: ignore[attr-defined]
        return plain(model, images, how)  # type: ignore[arg-type]

    monkeypatch.setattr(predict, "encode", counting)
    return names


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of classes whenever a zero-shot head is computed."""
    counts: list[int] = []
    plain = models.zero_shot_matrix

    def counting(clip: object, tokenise: WordTokenizer, classes: list[str], templates: list[str]) -> torch.Tensor:
        counts.append(len(classes))
        return plain(clip, tokenise, classes, templates)

    monkeypatch.setattr(models, "zero_shot_matrix", counting)
    return counts


def head(model: Classifier) -> torch.Tensor:
    with torch.no_grad():
        return model.matrix()[0]


def touched(start: Classifier, name: str) -> Classifier:
    """A copy that differs in one number of one tensor, and says the same of where it comes from."""
    other = copy.deepcopy(start)
    dict(other.named_parameters())[name].data.view(-1)[0] += 1e-3
    return other


# Zero-shot heads


def test_a_head_is_encoded_once_for_all_models_with_that_text_tower(tiny: Suite, kept: Store, prompts: list[int]) -> None:
    first = head(load_start(tiny.start, tiny))
    moved = touched(load_start(tiny.start, tiny), "clip.visual.trunk.stem.0.bias")
    assert torch.equal(head(load_start(tiny.start, tiny)), first) and torch.equal(head(moved), first)
    assert prompts == [20] and files(kept, "heads") == 1


def test_without_a_store_nothing_is_kept_of_a_head(tiny: Suite, prompts: list[int]) -> None:
    assert torch.equal(head(load_start(tiny.start, tiny)), head(load_start(tiny.start, tiny))) and len(prompts) == 2


@pytest.mark.parametrize("change", ["text", "scale", "classes", "order", "templates", "tokenizer"])
def test_a_head_is_encoded_anew_when_anything_that_decides_it_changes(
    change: str, tiny: Suite, kept: Store, prompts: list[int]
) -> None:
    start = load_start(tiny.start, tiny)
    before, classes, templates = head(start), tiny.classes, tiny.templates
    if change in ("text", "scale"):
        other = touched(start, {"text": "clip.ln_final.bias", "scale": "clip.logit_scale"}[change])
    elif change == "tokenizer":
        other = load_start(tiny.start, tiny)
        other.clip.reads = "another"
    else:
        classes = {"classes": classes[:-1], "order": classes[::-1]}.get(change, classes)
        other = start.reading(classes, templates[:1] if change == "templates" else templates)
    other.head.cache = None
    found = head(other)
    assert len(prompts) == 2 and files(kept, "heads") == 2
    assert (found.shape == before.shape and torch.equal(found, before)) is (change == "tokenizer")
    assert torch.equal(found, models.zero_shot_matrix(other.clip, other.tokenise, classes, other.head.templates))  # type: ignore[arg-type]


def test_a_model_between_two_text_towers_has_its_own_head(tiny: Suite, kept: Store) -> None:
    start = load_start(tiny.start, tiny)
    head(start)
    between = interpolate(start, touched(start, "clip.text_projection"), 0.5)
    expected = models.zero_shot_matrix(between.clip, between.tokenise, tiny.classes, tiny.templates)
    assert torch.equal(head(between), expected) and not torch.equal(head(between), head(start))


def test_where_gradients_are_recorded_a_head_is_neither_read_nor_kept(tiny: Suite, kept: Store, prompts: list[int]) -> None:
    start = load_start(tiny.start, tiny)
    for _ in range(2):
        start.matrix()
    assert len(prompts) == 2 and files(kept, "heads") == 0


def test_a_model_that_was_put_together_by_hand_keeps_nothing(start: Classifier, task: Task, kept: Store) -> None:
    other = copy.deepcopy(start)
    del other.clip.reads
    with seal.sealed():
        encode(other, task.val)
    assert torch.equal(head(other), head(copy.deepcopy(start))) and files(kept, "heads") == 1 and files(kept, "features") == 0


def test_a_fresh_store_makes_them_anew_once(
    start: Classifier, tiny: Suite, task: Task, tmp_path: Path, prompts: list[int]
) -> None:
    for fresh, expected in ((False, 1), (False, 1), (True, 2)):
        with store.using(Store(tmp_path, fresh=fresh)):
            for _ in range(2):
                head(copy.deepcopy(start))
        assert len(prompts) == expected


def test_prompts_are_encoded_in_batches_each_once(start: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Counting(WordTokenizer):
        def __call__(self, texts: str | list[str], context_length: int | None = None) -> torch.Tensor:
            sizes.append(len(texts))
            return super().__call__(texts, context_length)

    classes, templates = ("cup", "key", "cup", "a key"), ("a photo of {}", "a {}", "{}")  # "a key" twice
    whole = models.zero_shot_matrix(start.clip, Counting(), classes, templates)
    assert sizes == [8]
    monkeypatch.setattr(models, "PROMPTS", 3)
    torch.testing.assert_close(models.zero_shot_matrix(start.clip, Counting(), classes, templates), whole, rtol=0, atol=1e-5)
    assert sizes == [8, 3, 3, 2]


# Features


def test_features_are_encoded_once_and_come_back_bit_for_bit(
    start: Classifier, task: Task, kept: Store, encoded: list[str]
) -> None:
    with seal.sealed():
        first, again = (encode(start, task.train) for _ in range(2))
    plain = predict.encode(start, task.train, Evaluation())
    assert torch.equal(first.features, plain.features) and torch.equal(again.features, plain.features)
    assert torch.equal(again.labels, plain.labels)
    assert encoded == ["tiny-train"] * 2 and files(kept, "features") == 1  # once to keep, once here to compare


def test_probes_share_what_is_encoded_for_one_of_them(start: Classifier, task: Task, kept: Store, encoded: list[str]) -> None:
    lp = contract.quick("lp")
    lp.fit(start, task)
    lp.model_copy(update={"recipe": lp.recipe.model_copy(update={"lr": 0.5})}).fit(start, task)  # type: ignore[attr-defined]
    contract.quick("distill").fit(start, task)
    assert encoded == ["tiny-train"]


@pytest.mark.parametrize(
    "change",
    ["image tower", "same name", "activation", "size", "mean", "interpolation", "split", "subset", "normalize", "precision"],
)
def test_features_are_encoded_anew_when_anything_that_decides_them_changes(
    change: str, start: Classifier, task: Task, kept: Store, encoded: list[str]
) -> None:
    model, images, how = copy.deepcopy(start), task.train, Evaluation()
    with seal.sealed():
        before = encode(model, images).features
        if change == "image tower":  # its origin is still the start's
            model = touched(start, "clip.visual.trunk.stem.0.bias")
        elif change == "activation":
            model.clip.reads = "another"
        elif change in ("size", "mean", "interpolation"):
            value = {"size": 64, "mean": (0.4, 0.5, 0.5), "interpolation": "bilinear"}[change]
            model.preprocess = replace(model.preprocess, config=replace(model.preprocess.config, **{change: value}))
        elif change == "split":
            images = task.val
        elif change == "same name":
            images = replace(task.val, name=task.train.name)
        elif change == "subset":
            images = task.train.subset(task.train.labels > 0)
        elif change == "normalize":
            model = model.frozen_head()
            model.head.normalize = False
        else:
            how = Evaluation(precision="bf16")
        found = encode(model, images, how).features
    assert len(encoded) == 2 and files(kept, "features") == 2
    assert torch.equal(found, predict.encode(model, images, how).features)
    same = change in ("activation", "interpolation")  # here: of images that need no resizing
    assert (found.shape == before.shape and torch.equal(found, before)) is same


def test_features_change_with_the_code_that_makes_them(
    start: Classifier, task: Task, tmp_path: Path, encoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for code in ("1", "1", "2"):
        monkeypatch.setattr(store, "code", lambda code=code: {"predict": code})
        with store.using(Store(tmp_path)), seal.sealed():
            encode(start, task.val)
    assert len(encoded) == 2


def test_no_features_of_a_test_set_are_ever_kept(start: Classifier, tiny: Suite, kept: Store) -> None:
    test = open_set(tiny, tiny.test, None, kept.folder)
    assert len(encode(start, test)) == tiny.test.n and files(kept, "features") == 0
    with seal.sealed(), pytest.raises(LeakError):
        encode(start, open_set(tiny, tiny.test, None, kept.folder))


def test_features_are_of_the_eval_transform_whatever_the_recipe_says(start: Classifier, task: Task, kept: Store) -> None:
    """A random crop that is kept would be one crop for ever."""
    lp = contract.quick("lp")
    recipe: Recipe = lp.recipe.model_copy(update={"augment": True})  # type: ignore[attr-defined]
    lp.model_copy(update={"recipe": recipe}).fit(start, task)
    (file,) = (kept.folder / "features").glob("*.safetensors")
    from safetensors.torch import load_file

    assert torch.equal(load_file(file)["value"], predict.encode(start, task.train, Evaluation()).features)


def test_the_derived_head_of_the_start_reads_normalised_features(start: Classifier) -> None:
    assert isinstance(start.head, Derived) and start.head.normalize and start.frozen_head().head.normalize
