from __future__ import annotations

import copy

import contract
import numpy as np
import open_clip
import pytest
import torch
from test_weights import moved
from torch.nn import functional as F

from robustbench_ft.batches import Batch, Features, Images
from robustbench_ft.errors import UsageError
from robustbench_ft.losses import cross_entropy
from robustbench_ft.method import Task
from robustbench_ft.model import Classifier
from robustbench_ft.regularisers import cross_entropy_and_energies, random_strings
from robustbench_ft.train import Recipe, train


@pytest.fixture(scope="module")
def batch(start: Classifier, task: Task) -> Batch:
    return Images(task.train, start.preprocess, augment=False).batch(np.arange(24))


def features(model: Classifier, batch: Batch) -> np.ndarray:
    with torch.no_grad():
        plain = model.clip.encode_image(model.preprocess.normalise(batch.images)).double().numpy()
    return plain / np.linalg.norm(plain, axis=1, keepdims=True)


@pytest.mark.parametrize("strength", [0.3, 2.0])
def test_the_loss_equals_the_paper_s_sum_in_numpy(strength: float, start: Classifier, batch: Batch) -> None:
    model, texts = moved(start.frozen_head(), 1), random_strings(start, 5, 4)()
    with torch.no_grad():
        found = cross_entropy_and_energies(start, lambda: texts, strength)(model, batch).item()
        t = start.clip.encode_text(texts).double().numpy()
    t /= np.linalg.norm(t, axis=1, keepdims=True)
    here, there, s = features(model, batch), features(start, batch), start.clip.logit_scale.double().exp().item()
    logits = here @ model.head.weight.detach().double().numpy().T + model.head.bias.detach().double().numpy()
    error = np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(24), batch.labels])

    def total(scale: float, half: float) -> float:
        energies = [[(scale * (here[i] - there[i]) @ t[k]) ** 2 * half for k in range(5)] for i in range(24)]
        return float(error + strength * np.mean(energies))

    assert found == pytest.approx(total(s, 0.5), rel=1e-6)
    assert found != pytest.approx(total(1.0, 0.5), rel=1e-2)  # without the logit scale
    assert found != pytest.approx(total(s, 1.0), rel=1e-2)  # without the half


def test_at_the_start_there_is_no_penalty_and_later_its_gradient_is_the_model_s_alone(start: Classifier, batch: Batch) -> None:
    loss = cross_entropy_and_energies(start, random_strings(start, 5, 4), 1.0)
    here = start.frozen_head()
    assert loss(here, batch).item() == cross_entropy()(here, batch).item()
    model = moved(here, 1)
    loss(model, batch).backward()
    assert all(parameter.grad is None for parameter in start.parameters())
    text = [p.grad for name, p in model.named_parameters() if not name.startswith(contract.TUNING)]
    assert text and all(gradient is None for gradient in text)  # None, not 0, which weight decay would move
    assert model.clip.visual.trunk.stem[0].weight.grad.abs().max() > 0


def test_strings_are_drawn_anew_at_every_step(start: Classifier, batch: Batch) -> None:
    loss, model = cross_entropy_and_energies(start, random_strings(start, 5, 4), 1.0), moved(start.frozen_head(), 1)
    values = [loss(model, batch).item() for _ in range(2)]
    assert values[0] != values[1]


def test_under_bf16_the_change_is_taken_in_float32(start: Classifier, batch: Batch) -> None:
    model, texts = moved(start.frozen_head(), 1), random_strings(start, 5, 4)()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        here, there = model.encode(batch.images).float(), start.encode(batch.images).float()
        t = start.clip.encode_text(texts, normalize=True).float()
        found = cross_entropy_and_energies(start, lambda: texts, 1e3)(model, batch) - cross_entropy()(model, batch)
    expected = 1e3 * (start.clip.logit_scale.exp() * (here.double() - there.double()) @ t.double().T).square().mean() / 2
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_random_strings_stand_between_the_marks_of_clip_s_own_tokenizer(start: Classifier) -> None:
    clip = copy.deepcopy(start)
    clip.tokenise, clip.clip.vocab_size = open_clip.get_tokenizer("ViT-B-32"), 49408
    texts = random_strings(clip, 400, 8)()
    assert texts.shape == (400, 77) and texts.dtype == torch.int64
    assert (texts[:, 0] == 49406).all() and (texts[:, 9] == 49407).all() and (texts[:, 10:] == 0).all()
    words = texts[:, 1:9]
    assert words.min() >= 0 and words.max() < 49406 and words.unique().numel() > 3000
    assert (texts.argmax(1) == 9).all()  # where CLIP reads the text


def test_every_token_but_the_marks_is_drawn(start: Classifier) -> None:
    words = random_strings(start, 2000, 8)()[:, 1:9]
    begin, end = start.tokenise([""])[0, :2].tolist()
    assert set(words.unique().tolist()) == set(range(start.clip.vocab_size)) - {begin, end}


def test_strings_follow_torch_s_generator(start: Classifier) -> None:
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(random_strings(start, 3, 8)())
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_strings_that_are_too_long_and_tokenizers_without_marks_are_refused(start: Classifier) -> None:
    with pytest.raises(UsageError, match=r"11 tokens need .* room for 13 tokens; this one makes 12"):
        random_strings(start, 3, 11)
    other = copy.deepcopy(start)
    other.tokenise = lambda texts, context_length=None: torch.ones(len(texts), 64, dtype=torch.long)
    with pytest.raises(UsageError, match="marks of start and end"):
        random_strings(other, 3, 8)


def test_a_stronger_guide_keeps_the_energies_nearer(start: Classifier, task: Task, batch: Batch) -> None:
    kind, texts = contract.quick("lipsum_ft"), random_strings(start, 40, 8)()
    recipe = kind.recipe.model_copy(update={"epochs": 10, "validate_every": None})  # type: ignore[attr-defined]
    guide, plain = cross_entropy_and_energies(start, lambda: texts, 1.0), cross_entropy()

    def energy(strength: float) -> float:
        fitted = kind.model_copy(update={"strength": strength, "recipe": recipe}).fit(start, task)
        with torch.no_grad():
            return (guide(fitted, batch) - plain(fitted, batch)).item()

    assert energy(100.0) < 0.3 * energy(0.0)


def test_a_head_that_holds_the_scale_moves_as_the_released_one_that_does_not() -> None:
    """lr_scale makes AdamW's steps on W s those of a head W of which the logits are s f W."""
    torch.manual_seed(0)
    s, lr = 100.0, 1e-3
    f, labels = F.normalize(torch.randn(30, 8), dim=1), torch.randint(3, (30,))
    plain = torch.nn.Parameter(F.normalize(torch.randn(3, 8), dim=1))
    net = torch.nn.Module()
    net.head = torch.nn.Linear(8, 3)
    net.head.weight.data, net.head.bias.data = (s * plain).detach().clone(), torch.zeros(3)
    net.classify = lambda x: F.linear(x, *net.head.parameters())
    optimizer = torch.optim.AdamW([plain], lr=lr, weight_decay=0.0)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(s * f @ plain.T, labels).backward()
        optimizer.step()

    def end(scale: dict[str, float]) -> torch.Tensor:
        recipe = Recipe(
            lr=lr, lr_scale=scale, weight_decay=0, epochs=5, batch_size=30, warmup_steps=0, schedule="constant", clip=None
        )
        made = copy.deepcopy(net)
        made.classify = None

        def loss(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
            return F.cross_entropy(F.linear(batch.images, model.head.weight, model.head.bias), batch.labels)

        return train(made, Features(f, labels), recipe, loss=loss).head.weight / s

    scales = contract.method.load("lipsum_ft")().recipe.lr_scale  # type: ignore[attr-defined]
    torch.testing.assert_close(end(scales), plain.detach(), rtol=0, atol=1e-6)
    assert (end({}) - plain.detach()).abs().max() > 1e-3
