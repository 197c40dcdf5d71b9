"""What goes wrong while a method runs: one clear message each, through the functions that raise it and the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import contract
import numpy as np
import pytest
import torch
from test_cli import Rbft, rbft  # noqa: F401

from robustbench_ft import method
from robustbench_ft.batches import Images
from robustbench_ft.errors import RbftError, UnknownName, UsageError, in_batches
from robustbench_ft.features import encode
from robustbench_ft.method import Task
from robustbench_ft.model import Classifier, Derived, Ensemble, zero_shot_matrix
from robustbench_ft.predict import accuracy
from robustbench_ft.store import Store

SHORT = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    MemoryError(),
)


# Memory


@pytest.mark.parametrize("error", SHORT, ids=["cuda", "cpu", "python"])
def test_out_of_memory_names_the_batch_size_and_the_one_to_try(error: Exception) -> None:
    with (
        pytest.raises(RbftError, match=r"^out of memory: training in batches of 512 \(") as caught,
        in_batches("training", 512, "x={}"),
    ):
        raise error
    assert caught.value.hint == "x=256" and "\n" not in str(caught.value) and caught.value.exit_code == 1


def test_other_errors_stay_what_they_are_and_there_is_no_batch_of_none() -> None:
    with pytest.raises(RuntimeError, match="shapes"), in_batches("training", 512, "{}"):
        raise RuntimeError("shapes differ")
    with pytest.raises(RbftError) as caught, in_batches("training", 1, "x={}"):
        raise MemoryError
    assert caught.value.hint == "x=1"


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for a few images at once."""
    plain = Classifier.encode

    def encoding(model: Classifier, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 20:
            raise SHORT[0]
        return plain(model, images)

    monkeypatch.setattr(Classifier, "encode", encoding)


def test_training_encoding_and_evaluating_name_theirs(full: None, start: Classifier, task: Task) -> None:
    with pytest.raises(RbftError, match="out of memory: ft in batches of 40") as caught:
        contract.quick("ft").fit(start, task)
    assert "recipe.accumulate=2" in caught.value.hint and "recipe.batch_size=20" in caught.value.hint
    for name, call in (
        ("encoding tiny-train", lambda: encode(start, task.train)),
        ("evaluating on tiny-train", lambda: accuracy(start, task.train)),
    ):
        with pytest.raises(RbftError, match=f"out of memory: {name} in batches of 256") as caught:
            call()
        assert caught.value.hint == "--batch-size 128"


def test_what_it_advises_gets_through_with_what_was_done_before(
    full: None, start: Classifier, task: Task, tmp_path: Path
) -> None:
    kind = contract.quick("ft")
    with pytest.raises(RbftError):
        contract.fit(kind, start, task, Store(tmp_path))
    recipe = kind.recipe.model_copy(update={"accumulate": 2})  # type: ignore[attr-defined]
    contract.fit(kind.model_copy(update={"recipe": recipe}), start, task, Store(tmp_path))


def test_the_command_says_it_in_two_lines(full: None, rbft: Rbft, tiny_file: Path, tmp_path: Path) -> None:  # noqa: F811
    said = rbft(
        "evaluate", "--method", "ft", "--suite", str(tiny_file), "--store", str(tmp_path), "--set", "recipe.batch_size=50"
    )
    assert said.code == 1 and said.err.splitlines()[-2].startswith(
        "error: out of memory: ft in batches of 50 (CUDA out of memory"
    )
    assert "recipe.batch_size=25" in said.err.splitlines()[-1]


# Text towers


class Tower(torch.nn.Module):
    """An image tower alone."""

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.visual = clip.visual

    def encode_image(self, images: torch.Tensor, normalize: bool = False) -> torch.Tensor:
        features: torch.Tensor = self.visual(images)
        return torch.nn.functional.normalize(features, dim=-1) if normalize else features


@pytest.mark.parametrize("name", ["flyp", "flyp_ce"])
def test_flyp_without_a_text_tower(name: str, start: Classifier, task: Task) -> None:
    head = start.frozen_head().head
    alone = Classifier(Tower(start.clip), head, start.preprocess, start.tokenise, origin="tower").eval()
    assert alone(Images(task.val, start.preprocess, augment=False).batch(np.arange(2)).images).shape == (2, 20)
    with pytest.raises(UsageError, match="this model is no CLIP: Tower has no text tower") as caught:
        contract.quick(name).fit(alone, task)
    assert "rbft list models" in caught.value.hint


def test_a_zero_shot_head_without_a_text_tower(start: Classifier, task: Task) -> None:
    with pytest.raises(UsageError, match="no text tower"):
        zero_shot_matrix(Tower(start.clip), start.tokenise, task.classes, task.templates)
    with pytest.raises(UsageError, match="no text tower"):
        Ensemble([start], origin="").encode_text(torch.zeros(1, 4, dtype=torch.long))
    assert isinstance(start.head, Derived)


# Fields and files


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("base", {"method": "ft", "recpie": {}}, r"field of ft: 'recpie'\. Did you mean recipe\? Known: recipe"),
        ("base", {"method": "ft", "recipe": {"lrr": 1}}, r"field of ft, recipe: 'lrr'\. Did you mean lr\? Known: accumulate, "),
        ("base.recipe", {"lr": 1, "epoch": 2}, r"field of ft, recipe: 'epoch'\. Did you mean epochs\?"),
    ],
)
def test_an_unknown_field_in_a_table_is_told_with_the_known_ones(field: str, value: object, message: str) -> None:
    with pytest.raises(UnknownName, match=message) as caught:
        method.configure("wiseft", recipe_table="mini", overrides=[(field, value)])
    assert caught.value.hint == "rbft show ft"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "defines 0 methods, expected one subclass of Method"),
        ("class A(Method):\n    pass\n\nclass B(Method):\n    pass\n", "defines 2 methods, expected one subclass of Method"),
        ("import nothing_of_that_name\n", "cannot be imported: ModuleNotFoundError"),
        ("from robustbench_ft.train import Recipes\n", "cannot be imported: ImportError"),
    ],
)
def test_a_file_that_is_no_method_ends_the_command_with_one_line(text: str, message: str, rbft: Rbft, tmp_path: Path) -> None:  # noqa: F811
    file = tmp_path / "of_my_own.py"
    file.write_text(f"from robustbench_ft.method import Method\n\n{text}")
    said = rbft("evaluate", "--method", str(file))
    assert said.code == 2 and said.out == "" and said.err.startswith(f"error: {file} {message}") and "Traceback" not in said.err
