"""The 1,000 real ImageNet photos, one a class, from the command line with an open_clip model of a user's own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from miniatures.clip import write_clip
from PIL import Image

from robustbench_ft import packs
from robustbench_ft.words import class_table

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

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs the photos of ../shared/data/imagenet-samples")


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
