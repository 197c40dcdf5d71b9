"""FLYP's towers and collisions, and its ablation with cross entropy, as methods."""

from __future__ import annotations

import contract
import pytest
import torch

from robustbench_ft.errors import UsageError
from robustbench_ft.method import Task
from robustbench_ft.model import Classifier, Derived, weights_hash, zero_shot_matrix


def test_with_the_image_tower_alone_texts_stay_and_the_scale_moves(start: Classifier, task: Task) -> None:
    kind = contract.quick("flyp").model_copy(update={"towers": "image"})
    fitted = kind.fit(start, task)
    before, after = start.clip.state_dict(), fitted.clip.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert "logit_scale" in moved and "visual.trunk.stem.0.weight" in moved
    assert all(name.startswith("visual.") or name == "logit_scale" for name in moved)
    assert isinstance(fitted.head, Derived)
    with torch.no_grad():
        expected = start.matrix()[0] / start.clip.logit_scale.exp() * fitted.clip.logit_scale.exp()
        torch.testing.assert_close(fitted.matrix()[0], expected, rtol=1e-6, atol=1e-6)


def test_masking_collisions_is_another_method(start: Classifier, task: Task) -> None:
    ends = {weights_hash(contract.quick("flyp").model_copy(update={"collisions": c}).fit(start, task)) for c in ("keep", "mask")}
    assert len(ends) == 2


@pytest.mark.parametrize("name", ["flyp", "flyp_ce"])
def test_the_head_is_rebuilt_from_the_fine_tuned_text_tower_and_scale(name: str, start: Classifier, task: Task) -> None:
    fitted = contract.quick(name).fit(start, task)
    with torch.no_grad():
        expected = zero_shot_matrix(fitted.clip, start.tokenise, task.classes, task.templates)
        assert torch.equal(fitted.matrix()[0], expected)
        assert not torch.allclose(expected, start.matrix()[0], atol=1e-3)


@pytest.mark.parametrize("name", ["flyp", "flyp_ce"])
def test_the_best_on_val_is_judged_with_the_head_of_its_own_text_tower(
    name: str, start: Classifier, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head that was cached at an earlier look would judge a later image tower by an earlier text tower."""
    heads = []

    def note(self: Task, model: Classifier) -> float:
        with torch.no_grad():
            found, fresh = model.matrix()[0], zero_shot_matrix(model.clip, model.tokenise, task.classes, task.templates)
        assert torch.equal(found, fresh)
        heads.append(found)
        return float(len(heads))

    monkeypatch.setattr(Task, "accuracy", note)
    kind = contract.quick(name)
    recipe = kind.recipe.model_copy(update={"validate_every": 0.5})  # type: ignore[attr-defined]
    fitted = kind.model_copy(update={"recipe": recipe}).fit(start, task)
    assert len(heads) == 4 and len({float(head.double().sum()) for head in heads}) == 4
    with torch.no_grad():
        assert torch.equal(fitted.matrix()[0], heads[-1])


def test_flyp_refuses_mixup_and_accumulation_gives_the_same(start: Classifier, task: Task) -> None:
    kind = contract.quick("flyp")
    recipe = kind.recipe  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="a caption names one"):
        kind.model_copy(update={"recipe": recipe.model_copy(update={"mixup": 0.2})}).fit(start, task)
    gentle = recipe.model_copy(update={"optimizer": "sgd", "lr": 1e-2, "weight_decay": 0.0})
    one, two = (
        kind.model_copy(update={"recipe": gentle.model_copy(update={"accumulate": n})}).fit(start, task).state_dict()
        for n in (1, 4)
    )
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5, msg=name)
