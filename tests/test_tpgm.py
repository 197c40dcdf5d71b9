from __future__ import annotations

from dataclasses import replace

import contract
import numpy as np
import pytest
import torch
from test_weights import moved
from torch.nn import functional as F

from robustbench_ft.batches import Batch, Images
from robustbench_ft.errors import UsageError
from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier, weights_hash
from robustbench_ft.projection import Projection, Radii
from robustbench_ft.weights import interpolate

CONV, MATRIX, VECTOR = (
    "clip.visual.trunk.stem.0.weight",
    "clip.visual.trunk.stages.0.blocks.0.mlp.fc1.weight",
    "clip.visual.trunk.stem.0.bias",
)


@pytest.fixture(scope="module")
def before(start: Classifier) -> Classifier:
    return start.frozen_head()


@pytest.fixture(scope="module")
def tuned(before: Classifier) -> Classifier:
    return moved(before, 1)


@pytest.fixture(scope="module")
def val(start: Classifier, task: Task) -> Batch:
    return Images(task.val, start.preprocess, augment=False).batch(np.arange(60))


def at(projection: Projection, share: float) -> Radii:
    """Radii at a share of the largest norm of each tensor."""
    return Radii(torch.stack([share * norm.max() for norm in projection.norms]))


def tensors(*models: Classifier) -> dict[str, list[np.ndarray]]:
    return {name: [model.state_dict()[name].double().numpy() for model in models] for name in models[0].state_dict()}


def test_l2_moves_each_tensor_to_the_ball_s_edge(before: Classifier, tuned: Classifier) -> None:
    projection = Projection(before, tuned, "l2")
    radii = Radii(torch.linspace(0.01, 0.4, len(projection.norms)))
    found, values = projection.model(radii), radii.values.tolist()
    cut = 0
    for (name, (start, end, made)), in_order in zip(
        ((n, t) for n, t in tensors(before, tuned, found).items() if n.startswith(contract.TUNING)), values, strict=True
    ):
        length = np.sqrt(((end - start) ** 2).sum())
        cut += length > in_order
        np.testing.assert_allclose(made, start + min(1, in_order / length) * (end - start), atol=1e-6, err_msg=name)
    assert 0 < cut < len(values)  # some tensors stay where fine-tuning left them, and are not pushed beyond


def test_mars_shortens_the_rows_that_are_too_long(before: Classifier, tuned: Classifier) -> None:
    projection = Projection(before, tuned, "mars")
    found = projection.model(at(projection, 0.9))
    for name in (CONV, MATRIX, VECTOR):
        start, end, made = tensors(before, tuned, found)[name]
        lengths = np.abs(end - start).reshape(len(start), -1).sum(1)
        radius = 0.9 * lengths.max()
        shares = np.minimum(1, radius / lengths).reshape(-1, *[1] * (start.ndim - 1))
        np.testing.assert_allclose(made, start + shares * (end - start), atol=1e-6, err_msg=name)
        uncapped = start + (radius / lengths).reshape(shares.shape) * (end - start)  # as released for ImageNet
        assert np.abs(uncapped - made).max() > 1e-3 and (shares == 1).any() and (shares < 1).any()


@pytest.mark.parametrize("norm", ["l2", "mars"])
def test_with_the_largest_radii_it_is_the_fine_tune_and_beyond_too(norm: str, before: Classifier, tuned: Classifier) -> None:
    projection = Projection(before, tuned, norm)
    for share in (1.0, 3.0):
        assert weights_hash(projection.model(at(projection, share))) == weights_hash(tuned)


def test_radii_begin_at_half_the_smallest_norm(before: Classifier, tuned: Classifier) -> None:
    l2, mars = (Projection(before, tuned, norm) for norm in ("l2", "mars"))
    middle, found = tensors(interpolate(before, tuned, 0.5)), l2.model(l2.radii())
    for name, value in found.state_dict().items():
        np.testing.assert_allclose(value.numpy(), middle[name][0], atol=1e-6, err_msg=name)
    start, end = tensors(before, tuned)[MATRIX]
    radius = mars.radii().values[list(mars.ends).index(MATRIX)].item()
    assert radius == pytest.approx(np.abs(end - start).sum(1).min() / 2, rel=1e-5)


@pytest.mark.parametrize("norm", ["l2", "mars"])
def test_the_radii_s_gradient_is_the_model_s_along_the_move(norm: str, before: Classifier, tuned: Classifier, val: Batch) -> None:
    projection = Projection(before, tuned, norm)
    radii = at(projection, 0.6)
    projection.loss(radii, val).backward()
    model = projection.model(radii)
    F.cross_entropy(model(val.images), val.labels).backward()
    for name in (CONV, MATRIX, VECTOR, "head.weight"):
        move = tuned.get_parameter(name).detach().double() - before.get_parameter(name).detach().double()
        flat = move.reshape(1, -1) if norm == "l2" else move.reshape(len(move), -1)
        lengths = flat.norm(dim=1) if norm == "l2" else flat.abs().sum(1)
        cut = (lengths > 0.6 * lengths.max()).double()  # what lies inside its ball does not hear of the radius
        slope = (cut / lengths)[:, None] * flat * model.get_parameter(name).grad.double().reshape(flat.shape)
        found = radii.values.grad[list(projection.ends).index(name)].item()
        assert found == pytest.approx(slope.sum().item(), rel=1e-4, abs=1e-6), name


def settings(**fields: object) -> Method:
    kind = contract.quick("tpgm")
    return kind.model_copy(update={"recipe": kind.recipe.model_copy(update=fields)})  # type: ignore[attr-defined]


@pytest.mark.parametrize("norm", ["l2", "mars"])
def test_a_fit_equals_the_paper_s_loop_written_by_hand(norm: str, start: Classifier, task: Task, val: Batch) -> None:
    kind = settings(lr=0.01, epochs=3, batch_size=60).model_copy(update={"norm": norm})
    found = kind.fit(start, task)
    tuned, before = contract.quick("ft").fit(start, task), start.frozen_head()
    names = [name for name, _ in tuned.named_parameters() if name.startswith(contract.TUNING)]
    moves = {name: tuned.get_parameter(name).detach() - before.get_parameter(name).detach() for name in names}
    norms = {n: m.norm() if norm == "l2" else m.abs().reshape(len(m), -1).sum(1) for n, m in moves.items()}
    radii = {name: torch.nn.Parameter(norms[name].min() / 2) for name in names}
    optimizer = torch.optim.Adam(radii.values(), lr=0.01)

    def projected() -> dict[str, torch.Tensor]:
        made = {}
        for name, move in moves.items():
            with torch.no_grad():
                radii[name].copy_(F.hardtanh(radii[name], 1e-8, norms[name].max().item()))
            share = (radii[name] / norms[name]).clamp(max=1)
            made[name] = before.get_parameter(name).detach() + share.reshape(-1, *[1] * (move.dim() - 1)) * move
            made[name] = made[name].reshape(move.shape)
        return made

    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(torch.func.functional_call(before, projected(), (val.images,)), val.labels).backward()
        optimizer.step()
    for name, value in projected().items():
        torch.testing.assert_close(found.get_parameter(name), value, rtol=0, atol=1e-5, msg=name)
    assert any((radii[name].detach() - norms[name].min() / 2).abs() > 0.02 for name in names)  # they have moved


def test_radii_are_learned_on_val(start: Classifier, task: Task) -> None:
    one, two = (settings().fit(start, own) for own in (task, replace(task, val=task.train)))
    assert weights_hash(one) != weights_hash(two)


def test_what_fine_tuning_left_alone_stays_bit_for_bit(start: Classifier, task: Task) -> None:
    fitted = settings().fit(start, task).state_dict()
    still = [name for name in start.state_dict() if not name.startswith(contract.TUNING)]
    assert still and all(torch.equal(fitted[name], start.state_dict()[name]) for name in still)


def test_a_base_without_a_head_of_its_own_is_refused(start: Classifier, task: Task) -> None:
    kind = contract.quick("tpgm").model_copy(update={"base": contract.quick("flyp")})
    with pytest.raises(UsageError, match="flyp leaves no head of its own"):
        kind.fit(start, task)


def test_by_default_it_takes_some_200_steps_on_imagenet_s_minival() -> None:
    recipe = contract.method.load("tpgm")().recipe  # type: ignore[attr-defined]

    class Val:
        epoch = 26_000

    assert recipe.steps(Val()) == 199
