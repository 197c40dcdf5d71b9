"""The 1,000 real ImageNet photos, one a class, from the command line with an open_clip model of a user's own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robustbench_ft import packs
from robustbench_ft.words import class_table

SAMPLES = Path(__file__).parents[2] / "shared" / "data" / "imagenet-samples"
TEMPLATES = ("a photo of a {}.", "a drawing of the {}.")
CONFIG = {
    "model_cfg": {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {
        "mean": [0.48, 0.46, 0.41],
        "std": [0.27, 0.26, 0.28],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
}
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
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP with random weights, saved as open_clip saves them."""
    import open_clip
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("model")
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        clip = open_clip.model.CLIP(**CONFIG["model_cfg"])
        for parameter in clip.parameters():  # louder than open_clip's, so that it answers many classes
            parameter.data.mul_(4)
    save_file(clip.state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photos as class folders, by symbolic links."""
    root = tmp_path_factory.mktemp("data")
    for photo in SAMPLES.glob("*.JPEG"):
        folder = root / "imagenet" / "val" / photo.name.partition("_")[0]
        folder.mkdir(parents=True)
        (folder / photo.name).symlink_to(photo)
    return root


def plain_loop(model: Path, files: list[Path]) -> list[int]:
    """Zero-shot answers the way open_clip's README does it: its model, its transform, image by image."""
    import open_clip

    clip, transform = open_clip.create_model_from_pretrained(f"local-dir:{model}")
    tokenise = open_clip.get_tokenizer(f"local-dir:{model}")
    clip.eval()
    names = [row.name for row in class_table("imagenet")]
    with torch.no_grad():
        head = open_clip.build_zero_shot_classifier(clip, tokenise, names, [lambda c, t=t: t.format(c) for t in TEMPLATES])
        answers = []
        for file in files:
            features = clip.encode_image(transform(Image.open(file)).unsqueeze(0), normalize=True)
            answers.append(int((features @ head).argmax()))
    return answers


def test_a_plain_loop_with_open_clip_answers_the_same(model: Path, data: Path, tmp_path: Path) -> None:
    suite, out = tmp_path / "samples.toml", tmp_path / "run"
    suite.write_text(SUITE.format(templates=json.dumps(TEMPLATES)))
    command = ["evaluate", "--method", "zeroshot", "--suite", str(suite), "--model", f"local-dir:{model}", "--data", str(data)]
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
