"""How much memory it takes to merge K fine-tunes of a ViT-B/16 on the CPU: ``python benchmarks/soup_memory.py [--models 16]``.

The start is a random CLIP ViT-B/16 of open_clip (150 million parameters, 0.6 GB in float32). K copies with noise on image tower
and head are written to a store in a temporary folder, 0.6 GB each; then every merge runs in a process of its own, which reads
them from there, and its peak resident memory is printed. Val has four made-up images: the activations of evaluation grow with
its batch, and are not what is measured.

What gradients leave behind fragments glibc's heap: MALLOC_MMAP_THRESHOLD_=65536 in the environment gives it back at once.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MERGES = {
    "nothing": "the libraries and the start alone",
    "write": "fit and keep the ingredients",
    "uniform_soup": "mean of all",
    "greedy_soup": "greedy, each candidate evaluated",
    "learned_soup": "learned shares by tensor, one step",
    "model_stock": "Model Stock",
    "fisher": "mean weighted by Fisher information",
    "wiseft": "interpolation of start and one fine-tune",
    "wiseft-fisher": "the same, weighted by Fisher information",
}
NOISY = '''
"""Not a method: the start with noise."""

import torch

from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier


class Noisy(Method):
    """The start with noise on image tower and head."""

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        made = start.frozen_head()
        with torch.no_grad():
            for name, parameter in made.named_parameters():
                if name.startswith(("clip.visual", "head")):
                    parameter.add_(torch.randn_like(parameter), alpha=1e-3)
        return made
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=16)
    parser.add_argument("--only", nargs="*", choices=list(MERGES), default=list(MERGES))
    parser.add_argument("--merge", choices=list(MERGES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.merge:
        merge(given.merge, given.models, given.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "noisy.py").write_text(NOISY)
        for name in ["nothing", "write", *(one for one in given.only if one not in ("nothing", "write"))]:
            begun = time.monotonic()
            command = [sys.executable, __file__, "--merge", name, "--folder", folder, "--models", str(given.models)]
            peak = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1]
            print(f"{name:14} {MERGES[name]:42} {int(peak) / 1e6:5.2f} GB  {time.monotonic() - begun:4.0f} s", flush=True)


def merge(name: str, count: int, folder: Path) -> None:
    """One merge, in this process; prints its peak resident memory in kB."""
    import numpy as np
    from PIL import Image

    from robustbench_ft import method, store, suites
    from robustbench_ft.datasets import ImageSet, content_digest
    from robustbench_ft.method import Task
    from robustbench_ft.model import load_start

    suite = suites.load("mini")
    start = load_start("random:ViT-B-16", suite)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), np.uint8)
    labels = np.arange(4) % len(suite.classes)
    ids = [str(number) for number in range(4)]
    val = ImageSet("made-up", ids, labels, lambda index: Image.fromarray(pixels[index]), content_digest(ids, labels, pixels))
    task = Task("made-up", val, val, suite.classes, suite.templates)
    noisy = method.load(str(folder / "noisy.py"))()
    fields = {"uniform_soup": {}, "write": {}, "fisher": {"fisher": 1}, "model_stock": {}, "greedy_soup": {"strict": False},
              "learned_soup": {"by_layer": True, "recipe": {"epochs": 1}}}  # fmt: skip
    with store.using(store.Store(folder / "store")):
        if name == "write":
            for number in range(count):
                noisy.fit(start, task.with_seed(1000 * number))
        elif name.startswith("wiseft"):
            extra = {"fisher": 1} if name.endswith("fisher") else {}
            method.load("wiseft").model_validate({"base": noisy, **extra}).adapt(start, task)
        elif name != "nothing":
            kind = method.load("uniform_soup" if name == "fisher" else name)
            kind.model_validate({"ingredients": [noisy] * count, **fields[name]}).adapt(start, task)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    main()
