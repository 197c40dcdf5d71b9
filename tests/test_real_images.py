"""Real photos of ImageNet, one a class, and of CIFAR-10 from the command line, with an open_clip model of a user's own."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from miniatures.clip import write_clip
from PIL import Image
from safetensors.numpy import load_file

from robustbench_ft import packs, suites
from robustbench_ft.words import class_table

CIFAR10 = Path(__file__).parents[2] / "shared" / "data" / "cifar10" / "test.tar"
SAMPLES = Path(__file__).parents[2] / "shared" / "data" / "imagenet-samples"
TEMPLATES = ("a photo of a {}.", "a drawing of the {}.")
SUITE = """
name = "samples"
title = "One photo of each class of ImageNet"
start = "mini-clip"
recipes = "mini"
classes = "imagenet"
templates = {templates}

[defaults]
format = "class_folders"
path = "imagenet"
split = "val"
n = 1000
options = {{ folder = "val", id = "val" }}

[train]
name = "samples-train"

[val]
name = "samples-val"

[test]
name = "samples"
"""

needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs the photos of ../shared/data/imagenet-samples")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_clip(tmp_path_factory.mktemp("model"), image_size=64, width=64, layers=2, patch_size=16)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photos as class folders, by symbolic links."""
    root = tmp_path_factory.mktemp("data")
    for photo in SAMPLES.glob("*.JPEG"):
        folder = root / "imagenet" / "val" / photo.name.partition("_")[0]
        folder.mkdir(parents=True)
        (folder / photo.name).symlink_to(photo)
    return root


def plain_loop(model: str, files: list[Path]) -> list[int]:
    """Zero-shot answers the way open_clip's README does it: its model, its transform, image by image."""
    import open_clip

    clip, transform = open_clip.create_model_from_pretrained(model)
    tokenise = open_clip.get_tokenizer(model)
    clip.eval()
    names = [row.name for row in class_table("imagenet")]
    with torch.no_grad():
        head = open_clip.build_zero_shot_classifier(clip, tokenise, names, [lambda c, t=t: t.format(c) for t in TEMPLATES])
        answers = []
        for file in files:
            features = clip.encode_image(transform(Image.open(file)).unsqueeze(0), normalize=True)
            answers.append(int((features @ head).argmax()))
    return answers


@needs_samples
def test_a_plain_loop_with_open_clip_answers_the_same(model: str, data: Path, tmp_path: Path) -> None:
    suite, out = tmp_path / "samples.toml", tmp_path / "run"
    suite.write_text(SUITE.format(templates=json.dumps(TEMPLATES)))
    command = ["evaluate", "--method", "zeroshot", "--suite", str(suite), "--model", model, "--data", str(data)]
    program = [sys.executable, "-m", "robustbench_ft", *command, "--out", str(out), "--workers", "1", "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RBFT_STORE": str(tmp_path / "store")}
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr
    found = packs.load(out / "pack.safetensors").answers["samples/own"]
    files = sorted(SAMPLES.glob("*.JPEG"), key=lambda path: f"val/{path.name.partition('_')[0]}/{path.name}".encode())
    expected = plain_loop(model, files)
    assert found.tolist() == expected and len(set(expected)) > 40
    counts = json.loads((out / "record.json").read_text())["points"][0]["counts"]["samples/own"]
    assert counts == {"k": int(np.sum(found == np.arange(1000))), "n": 1000}


@pytest.mark.skipif(not CIFAR10.is_file(), reason="needs the photos of ../shared/data/cifar10")
def test_a_plain_loop_answers_the_same_on_cifar10(tmp_path: Path) -> None:
    """The 10,000 photos of the test set, recompressed by a mirror: scored, unaligned, without the shifts and the training set."""
    import open_clip

    (tmp_path / "data").mkdir()
    (tmp_path / "model").mkdir()
    with tarfile.open(CIFAR10) as archive:
        archive.extractall(tmp_path / "data", filter="data")
    model = write_clip(tmp_path / "model")
    command = ["evaluate", "--method", "zeroshot", "--suite", "cifar10", "--model", model, "--data", str(tmp_path / "data")]
    program = [sys.executable, "-m", "robustbench_ft", *command, "--out", str(tmp_path / "run"), "--workers", "1", "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RBFT_STORE": str(tmp_path / "store")}
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["partial"] == ["cifar10.1", "cifar10.1-v4", "cifar10.2"] and "missing: cifar10.1" in done.stderr
    suite = suites.load("cifar10")
    clip, transform = open_clip.create_model_from_pretrained(model)
    tokenise = open_clip.get_tokenizer(model)
    files = [tmp_path / "data" / "test" / name / f"{k:04d}.jpg" for name in suite.classes for k in range(1000)]
    expected = []
    with torch.no_grad():
        prompts = [lambda c, t=t: t.format(c) for t in suite.templates]
        head = open_clip.build_zero_shot_classifier(clip, tokenise, suite.classes, prompts)
        for at in range(0, len(files), 256):
            batch = torch.stack([transform(Image.open(file)) for file in files[at : at + 256]])
            expected += (clip.encode_image(batch, normalize=True) @ head).argmax(1).tolist()
    (kept,) = {tuple(load_file(path)["own"].tolist()) for path in (tmp_path / "store" / "predictions").iterdir()}
    assert list(kept) == expected and len(set(expected)) > 3
    right = int(np.sum(np.array(expected) == np.repeat(np.arange(10), 1000)))
    counts = json.loads((tmp_path / "run" / "record.json").read_text())["points"][0]["counts"]["cifar10/own"]
    assert counts == {"k": right, "n": 10000}
