"""A tiny suite that the tests of the left side share: a made-up world, some 80 images a set, a random start model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: the same bits on any machine, and quick on a shared one
os.environ["OMP_WAIT_POLICY"] = "passive"

if TYPE_CHECKING:
    from robustbench_ft.method import Task
    from robustbench_ft.model import Classifier
    from robustbench_ft.suites import Suite

WORLD = 900
KEPT = {"train": 160, "val": 60, "test": 80, "v2": 80, "sketch": 60}


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RBFT_STORE", str(tmp_path_factory.mktemp("user-store")))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("user-cache")))
        yield


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny suite's file; start model, lists of kept images and answer key lie beside it."""
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny(tiny_file: Path) -> Suite:
    from robustbench_ft import suites

    return suites.parse(tiny_file)


@pytest.fixture(scope="session")
def start(tiny: Suite) -> Classifier:
    """The tiny suite's start model; tests leave it as it is."""
    from robustbench_ft.model import load_start

    return load_start(tiny.start, tiny)


@pytest.fixture(scope="session")
def task(tiny: Suite, tmp_path_factory: pytest.TempPathFactory) -> Task:
    from robustbench_ft.datasets import open_set
    from robustbench_ft.method import Task

    store = tmp_path_factory.mktemp("pixels")
    train, val = (open_set(tiny, spec, None, store) for spec in (tiny.train, tiny.val))
    return Task(tiny.name, train, val, tiny.classes, tiny.templates)


def write_tiny(folder: Path) -> Path:
    """Write the tiny suite into ``folder``: start model, suite file with digests, answer key."""
    import torch

    from robustbench_ft import packs, suites
    from robustbench_ft.datasets import open_set
    from robustbench_ft.mini import clip as small

    with torch.random.fork_rng():
        torch.manual_seed(0)
        small.save(small.build(), small.WordTokenizer(), folder / "start.safetensors")
    for split, count in KEPT.items():
        (folder / f"{split}.txt").write_text("\n".join(map(str, range(count))) + "\n")
    file = folder / "tiny.toml"
    file.write_text(_text(folder, {}))
    draft = suites.parse(file)
    found = {spec.name: open_set(draft, spec, None, folder / "store") for spec in (draft.train, draft.val, *draft.tests)}
    digests = {name: images.digest for name, images in found.items()}
    file.write_text(_text(folder, digests))
    suite = suites.parse(file)
    tests = {spec.name: found[spec.name] for spec in suite.tests}
    answers = {f"{name}/own": images.labels.astype("uint16") for name, images in tests.items()}
    packs.save(packs.Pack(suite.protocol, {name: digests[name] for name in tests}, answers), folder / "tiny.key.safetensors")
    return file


def _text(folder: Path, digests: dict[str, str]) -> str:
    from robustbench_ft.mini.shapes import CLASSES

    def dataset(head: str, split: str, extra: str = "") -> str:
        name = f"tiny-{split}"
        line = f'digest = "{digests[name]}"\n' if name in digests else ""
        return f'\n{head}\nname = "{name}"\nsplit = "{split}"\nn = {KEPT[split]}\nkeep = "{split}.txt"\n{line}{extra}'

    return (
        f'name = "tiny"\ntitle = "A tiny world"\nstart = "{folder / "start.safetensors"}"\nrecipes = "mini"\n'
        f'classes = {json.dumps(CLASSES)}\ntemplates = ["a photo of a {{}}", "a {{}}"]\n'
        f'[defaults]\nformat = "mini"\npath = "{WORLD}"\n'
        + "".join(dataset(f"[{part}]", part) for part in ("train", "val", "test"))
        + "".join(dataset("[[shifts]]", part) for part in ("v2", "sketch"))
    )
