"""Trackers, with a stand-in for accelerate."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from toynet import SHORT, Net, features, loss

from robustbench_ft.errors import UnknownName, UsageError
from robustbench_ft.model import weights_hash
from robustbench_ft.track import tracking
from robustbench_ft.train import train


class Accelerator:
    """What is used of accelerate's."""

    installed = ("tensorboard",)
    last: Accelerator

    def __init__(self, log_with: str, project_dir: str) -> None:
        self.log_with, self.folder, self.trackers, self.ended = log_with, project_dir, list[str](), False
        self.logged: list[tuple[int, dict[str, float]]] = []
        Accelerator.last = self

    def init_trackers(self, project: str, config: dict[str, Any]) -> None:
        assert all(isinstance(value, (bool, int, float, str)) for value in config.values())
        self.project, self.config = project, config
        self.trackers = [self.log_with] if self.log_with in self.installed else []

    def log(self, values: dict[str, float], step: int) -> None:
        self.logged.append((step, values))

    def end_training(self) -> None:
        self.ended = True


@pytest.fixture
def accelerate(monkeypatch: pytest.MonkeyPatch) -> type[Accelerator]:
    module = ModuleType("accelerate")
    module.Accelerator = Accelerator  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "accelerate", module)
    return Accelerator


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


def test_every_step_is_logged_with_what_it_did(accelerate: type[Accelerator], net: Net, tmp_path: Path) -> None:
    recipe = SHORT.model_copy(update={"validate_every": 1.0})
    losses: list[float] = []

    def watched(model: Net, batch: Any) -> torch.Tensor:
        value = loss(model, batch)
        losses.append(value.item())
        return value

    with tracking("tensorboard", tmp_path, {"method": "ft", "recipe": {"lr": 1}}):
        train(net, features(), recipe, loss=watched, label="ft", validate=lambda model: 0.25)
        train(net, features(), SHORT, loss=loss, label="ft")
    run = accelerate.last
    assert run.ended and run.folder == str(tmp_path) and run.config == {"method": "ft", "recipe": '{"lr": 1}'}
    assert [step for step, _ in run.logged] == list(range(1, 19))  # W&B drops steps that go back
    first, second = run.logged[:9], run.logged[9:]
    assert [values["ft/loss"] for _, values in first] == losses
    assert [values["ft/lr"] for _, values in first] == pytest.approx([0.05 * recipe.factor(k, 9) for k in range(9)])
    assert [step for step, values in first if "ft/val" in values] == [3, 6, 9]
    assert all(values["ft/gradient_norm"] > 0 for _, values in first)
    assert all(set(values) == {"ft-2/loss", "ft-2/lr", "ft-2/gradient_norm"} for _, values in second)


def test_logging_changes_no_weights_and_ends_with_its_block(accelerate: type[Accelerator], net: Net, tmp_path: Path) -> None:
    ends = set()
    torch.manual_seed(7)
    with tracking("tensorboard", tmp_path, {}):
        ends.add(weights_hash(train(net, features(), SHORT, loss=loss)))
    logged = len(accelerate.last.logged)
    torch.manual_seed(7)
    ends.add(weights_hash(train(net, features(), SHORT, loss=loss)))
    assert len(ends) == 1 and len(accelerate.last.logged) == logged


def test_without_accelerate_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(UsageError, match="--track wandb needs accelerate") as caught, tracking("wandb", tmp_path, {}):
        pass
    assert "robustbench-ft[track]" in caught.value.hint


def test_a_tracker_that_is_not_installed_is_not_left_out_without_a_word(accelerate: type[Accelerator], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mlflow is not installed") as caught, tracking("mlflow", tmp_path, {}):
        pass
    assert caught.value.hint == "pip install mlflow"
    with pytest.raises(UnknownName, match="tensorboard"), tracking("tensorbord", tmp_path, {}):
        pass


def test_the_command_line_takes_it_to_the_run(accelerate: type[Accelerator], tiny_file: Path, tmp_path: Path) -> None:
    from robustbench_ft.evaluation import Order, evaluate

    order = Order(
        "ft",
        suite=str(tiny_file),
        overrides=[("recipe.epochs", "0.1")],
        out=tmp_path / "run",
        store=tmp_path / "store",
        device="cpu",
        workers=0,
        threads=1,
        track="tensorboard",
    )
    evaluate(order)
    assert accelerate.last.folder == str(tmp_path / "run") and accelerate.last.config["method"] == "ft"
    assert [step for step, _ in accelerate.last.logged] == [1]
