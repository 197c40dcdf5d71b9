from __future__ import annotations

import copy
import importlib
import math

import contract
import numpy as np
import pytest
import torch
from open_clip.model import CLIP
from open_clip.transform import PreprocessCfg
from torch.nn import functional as F

from robustbench_ft.batches import Images
from robustbench_ft.errors import UsageError
from robustbench_ft.method import Method, Task
from robustbench_ft.mini import clip as small
from robustbench_ft.model import Classifier, Derived, weights_hash
from robustbench_ft.preprocess import Preprocess
from robustbench_ft.weights import interpolate

LowRank = importlib.import_module(contract.method.load("lora").__module__).LowRank
BLOCK = "clip.visual.transformer.resblocks.{}.{}"
ENDS = ("attn.in_proj_weight", "attn.out_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
MATRICES = [BLOCK.format(number, end) for number in (0, 1) for end in ENDS]


@pytest.fixture(scope="module")
def vit(task: Task) -> Classifier:
    """A CLIP with a small ViT, whose queries, keys and values are one tensor of nn.MultiheadAttention."""
    tokenise = small.WordTokenizer()
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": tokenise.context_length, "vocab_size": len(tokenise.words), "width": 32, "heads": 2, "layers": 1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = CLIP(24, vision, text)
    preprocess = Preprocess(PreprocessCfg(size=32, mean=small.MEAN, std=small.STD))
    return Classifier(clip.eval(), Derived(task.classes, task.templates), preprocess, tokenise, origin="vit").eval()


def lora(**fields: object) -> Method:
    kind = contract.quick("lora")
    recipe = kind.recipe.model_copy(update=fields.pop("recipe", {}))  # type: ignore[attr-defined]
    return kind.model_copy(update={"recipe": recipe, **fields})


@pytest.fixture(scope="module")
def fitted(vit: Classifier, task: Task) -> Classifier:
    return lora(rank=3, lora_alpha=6.0, recipe={"epochs": 4, "lr": 0.01}).fit(vit, task)


def moves(one: Classifier, other: Classifier) -> dict[str, torch.Tensor]:
    before, after = (model.frozen_head().state_dict() for model in (one, other))
    return {name: after[name] - value for name, value in before.items() if not torch.equal(after[name], value)}


def test_matrices_and_head_move_and_nothing_else(vit: Classifier, fitted: Classifier) -> None:
    assert set(moves(vit, fitted)) == {*MATRICES, "head.weight", "head.bias"}


def test_a_matrix_moves_by_that_rank(vit: Classifier, fitted: Classifier) -> None:
    for name, move in moves(vit, fitted).items():
        if name in MATRICES:
            sizes = torch.linalg.svdvals(move.double())
            assert sizes[2] > 1e-4 and sizes[3] < 1e-6, name


def test_the_result_has_the_start_s_architecture(vit: Classifier, fitted: Classifier) -> None:
    assert fitted.state_dict().keys() == vit.frozen_head().state_dict().keys()
    kinds = [[type(module).__name__ for module in model.modules()] for model in (fitted, vit.frozen_head())]
    assert kinds[0] == kinds[1]
    assert all(isinstance(parameter, torch.nn.Parameter) for parameter in fitted.parameters())
    assert weights_hash(copy.deepcopy(fitted)) == weights_hash(fitted)


def test_an_adapted_matrix_answers_as_the_paper_s_two_paths() -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(7, 5), torch.randn(4, 5)
    adapted = LowRank(weight, 2, 16 / 2)
    with torch.no_grad():
        assert torch.equal(adapted(weight), weight)  # B begins at 0
        adapted.up.normal_()
        w, a, b = (part.detach().double().numpy() for part in (weight, adapted.down, adapted.up))
        two_paths = x.double().numpy() @ w.T + 16 / 2 * (x.double().numpy() @ a.T) @ b.T
        np.testing.assert_allclose((x @ adapted(weight).T).numpy(), two_paths, atol=1e-5)
        assert np.abs(x.double().numpy() @ (w + 16 * b @ a).T - two_paths).max() > 0.1  # not divided by the rank


def test_under_bf16_the_matrix_is_the_one_that_is_merged() -> None:
    torch.manual_seed(0)
    weight = torch.randn(7, 5)
    adapted = LowRank(weight, 2, 8.0)
    with torch.no_grad():
        adapted.up.normal_()
        with torch.autocast("cpu", torch.bfloat16):
            found = adapted(weight)
        assert torch.equal(found, adapted(weight)) and found.dtype == torch.float32


def test_a_begins_as_a_linear_layer_s_weight() -> None:
    torch.manual_seed(0)
    down = LowRank(torch.empty(10, 400), 64, 1.0).down
    assert down.abs().max() <= 1 / math.sqrt(400)  # kaiming uniform, a = sqrt(5)
    assert down.std().item() == pytest.approx(1 / math.sqrt(3 * 400), rel=0.02)


@pytest.mark.parametrize(("rank", "lora_alpha"), [(2, 2.0), (2, 6.0), (4, 6.0)])
def test_one_step_equals_the_one_by_hand(rank: int, lora_alpha: float, vit: Classifier, task: Task) -> None:
    """Of B alone, since A's gradient is 0 where B is: W moves by -rate (lora_alpha / rank)^2 G A'A, G its own gradient."""
    plain = {"optimizer": "sgd", "momentum": 0.0, "lr": 0.5, "lr_scale": {}, "clip": None, "weight_decay": 0.0}
    recipe = {**plain, "epochs": 1, "batch_size": 160, "schedule": "constant"}
    found = moves(vit, lora(rank=rank, lora_alpha=lora_alpha, recipe=recipe).fit(vit, task))
    model, images = vit.frozen_head(), Images(task.train, vit.preprocess, augment=False).batch(np.arange(160))
    F.cross_entropy(model(images.images), images.labels).backward()
    torch.manual_seed(task.seed)  # the fit draws the same factors, in the order of the matrices
    for name in MATRICES:
        weight = model.get_parameter(name)
        a = LowRank(weight, rank, 1.0).down.detach()
        expected = -0.5 * (lora_alpha / rank) ** 2 * weight.grad @ a.T @ a
        torch.testing.assert_close(found[name], expected, rtol=1e-3, atol=1e-6, msg=name)
    head = model.head.weight
    torch.testing.assert_close(found["head.weight"], -0.5 * head.grad, rtol=1e-3, atol=1e-5)  # type: ignore[operator, union-attr]


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.9])
def test_an_ensemble_with_the_start_moves_along_the_product_not_the_factors(
    alpha: float, vit: Classifier, fitted: Classifier
) -> None:
    whole, part = moves(vit, fitted), moves(vit, interpolate(vit, fitted, alpha))
    for name in MATRICES:
        u, s, v = torch.linalg.svd(whole[name].double())
        b, a = u[:, :3] * s[:3].sqrt(), s[:3].sqrt()[:, None] * v[:3]
        factors = (alpha * b) @ (alpha * a)  # interpolated one by one from 0
        torch.testing.assert_close(part[name].double(), alpha * (b @ a), rtol=0, atol=1e-6)
        torch.testing.assert_close(factors, alpha**2 * (b @ a))
        assert (part[name] - factors).abs().max() > 1e-3


def test_wiseft_over_lora_is_that_ensemble(vit: Classifier, task: Task) -> None:
    kind = contract.quick("wiseft").model_copy(update={"base": lora(), "alpha": 0.3})
    expected = interpolate(vit, lora().fit(vit, task), 0.3)
    assert weights_hash(kind.fit(vit, task)) == weights_hash(expected)


def test_it_may_look_at_val_while_it_trains(vit: Classifier, task: Task) -> None:
    fitted = lora(recipe={"validate_every": 1.0}).fit(vit, task)
    assert fitted.state_dict().keys() == vit.frozen_head().state_dict().keys() and set(MATRICES) < set(moves(vit, fitted))


def test_targets_are_the_ends_of_names(vit: Classifier, task: Task) -> None:
    fitted = lora(targets=("resblocks.1.attn.in_proj_weight",)).fit(vit, task)
    assert set(moves(vit, fitted)) == {BLOCK.format(1, ENDS[0]), "head.weight", "head.bias"}
    with pytest.raises(UsageError, match=r"ends in nothing; it has clip\.visual\.positional_embedding, clip\.visual\.proj"):
        lora(targets=("nothing",)).fit(vit, task)


def test_a_timm_tower_has_its_matrices_too(start: Classifier, task: Task) -> None:
    found = {name.rpartition(".blocks.")[2] for name in moves(start, lora().fit(start, task))}
    assert found == {"0.mlp.fc1.weight", "0.mlp.fc2.weight", "head.weight", "head.bias"}
