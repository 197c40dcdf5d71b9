from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from robustbench_ft.batches import Images
from robustbench_ft.errors import DataError, UnknownName, UsageError
from robustbench_ft.method import Task
from robustbench_ft.mini import clip as small
from robustbench_ft.model import (
    BUILT_IN,
    Classifier,
    Derived,
    Ensemble,
    Trained,
    load_start,
    weights_hash,
    zero_shot_matrix,
)
from robustbench_ft.suites import Suite


@pytest.fixture(scope="module")
def pixels(start: Classifier, task: Task) -> torch.Tensor:
    return Images(task.train, start.preprocess, augment=False).batch(np.arange(12)).images


def by_hand(model: Classifier, classes: tuple[str, ...], templates: tuple[str, ...]) -> np.ndarray:
    """The zero-shot matrix, one prompt at a time, in numpy's float64."""
    rows = []
    for name in classes:
        prompts = []
        for template in templates:
            with torch.no_grad():
                prompt = model.clip.encode_text(model.tokenise(template.format(name)))[0].double().numpy()
            prompts.append(prompt / np.linalg.norm(prompt))
        mean = np.mean(prompts, axis=0)
        rows.append(mean / np.linalg.norm(mean) * np.exp(model.clip.logit_scale.item()))
    return np.stack(rows)


def test_the_zero_shot_matrix_equals_one_computed_prompt_by_prompt(start: Classifier, tiny: Suite) -> None:
    found = zero_shot_matrix(start.clip, start.tokenise, tiny.classes, tiny.templates)
    expected = by_hand(start, tiny.classes, tiny.templates)
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-5, atol=1e-5)


def test_classes_of_one_name_have_one_row_each_and_it_is_the_same(start: Classifier, tiny: Suite) -> None:
    found = zero_shot_matrix(start.clip, start.tokenise, ("cup", "key", "cup"), tiny.templates)
    np.testing.assert_allclose(found.numpy(), by_hand(start, ("cup", "key", "cup"), tiny.templates), rtol=1e-4, atol=1e-5)
    assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])


def test_the_zero_shot_matrix_leaves_the_model_s_mode_alone(start: Classifier, tiny: Suite) -> None:
    model = copy.deepcopy(start).train()
    zero_shot_matrix(model.clip, model.tokenise, tiny.classes[:2], tiny.templates)
    assert model.clip.training


def test_logits_are_the_matrix_times_normalised_features_plus_bias(start: Classifier, pixels: torch.Tensor) -> None:
    model = start.frozen_head()
    assert isinstance(model.head, Trained)
    with torch.no_grad():
        model.head.bias.copy_(torch.arange(20.0))
        features = model.encode(pixels)
        found = model(pixels)
        raw = model.clip.encode_image((pixels.float() / 255 - 0.5) / 0.25)
    np.testing.assert_allclose(features.norm(dim=1).numpy(), 1, rtol=1e-5)
    normal = raw.double().numpy() / np.linalg.norm(raw.double().numpy(), axis=1, keepdims=True)
    expected = normal @ model.head.weight.detach().double().numpy().T + np.arange(20)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-4)


def test_a_frozen_head_answers_as_the_derived_one_does_and_is_a_copy(start: Classifier, pixels: torch.Tensor) -> None:
    before = weights_hash(start)
    frozen = start.frozen_head()
    with torch.no_grad():
        assert torch.equal(frozen(pixels), start(pixels))
        for parameter in frozen.parameters():
            parameter.add_(1)
    assert weights_hash(start) == before and isinstance(start.head, Derived)


def test_freezing_a_trained_head_copies_it(start: Classifier) -> None:
    one = start.frozen_head()
    two = one.frozen_head()
    assert isinstance(one.head, Trained) and isinstance(two.head, Trained)
    with torch.no_grad():
        two.head.weight.add_(1)
        two.head.bias.add_(1)
    assert not torch.equal(one.head.weight, two.head.weight) and one.head.bias.abs().sum() == 0


def test_a_copy_has_its_own_weights_mode_and_no_cached_head(start: Classifier, pixels: torch.Tensor) -> None:
    with torch.no_grad():
        start(pixels)
    assert isinstance(start.head, Derived) and start.head.cache is not None
    made = copy.deepcopy(start).train()
    assert isinstance(made.head, Derived) and made.head.cache is None and not start.training
    assert weights_hash(made) == weights_hash(start) and made.origin == start.origin


def test_features_meet_the_head_in_float32_under_autocast(start: Classifier, pixels: torch.Tensor) -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        features = start.encode(pixels)
        logits = start(pixels)
    assert logits.dtype == torch.float32
    with torch.no_grad():
        assert torch.equal(logits, start.classify(features.float()))


@pytest.mark.parametrize("probabilities", [False, True])
def test_an_ensemble_averages_outputs(probabilities: bool, start: Classifier, pixels: torch.Tensor) -> None:
    members = [start, start.frozen_head()]
    with torch.no_grad():
        members[1].head.bias.copy_(torch.linspace(-3, 3, 20))  # type: ignore[union-attr, operator]
        found = Ensemble(members, probabilities=probabilities, origin="")(pixels)
        logits = np.stack([member(pixels).double().numpy() for member in members])
    if probabilities:
        odds = np.exp(logits - logits.max(-1, keepdims=True))
        expected = np.log((odds / odds.sum(-1, keepdims=True)).mean(0))
    else:
        expected = logits.mean(0)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_copied_ensemble_is_an_ensemble_of_copies(start: Classifier, pixels: torch.Tensor) -> None:
    one = Ensemble([start.frozen_head(), start.frozen_head()], probabilities=True, origin="o")
    two = copy.deepcopy(one)
    with torch.no_grad():
        assert torch.equal(one(pixels), two(pixels)) and two.probabilities and two.origin == "o"
        next(two.parameters()).add_(1)
    assert weights_hash(one) != weights_hash(two)


def test_a_weights_hash_covers_values_names_types_and_shapes() -> None:
    def one(name: str, value: torch.Tensor) -> str:
        module = torch.nn.Module()
        module.register_buffer(name, value)
        return weights_hash(module)

    zeros = torch.zeros(2, 3)
    hashes = [one("a", zeros), one("b", zeros), one("a", zeros + 1), one("a", zeros.view(3, 2)), one("a", zeros.int())]
    assert len(set(hashes)) == 5
    assert one("a", zeros.t()) == one("a", torch.zeros(3, 2))  # how it lies in memory does not matter


# Loading


def test_a_saved_start_model_is_loaded_bit_for_bit(tiny: Suite, tmp_path: Path) -> None:
    torch.manual_seed(4)
    clip = small.build()
    small.save(clip, small.WordTokenizer(), tmp_path / "c.safetensors")
    loaded = load_start(str(tmp_path / "c.safetensors"), tiny)
    assert loaded.origin == weights_hash(clip) == weights_hash(loaded.clip)
    assert not loaded.training and isinstance(loaded.head, Derived) and loaded.head.classes == tiny.classes


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("nothing.safetensors", DataError, "no start model at nothing.safetensors"),
        ("ViT-B-23", UnknownName, "Did you mean .*ViT-B"),
        ("mini_clip", UnknownName, "Did you mean mini-clip"),
        ("ViT-B-32", UsageError, "which weights of ViT-B-32"),
        ("ViT-B-32:openia", UnknownName, "Did you mean openai"),
        ("random:ViT-B-23", UnknownName, "unknown model"),
    ],
)
def test_a_start_model_that_is_not_there(name: str, kind: type[Exception], message: str, tiny: Suite) -> None:
    with pytest.raises(kind, match=message):
        load_start(name, tiny)


def test_weights_that_are_no_start_model_are_refused(tiny: Suite, tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("not a model")
    with pytest.raises(DataError, match=r"text\.safetensors"):
        load_start(str(tmp_path / "text.safetensors"), tiny)


def test_the_shipped_start_model_is_part_of_the_package_and_knows_the_mini_suite() -> None:
    from robustbench_ft import suites

    if not BUILT_IN["mini-clip"].is_file() or "mini" not in suites.names():
        pytest.skip("the mini suite or its start model is not in this checkout yet")
    suite = suites.load("mini")
    model = load_start("mini-clip", suite)
    with torch.no_grad():
        weight, _ = model.matrix()
    assert BUILT_IN["mini-clip"].stat().st_size <= 4_000_000
    assert weight.shape == (20, small.EMBED) and torch.linalg.matrix_rank(weight) == 20


def test_a_random_model_of_open_clip_is_the_same_every_time_and_leaves_the_caller_s_state(tiny: Suite) -> None:
    state = torch.get_rng_state()
    first, second = (load_start("random:ViT-M-32-alt", tiny) for _ in range(2))
    assert first.origin == second.origin
    assert torch.equal(state, torch.get_rng_state())
    with torch.no_grad():
        assert first(torch.zeros(1, 3, 224, 224, dtype=torch.uint8)).shape == (1, len(tiny.classes))
