"""The mini start model: open_clip's CLIP, small, with a word-level tokenizer of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from open_clip.model import CLIP
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from robustbench_ft.errors import DataError, UsageError
from robustbench_ft.mini.canvas import HUES, SIZE
from robustbench_ft.mini.captions import MEDIA, NOUNS, STYLE_WORDS

IMAGE_SIZE = SIZE
MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
EMBED = 96
CONTEXT = 12
_FUNCTION_WORDS = ("a", "the", "of", "this", "is", "thing", *MEDIA)
WORDS: tuple[str, ...] = ("<pad>", "<start>", *_FUNCTION_WORDS, *HUES, *NOUNS, *STYLE_WORDS.values(), "<end>")


class WordTokenizer:
    """Whole words to ids by their place in ``words``: first ``<pad>`` and ``<start>``, last ``<end>``.

    ``<end>`` has the highest id, since open_clip reads the text tower where the id is highest.
    """

    def __init__(self, words: Sequence[str] = WORDS, context_length: int = CONTEXT) -> None:
        self.words, self.context_length = tuple(words), context_length
        self.ids = {word: k for k, word in enumerate(self.words)}

    def encode(self, text: str) -> list[int]:
        """Ids of the words of one text, without the marks of start and end; UsageError for a word that is not known."""
        words = text.lower().replace(".", " ").replace(",", " ").split()
        if unknown := [word for word in words if word not in self.ids]:
            raise UsageError(
                f"this tokenizer does not know {', '.join(map(repr, unknown))} in {text!r}",
                hint=f"it knows these words: {' '.join(self.words[2:-1])}",
            )
        return [self.ids[word] for word in words]

    def __call__(self, texts: str | list[str], context_length: int | None = None) -> Tensor:
        """Token ids int64 `[N, L]`; a text that is too long is cut, as open_clip's tokenizers do."""
        length = context_length or self.context_length
        rows = []
        for text in [texts] if isinstance(texts, str) else texts:
            kept = self.encode(text)[: length - 2]
            rows.append([1, *kept, len(self.words) - 1] + [0] * (length - 2 - len(kept)))
        return torch.tensor(rows, dtype=torch.long)


def wake(tower: nn.Module) -> None:
    """Let every ConvNeXt block count from the first step: layer scale 0.3 in place of timm's 1e-6."""
    for name, parameter in tower.named_parameters():
        if name.endswith(".gamma"):
            nn.init.constant_(parameter, 0.3)


def build(words: int = len(WORDS), context_length: int = CONTEXT) -> CLIP:
    """The architecture with random weights: a small ConvNeXt (no BatchNorm: weights average) and a small text tower."""
    vision = {"image_size": IMAGE_SIZE, "timm_model_name": "test_convnext2", "timm_pool": "avg", "timm_proj": "linear"}
    text = {"context_length": context_length, "vocab_size": words, "width": 64, "heads": 2, "layers": 2}
    model = CLIP(EMBED, vision, text)  # open_clip takes the configurations as dicts too
    wake(model.visual)
    return model


def save(model: CLIP, tokenise: WordTokenizer, path: Path) -> None:
    """Write weights (float32) with the tokenizer's words, which make the file complete."""
    tokenizer = json.dumps({"words": tokenise.words, "context_length": tokenise.context_length})
    tensors = {name: value.detach().float().contiguous() for name, value in sorted(model.state_dict().items())}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp")
    save_file(tensors, partial, metadata={"tokenizer": tokenizer})
    partial.chmod(0o644)
    partial.replace(path)


def load(path: Path) -> tuple[CLIP, WordTokenizer]:
    """A saved model in float32 and eval mode, with its tokenizer; DataError when the file is another kind of file."""
    try:
        with safe_open(path, "pt") as content:
            tokenizer = json.loads(content.metadata()["tokenizer"])
            tokenise = WordTokenizer(tokenizer["words"], tokenizer["context_length"])
            model = build(len(tokenise.words), tokenise.context_length)
            model.load_state_dict({name: content.get_tensor(name) for name in content.keys()})  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise DataError(f"{path} is not a small CLIP of this project ({error})", hint="scripts/pretrain_mini.py") from error
    return model.eval(), tokenise
