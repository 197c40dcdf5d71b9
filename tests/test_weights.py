from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_ft.errors import UsageError
from robustbench_ft.model import Classifier, Derived, Ensemble, Trained, weights_hash
from robustbench_ft.weights import average, interpolate, move


def moved(model: Classifier, seed: int, *, text: bool = False) -> Classifier:
    """A copy with noise on the image tower and the trained head, as fine-tuning gives; with ``text`` on all."""
    made = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if text or name.startswith(("clip.visual", "head")):
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    made.origin = f"moved {seed}"
    return made


@pytest.fixture(scope="module")
def tuned(start: Classifier) -> list[Classifier]:
    return [moved(start.frozen_head(), seed) for seed in (1, 2, 3)]


@pytest.mark.parametrize("weights", [(1, 1, 1), (0.2, 0.5, 0.3), (3, 0, 1), (0, 0, 2), (0, 1, 0)])
def test_the_mean_equals_numpy_s_in_float64(weights: tuple[float, ...], tuned: list[Classifier]) -> None:
    mean = average(tuned, weights).state_dict()
    for name, value in mean.items():
        parts = np.stack([model.state_dict()[name].double().numpy() for model in tuned])
        expected = np.average(parts, axis=0, weights=weights)
        np.testing.assert_allclose(value.numpy(), expected, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.73])
def test_interpolation_equals_numpy_s(alpha: float, tuned: list[Classifier]) -> None:
    mean = interpolate(tuned[0], tuned[1], alpha).state_dict()
    for name, value in mean.items():
        one, two = (model.state_dict()[name].double().numpy() for model in tuned[:2])
        np.testing.assert_allclose(value.numpy(), (1 - alpha) * one + alpha * two, rtol=1e-5, atol=1e-6, err_msg=name)


def test_weights_may_differ_by_tensor_and_by_element(tuned: list[Classifier]) -> None:
    generator = torch.Generator().manual_seed(4)
    own = [
        {
            n: torch.rand(v.shape if k % 2 else (), generator=generator) + 0.1
            for k, (n, v) in enumerate(model.state_dict().items())
        }
        for model in tuned
    ]
    mean = average(tuned, [weights.__getitem__ for weights in own]).state_dict()
    for name, value in mean.items():
        weights = [given[name].double() for given in own]
        parts = [model.state_dict()[name].double() for model in tuned]
        expected = sum(w * part for w, part in zip(weights, parts, strict=True)) / sum(weights)  # type: ignore[operator]
        np.testing.assert_allclose(value.numpy(), expected.numpy(), rtol=1e-6, atol=1e-6, err_msg=name)
    blend = interpolate(tuned[0], tuned[1], own[0].__getitem__).state_dict()
    for name, value in blend.items():
        one, two = (model.state_dict()[name].double() for model in tuned[:2])
        torch.testing.assert_close(
            value.double(), torch.lerp(one, two, own[0][name].double().expand_as(one)), rtol=1e-6, atol=1e-6
        )


def test_weights_by_tensor_are_part_of_where_a_mean_came_from(tuned: list[Classifier]) -> None:
    a, b, _ = tuned
    shares = (1.0, 2.0, torch.tensor(1.0), torch.tensor(2.0))
    made = [average([a, b], [1.0, {name: share for name in a.state_dict()}.__getitem__]) for share in shares]
    made += [interpolate(a, b, lambda _: 0.5), interpolate(a, b, 0.25), average([a, b], [1, 1])]
    assert len({model.origin for model in made}) == 7


def test_a_step_in_place_is_the_mean_and_makes_no_model(tuned: list[Classifier]) -> None:
    own = copy.deepcopy(tuned[2])
    clip = own.clip
    assert move(own, tuned[0], 0.75).clip is clip
    assert weights_hash(own) == weights_hash(interpolate(tuned[2], tuned[0], 0.75)) != weights_hash(tuned[2])


def test_tied_tensors_move_once(tuned: list[Classifier]) -> None:
    models = [copy.deepcopy(model) for model in tuned[:2]]
    for value, model in enumerate(models):
        model.clip.one = model.clip.two = nn.Linear(1, 1)
        nn.init.constant_(model.clip.one.weight, float(value))
    assert interpolate(models[0], models[1], 0.5).clip.two.weight.item() == 0.5


def test_heads_that_read_other_features_are_not_averaged(start: Classifier) -> None:
    other = start.frozen_head()
    other.head.normalize = False
    for model in (start, start.frozen_head()):
        with pytest.raises(UsageError, match="L2-normalised"):
            average([model, other], [1, 1])


def test_a_zero_shot_matrix_is_encoded_anew_only_where_the_text_tower_moved(
    start: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    from robustbench_ft import model as models

    calls: list[int] = []
    encode = models.zero_shot_matrix
    monkeypatch.setattr(models, "zero_shot_matrix", lambda *given: (calls.append(0), encode(*given))[1])
    patched = start.with_head(start.head)
    with torch.no_grad():
        start.matrix()
        calls.clear()
        patched.clip.visual.head.proj.weight.add_(0.1)
        kept = interpolate(start, patched, 0.5)
        assert torch.equal(kept.matrix()[0], start.matrix()[0]) and not calls
        patched.clip.token_embedding.weight.add_(0.1)
        assert not torch.equal(interpolate(start, patched, 0.5).matrix()[0], start.matrix()[0]) and calls


def test_the_ends_are_exact_bit_for_bit(tuned: list[Classifier]) -> None:
    assert weights_hash(interpolate(tuned[0], tuned[1], 0.0)) == weights_hash(tuned[0])
    assert weights_hash(interpolate(tuned[0], tuned[1], 1.0)) == weights_hash(tuned[1])


@pytest.mark.parametrize("alpha", [0.1, 1 / 3, 0.7, 0.9])
def test_what_no_model_moved_stays_bit_for_bit(alpha: float, start: Classifier, tuned: list[Classifier]) -> None:
    before, mean = start.clip.state_dict(), interpolate(tuned[0], tuned[1], alpha).clip.state_dict()
    still = [name for name in before if not name.startswith("visual.")]
    assert still and all(torch.equal(before[name], mean[name]) for name in still)


def test_inputs_stay_as_they_are(tuned: list[Classifier]) -> None:
    before = [weights_hash(model) for model in tuned]
    average(tuned, [1, 2, 3])
    assert [weights_hash(model) for model in tuned] == before


def test_origins_tell_models_and_weights_apart(tuned: list[Classifier]) -> None:
    a, b, _ = tuned
    origins = [average([a, b], [1, 1]), average([b, a], [1, 1]), average([a, b], [1, 2]), average([a, a], [1, 1])]
    assert len({model.origin for model in origins} | {a.origin, b.origin}) == 6


def test_derived_heads_are_rebuilt_from_the_mean_text_tower(start: Classifier) -> None:
    a, b = moved(start, 1, text=True), moved(start, 2, text=True)
    mean = average([a, b], [1, 1])
    assert isinstance(mean.head, Derived)
    with torch.no_grad():
        rebuilt, _ = mean.matrix()
        blended = (a.matrix()[0] + b.matrix()[0]) / 2
    towers = copy.deepcopy(a)
    towers.load_state_dict({n: (v + b.state_dict()[n]) / 2 for n, v in a.state_dict().items()})
    with torch.no_grad():
        torch.testing.assert_close(rebuilt, towers.matrix()[0], rtol=1e-4, atol=1e-4)
    assert (rebuilt - blended).abs().max() > 1e-3


def test_a_derived_head_becomes_trained_where_the_text_towers_are_equal(start: Classifier, tuned: list[Classifier]) -> None:
    mean = interpolate(start, tuned[0], 0.5)
    assert isinstance(mean.head, Trained) and isinstance(tuned[0].head, Trained)
    with torch.no_grad():
        torch.testing.assert_close(mean.head.weight, (start.matrix()[0] + tuned[0].head.weight) / 2)
        torch.testing.assert_close(mean.head.bias, tuned[0].head.bias / 2)


@pytest.mark.parametrize("part", ["logit_scale", "token_embedding.weight"])
def test_mixed_heads_are_refused_where_anything_of_the_text_side_differs(
    part: str, start: Classifier, tuned: list[Classifier]
) -> None:
    other = copy.deepcopy(start)
    other.clip.state_dict()[part].add_(1e-3)
    with pytest.raises(UsageError, match=r"zero-shot head .*trained head"):
        average([tuned[0], other], [1, 1])


def test_an_ensemble_of_outputs_has_no_weights_to_average(tuned: list[Classifier]) -> None:
    with pytest.raises(UsageError, match="ensemble"):
        average([Ensemble(tuned[:2], origin=""), tuned[0]], [1, 1])


def test_models_of_other_shapes_are_refused(start: Classifier, tuned: list[Classifier]) -> None:
    other = tuned[0].with_head(tuned[0].head)
    other.clip = nn.Sequential(other.clip)
    with pytest.raises(UsageError, match=r"different shape .*only in the first \(clip\..*only in the second \(clip\.0\."):
        average([tuned[0], other], [1, 1])


def test_models_of_other_sizes_are_refused_by_the_tensor_s_name(tuned: list[Classifier]) -> None:
    other = tuned[0].with_head(Trained(torch.zeros(3, 64)))
    with pytest.raises(UsageError, match=r"2 of another size \(head\.weight is \[20, \d+\] and \[3, 64\], head\.bias is"):
        average([tuned[0], other], [1, 1])
    with pytest.raises(UsageError, match="another size"):
        interpolate(tuned[0], other, 0.0)  # where the second would not count


def test_nothing_has_no_mean() -> None:
    with pytest.raises(UsageError, match="no model"):
        average([], [])


def test_floating_buffers_are_averaged_and_counters_are_the_first_s(tuned: list[Classifier]) -> None:
    models = []
    for count, (model, mean) in enumerate(zip(tuned, (1.0, 3.0), strict=False)):
        made = copy.deepcopy(model)
        norm = nn.BatchNorm1d(2)
        assert norm.running_mean is not None and norm.num_batches_tracked is not None
        norm.running_mean.fill_(mean)
        norm.num_batches_tracked.fill_(10 + 5 * count)
        made.clip.norm = norm
        models.append(made)
    blended = average(models, [1, 1]).clip.norm
    assert blended.running_mean.tolist() == [2.0, 2.0] and blended.num_batches_tracked.item() == 10
