"""A small CLIP with random weights, in a folder as open_clip saves its models."""

from __future__ import annotations

import json
from pathlib import Path

import torch


def write_clip(folder: Path, *, image_size: int = 32, width: int = 32, layers: int = 1, patch_size: int = 8) -> str:
    """Write it into ``folder``; gives back its name, ``local-dir:<folder>``. Its prompts and images are open_clip's."""
    import open_clip
    from safetensors.torch import save_file

    vision = {"image_size": image_size, "layers": layers, "width": width, "head_width": width // 2, "patch_size": patch_size}
    text = {"context_length": 77, "vocab_size": 49408, "width": width, "heads": 2, "layers": layers}
    model = {"embed_dim": width, "vision_cfg": vision, "text_cfg": text}
    transform = {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28], "interpolation": "bicubic", "resize_mode": "shortest"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = open_clip.model.CLIP(**model)
    for parameter in clip.parameters():  # louder than open_clip's, so that it answers many classes
        parameter.data.mul_(4)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": transform}))
    save_file(clip.state_dict(), folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"
