from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor

from robustbench_ft import predict as module
from robustbench_ft.batches import Images
from robustbench_ft.datasets import ImageSet
from robustbench_ft.errors import DataError, TrainingError
from robustbench_ft.method import Task
from robustbench_ft.model import Classifier, Trained, zero_shot_matrix
from robustbench_ft.predict import Evaluation, _answer, accuracy, encode, predict

Logits = npt.NDArray[np.float32]


class Scripted(Classifier):
    """A classifier whose logits are given; it reads which image it has from the pixels' first bytes."""

    def __init__(self, start: Classifier, logits: Logits) -> None:
        super().__init__(start.clip, Trained(torch.zeros(1, 1)), start.preprocess, start.tokenise, origin="scripted")
        self.logits = torch.from_numpy(logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits[images[:, 0, 0, 0].long()]


@pytest.fixture(scope="module")
def numbered(task: Task) -> ImageSet:
    """Six images, each of one grey value: its number."""
    return ImageSet(
        "numbered",
        [str(i) for i in range(6)],
        np.arange(6) % 3,
        lambda i: Image.new("RGB", (32, 32), (i, i, i)),
        "digest",
    )


def random_logits(classes: int = 7) -> Logits:
    return np.random.default_rng(0).normal(size=(6, classes)).astype(np.float32)


def test_an_answer_is_the_largest_logit(start: Classifier, numbered: ImageSet) -> None:
    logits = random_logits()
    found = predict({"m": lambda: Scripted(start, logits)}, numbered, {"own": None}, preprocess=start.preprocess)
    assert found["m"]["own"].dtype == np.uint16
    assert found["m"]["own"].tolist() == [max(range(7), key=lambda c: row[c]) for row in logits]


def test_of_equal_logits_the_lowest_class_wins() -> None:
    assert _answer(np.array([[1, 3, 3], [2, 2, 2], [0, 1, 1]], np.float32), None).tolist() == [1, 0, 1]
    assert _answer(np.array([[5, 9, 9, 9]], np.float32), ((0,), (2, 3), (1,))).tolist() == [1]


def test_a_group_s_logit_is_its_largest_and_a_class_may_count_for_several_groups() -> None:
    logits = random_logits(9)
    groups = ((3, 1), (0,), (8, 2, 5), (1,), (4,))
    expected = [int(np.argmax([max(row[list(group)]) for group in groups])) for row in logits]
    assert _answer(logits, groups).tolist() == expected


def test_an_empty_group_is_never_answered_not_even_where_all_logits_are_tiny() -> None:
    logits = np.full((2, 3), -3e38, np.float32)
    assert _answer(logits, ((), (2,), (), (0, 1))).tolist() == [1, 1]


def test_all_classifiers_and_groupings_of_one_pass_answer_as_each_alone(
    start: Classifier, numbered: ImageSet, task: Task
) -> None:
    groups = {"own": None, "pairs": ((0, 1), (2, 3)), "odd": ((5,), (), (1, 0))}
    frozen = start.frozen_head()
    models = {"start": lambda: start, "frozen": lambda: frozen}
    together = predict(models, task.val, groups, preprocess=start.preprocess)
    for name, make in models.items():
        for grouping, one in groups.items():
            alone = predict({name: make}, task.val, {grouping: one}, preprocess=start.preprocess)
            assert np.array_equal(together[name][grouping], alone[name][grouping]), (name, grouping)


def test_images_are_decoded_once_however_many_classifiers(start: Classifier, numbered: ImageSet) -> None:
    decoded: list[int] = []

    def image(i: int) -> object:
        decoded.append(i)
        return numbered.image(i)

    watched = replace(numbered, image=image)  # type: ignore[arg-type]
    models = {name: lambda: Scripted(start, random_logits()) for name in "abc"}
    predict(models, watched, {"own": None}, preprocess=start.preprocess)
    assert decoded == list(range(6))


@pytest.mark.parametrize("size", [1, 7, 60, 1000])
def test_the_batch_size_changes_no_answer(size: int, start: Classifier, task: Task) -> None:
    def answers(how: Evaluation) -> npt.NDArray[np.uint16]:
        return predict({"m": lambda: start}, task.val, {"own": None}, how=how, preprocess=start.preprocess)["m"]["own"]

    assert np.array_equal(answers(Evaluation(batch_size=size)), answers(Evaluation()))


def test_worker_processes_change_no_answer(start: Classifier, task: Task) -> None:
    one, two = (
        predict({"m": lambda: start}, task.val, {"own": None}, how=how, preprocess=start.preprocess)["m"]["own"]
        for how in (Evaluation(batch_size=16), Evaluation(batch_size=16, workers=2))
    )
    assert np.array_equal(one, two)


def test_pixels_held_in_pieces_give_the_same_answers(start: Classifier, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = predict({"m": lambda: start}, task.val, {"own": None}, preprocess=start.preprocess)["m"]["own"]
    monkeypatch.setattr(module, "CHUNK_BYTES", 20 * 3 * 32 * 32)
    how = Evaluation(batch_size=8)
    made = [sum(map(len, pieces)) for pieces in module._chunks(task.val, start.preprocess, how, readers=2)]
    assert made == [16, 16, 16, 12]
    assert [sum(map(len, pieces)) for pieces in module._chunks(task.val, start.preprocess, how)] == [8] * 7 + [4]
    for workers in (0, 1):
        how = Evaluation(batch_size=8, workers=workers)
        found = predict({"m": lambda: start, "n": lambda: start}, task.val, {"own": None}, how=how, preprocess=start.preprocess)
        assert np.array_equal(found["m"]["own"], whole) and np.array_equal(found["n"]["own"], whole)


def test_a_classifier_on_its_own_is_made_once(start: Classifier, task: Task) -> None:
    made = []
    how = Evaluation(batch_size=8)
    predict({"m": lambda: made.append(1) or start}, task.val, {"own": None}, how=how, preprocess=start.preprocess)
    assert made == [1]


def test_prediction_leaves_the_random_state_alone(start: Classifier, task: Task) -> None:
    before = torch.random.get_rng_state()
    accuracy(start, task.val)
    encode(start, task.val)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_bf16_is_the_encoder_under_autocast(start: Classifier, task: Task) -> None:
    how = Evaluation(precision="bf16")
    found = predict({"m": lambda: start}, task.train, {"own": None}, how=how, preprocess=start.preprocess)["m"]["own"]
    batch = Images(task.train, start.preprocess, augment=False).batch(np.arange(len(task.train)))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        features = start.encode(batch.images)
    with torch.no_grad():
        half, full = (start.classify(f) for f in (features.float(), start.encode(batch.images)))
    assert not torch.equal(half, full)
    assert found.tolist() == half.argmax(1).tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_an_error(bad: float, start: Classifier, numbered: ImageSet) -> None:
    logits = random_logits()
    logits[4, 2] = bad
    with pytest.raises(TrainingError, match="not finite"):
        predict({"m": lambda: Scripted(start, logits)}, numbered, {"own": None}, preprocess=start.preprocess)


def test_a_model_in_training_mode_is_evaluated_in_eval_mode(start: Classifier, task: Task) -> None:
    class Wet(Scripted):
        def forward(self, images: Tensor) -> Tensor:
            assert not self.training
            return super().forward(images)

    predict(
        {"m": lambda: Wet(start, np.zeros((256, 3), np.float32)).train()},
        task.val,
        {"own": None},
        preprocess=start.preprocess,
    )


def test_accuracy_is_the_share_of_right_answers(start: Classifier, numbered: ImageSet) -> None:
    logits = np.eye(3, dtype=np.float32)[[0, 1, 2, 1, 1, 1]]  # labels 0 1 2 0 1 2
    assert accuracy(Scripted(start, logits), numbered) == pytest.approx(4 / 6)


def test_features_are_the_encoder_s_in_order_with_labels(start: Classifier, task: Task) -> None:
    found = encode(start, task.val, Evaluation(batch_size=16))
    batch = Images(task.val, start.preprocess, augment=False).batch(np.arange(len(task.val)))
    with torch.no_grad():
        torch.testing.assert_close(found.features, start.encode(batch.images), rtol=1e-5, atol=1e-6)
    assert torch.equal(found.labels, batch.labels)


def test_a_head_of_other_words_is_made_by_the_towers_as_they_are(start: Classifier, task: Task) -> None:
    words = (("moon", "heart", "gear", "leaf"), ("a drawing of a {}", "the {}"))
    moved = start.frozen_head()
    with torch.no_grad():
        for parameter in moved.clip.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    images = task.val
    found = predict({"m": lambda: moved}, images, {"own": None}, words=words, preprocess=start.preprocess)["m"]["own"]
    matrix = zero_shot_matrix(moved.clip, moved.tokenise, *words)
    expected = (encode(moved, images).features @ matrix.T).argmax(1)
    assert found.tolist() == expected.tolist() and len(set(found.tolist())) > 1
    stale = predict({"m": lambda: start}, images, {"own": None}, words=words, preprocess=start.preprocess)["m"]["own"]
    assert stale.tolist() != found.tolist(), "the start's towers would answer otherwise"
    assert isinstance(moved.head, Trained), "its own head is left alone"


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_read_is_one_clear_error_from_a_worker_too(
    workers: int, start: Classifier, numbered: ImageSet
) -> None:
    def image(index: int) -> Image.Image:
        if index == 4:
            raise DataError("image fourth.jpg cannot be decoded", hint="rbft data verify")
        return numbered.image(index)

    broken = replace(numbered, image=image)
    how = Evaluation(batch_size=2, workers=workers)
    with pytest.raises(DataError) as caught:
        predict({"start": lambda: start}, broken, {"own": None}, how=how, preprocess=start.preprocess)
    assert (str(caught.value), caught.value.hint) == ("image fourth.jpg cannot be decoded", "rbft data verify")
