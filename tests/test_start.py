"""Start models by open_clip, each a small one that is built here: what a name means, and what is refused."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from huggingface_hub import constants
from open_clip import pretrained as tags
from open_clip.model import CLIP
from safetensors.torch import save_file

from robustbench_ft.errors import DataError, UsageError
from robustbench_ft.model import load_start, weights_hash
from robustbench_ft.suites import Suite

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VIT = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}
RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
CONFIG: dict[str, Any] = {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT}
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)


def build(seed: int = 0, **config: Any) -> CLIP:
    """A small CLIP of random weights, loud enough for an activation to matter."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        clip = CLIP(**(CONFIG | config)).eval()
        for parameter in clip.parameters():
            if parameter.dim() > 1:
                parameter.data.mul_(3)
    return clip


def saved(folder: Path, clip: CLIP, **config: Any) -> Path:
    """The folder as open_clip saves a model to publish it."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"model_cfg": CONFIG | config, "preprocess_cfg": {"mean": MEAN, "std": STD}}
    (folder / "open_clip_config.json").write_text(json.dumps(about))
    save_file(clip.state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), np.uint8))


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Makes open_clip know an architecture ViT-Small, its QuickGELU twin and, of both, the tags that are given."""

    def register(clip: CLIP, **flags: bool) -> Path:
        file = tmp_path / "weights.safetensors"
        save_file(clip.state_dict(), file)
        entries = {tag: {"file": str(file), "mean": MEAN, "std": STD, "quick_gelu": quick} for tag, quick in flags.items()}
        for name, more in (("ViT-Small", {}), ("ViT-Small-quickgelu", {"quick_gelu": True})):
            monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, CONFIG | more)
            monkeypatch.setitem(tags._PRETRAINED, name, entries)
        return file

    return register


def features(clip: CLIP, pixels: torch.Tensor, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> torch.Tensor:
    """Normalised features as open_clip computes them."""
    shift, scale = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    with torch.no_grad():
        found: torch.Tensor = clip.encode_image((pixels / 255 - shift) / scale, normalize=True)
    return found


# The activation


@pytest.mark.parametrize("name", ["ViT-Small", "ViT-Small-quickgelu"])
def test_openai_s_weights_get_quickgelu_under_either_name(
    name: str, known: Callable[..., Path], pixels: torch.Tensor, tiny: Suite
) -> None:
    weights = build(quick_gelu=True)
    known(weights, openai=True, laion=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_start(name, tiny, pretrained="openai")
    with torch.no_grad():
        torch.testing.assert_close(found.encode(pixels), features(weights, pixels), rtol=0, atol=1e-6)
    plain = build(quick_gelu=False)
    assert weights_hash(plain) == weights_hash(weights)  # nothing in the weights tells
    assert (features(plain, pixels) - features(weights, pixels)).abs().max() > 1e-3


def test_weights_trained_with_gelu_keep_it(known: Callable[..., Path], pixels: torch.Tensor, tiny: Suite) -> None:
    weights = build(quick_gelu=False)
    known(weights, openai=True, laion=False)
    with torch.no_grad():
        found = load_start("ViT-Small:laion", tiny).encode(pixels)
    torch.testing.assert_close(found, features(weights, pixels), rtol=0, atol=1e-6)


def test_every_tag_that_needs_quickgelu_has_it_under_the_plain_name_in_open_clip_s_own_table() -> None:
    from robustbench_ft.start import _trained_with_quick_gelu

    assert _trained_with_quick_gelu("ViT-B-16", "openai") and _trained_with_quick_gelu("RN50", "openai")
    assert not _trained_with_quick_gelu("ViT-B-16", "laion400m_e32")


def test_the_same_weights_under_two_activations_are_two_start_models(known: Callable[..., Path], tiny: Suite) -> None:
    known(build(), openai=True, laion=False)
    origins = {tag: load_start("ViT-Small", tiny, pretrained=tag).origin for tag in ("openai", "laion")}
    assert origins["openai"] != origins["laion"]
    assert load_start("ViT-Small-quickgelu:openai", tiny).origin == origins["openai"]


def test_of_a_file_it_is_said_how_it_is_read(
    known: Callable[..., Path], pixels: torch.Tensor, tiny: Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(known(build(), openai=True))
    for name, quick in (("ViT-Small", False), ("ViT-Small-quickgelu", True)):
        with torch.no_grad():
            found = load_start(name, tiny, pretrained=file).encode(pixels)
        told = capsys.readouterr().err
        assert f"read as {name}" in told and "mean 0.4815, 0.4578, 0.4082" in told
        assert ("activation GELU; weights trained with QuickGELU, as OpenAI's: --model ViT-Small-quickgelu" in told) is not quick
        expected = features(build(quick_gelu=quick), pixels, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


# What is loaded


@pytest.mark.parametrize("vision", [VIT, RESNET], ids=["vit", "resnet"])
def test_a_folder_of_open_clip_is_loaded_bit_for_bit(
    vision: dict[str, Any], pixels: torch.Tensor, tiny: Suite, tmp_path: Path
) -> None:
    clip = build(vision_cfg=vision)
    found = load_start(f"local-dir:{saved(tmp_path, clip, vision_cfg=vision)}", tiny)
    assert weights_hash(found.clip) == weights_hash(clip) and not found.training
    with torch.no_grad():
        torch.testing.assert_close(found.encode(pixels), features(clip, pixels), rtol=0, atol=1e-6)
        assert found(pixels).shape == (3, 20)


def test_half_precision_weights_become_float32(known: Callable[..., Path], tiny: Suite) -> None:
    file = known(build(), openai=True)
    save_file({name: value.half() for name, value in build().state_dict().items()}, file)
    found = load_start("ViT-Small:openai", tiny)
    assert {value.dtype for value in found.clip.state_dict().values()} == {torch.float32}


def test_the_zero_shot_head_equals_open_clip_s_own_times_the_logit_scale(tiny: Suite, tmp_path: Path) -> None:
    templates = ("a photo of a {}.", "the {} in the wild.", "{}")
    model = load_start(f"local-dir:{saved(tmp_path, build())}", tiny)
    clip, tokenise = build(), open_clip.get_tokenizer(f"local-dir:{tmp_path}")
    builder = [lambda name, template=template: template.format(name) for template in templates]
    expected = open_clip.build_zero_shot_classifier(clip, tokenise, tiny.classes, builder) * clip.logit_scale.exp()
    with torch.no_grad():
        found, bias = model.reading(tiny.classes, templates).matrix()
    torch.testing.assert_close(found, expected.T, rtol=0, atol=2e-6)  # entries are up to 14
    assert bias.abs().max() == 0 and found.norm(dim=1).allclose(clip.logit_scale.exp())


# A hub that is out of reach


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of the hub, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cached(hub: Path, clip: CLIP) -> Path:
    """Put a model into the cache as the hub's client does."""
    folder = hub / "models--someone--small"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    return saved(folder / "snapshots" / ("0" * 40), clip)


def test_weights_in_the_cache_are_loaded_without_a_network(hub: Path, pixels: torch.Tensor, tiny: Suite) -> None:
    cached(hub, build())
    with torch.no_grad():
        found = load_start("hf-hub:someone/small", tiny).encode(pixels)
    torch.testing.assert_close(found, features(build(), pixels), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "tag", "repository"),
    [("hf-hub:someone/small", None, "someone/small"), ("ViT-B-16", "openai", "timm/vit_base_patch16_clip_224.openai")],
)
def test_weights_that_are_not_in_the_cache_say_where_and_how(
    name: str, tag: str | None, repository: str, hub: Path, tiny: Suite, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match=f"weights of {name}.* could not be loaded.*not in the cache {hub}") as caught:
        load_start(name, tiny, pretrained=tag)
    assert f"hf download {repository};" in caught.value.hint and "--pretrained" in caught.value.hint
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("where", ["cache", "folder"])
def test_a_config_without_weights_does_not_become_a_random_model(where: str, hub: Path, tiny: Suite, tmp_path: Path) -> None:
    folder = cached(hub, build()) if where == "cache" else saved(tmp_path / "model", build())
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(DataError, match="could not be loaded"):
        load_start("hf-hub:someone/small" if where == "cache" else f"local-dir:{folder}", tiny)


# Files


class Attack:
    """What unpickles into a call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("was-here"),)


def test_a_checkpoint_of_tensors_is_read(known: Callable[..., Path], tiny: Suite, tmp_path: Path) -> None:
    known(build(), openai=True)
    torch.save({"state_dict": {f"module.{name}": value for name, value in build().state_dict().items()}}, tmp_path / "w.pt")
    assert weights_hash(load_start("ViT-Small", tiny, pretrained=str(tmp_path / "w.pt")).clip) == weights_hash(build())


@pytest.mark.parametrize("place", ["--pretrained", "local-dir"])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(
    place: str, known: Callable[..., Path], tiny: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(build(), openai=True)
    monkeypatch.chdir(tmp_path)
    folder = saved(tmp_path / "model", build())
    (folder / "open_clip_model.safetensors").unlink()
    file = folder / "open_clip_pytorch_model.bin"
    torch.save({"state_dict": build().state_dict(), "more": Attack()}, file)
    with pytest.raises(DataError, match=r"more than tensors.*it is not read$") as caught:
        if place == "local-dir":
            load_start(f"local-dir:{folder}", tiny)
        else:
            load_start("ViT-Small", tiny, pretrained=str(file))
    assert "safetensors" in caught.value.hint and not Path("was-here").exists()
    pickle.loads(pickle.dumps(Attack()))
    assert Path("was-here").exists()  # it would have run


def test_a_torchscript_archive_is_refused_by_its_name(known: Callable[..., Path], tiny: Suite, tmp_path: Path) -> None:
    known(build(), openai=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "ViT-Small.pt"))  # type: ignore[no-untyped-call]
    with pytest.raises(DataError, match="TorchScript archive, as OpenAI released") as caught:
        load_start("ViT-Small", tiny, pretrained=str(tmp_path / "ViT-Small.pt"))
    assert caught.value.hint.startswith("--model ViT-Small --pretrained openai")


def test_a_checkpoint_of_another_architecture_is_named(known: Callable[..., Path], tiny: Suite, tmp_path: Path) -> None:
    known(build(), openai=True)
    save_file(build(vision_cfg=RESNET).state_dict(), tmp_path / "resnet.safetensors")
    with pytest.raises(DataError, match=r"resnet\.safetensors could not be loaded: .*(Missing|size mismatch)"):
        load_start("ViT-Small", tiny, pretrained=str(tmp_path / "resnet.safetensors"))


# Names


def test_openai_s_spelling_is_not_taken_for_an_architecture_of_some_weights(tiny: Suite) -> None:
    with pytest.raises(UsageError, match="ViT-B/16 is OpenAI's spelling") as caught:
        load_start("ViT-B/16", tiny)
    assert caught.value.hint == "--model ViT-B-16 --pretrained openai"


@pytest.mark.parametrize("name", ["mini-clip", "hf-hub:someone/small", "local-dir:somewhere", "some.safetensors"])
def test_a_name_that_brings_its_weights_takes_no_others(name: str, tiny: Suite) -> None:
    with pytest.raises(UsageError, match=f"--pretrained openai: {name} brings its own weights"):
        load_start(name, tiny, pretrained="openai")
