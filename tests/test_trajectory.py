"""Points along fine-tuning: one training makes them all, and each is what a training up to there gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import contract
import pytest

from robustbench_ft import store
from robustbench_ft import train as training
from robustbench_ft.errors import UsageError
from robustbench_ft.method import Task
from robustbench_ft.model import Classifier, weights_hash


@pytest.fixture
def kind() -> Any:
    return contract.quick("trajectory").model_copy(update={"points": 4})  # 8 steps: 2, 4, 6, 8


def test_one_training_makes_all_points_and_they_are_what_shorter_trainings_give(
    kind: Any, start: Classifier, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = {share: weights_hash(kind.model_copy(update={"share": share}).fit(start, task)) for share in (0.25, 0.5, 0.75, 1.0)}
    assert len(set(alone.values())) == 4
    steps: list[int] = []
    update = training._Run.update
    monkeypatch.setattr(training._Run, "update", lambda self, parts: (steps.append(self.step), update(self, parts)))
    with store.using(store.Store(tmp_path)):
        fitted = kind.fit(start, task)
        points = {point.alpha: (point.name, weights_hash(point.classifier())) for point in kind.path(start, task)}
    assert steps == list(range(8))
    assert points == {share: (f"steps={share:g}", alone[share]) for share in alone}
    assert kind.headline(fitted) == ("steps=1", 1.0) and weights_hash(fitted) == alone[1.0]


def test_the_end_is_plain_fine_tuning_under_the_same_seed(kind: Any, start: Classifier, task: Task) -> None:
    assert weights_hash(kind.fit(start, task)) == weights_hash(contract.quick("ft").fit(start, task))


def test_an_interrupted_run_keeps_the_points_that_it_passed(
    kind: Any, start: Classifier, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(training, "SAVE_SHARE", 0.0)
    whole = weights_hash(kind.fit(start, task))
    update = training._Run.update

    def killed(self: Any, parts: Any) -> None:
        if self.step == 5:
            raise KeyboardInterrupt
        update(self, parts)

    with monkeypatch.context() as patch, store.using(store.Store(tmp_path)):
        patch.setattr(training._Run, "update", killed)
        with pytest.raises(KeyboardInterrupt):
            kind.fit(start, task)
    steps: list[int] = []
    monkeypatch.setattr(training._Run, "update", lambda self, parts: (steps.append(self.step), update(self, parts)))
    with store.using(store.Store(tmp_path)):
        assert weights_hash(kind.fit(start, task)) == whole
        for point in kind.path(start, task):
            point.classifier()
    assert steps == [5, 6, 7]


def test_choosing_a_point_on_val_is_another_thing(kind: Any, start: Classifier, task: Task) -> None:
    recipe = kind.recipe.model_copy(update={"validate_every": 1.0})
    with pytest.raises(UsageError, match="trajectory does not look at val"):
        kind.model_copy(update={"recipe": recipe}).fit(start, task)
