"""How fast images and file lists are read: ``python benchmarks/reading.py [--samples DIR] [--json]``.

Images: 1,000 real JPEGs (``--samples``: a folder of files ``<class>_<name>.JPEG``; drawn ones where there is none), each
linked three times into class folders, so that starting processes counts no more than with a set of the benchmark, through
the evaluation's own loader with 0, 1 and 2 workers, against bare PIL (open, CLIP's transform up to its pixels, no tensors)
in as many processes. Both take turns; a ratio is the median over the turns. The pixels of both are compared first.

Index: 1,000 class folders of 1,300 empty files with names as long as ImageNet's, in a temporary folder, opened through
``open_spec`` in fresh processes: without an index, with the one that was kept, and carved into train and val as a training
run opens it. The system has just made the names and still holds them in memory; a disk that has to be read adds its time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from robustbench_ft.datasets import ImageSet, open_spec
from robustbench_ft.specs import DatasetSpec

if TYPE_CHECKING:
    from robustbench_ft.preprocess import Preprocess

SAMPLES = Path(__file__).parents[2] / "shared" / "data" / "imagenet-samples"
IMAGES, LINKS, SIZE = 1000, 3, 224
WORKERS = (0, 1, 2)
CLASSES, PER_CLASS, VAL = 1000, 1300, 26
RATIO, COLD, MEMORY, WARM = 0.9, 60.0, 1000.0, 3.0
Row = tuple[str, str, float, str, bool]
"""What, unit, value, bar, whether it holds."""


def class_folders(root: Path, samples: Path) -> DatasetSpec:
    """The samples, or drawn ones, as class folders below ``root``."""
    files = sorted(samples.glob("*.JPEG")) if samples.is_dir() else list(map(draw, range(IMAGES), [root / "drawn"] * IMAGES))
    classes = [file.name.partition("_")[0] for file in files]
    for name, file in zip(classes, files, strict=True):
        (root / "set" / name).mkdir(parents=True)
        for k in range(LINKS):
            (root / "set" / name / f"{k}_{file.name}").symlink_to(file.absolute())
    return DatasetSpec.model_validate(
        {"name": "samples", "n": LINKS * len(files), "format": "class_folders", "path": "set", "split": "val"}
        | {"classes": classes, "folders": classes}
    )


def draw(number: int, folder: Path) -> Path:
    """A JPEG of ImageNet's usual size, with more detail than a plain and less than noise."""
    folder.mkdir(exist_ok=True)
    coarse = np.random.default_rng(number).integers(0, 256, (94, 125, 3), dtype=np.uint8)
    file = folder / f"c{number:04}_drawn.JPEG"
    Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC).save(file, quality=95)
    return file


def measure_images(root: Path, samples: Path, repeats: int) -> list[Row]:
    """The loader beside bare PIL, per number of workers."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    from robustbench_ft.predict import Evaluation, _chunks
    from robustbench_ft.preprocess import Preprocess

    images = open_spec(class_folders(root, samples), root, root / "store")
    config = PreprocessCfg(size=(SIZE, SIZE))
    geometry = image_transform_v2(config, is_train=False).transforms[:-2]
    files = [str(root / "set" / key) for key in images.ids]

    def ours(workers: int) -> int:
        return sum(len(batch) for part in _chunks(images, Preprocess(config), Evaluation(workers=workers)) for batch in part)

    def bare(processes: int) -> int:
        if processes == 0:
            return len([pil(file, geometry) for file in files])
        context = multiprocessing.get_context("fork")
        parts = [context.Process(target=lambda k=k: [pil(f, geometry) for f in files[k::processes]]) for k in range(processes)]
        for part in parts:
            part.start()
        for part in parts:
            part.join()
        return len(files) if all(part.exitcode == 0 for part in parts) else 0

    compare(images, files, Preprocess(config), geometry)
    return [row for workers in WORKERS for row in rows_of(workers, bare, ours, len(files), repeats)]


def rows_of(workers: int, bare: Callable[[int], int], ours: Callable[[int], int], n: int, repeats: int) -> list[Row]:
    """Images a second of both; the ratio of their seconds and, less disturbed by neighbours, of their processor time."""
    turns: dict[str, list[tuple[float, float]]] = {"bare": [], "ours": []}
    for turn in range(repeats):
        for name, run in [("bare", bare), ("ours", ours)][:: -1 if turn % 2 else 1]:
            turns[name].append(clock(run, workers, n))
    what = f"{workers} worker" + "s" * (workers != 1)
    speed = {name: statistics.median(n / wall for wall, _ in clocked) for name, clocked in turns.items()}
    wall, cpu = (statistics.median(b[k] / o[k] for b, o in zip(turns["bare"], turns["ours"], strict=True)) for k in (0, 1))
    return [
        (f"bare PIL, {what}", "images/s", speed["bare"], "", True),
        (f"the evaluation's loader, {what}", "images/s", speed["ours"], "", True),
        (f"ratio of speeds, {what}", "", wall, f">= {RATIO}", wall >= RATIO),
        (f"ratio of processor time, {what}", "", cpu, "", True),
    ]


def pil(file: str, geometry: Sequence[Callable[[Image.Image], Image.Image]]) -> Image.Image:
    """Decoded and transformed."""
    with Image.open(file) as image:
        found: Image.Image = image
        for step in geometry:
            found = step(found)
        return found


def compare(
    images: ImageSet, files: Sequence[str], preprocess: Preprocess, geometry: Sequence[Callable[..., Image.Image]]
) -> None:
    """Every pixel of both, before anything is timed: it also brings the files into memory."""
    for i, file in enumerate(files):
        mine, theirs = preprocess.eval(images.image(i)).numpy(), np.asarray(pil(file, geometry)).transpose(2, 0, 1)
        if not np.array_equal(mine, theirs):
            sys.exit(f"{file}: other pixels than bare PIL's")


def clock(what: Callable[[int], int], workers: int, expected: int) -> tuple[float, float]:
    """Seconds, and processor seconds of all processes, of a call that has to handle ``expected`` images."""
    begun, used = time.perf_counter(), processor_seconds()
    if (found := what(workers)) != expected:
        sys.exit(f"{found} images, expected {expected}")
    return time.perf_counter() - begun, processor_seconds() - used


def processor_seconds() -> float:
    """Of this process and of those that it has waited for."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def measure_index(root: Path) -> list[Row]:
    """Seconds and peak memory of opening 1.3 million files, and the start of an evaluation that trains."""
    for number in range(CLASSES):
        folder = root / "train" / f"n{number:08}"
        folder.mkdir(parents=True)
        for k in range(PER_CLASS):
            (folder / f"{folder.name}_{k * 17 % 30000}.JPEG").touch()
    n, val = CLASSES * PER_CLASS, CLASSES * VAL
    cold, peak = in_fresh_process(root, "", n)
    warm, again = in_fresh_process(root, "", n)
    in_fresh_process(root, "train", n - val), in_fresh_process(root, "val", val)
    start = in_fresh_process(root, "train", n - val)[0] + in_fresh_process(root, "val", val)[0]
    return [
        ("1.3 million files, no index", "s", cold, f"< {COLD:.0f}", cold < COLD),
        ("its peak memory", "MB", peak, f"< {MEMORY:.0f}", peak < MEMORY),
        ("1.3 million files, index kept", "s", warm, f"< {WARM:.0f}", warm < WARM),
        ("its peak memory ", "MB", again, f"< {MEMORY:.0f}", again < MEMORY),
        ("train and its carved val, index kept", "s", start, f"< {WARM:.0f}", start < WARM),
    ]


def in_fresh_process(root: Path, part: str, n: int) -> tuple[float, float]:
    """Seconds to open the set, and the process's peak memory in MB."""
    command = [sys.executable, str(Path(__file__).resolve()), "--open", str(root), part, str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, kibibytes = done.stdout.split()
    return float(seconds), int(kibibytes) * 1024 / 1e6


def open_one(root: Path, part: str, n: int) -> None:
    """In the fresh process: open the set, print seconds and peak memory (KiB)."""
    classes = [f"n{number:08}" for number in range(CLASSES)]
    given = {"name": "made-up", "n": n, "format": "class_folders", "path": "", "split": "train", "val_per_class": VAL}
    given |= {"classes": classes, "folders": classes, "options": {"folder": "train", "id": "train"}, "part": part or None}
    spec = DatasetSpec.model_validate(given)
    begun = time.perf_counter()
    open_spec(spec, root, root / "store")
    print(time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def main() -> None:
    """Make, measure, print; exit 1 where a bar is not held."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=Path, default=SAMPLES, help="A folder of files <class>_<name>.JPEG.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=("images", "index"))
    parser.add_argument("--json", action="store_true", help="One JSON document in place of the table.")
    asked = parser.parse_args()
    rows: list[Row] = []
    # The index first: a process inherits the peak memory of the one that starts it, and torch is large.
    for name, measure in (("index", measure_index), ("images", lambda root: measure_images(root, asked.samples, asked.repeats))):
        if asked.only in (None, name):
            with tempfile.TemporaryDirectory() as temporary:
                rows += measure(Path(temporary))
    if asked.json:
        keys = ("what", "unit", "value", "bar", "holds")
        print(json.dumps({"cores": os.cpu_count(), "rows": [dict(zip(keys, row, strict=True)) for row in rows]}, indent=1))
    else:
        print(f"| {'what':<40} | figure          | bar    | holds |\n| {'-' * 40} | --------------- | ------ | ----- |")
        for what, unit, value, bar, holds in rows:
            figure = f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
            print(f"| {what:<40} | {figure:<15} | {bar:<6} | {('yes' if holds else 'NO') if bar else '':<5} |")
    sys.exit(not all(row[4] for row in rows))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--open"]:
        open_one(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        main()
