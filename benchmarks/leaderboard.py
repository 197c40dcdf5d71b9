"""How long the leaderboard of 1,000 submissions takes: ``python benchmarks/leaderboard.py [--submissions N]``.

Everything is made up, in a temporary folder: a suite of 10,000 ID images and 20 shifts of 2,000 to 10,000 images (four of
them over half of the classes, so that the ID answers are kept under their groupings too), a baseline of 30 models, and N
submissions with their packs. Every tenth has three seeds, the others one; every tenth carries a curve of 11 points.
All models find the same images hard (half of the luck belongs to the image), so that many ranks are decided.

Each command runs in a fresh process, on one thread, with a cache folder of its own. The pictures of ``rbft leaderboard``
take time of their own: ``--pictures`` adds a run with them.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robustbench_ft import packs, suites
from robustbench_ft.baselines import Baseline, Reference
from robustbench_ft.files import file_digest, write_atomic
from robustbench_ft.metrics import PACK, RECORD, counts_of, score
from robustbench_ft.packs import Pack
from robustbench_ft.records import Cost, Counts, Numerics, Point, RunRecord, StartRef
from robustbench_ft.suites import Suite

CLASSES, SHIFTS, ID_IMAGES = 200, 20, 10_000
SEEDS, EVERY = 3, 10
REFERENCES = 30
IMAGE_SHARE = 0.5
PAGE = "--page-alone"
TOML = """
name = "scale"
title = "A made-up suite"
classes = [{classes}]
templates = ["a {{}}"]
start = "scale-clip"
recipes = "toy"
baseline = "baseline.json"
[defaults]
format = "made-up"
path = "."
"""
INFO = """
title = "{name}"
authors = ["A. Author"]
paper = ""
date = 2026-11-24
licence = "MIT"
"""
Floats = npt.NDArray[np.float64]


def make_suite(folder: Path) -> tuple[Suite, Pack]:
    """The suite's file and its answer key."""
    sizes = np.linspace(2000, ID_IMAGES, SHIFTS).astype(int)
    parts = [TOML.format(classes=", ".join(f'"c{i}"' for i in range(CLASSES)))]
    for section, n in (("train", 100), ("val", 100), ("test", ID_IMAGES)):
        parts.append(f'[{section}]\nname = "scale-{section}"\nsplit = "{section}"\nn = {n}\ndigest = "{section}"\n')
    for number, n in enumerate(sizes):
        parts.append(f'[[shifts]]\nname = "shift-{number}"\nsplit = "{number}"\nn = {n}\ndigest = "{number}"\n')
        if number % 5 == 4:
            parts.append(f"class_groups = {[[i] for i in range(CLASSES // 2)]}\n")
    write_atomic(folder / "suite.toml", "\n".join(parts))
    suite = suites.load(str(folder / "suite.toml"))
    generator = np.random.default_rng(0)
    answers = {
        f"{spec.name}/own": generator.integers(0, spec.subset or CLASSES, spec.n).astype(np.uint16) for spec in suite.tests
    }
    key = Pack(suite.protocol, {spec.name: spec.digest or "" for spec in suite.tests}, answers)
    packs.save(key, folder / "suite.key.safetensors")
    return suite, key


def make_baseline(suite: Suite, path: Path) -> None:
    """Reference models along a line per shift."""
    generator, models = np.random.default_rng(1), []
    for number, x in enumerate(np.linspace(-0.5, 2.5, REFERENCES)):
        ys = {suite.test.name: x} | {spec.name: line(x, i) for i, spec in enumerate(suite.shifts)}
        ys |= {f"{suite.test.name}/{spec.name}": x for spec in suite.shifts if spec.subset}
        noisy = {name: y + 0.05 * generator.standard_normal() * (y != x) for name, y in ys.items()}
        counts = {name: Counts(k=round(10_000 / (1 + np.exp(-y))), n=10_000) for name, y in noisy.items()}
        models.append(Reference(name=f"reference-{number}", counts=dict(counts)))
    Baseline(
        id="scale@1", suite=suite.name, protocol=suite.protocol, id_set=suite.test.name, classes=CLASSES,
        source="made up", models=tuple(models),
    ).save(path)  # fmt: skip


def line(x: float, shift: int) -> float:
    """Where an ordinary model stands on a shift, on the logit axis."""
    return 0.8 * x - 0.2 - 0.05 * shift


class Maker:
    """Packs of made-up models."""

    def __init__(self, suite: Suite, key: Pack) -> None:
        generator = np.random.default_rng(2)
        self.suite, self.key = suite, key
        self.hardness = {spec.name: generator.logistic(size=spec.n).astype(np.float32) for spec in suite.tests}

    def pack(self, logits: Floats, seed: list[int]) -> Pack:
        """Answers of a model that is right on an image where its logit for the set beats hardness and luck."""
        generator, answers = np.random.default_rng(seed), {}
        for spec, logit in zip(self.suite.tests, logits, strict=True):
            luck = generator.standard_normal(spec.n, dtype=np.float32) * np.float32(1.8)
            right = IMAGE_SHARE * self.hardness[spec.name] + (1 - IMAGE_SHARE) * luck < logit
            labels = self.key.answers[f"{spec.name}/own"]
            for grouping, groups in self.suite.groupings(spec):
                size = len(groups) if groups else CLASSES
                answers[f"{spec.name}/{grouping}"] = np.where(right, labels % size, (labels + 1) % size).astype(np.uint16)
        return Pack(self.suite.protocol, self.key.digests, answers)

    def counts(self, pack: Pack) -> dict[str, Counts]:
        """Right answers per set and grouping."""
        return counts_of(score(pack, self.key, self.suite))


def make_submission(folder: Path, maker: Maker, number: int, start: dict[str, Counts]) -> None:
    """One submission: its method is better the lower a random number, its seeds differ a little."""
    generator = np.random.default_rng([3, number])
    x, above = generator.uniform(0.6, 2.0), generator.normal(0.3, 0.15)
    logits = np.array([x, *(line(x, i) + above + 0.05 * generator.standard_normal() for i in range(SHIFTS))])
    for seed in range(SEEDS if number % EVERY == 0 else 1):
        shaken = logits + 0.02 * np.random.default_rng([4, number, seed]).standard_normal(len(logits))
        pack = maker.pack(shaken, [5, number, seed])
        packs.save(pack, folder / f"seed-{seed}" / PACK)
        counts, digest = maker.counts(pack), file_digest(folder / f"seed-{seed}" / PACK)
        points = {"start": start, f"method-{number}": counts}
        if number % EVERY == 1:
            points = {"start": start} | {f"alpha={i / 10}": mixed(start, counts, i / 10) for i in range(1, 10)} | points
        record(maker.suite, points, seed, digest).save(folder / f"seed-{seed}" / RECORD)
    write_atomic(folder / "submission.toml", INFO.format(name=folder.name))


def mixed(a: dict[str, Counts], b: dict[str, Counts], alpha: float) -> dict[str, Counts]:
    """Counts between two models'."""
    return {name: Counts(k=round((1 - alpha) * a[name].k + alpha * b[name].k), n=a[name].n) for name in a}


def record(suite: Suite, points: dict[str, dict[str, Counts]], seed: int, digest: str) -> RunRecord:
    """A run's record; the last point is the headline."""
    last = list(points)[-1]
    alphas = {name: float(name.partition("=")[2]) for name in points if "=" in name}
    made = [
        Point(name=n, alpha=alphas.get(n), headline=n == last, pack=digest if n == last else None, counts=c)
        for n, c in points.items()
    ]
    return RunRecord(
        suite="suite.toml", protocol=suite.protocol, start=StartRef(name="scale-clip", weights="0" * 64), method=last,
        config={}, deterministic=False, seed=seed, selection={}, points=tuple(made), versions={}, commit=None, dirty=None,
        numerics=Numerics(device="cpu", precision="fp32", batch_size=64, threads=1),
        cost=Cost(fit_seconds=1, evaluate_seconds=1), created="2026-11-24", host="",
    )  # fmt: skip


def make(folder: Path, submissions: int) -> int:
    """The whole made-up checkout; bytes of packs."""
    suite, key = make_suite(folder)
    make_baseline(suite, folder / "baseline.json")
    maker = Maker(suite, key)
    start = maker.counts(maker.pack(np.array([0.5, *([0.6] * SHIFTS)]), [6]))
    for number in range(submissions):
        make_submission(folder / f"submissions/s{number:04}", maker, number, start)
    return sum(path.stat().st_size for path in folder.glob(f"submissions/*/*/{PACK}"))


def measure(what: str, folder: Path, *arguments: str) -> float:
    """Run one command in a fresh process; print and return its seconds, and print its peak memory."""
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "RBFT_STORE": str(folder / "cache"), "PYTHONHASHSEED": "0"}
    command = [sys.executable, str(Path(__file__).resolve()), "--run", *arguments]
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=os.environ | one, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - begun
    peak, cpu, torch = done.stderr.splitlines()[-1].split()
    print(f"| {what:<44} | {seconds:7.2f} | {float(cpu):7.2f} | {int(peak) / 1024:7.0f} | {torch:<5} |", flush=True)
    return seconds


def run(arguments: list[str]) -> None:
    """In the fresh process: the ``rbft`` command, then its peak memory (KiB), CPU seconds and whether it imported torch."""
    from robustbench_ft import cli

    if arguments[0] == PAGE:
        from robustbench_ft import leaderboard

        leaderboard.Contents.pictures = lambda self: iter(())  # type: ignore[method-assign]
    sys.argv = ["rbft", *(argument for argument in arguments if argument != PAGE)]
    try:
        cli.main()
    finally:
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(used.ru_maxrss, used.ru_utime + used.ru_stime, "torch" in sys.modules, file=sys.stderr)


def main() -> None:
    """Make, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--submissions", type=int, default=1000)
    parser.add_argument("--pictures", action="store_true", help="Time the command with its pictures too, last.")
    parser.add_argument("--keep", type=Path, help="Make or reuse the made-up checkout in this folder.")
    with tempfile.TemporaryDirectory() as temporary:
        asked = parser.parse_args()
        folder = asked.keep or Path(temporary)
        if not (folder / "submissions").is_dir():
            size = make(folder, asked.submissions)
            print(f"{asked.submissions} submissions, {size / 1e6:.0f} MB of packs")
        for path in folder.glob("cache/**/*.*"):
            path.unlink()
        print(f"| {'command':<44} | seconds |     CPU | MB peak | torch |\n| {'-' * 44} | ------: | ------: | ------: | ----- |")
        cold = measure("rbft leaderboard, cold, no pictures", folder, PAGE, "leaderboard")
        warm = measure("rbft leaderboard, warm, no pictures", folder, PAGE, "leaderboard")
        measure("rbft leaderboard --check, warm, no pictures", folder, PAGE, "leaderboard", "--check")
        measure("rbft score, one seed", folder, "score", "submissions/s0002")
        measure("rbft score, three seeds", folder, "score", "submissions/s0000")
        print(f"cold / warm: {cold / warm:.1f}", flush=True)
        if asked.pictures:
            whole = measure("rbft leaderboard, warm, with pictures", folder, "leaderboard")
            print(f"the pictures' share: {1 - warm / whole:.0%}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run(sys.argv[2:])
    else:
        main()
