"""Start models: what a name means, and the model, transforms and tokenizer behind it. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import logging
import pickle
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from open_clip.transform import PreprocessCfg
from torch import Tensor, nn

from robustbench_ft.batches import Tokenise
from robustbench_ft.errors import DataError, UnknownName, UsageError
from robustbench_ft.files import DATA, digest
from robustbench_ft.preprocess import Preprocess
from robustbench_ft.progress import say

BUILT_IN = {"mini-clip": DATA / "mini-clip.safetensors"}
SCHEMAS = ("hf-hub:", "local-dir:")
"""Names of open_clip that bring their own weights."""
PROBE = "The five boxing wizards jump quickly; 0123456789: a sphinx of black quartz, judge my vow!"
"""A text whose tokens tell one tokenizer from another."""


class Start(NamedTuple):
    """``clip``: open_clip's CLIP or CustomTextCLIP, float32, in eval mode; its attribute ``reads`` (hash of architecture and
    tokenizer) tells apart what the weights alone do not. ``origin``: hash of the weights, and of the architecture where a file
    does not imply it.
    """

    clip: Any
    preprocess: Preprocess
    tokenise: Tokenise
    origin: str


def load(name: str, pretrained: str | None) -> Start:
    """The start model of that name, see ``model.load_start``; DataError when it cannot be read, UsageError for a wrong name."""
    path = BUILT_IN.get(name, Path(name) if name.endswith(".safetensors") else None)
    if pretrained is not None and (path is not None or name.startswith(SCHEMAS)):
        raise UsageError(f"--pretrained {pretrained}: {name} brings its own weights", hint="leave --pretrained out")
    return _small(path) if path is not None else _open_clip(name, pretrained)


def reads(clip: Any) -> str | None:
    """Hash of architecture and tokenizer; None for a model that was put together by hand, of which nothing is kept."""
    return getattr(clip, "reads", None)


def weights_hash(module: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of a module's state."""
    return state_hash(module.state_dict())


def state_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    state = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        plain = tensor.detach().cpu().contiguous()
        state.update(f"{name}|{plain.dtype}|{tuple(plain.shape)}|".encode())
        state.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()


def _small(path: Path) -> Start:
    from robustbench_ft.mini import clip as small

    if not path.is_file():
        raise DataError(f"no start model at {path}", hint="rbft list models")
    clip, tokenise = small.load(path)
    loaded: Any = clip.float().eval()
    loaded.reads = digest(["small", tokenise.words, tokenise.context_length])
    preprocess = Preprocess(PreprocessCfg(size=small.IMAGE_SIZE, mean=small.MEAN, std=small.STD))
    return Start(loaded, preprocess, tokenise, weights_hash(clip))


def _open_clip(name: str, pretrained: str | None) -> Start:
    import open_clip

    random = name.startswith("random:")
    name = name.removeprefix("random:")
    if not name.startswith(SCHEMAS):
        name, pretrained = _named(name, pretrained, random)
    with _one_error(name, pretrained):
        config = open_clip.get_model_config(name)
        quick = bool(config.get("quick_gelu")) or _trained_with_quick_gelu(name, pretrained)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # a random model is the same model every time
            clip: Any = open_clip.create_model(
                name,
                pretrained=None if random else pretrained,
                load_weights=not random,
                require_pretrained=not random,  # open_clip goes on with random weights where it finds none
                pretrained_text=False,
                force_quick_gelu=quick,
            )
        tokenise = open_clip.get_tokenizer(name)
    clip = clip.float().eval()
    clip.reads = digest([config | {"quick_gelu": quick}, tokenise([PROBE]).tolist()])
    preprocess = Preprocess(PreprocessCfg(**open_clip.get_model_preprocess_cfg(clip)))
    if pretrained is not None and Path(pretrained).is_file():
        _say_how_it_is_read(name, pretrained, quick, preprocess)
    return Start(clip, preprocess, tokenise, digest([weights_hash(clip), clip.reads]))


def _named(name: str, pretrained: str | None, random: bool) -> tuple[str, str | None]:
    """Architecture and weights (tag or file) of a name such as ``ViT-B-32`` or ``ViT-B-32:openai``, both known."""
    import open_clip

    if pretrained is None and ":" in name:
        name, pretrained = name.rsplit(":", 1)
    models = open_clip.list_models()
    if name.replace("/", "-") in models and "/" in name:
        dashed = name.replace("/", "-")
        raise UsageError(
            f"{name} is OpenAI's spelling, which names its weights too; here architecture and weights are named apart",
            hint=f"--model {dashed} --pretrained openai",
        )
    if name not in models:
        raise UnknownName("model", name, [*BUILT_IN, *models], hint="rbft list models")
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not random and pretrained is None:
        raise UsageError(f"which weights of {name}? Known: {', '.join(tags)}.", hint="--pretrained TAG, or random:NAME")
    if not random and pretrained not in tags and not Path(str(pretrained)).is_file():
        raise UnknownName("weights tag", str(pretrained), tags, hint="--pretrained TAG, or a checkpoint file")
    return name, pretrained


def _trained_with_quick_gelu(name: str, pretrained: str | None) -> bool:
    """Whether weights of a tag need QuickGELU where the architecture's name does not say so: open_clip only warns of it."""
    from open_clip.pretrained import get_pretrained_cfg

    return bool(pretrained and get_pretrained_cfg(name, pretrained).get("quick_gelu"))


def _say_how_it_is_read(name: str, file: str, quick: bool, preprocess: Preprocess) -> None:
    """A file of weights does not tell activation and normalisation; a wrong one costs accuracy and raises no error."""
    import open_clip

    other = f"{name}-quickgelu"
    way_out = f"; weights trained with QuickGELU, as OpenAI's: --model {other}" if other in open_clip.list_models() else ""
    mean = ", ".join(f"{value:.4g}" for value in preprocess.config.mean)
    activation = "QuickGELU" if quick else f"GELU{way_out}"
    say(f"{file} is read as {name}: pixels normalised with mean {mean}; activation {activation}")


@contextmanager
def _one_error(name: str, pretrained: str | None) -> Iterator[None]:
    """Whatever open_clip and its downloaders raise and log inside becomes one DataError that says what to do."""
    logging.disable(logging.ERROR)  # the hub's client logs every retry; the error below says it once
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        raise _told(error, name, pretrained) from error
    finally:
        logging.disable(logging.NOTSET)


def _told(error: Exception, name: str, pretrained: str | None) -> DataError:
    what = pretrained if pretrained and Path(pretrained).is_file() else ":".join(filter(None, (name, pretrained)))
    if "TorchScript" in str(error):
        return DataError(
            f"{what} is a TorchScript archive, as OpenAI released its models: it holds code, and is not read",
            hint=f"--model {name} --pretrained openai: the same weights as tensors",
        )
    if isinstance(error, pickle.UnpicklingError):
        return DataError(
            f"{what} holds more than tensors, and reading the rest could run anybody's code: it is not read",
            hint="save the state dict alone: safetensors.torch.save_file(model.state_dict(), FILE)",
        )
    reason = f"the weights of {what} could not be loaded: {' '.join(str(error).split())[:240]}"
    if (repository := _repository(name, pretrained)) is None:
        return DataError(reason, hint=f"the files of {name}, or its config, may not be what open_clip saves")
    from huggingface_hub import constants

    return DataError(
        f"{reason} (not in the cache {constants.HF_HUB_CACHE} either)",
        hint=f"once, where there is a network: hf download {repository}; or a local file: --pretrained path/to/weights",
    )


def _repository(name: str, pretrained: str | None) -> str | None:
    """Where weights lie on the hub; None for local ones."""
    from open_clip.pretrained import get_pretrained_cfg

    if name.startswith("hf-hub:"):
        return name.removeprefix("hf-hub:")
    if name.startswith("local-dir:") or not pretrained or Path(pretrained).is_file():
        return None
    at = get_pretrained_cfg(name, pretrained).get("hf_hub", "")
    return "/".join(at.split("/")[:2]) or None
